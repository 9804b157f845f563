/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tls.c - see tls.h.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

#ifdef HAVE_OPENSSL

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct tls {
	SSL_CTX *ctx;
	char server_name[REDIS_HOST_MAX + 1];
};

struct tls_wire {
	SSL *ssl;
	BIO *in, *out; /* ssl's */
	bool ready;
};

/* The last thing that OpenSSL complained of. Always false. */
static bool
failed(char *err, size_t errlen, const char *what, const char *file)
{
	/* of a file that cannot be read the first is the system's word, the last only says so */
	unsigned long first = ERR_peek_error(), e = ERR_peek_last_error();
	const char *reason = ERR_GET_LIB(first) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(first))
	    : e != 0					       ? ERR_reason_error_string(e)
							       : NULL;

	snprintf(err, errlen, "%s%s%s: %s", what, *file != '\0' ? " " : "", file,
	    reason != NULL ? reason : "it failed");
	ERR_clear_error();
	return false;
}

static bool
load(SSL_CTX *ctx, const struct redis_tls *o, char *err, size_t errlen)
{
	if (o->ca[0] != '\0' ? SSL_CTX_load_verify_locations(ctx, o->ca, NULL) != 1
			     : SSL_CTX_set_default_verify_paths(ctx) != 1)
		return failed(err, errlen, "cannot use the CA certificates in", o->ca);
	if (o->cert[0] != '\0' && SSL_CTX_use_certificate_chain_file(ctx, o->cert) != 1)
		return failed(err, errlen, "cannot use the certificate in", o->cert);
	if (o->key[0] != '\0' && SSL_CTX_use_PrivateKey_file(ctx, o->key, SSL_FILETYPE_PEM) != 1)
		return failed(err, errlen, "cannot use the private key in", o->key);
	if (o->key[0] != '\0' && SSL_CTX_check_private_key(ctx) != 1)
		return failed(err, errlen, "this key is not the certificate's:", o->key);
	return true;
}

/* A key with a pass phrase must not make a daemon ask the terminal. */
static int
no_phrase(char *buf, int size, int rwflag, void *ctx)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)ctx;
	return 0;
}

struct tls *
tls_new(const struct redis_tls *o, char *err, size_t errlen)
{
	struct tls *t = calloc(1, sizeof *t);

	if (t == NULL || (t->ctx = SSL_CTX_new(TLS_client_method())) == NULL) {
		snprintf(err, errlen, "out of memory");
		tls_free(&t);
		return NULL;
	}
	snprintf(t->server_name, sizeof t->server_name, "%s", o->server_name);
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_default_passwd_cb(t->ctx, no_phrase);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS);
	if (!load(t->ctx, o, err, errlen))
		tls_free(&t);
	return t;
}

void
tls_free(struct tls **t)
{
	if (*t != NULL)
		SSL_CTX_free((*t)->ctx);
	free(*t);
	*t = NULL;
}

/* Whom to expect: an address is in another field of a certificate than a name. */
static bool
expect(SSL *ssl, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	struct in6_addr any;

	if (inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
	return SSL_set_tlsext_host_name(ssl, name) == 1 && SSL_set1_host(ssl, name) == 1;
}

struct tls_wire *
tls_wire_new(const struct tls *t, const char *host)
{
	struct tls_wire *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->ssl = SSL_new(t->ctx);
	w->in = BIO_new(BIO_s_mem());
	w->out = BIO_new(BIO_s_mem());
	if (w->ssl == NULL || w->in == NULL || w->out == NULL ||
	    !expect(w->ssl, t->server_name[0] != '\0' ? t->server_name : host)) {
		BIO_free(w->in);
		BIO_free(w->out);
		w->in = w->out = NULL;
		tls_wire_free(&w);
		ERR_clear_error();
		return NULL;
	}
	SSL_set_bio(w->ssl, w->in, w->out);
	SSL_set_connect_state(w->ssl);
	return w;
}

void
tls_wire_free(struct tls_wire **w)
{
	if (*w != NULL)
		SSL_free((*w)->ssl); /* and its two ends */
	free(*w);
	*w = NULL;
}

bool
tls_wire_shake(struct tls_wire *w, char *err, size_t errlen)
{
	long verify;
	int r;

	if (w->ready)
		return true;
	ERR_clear_error();
	r = SSL_do_handshake(w->ssl);
	if (r == 1) {
		w->ready = true;
		return true;
	}
	if (SSL_get_error(w->ssl, r) == SSL_ERROR_WANT_READ)
		return true;
	verify = SSL_get_verify_result(w->ssl);
	if (verify == X509_V_OK)
		return failed(err, errlen, "TLS", "");
	snprintf(err, errlen, "TLS: %s", X509_verify_cert_error_string(verify));
	ERR_clear_error();
	return false;
}

bool
tls_wire_ready(const struct tls_wire *w)
{
	return w->ready;
}

bool
tls_wire_push(struct tls_wire *w, const char *plain, size_t len)
{
	ERR_clear_error();
	while (len > 0) {
		int n = SSL_write(w->ssl, plain, len > 1 << 20 ? 1 << 20 : (int)len);

		if (n <= 0) {
			ERR_clear_error();
			return false;
		}
		plain += n;
		len -= (size_t)n;
	}
	return true;
}

size_t
tls_wire_pending(struct tls_wire *w, const char **out)
{
	char *p = NULL;
	long n = BIO_get_mem_data(w->out, &p);

	*out = p;
	return n > 0 ? (size_t)n : 0;
}

void
tls_wire_sent(struct tls_wire *w, size_t n)
{
	char gone[4096];

	while (n > 0) {
		int r = BIO_read(w->out, gone, n > sizeof gone ? (int)sizeof gone : (int)n);

		if (r <= 0)
			return;
		n -= (size_t)r;
	}
}

bool
tls_wire_feed(struct tls_wire *w, const char *bytes, size_t len)
{
	return BIO_write(w->in, bytes, (int)len) == (int)len;
}

int
tls_wire_take(struct tls_wire *w, char *out, size_t outlen, char *err, size_t errlen)
{
	int n, e;

	ERR_clear_error();
	n = SSL_read(w->ssl, out, (int)outlen);
	if (n > 0)
		return n;
	e = SSL_get_error(w->ssl, n);
	if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
		return 0;
	if (e == SSL_ERROR_ZERO_RETURN)
		snprintf(err, errlen, "connection closed");
	else
		failed(err, errlen, "TLS", "");
	ERR_clear_error();
	return -1;
}

#else

struct tls *
tls_new(const struct redis_tls *o, char *err, size_t errlen)
{
	(void)o;
	snprintf(err, errlen,
	    "this weir was built without OpenSSL, so it speaks no TLS: let stunnel do it (see "
	    "weir.redis(7)), or build with libssl-dev");
	return NULL;
}

void
tls_free(struct tls **t)
{
	*t = NULL;
}

struct tls_wire *
tls_wire_new(const struct tls *t, const char *host)
{
	(void)t;
	(void)host;
	return NULL;
}

void
tls_wire_free(struct tls_wire **w)
{
	*w = NULL;
}

bool
tls_wire_shake(struct tls_wire *w, char *err, size_t errlen)
{
	(void)w;
	snprintf(err, errlen, "no TLS");
	return false;
}

bool
tls_wire_ready(const struct tls_wire *w)
{
	(void)w;
	return false;
}

bool
tls_wire_push(struct tls_wire *w, const char *plain, size_t len)
{
	(void)w;
	(void)plain;
	(void)len;
	return false;
}

size_t
tls_wire_pending(struct tls_wire *w, const char **out)
{
	(void)w;
	*out = NULL;
	return 0;
}

void
tls_wire_sent(struct tls_wire *w, size_t n)
{
	(void)w;
	(void)n;
}

bool
tls_wire_feed(struct tls_wire *w, const char *bytes, size_t len)
{
	(void)w;
	(void)bytes;
	(void)len;
	return false;
}

int
tls_wire_take(struct tls_wire *w, char *out, size_t outlen, char *err, size_t errlen)
{
	(void)w;
	(void)out;
	(void)outlen;
	snprintf(err, errlen, "no TLS");
	return -1;
}

#endif

bool
redis_options_check(const struct redis_options *o, char *err, size_t errlen)
{
	struct tls *t;

	if (!o->tls.on)
		return true;
	t = tls_new(&o->tls, err, errlen);
	if (t == NULL)
		return false;
	tls_free(&t);
	return true;
}
