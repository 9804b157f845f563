/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_redis_url.c - where Redis is: what is taken fits and is sound, what is not taken changes
 * nothing, and no complaint ever repeats a password.
 *
 * Input: the URL; a byte 1 in it stands for a secret.
 *
 * Covers: store/redis_url.c
 */
#include "fuzz.h"
#include "weir/redis.h"

#define SECRET "Zq7-hunter2"
#define ERR_ROOM 160

static char *
with_secret(const char *text)
{
	size_t n = 0;
	char *url = fuzz_alloc(strlen(text) * (sizeof SECRET - 1) + 1), *exact;

	for (; *text != '\0'; text++) {
		if (*text == 1) {
			memcpy(url + n, SECRET, sizeof SECRET - 1);
			n += sizeof SECRET - 1;
		} else
			url[n++] = *text;
	}
	url[n++] = '\0';
	exact = fuzz_alloc(n);
	memcpy(exact, url, n);
	free(url);
	return exact;
}

#define FITS(field) (strnlen(field, sizeof(field)) < sizeof(field))

static void
check_options(const struct redis_options *o, const struct redis_options *before)
{
	CHECK(FITS(o->host) && FITS(o->user) && FITS(o->password));
	CHECK(o->host[0] != '\0');
	CHECK(o->port >= 0 && o->port <= 65535);
	CHECK(o->db >= 0 && o->db <= 65535);
	/* the host goes into log lines */
	if (o->port != 0)
		CHECK(is_printable(o->host) && strpbrk(o->host, " /@[]") == NULL);
	else
		CHECK(o->host[0] == '/' && strlen(o->host) <= 107);
	CHECK(strcmp(o->prefix, before->prefix) == 0 && o->timeout_us == before->timeout_us);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	char *text = input_rest(&in), *url = with_secret(text), *err = fuzz_alloc(ERR_ROOM);
	struct redis_options o, before;

	redis_options_defaults(&o);
	before = o;
	if (redis_options_url(&o, url, err, ERR_ROOM))
		check_options(&o, &before);
	else {
		CHECK(memcmp(&o, &before, sizeof o) == 0);
		CHECK(is_sentence(err, ERR_ROOM));
		CHECK(strstr(err, "Zq7") == NULL && strstr(err, "unter") == NULL);
	}
	free(text);
	free(url);
	free(err);
	return 0;
}
