/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_pool.c - the shapes of host names: what is a pool is the end of the name, a domain that
 * somebody has registered, whatever its owner wrote; and a name made of the client's address never
 * is one.
 *
 * Input: a byte (family), an address, then the name as the owner of the address wrote it.
 *
 * Covers: policy/pool.c
 */
#include <ctype.h>
#include <libpsl.h>

#include "fuzz.h"
#include "weir/pool.h"

static psl_ctx_t *psl;

static void
check_pool(const char *name, const char *pool)
{
	size_t len = strlen(name), n = strlen(pool);

	CHECK(n > 0 && n <= POOL_NAME_MAX && is_printable(pool));
	CHECK(strspn(pool, "abcdefghijklmnopqrstuvwxyz0123456789-._") == n);
	CHECK(strchr(pool, '.') != NULL && pool[0] != '.' && pool[n - 1] != '.');
	/* the end of the name, from a dot on; a dot at the very end is none */
	if (name[len - 1] == '.')
		len--;
	CHECK(len >= n && strncasecmp(name + len - n, pool, n) == 0);
	CHECK(len == n || name[len - n - 1] == '.');
	/* and registrable, all of it */
	CHECK(psl_registrable_domain(psl, pool) == pool);
}

/* Neither letters' case nor a dot at the end makes another pool. */
static void
check_spellings(const struct addr *client, const char *name, bool is, const char *pool)
{
	size_t len = strlen(name);
	char *other = fuzz_alloc(len + 2), out[POOL_NAME_MAX + 1];

	for (size_t i = 0; i <= len; i++)
		other[i] = (char)(i % 2 == 0 ? toupper((unsigned char)name[i])
					     : tolower((unsigned char)name[i]));
	CHECK(pool_name(psl, client, other, out) == is);
	CHECK(!is || strcmp(out, pool) == 0);
	if (is && name[len - 1] != '.') {
		other[len] = '.';
		other[len + 1] = '\0';
		CHECK(pool_name(psl, client, other, out) && strcmp(out, pool) == 0);
	}
	free(other);
}

/* Providers name lines by their address; such neighbours have nothing in common. */
static void
check_lines(const struct addr *client)
{
	static const char *const forms[] = {
	    "%1$u-%2$u-%3$u-%4$u.example.com",
	    "%4$u.%3$u.%2$u.%1$u.example.com",
	    "%1$u.%2$u.%3$u.%4$u.example.com",
	    "ip%1$u-%2$u-%3$u-%4$u.x.example.com",
	    "host-%4$u-%3$u-%2$u-%1$u.example.com",
	    "%1$03u%2$03u%3$03u%4$03u.example.com",
	    "%1$02x%2$02x%3$02x%4$02x.example.com",
	};
	const uint8_t *b = client->b;
	char name[128], out[POOL_NAME_MAX + 1];

	if (client->family != ADDR_V4)
		return;
	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(name, sizeof name, forms[i], b[0], b[1], b[2], b[3]);
#pragma GCC diagnostic pop
		if (pool_name(psl, client, name, out)) {
			fprintf(stderr, "%s is in the pool %s\n", name, out);
			CHECK(false);
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	struct addr client = {.family = input_byte(&in) & 1 ? ADDR_V6 : ADDR_V4};
	char *name, *pool = fuzz_alloc(POOL_NAME_MAX + 1);
	bool is;

	if (psl == NULL)
		psl = psl_latest(NULL);
	CHECK(psl != NULL);
	for (unsigned i = 0; i < (client.family == ADDR_V4 ? 4u : 16u); i++)
		client.b[i] = input_byte(&in);
	name = input_rest(&in);
	(void)name_confirmed(name, "OK");
	CHECK(!name_confirmed(name, "FAIL") && !name_confirmed("", ""));
	CHECK(!pool_name(NULL, &client, name, pool));
	is = pool_name(psl, &client, name, pool);
	if (is)
		check_pool(name, pool);
	check_spellings(&client, name, is, pool);
	check_lines(&client);
	free(name);
	free(pool);
	return 0;
}
