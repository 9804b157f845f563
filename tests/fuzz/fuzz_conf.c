/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_conf.c - the configuration file: whatever it holds, it is either taken whole, and then
 * all that it says is in range, or refused with a line that names it.
 *
 * Covers: conf/conf.c conf/conf_words.c
 */
#include <errno.h>
#include <netdb.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf.h"
#include "fuzz.h"
#include "weir/units.h"

int __real_getaddrinfo(const char *, const char *, const struct addrinfo *, struct addrinfo **);
int __wrap_getaddrinfo(const char *, const char *, const struct addrinfo *, struct addrinfo **);
FILE *__real_fopen(const char *, const char *);
FILE *__wrap_fopen(const char *, const char *);

static char path[64];

/* A fuzzer must ask no name server, */
int
__wrap_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out)
{
	struct addrinfo numeric = *hints;

	numeric.ai_flags |= AI_NUMERICHOST;
	return __real_getaddrinfo(host, port, &numeric, out);
}

/* and read no password from files that it makes up; but it has one. */
FILE *
__wrap_fopen(const char *name, const char *mode)
{
	static char secret[] = "secret\n";

	/* the compiler's coverage writes a file, too */
	if (strcmp(name, path) == 0 || mode[0] != 'r')
		return __real_fopen(name, mode);
	if (strcmp(name, "/secret") == 0)
		return fmemopen(secret, sizeof secret - 1, "r");
	errno = ENOENT;
	return NULL;
}

static void
check_conf(const struct conf *c)
{
	char err[LIMIT_ERR_MAX + LIMIT_NAME_MAX + 16];
	struct ruleset r = c->rules;

	CHECK(c->socket.len > 0);
	CHECK(c->socket_mode <= 0777);
	CHECK(c->workers <= ZONE_WORKERS_MAX);
	CHECK(c->zone_size >= ZONE_SIZE_MIN && c->zone_size <= ZONE_SIZE_MAX);
	CHECK(c->redis.timeout_us >= USEC_PER_MSEC && c->redis.timeout_us <= USEC_PER_SEC);
	CHECK(c->redis.prefix[0] != '\0' && is_printable(c->redis.prefix));
	CHECK(strpbrk(c->redis.prefix, " {}*?[]\\") == NULL);
	CHECK(c->rules.exempt == c->exempt && c->exempt != NULL);
	CHECK(c->rules.nlimits <= LIMITS_MAX);
	CHECK(ruleset_finish(&r, err, sizeof err));
	for (unsigned i = 0; i < c->rules.nlimits; i++)
		CHECK(limit_name_valid(c->rules.limits[i].name));
	CHECK(c->rules.address_v6 >= 16 && c->rules.address_v6 <= 128);
	CHECK(c->rules.network_v4 >= 8 && c->rules.network_v4 <= 32);
	CHECK(c->rules.network_v6 >= 16 && c->rules.network_v6 <= 128);
}

/* Lines that can go to a terminal and a log, each with this program's name in front. */
static void
check_errors(char *text, size_t len)
{
	CHECK(len > 0 && text[len - 1] == '\n' && strlen(text) == len);
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		CHECK(strncmp(line, program_invocation_short_name,
			  strlen(program_invocation_short_name)) == 0);
		for (const char *p = line; *p != '\0'; p++)
			CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("weir.conf", MFD_CLOEXEC);
	char *text = NULL;
	size_t len = 0;
	FILE *errors = open_memstream(&text, &len);
	struct conf c;
	bool ok;

	CHECK(fd >= 0 && errors != NULL);
	CHECK(write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ok = conf_read(&c, path, errors);
	fclose(errors);
	if (ok) {
		FILE *null = fmemopen(NULL, 65536, "w");

		check_conf(&c);
		CHECK(null != NULL);
		conf_print(&c, null);
		fclose(null);
	} else
		check_errors(text, len);
	conf_free(&c);
	close(fd);
	free(text);
	return 0;
}
