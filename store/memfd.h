/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memfd.h - memory with a descriptor, which another program can be left through exec.
 */
#ifndef WEIR_STORE_MEMFD_H
#define WEIR_STORE_MEMFD_H

#include <errno.h>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Close-on-exec, and may be sealed. Not to be run as a program: newer kernels can insist that
 * this be said (vm.memfd_noexec), older ones do not know the word. -1 with errno. */
static inline int
memfd_open(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd;
}

#endif
