/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * err.c - see err.h.
 */
#include <string.h>

#include "err.h"

bool
err_set(char *err, size_t errlen, ...)
{
	va_list ap;
	const char *part;
	size_t used = 0;

	va_start(ap, errlen);
	while ((part = va_arg(ap, const char *)) != NULL) {
		size_t len = strlen(part);

		if (len > errlen - 1 - used)
			len = errlen - 1 - used;
		memcpy(err + used, part, len);
		used += len;
	}
	va_end(ap);
	err[used] = '\0';
	return false;
}
