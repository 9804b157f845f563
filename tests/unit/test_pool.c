/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_pool.c - which clients are one pool: real shapes of the names of lines, rented hosts and
 * large senders, and what else may stand in a reverse zone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <libpsl.h>

#include "weir/pool.h"

static psl_ctx_t *list;

static int
open_list(void **state)
{
	(void)state;
	list = psl_latest(NULL);
	return list == NULL;
}

static int
close_list(void **state)
{
	(void)state;
	psl_free(list);
	return 0;
}

struct shape {
	const char *client, *name;
	const char *pool; /* NULL: the network */
};

static void
check(const struct shape *table, size_t rows)
{
	for (size_t i = 0; i < rows; i++) {
		const struct shape *s = &table[i];
		char out[POOL_NAME_MAX + 1] = "untouched";
		struct addr client;
		bool pooled;

		assert_true(addr_parse(s->client, &client));
		pooled = pool_name(list, &client, s->name, out);
		if (pooled != (s->pool != NULL) || strcmp(out, pooled ? s->pool : "untouched") != 0)
			fail_msg("%s [%s]: %s", s->name, s->client, pooled ? out : "its network");
	}
}

#define CHECK(table) check(table, sizeof table / sizeof table[0])

/* Lines of access providers: each row another way to say "one of our customers". */
static void
test_lines(void **state)
{
	static const struct shape table[] = {
	    /* Germany */
	    {"93.223.62.26", "p5DDF3E1A.dip0.t-ipconnect.de", NULL}, /* hexadecimal, dip0 */
	    {"217.224.161.178", "pD9E0A1B2.dip.t-dialin.net", NULL},
	    {"2003:c1:2345:6789:abcd:ef01:2345:6789",
		"p200300c123456789abcdef0123456789.dip0.t-ipconnect.de", NULL},
	    {"95.90.193.35", "ip5f5ac123.dynamic.kabel-deutschland.de", NULL},
	    {"178.200.1.2", "ip-178-200-1-2.hsi13.unitymediagroup.de", NULL},
	    {"88.64.1.2", "dslb-088-064-001-002.088.064.pools.vodafone-ip.de", NULL},
	    {"77.12.26.43", "x4d0c1a2b.dyn.telefonica.de", NULL},
	    {"87.123.18.52", "i577B1234.versanet.de", NULL}, /* hexadecimal only */
	    {"78.35.1.2", "xdsl-78-35-1-2.nc.de", NULL},
	    {"88.217.1.2", "host-88-217-1-2.customer.m-online.net", NULL},
	    {"91.65.7.9", "ip-91-65-7-9.um47.pools.vodafone-ip.de", NULL},
	    /* France */
	    {"86.238.234.56", "lfbn-idf1-1-234-56.w86-238.abo.wanadoo.fr", NULL},
	    {"86.200.12.34", "APoitiers-650-1-12-34.w86-200.access.example.fr", NULL}, /* halves */
	    {"77.4.3.2", "2.3.4.77.rev.sfr.net", NULL}, /* backward */
	    {"176.1.2.3", "176-1-2-3.abo.bbox.fr", NULL},
	    {"82.64.1.2", "abc34-1-82-64-1-2.fbx.proxad.net", NULL},
	    /* Italy, Spain, Portugal */
	    {"79.12.45.123", "host123-45-dynamic.12-79-r.retail.telecomitalia.it", NULL},
	    {"79.12.45.123", "host123-45-fixed.12-79-r.retail.telecomitalia.it", NULL},
	    {"93.40.1.2", "93-40-1-2.ip36.fastwebnet.it", NULL},
	    {"83.45.67.12", "12.red-83-45-67.dynamicip.rima-tde.net", NULL}, /* last octet first */
	    {"83.45.67.12", "12.red-83-45-67.staticip.rima-tde.net", NULL},
	    {"85.240.1.2", "bl7-1-2.dsl.telepac.pt", NULL},
	    /* Britain */
	    {"86.1.2.3", "host86-1-2-3.range86-1.btcentralplus.com", NULL},
	    {"81.100.7.9", "cpc12345-seve1-2-0-cust123.12-3.cable.virginm.net", NULL},
	    {"94.193.162.179", "5ec1a2b3.skybroadband.com", NULL}, /* hexadecimal only */
	    {"92.1.2.3", "host-92-1-2-3.as13285.net", NULL},
	    /* Netherlands, Belgium */
	    {"84.1.2.3", "84-1-2-3.cable.dynamic.v4.ziggo.nl", NULL},
	    {"2001:1c00:a0b:ff00::5", "2001-1c00-0a0b-ff00-0-0-0-5.v6.example.nl", NULL},
	    {"84.192.161.178", "d54C0A1B2.access.telenet.be", NULL},
	    {"87.65.34.12", "12.34-65-87.adsl-dyn.isp.belgacom.be", NULL},
	    {"77.1.2.3", "77-1-2-3.fixed.kpn.net", NULL},
	    /* Austria, Switzerland */
	    {"84.112.1.2", "84-112-1-2.cable.dynamic.surfer.at", NULL},
	    {"93.83.1.2", "93-83-1-2.adsl.highway.telekom.at", NULL},
	    {"83.76.45.123", "123.45.76.83.dynamic.wline.res.cust.swisscom.ch", NULL},
	    /* the North */
	    {"94.234.18.52", "c-5eea1234.012-34-5678.cust.bredbandsbolaget.se", NULL},
	    {"93.161.35.69", "0x5da12345.boanxx12.example.dk", NULL}, /* tele.dk's 0x */
	    {"85.76.1.2", "dsl-hkibng42-54f8a1-23.dhcp.inet.fi", NULL}, /* no address, dhcp */
	    {"155.4.1.2", "h-155-4-1-2.NA.cust.bahnhof.se", NULL},
	    /* the East */
	    {"83.10.1.2", "abcd123.neoplus.adsl.tpnet.pl", NULL}, /* a code, adsl */
	    {"89.64.1.2", "89-64-1-2.dynamic.chello.pl", NULL},
	    {"5.12.1.2", "5-12-1-2.residential.rdsnet.ro", NULL},
	    {"83.237.1.2", "ppp83-237-1-2.pppoe.mtu-net.ru", NULL},
	    {"78.160.1.2", "78.160.1.2.dynamic.ttnet.com.tr", NULL},
	    {"2a00:1028:83a2:1f2e::7", "dynamic-2a00-1028-83a2-1f2e-0-0-0-7.ipv6.example.cz", NULL},
	    {"2a00:1028:83a2:1f2e::7", "host-2a00-1028-83a2-1f2e-0-0-0-7.v6.example.cz", NULL},
	    {"2a00:1028:83a2:1f2e::7",
		"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.e.2.f.1.2.a.3.8.8.2.0.1.0.0.a.2.v6.example.cz",
		NULL}, /* as in ip6.arpa */
	    /* North America */
	    {"73.2.3.4", "c-73-2-3-4.hsd1.ca.comcast.net", NULL},
	    {"71.2.3.4", "pool-71-2-3-4.nwrknj.fios.verizon.net", NULL},
	    {"71.2.3.4", "static-71-2-3-4.nwrknj.fios.verizon.net", NULL},
	    {"75.2.3.4", "adsl-75-2-3-4.dsl.sfldmi.sbcglobal.net", NULL},
	    {"99.2.3.4", "99-2-3-4.lightspeed.hstntx.sbcglobal.net", NULL},
	    {"24.151.12.34", "024-151-012-034.res.spectrum.com", NULL},
	    {"68.2.3.4", "ip68-2-3-4.ph.ph.cox.net", NULL},
	    {"99.224.1.2", "CPE00fc8d123456-CM00fc8d123450.cpe.net.cable.rogers.com", NULL},
	    {"70.48.1.2", "bras-base-toroon-grc-12-1177551106.dsl.bell.ca", NULL},
	    {"70.48.1.2", "toroon12-1177551106.example.ca", NULL}, /* one 32-bit number */
	    {"208.54.1.2", "m012.tmodns.net", "tmodns.net"}, /* known to be missed: no hint in it */
	    /* South America */
	    {"177.1.2.3", "177-1-2-3.user.vivozap.com.br", NULL},
	    {"189.26.43.60", "bd1a2b3c.virtua.com.br", NULL},
	    {"189.1.2.3", "dsl-189-1-2-3-dyn.prod-infinitum.com.mx", NULL},
	    {"190.56.34.12", "12-34-56-190.fibertel.com.ar", NULL},
	    /* Asia, Australia, Africa */
	    {"122.56.4.123", "abts-north-dynamic-123.4.56.122.airtelbroadband.in", NULL},
	    {"126.1.2.3", "softbank126001002003.bbtec.net", NULL}, /* padded, no separator */
	    {"106.154.1.2", "KD106154001002.ppp-bb.dion.ne.jp", NULL},
	    {"118.9.10.11", "host118910111.example.jp", "example.jp"}, /* another one's */
	    {"118.9.10.11", "host11891011.example.jp", NULL}, /* not padded */
	    {"153.1.2.3", "p12345-ipoe.ipoe.ocn.ne.jp", NULL},
	    {"1.34.5.6", "1-34-5-6.hinet-ip.hinet.net", NULL},
	    {"119.123.4.5", "5.4.123.119.broad.sz.gd.dynamic.163data.com.cn", NULL},
	    {"27.72.1.2", "dynamic-ip-adsl.viettel.vn", NULL},
	    {"118.208.1.2", "ppp118-208-1-2.bras1.mel11.internode.on.net", NULL},
	    {"41.1.2.3", "vc-gp-n-41-1-2-3.umts.vodacom.co.za", NULL},
	    /* parts of the address, in all the orders that the rows above leave out */
	    {"85.1.2.3", "h-1-2-3.net85.example.se", NULL},
	    {"85.1.2.3", "h-3-2-1.r9.net85.example.se", NULL},
	    {"87.65.34.12", "line12.r7.34-65-87.example.be", NULL},
	    {"126.1.2.3", "host003002001126.example.jp", NULL},
	    {"10.200.7.9", "0010-0200-0007-0009.example.net", NULL},
	    {"2a02:8071:1:5600::7", "host-2a02-8071-1-5600.example.de", NULL},
	    {"2a02:8071:1:5600:1:22:333:4444", "host-1-22-333-4444.example.de", NULL},
	    {"2003:c1:2345:6789:abcd:ef01:2345:6789",
		"p200300c123456789abcdef0123456789.example.de", NULL},
	    /* a mail server at the end of such a line */
	    {"75.2.3.4", "mail.adsl-75-2-3-4.dsl.sfldmi.sbcglobal.net", NULL},
	};

	(void)state;
	CHECK(table);
}

/* Hosts that anybody can rent. */
static void
test_rented(void **state)
{
	static const struct shape table[] = {
	    {"148.251.3.4", "static.4.3.251.148.clients.your-server.de", NULL}, /* Hetzner */
	    {"2a01:4f8:c17:1234::1",
		"static.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.3.2.1.7.1.c.0.8.f.4.0.1.0.a.2.clients."
		"your-server.de",
		NULL},
	    {"51.1.2.3", "ip3.ip-51-1-2.eu", NULL}, /* OVH: the address reaches into the domain */
	    {"51.1.2.3", "ns312345.ip-51-1-2.eu", NULL},
	    {"51.1.2.3", "vps-12ab34cd.vps.ovh.net", NULL},
	    {"3.120.4.5", "ec2-3-120-4-5.eu-central-1.compute.amazonaws.com", NULL},
	    {"54.1.2.3", "ec2-54-1-2-3.compute-1.amazonaws.com", NULL}, /* a public suffix */
	    {"34.1.2.3", "3.2.1.34.bc.googleusercontent.com", NULL},
	    {"139.162.1.2", "139-162-1-2.ip.linodeusercontent.com", NULL},
	    {"163.172.1.2", "163-172-1-2.rev.poneytelecom.eu", NULL},
	    {"45.32.1.2", "45.32.1.2.vultrusercontent.com", NULL},
	    {"173.212.1.2", "vmi1234567.contaboserver.net", NULL},
	    {"107.180.1.2", "ip-107-180-1-2.ip.secureserver.net", NULL},
	    /* below a private suffix each customer is his own pool */
	    {"50.116.1.2", "li123-45.members.linode.com", "li123-45.members.linode.com"},
	    {"192.0.2.1", "mail.alice.github.io", "alice.github.io"},
	    {"192.0.2.2", "mail.bob.github.io", "bob.github.io"},
	    {"192.0.2.1", "carol.dyndns.org", "carol.dyndns.org"},
	    {"192.0.2.1", "mx.dave.uk.com", "dave.uk.com"},
	    /* the customer's own domain */
	    {"148.251.3.4", "mail.customer.example", "customer.example"},
	    {"148.251.3.4", "www4.example.co.uk", "example.co.uk"},
	};

	(void)state;
	CHECK(table);
}

/* Those that the pool exists for: many hosts and networks, one sender. */
static void
test_senders(void **state)
{
	static const struct shape table[] = {
	    {"209.85.221.53", "mail-wr1-f53.google.com", "google.com"},
	    {"2a00:1450:4864:20::32e", "mail-wm1-x32e.google.com", "google.com"},
	    {"40.107.7.84", "mail-eopbgr70084.outbound.protection.outlook.com", "outlook.com"},
	    {"40.107.20.84", "mail-db8eur05on2084.outbound.protection.outlook.com", "outlook.com"},
	    {"2a01:111:f403:2613::705", "mail-db5eur02on20705.outbound.protection.outlook.com",
		"outlook.com"},
	    {"54.240.27.42", "a27-42.smtp-out.us-west-2.amazonses.com", "amazonses.com"},
	    {"23.251.240.10", "e240-10.smtp-out.eu-north-1.amazonses.com", "amazonses.com"},
	    {"74.6.128.22", "sonic301-22.consmtp.mail.bf2.yahoo.com", "yahoo.com"},
	    {"17.57.155.16", "pv50p00im-ztdg10021101.me.com", "me.com"}, /* Apple */
	    {"198.2.128.12", "mail128-12.atl41.mandrillapp.com", "mandrillapp.com"},
	    {"205.201.133.12", "mail123.atl11.rsgsv.net", "rsgsv.net"}, /* Mailchimp */
	    {"167.89.118.152", "o16789118x152.outbound-mail.sendgrid.net", "sendgrid.net"},
	    {"149.72.1.2", "wrqvnbrf.outbound-mail.sendgrid.net", "sendgrid.net"},
	    {"149.72.1.2", "o1.ptr1234.example.com", "example.com"}, /* SendGrid, own domain */
	    {"166.78.70.4", "m70-4.mailgun.net", "mailgun.net"},
	    {"147.70.14.103", "mta-70-14-103.sparkpostmail.com", "sparkpostmail.com"},
	    {"185.211.120.178", "o178.p8.mailjet.com", "mailjet.com"},
	    {"50.31.156.116", "sc-ord-mta116.mtasv.net", "mtasv.net"}, /* Postmark */
	    {"66.220.155.178", "66-220-155-178.mail-mail.facebook.com", "facebook.com"},
	    {"108.174.3.196", "maile-fb.linkedin.com", "linkedin.com"},
	    {"203.205.221.190", "out203-205-221-190.mail.qq.com", "qq.com"},
	    {"220.181.12.18", "m12-18.163.com", "163.com"},
	    {"115.124.28.97", "out28-97.mail.aliyun.com", "aliyun.com"},
	    {"212.227.17.21", "mout.gmx.net", "gmx.net"},
	    {"212.227.126.130", "mout.kundenserver.de", "kundenserver.de"},
	    {"194.25.134.17", "mailout02.t-online.de", "t-online.de"},
	    {"80.12.242.24", "smtp-24.smtpout.orange.fr", "orange.fr"},
	    {"212.27.42.4", "smtp4-g21.free.fr", "free.fr"},
	    {"46.105.45.8", "8.mo179.mail-out.ovh.net", "ovh.net"},
	    {"217.70.183.195", "relay3-d.mail.gandi.net", "gandi.net"},
	    {"185.70.40.131", "mail-40131.protonmail.ch", "protonmail.ch"},
	    {"103.168.172.144", "fout-a1-smtp.messagingengine.com", "messagingengine.com"},
	    {"77.88.28.101", "forward501c.mail.yandex.net", "yandex.net"},
	    {"94.100.181.54", "send54.i.mail.ru", "mail.ru"},
	    {"148.163.156.1", "mx0a-001b2d01.pphosted.com", "pphosted.com"},
	    {"205.139.110.120", "us-smtp-delivery-1.mimecast.com", "mimecast.com"},
	    {"209.222.82.8", "outbound-ip8a.ess.barracuda.com", "barracuda.com"},
	    {"85.158.142.1", "mail1.bemta23.messagelabs.com", "messagelabs.com"},
	    {"68.232.1.2", "esa.hc1234-56.iphmx.com", "iphmx.com"},
	    {"13.108.1.2", "smtp14-ia4-sp1.mta.salesforce.com", "salesforce.com"},
	    {"192.161.1.2", "outbyoip14.pod17.use1.zdsys.com", "zdsys.com"},
	    {"208.75.123.27", "ccm27.constantcontact.com", "constantcontact.com"},
	    {"192.28.1.77", "em-sj-77.mktomail.com", "mktomail.com"},
	    {"96.114.154.168", "resqmta-po-09v.sys.comcast.net", "comcast.net"},
	    {"2001:558:fe21:29::5", "resqmta-c1p-022589.sys.comcast.net", "comcast.net"},
	    {"107.14.166.1", "cdptpa-cmomta01.email.rr.com", "rr.com"},
	    {"66.135.1.2", "mxphxpool1023.ebay.com", "ebay.com"},
	    {"146.20.161.106", "smtp106.iad3a.emailsrvr.com", "emailsrvr.com"},
	    {"192.30.252.18", "out-18.smtp.github.com", "github.com"},
	    {"173.201.193.6", "p3plsmtpa06-01.prod.phx3.secureserver.net", "secureserver.net"},
	    {"81.169.146.1", "mo4-p00-ob.smtp.rzone.de", "rzone.de"},
	    {"82.195.75.100", "bendel.debian.org", "debian.org"},
	    /* words of lines in names of mail servers */
	    {"192.0.2.3", "mail-pool-3.example.com", "example.com"},
	    {"192.0.2.3", "static-3.example.com", "example.com"},
	    {"192.0.2.17", "smtp-out-17.example.com", "example.com"},
	    {"192.0.2.3", "mx.customer-mailings.example.com", "example.com"},
	    {"192.0.2.3", "mail.home.example.com", "example.com"},
	    {"192.0.2.17", "192-0-2-17.smtp-out.example.com", "example.com"},
	    /* ... and in what somebody has registered */
	    {"79.96.1.2", "smtp.home.pl", "home.pl"},
	    {"192.0.2.3", "gate.dynamic-broadband.com", "dynamic-broadband.com"},
	    {"192.0.2.3", "gate.dsl.co.uk", "dsl.co.uk"},
	    /* words as parts of others, numbers as parts of longer ones */
	    {"192.0.2.3", "dynamo.cabletv-guide.example.com", "example.com"},
	    {"1.2.3.4", "srv11-2-34.example.com", "example.com"},
	    {"1.2.3.4", "srv1102030405.example.com", "example.com"},
	    {"1.2.3.4", "srv1234.example.com", "example.com"},
	    {"1.2.3.4", "srv4321.example.com", "example.com"},
	    {"2a02:8071:1:5600::7", "srv-0-0-7.example.com", "example.com"},
	    {"1.2.3.4", "n1-2.r13-4.example.com", "example.com"},
	};

	(void)state;
	CHECK(table);
}

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* What else may stand in a zone. */
static void
test_hostile(void **state)
{
	static const struct shape table[] = {
	    {"192.0.2.1", "MX.Example.COM", "example.com"},
	    {"192.0.2.1", "mx.example.com.", "example.com"},
	    {"192.0.2.1", "example.com", "example.com"},
	    {"192.0.2.1", "mx_1.example.com", "example.com"},
	    {"192.0.2.1", "-.example.com", "example.com"},
	    /* A-labels are compared as they are */
	    {"192.0.2.1", "mx.XN--85X722F.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"},
	    {"192.0.2.1", "mx.xn--mller-kva.example", "xn--mller-kva.example"},
	    {"192.0.2.1", "", NULL},
	    {"192.0.2.1", ".", NULL},
	    {"192.0.2.1", "...", NULL},
	    {"192.0.2.1", ".example.com", NULL},
	    {"192.0.2.1", "mx..example.com", NULL},
	    {"192.0.2.1", "mx.example.com..", NULL},
	    {"192.0.2.1", "localhost", NULL},
	    {"192.0.2.1", "localhost.", NULL},
	    {"192.0.2.1", "com", NULL},
	    {"192.0.2.1", "co.uk", NULL},
	    {"192.0.2.1", "github.io", NULL},
	    {"192.0.2.1", "compute.amazonaws.com", NULL},
	    {"192.0.2.1", "anything.ck", NULL}, /* *.ck */
	    {"192.0.2.1", "www.ck", "www.ck"}, /* !www.ck */
	    {"192.0.2.1", "192.0.2.1", NULL},
	    {"192.0.2.9", "192.0.2.1", NULL},
	    {"192.0.2.1", "[192.0.2.1]", NULL},
	    {"192.0.2.1", "mx.example.123", NULL},
	    {"2001:db8::1", "2001:db8::1", NULL},
	    {"192.0.2.1", "unknown", NULL},
	    {"192.0.2.1", "mx.m\xc3\xbcller.example", NULL},
	    {"192.0.2.1", "mx.\xff\xfe.example.com", NULL},
	    {"192.0.2.1", "mx example.com", NULL},
	    {"192.0.2.1", "mx.example.com\n", NULL},
	    {"192.0.2.1", "}{all}.example.com", NULL},
	    {"192.0.2.1", "a@example.com", NULL},
	    {"192.0.2.1", "a%41.example.com", NULL},
	    {"192.0.2.1", "mx.no-such-top-level", "mx.no-such-top-level"}, /* the list's "*" */
	    {"192.0.2.1", L63 ".com", L63 ".com"},
	    {"192.0.2.1", L63 "a.com", NULL}, /* a label of 64 */
	    {"192.0.2.1", L63 "." L63 "." L63 ".example.com", "example.com"},
	    {"192.0.2.1", L63 "." L63 "." L63 "." L63 ".com", NULL}, /* 259 */
	    /* an address without a name in it, of no family */
	    {"::ffff:192.0.2.1", "host-192-0-2-1.example.com", NULL},
	};

	(void)state;
	CHECK(table);
}

/* The longest names and domains that are taken, and the shortest that are not. */
static void
test_lengths(void **state)
{
	char name[400], out[POOL_NAME_MAX + 1];
	struct addr client;

	(void)state;
	assert_true(addr_parse("192.0.2.1", &client));
	for (size_t len = 240; len < 300; len++) {
		/* "y.y.y. ... .y.example.com" */
		size_t tail = strlen("example.com");

		for (size_t i = 0; i < len - tail; i++)
			name[i] = (len - tail - i) % 2 == 1 ? '.' : 'y';
		if (name[0] == '.')
			name[0] = 'y';
		strcpy(name + len - tail, "example.com");
		if (name[1] == 'y')
			name[1] = 'z';
		assert_int_equal(strlen(name), len);
		assert_int_equal(pool_name(list, &client, name, out), len <= 253);
		/* the dot of the root takes no place */
		strcat(name, ".");
		assert_int_equal(pool_name(list, &client, name, out), len <= 253);
	}
	/* "xx...x.yy...y.ZZZ" below a suffix of the list that has many labels */
	for (size_t len = 90; len < 110; len++) {
		static const char tail[] = ".s3.dualstack.ap-northeast-1.amazonaws.com";
		size_t label = len - strlen(tail);

		strcpy(name, "mx.");
		memset(name + 3, 'x', label);
		strcpy(name + 3 + label, tail);
		assert_true(label <= 63 + 8);
		if (label > 63)
			assert_false(pool_name(list, &client, name, out));
		else
			assert_int_equal(pool_name(list, &client, name, out), len <= POOL_NAME_MAX);
	}
}

/* Whatever the bytes: no crash, and what comes out is a domain in small letters. */
static void
test_noise(void **state)
{
	static const char bytes[] = "aAzZ019.-_..x\xff\xc3\x80 []:%{}@\t";
	static const char *const clients[] = {
	    "0.0.0.0", "1.1.1.1", "255.255.255.255", "::", "ffff:ffff:ffff::1"};
	uint32_t random = 12345;
	unsigned pools = 0;

	(void)state;
	for (unsigned round = 0; round < 200000; round++) {
		char name[64], out[POOL_NAME_MAX + 1];
		struct addr client;
		size_t len, range;

		random = random * 1664525 + 1013904223;
		len = (random >> 8) % (sizeof name - 1);
		/* every other one of what names are made of, so that some come through */
		range = random >> 31 ? 13 : sizeof bytes - 1;
		for (size_t i = 0; i < len; i++) {
			random = random * 1664525 + 1013904223;
			name[i] = bytes[(random >> 16) % range];
		}
		name[len] = '\0';
		assert_true(addr_parse(clients[round % 5], &client));
		if (!pool_name(list, &client, name, out))
			continue;
		pools++;
		assert_int_equal(strspn(out, "az019.-_x"), strlen(out));
		assert_true(strchr(out, '.') != NULL && strstr(out, "..") == NULL);
	}
	assert_true(pools > 1000);
}

static void
test_no_list(void **state)
{
	char out[POOL_NAME_MAX + 1];
	struct addr client;

	(void)state;
	assert_true(addr_parse("209.85.221.53", &client));
	assert_false(pool_name(NULL, &client, "mail-wr1-f53.google.com", out));
	/* local submission has no address, and so none in its name */
	memset(&client, 0, sizeof client);
	assert_true(pool_name(list, &client, "host-0-0-0-0.example.com", out));
}

/* As the MTAs hand it over, and as other ones might. */
static void
test_confirmed(void **state)
{
	static const struct {
		const char *name, *resolve;
		bool confirmed;
	} table[] = {
	    {"mx.example.com", "OK", true}, /* both */
	    {"[192.0.2.7]", "FAIL", false}, /* both: no name */
	    {"[192.0.2.7]", "TEMP", false}, /* both: DNS did not answer */
	    {"[192.0.2.7]", "FORGED", false}, /* Sendmail: the name has another address */
	    {"unknown", "FORGED", false}, /* Postfix' own word for it */
	    {"mx.example.com", "FORGED", false},
	    {"mx.example.com", "FAIL", false},
	    {"mx.example.com", "TEMP", false},
	    {"mx.example.com", "ok", false},
	    {"mx.example.com", "something new", false},
	    {"[192.0.2.7]", "OK", false},
	    {"unknown", "OK", false},
	    {"", "OK", false},
	    {"", "", false},
	    /* the macro was not sent */
	    {"mx.example.com", "", true},
	    {"[192.0.2.7]", "", false},
	    {"[IPv6:2001:db8::1]", "", false},
	    {"unknown", "", false},
	    {"unknown.example.com", "", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (name_confirmed(table[i].name, table[i].resolve) != table[i].confirmed)
			fail_msg("%s %s", table[i].name, table[i].resolve);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_rented),
	    cmocka_unit_test(test_senders),
	    cmocka_unit_test(test_hostile),
	    cmocka_unit_test(test_lengths),
	    cmocka_unit_test(test_noise),
	    cmocka_unit_test(test_no_list),
	    cmocka_unit_test(test_confirmed),
	};

	return cmocka_run_group_tests(tests, open_list, close_list);
}
