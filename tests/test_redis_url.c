/* SPDX-License-Identifier: Apache-2.0 */
/* URLs: what they mean, what is refused in which words, and that no password is
 * ever among these words. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "sync/redis_url.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define TCP REDIS_OVER_TCP
#define TLS REDIS_OVER_TLS
#define UNIX REDIS_OVER_UNIX

#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

/* Timeouts of 0 stand for the defaults. */
static const struct {
	const char *url;
	struct redis_options options;
	const char *shown;
} good[] = {
	{ "redis://localhost", { TCP, "localhost", 6379 }, "redis://localhost:6379/0" },
	{ "redis://localhost/", { TCP, "localhost", 6379 }, "redis://localhost:6379/0" },
	{ "REDIS://Host_1.example.com.:1/15", { TCP, "Host_1.example.com.", 1, .database = 15 },
	  "redis://Host_1.example.com.:1/15" },
	{ "redis://10.0.0.1:65535?db=7", { TCP, "10.0.0.1", 65535, .database = 7 },
	  "redis://10.0.0.1:65535/7" },
	{ "redis://[::1]", { TCP, "::1", 6379 }, "redis://[::1]:6379/0" },
	{ "redis://[2001:DB8::1.2.3.4]:7000/2147483647",
	  { TCP, "2001:DB8::1.2.3.4", 7000, .database = 2147483647 },
	  "redis://[2001:DB8::1.2.3.4]:7000/2147483647" },
	{ "redis://[fe80::1%25eth0]:7", { TCP, "fe80::1%eth0", 7 },
	  "redis://[fe80::1%25eth0]:7/0" },
	{ "redis://u:p@h", { TCP, "h", 6379, "", true, "u", "p" }, "redis://u:***@h:6379/0" },
	{ "redis://:p@h", { TCP, "h", 6379, "", true, "", "p" }, "redis://:***@h:6379/0" },
	{ "redis://u:@h", { TCP, "h", 6379, "", true, "u", "" }, "redis://u:***@h:6379/0" },
	{ "redis://u%3a%40:%70:a%3As%2F%3f%23%25@h",
	  { TCP, "h", 6379, "", true, "u:@", "p:a:s/?#%" }, "redis://u%3A%40:***@h:6379/0" },
	{ "redis://\xc3\xa4:\xc3\xb6@h", { TCP, "h", 6379, "", true, "\xc3\xa4", "\xc3\xb6" },
	  "redis://%C3%A4:***@h:6379/0" },
	{ "rediss://h", { TLS, "h", 6379 }, "rediss://h:6379/0" },
	{ "rediss://u:p@[::1]:6380/3?ca=%2Fetc/ca.pem&certificate=c.pem&key=k.pem",
	  { TLS, "::1", 6380, "", true, "u", "p", 3, "/etc/ca.pem", "c.pem", "k.pem" },
	  "rediss://u:***@[::1]:6380/3" },
	{ "unix:///run/redis.sock", { UNIX, .path = "/run/redis.sock" },
	  "unix:///run/redis.sock?db=0" },
	{ "unix:///a%20b%40c?db=5&connect_ms=1&command_ms=60000",
	  { UNIX, .path = "/a b@c", .database = 5, .connect_ms = 1, .command_ms = 60000 },
	  "unix:///a%20b%40c?db=5" },
	{ "unix://u:p@/s", { UNIX, .path = "/s", .log_in = true, .user = "u", .password = "p" },
	  "unix://u:***@/s?db=0" },
	{ "unix:///" HUNDRED "012345", { UNIX, .path = "/" HUNDRED "012345" },
	  "unix:///" HUNDRED "012345?db=0" },
	{ "redis-sentinel://s1/mymaster",
	  { TCP, .topology = REDIS_SENTINEL, .seeds = { { "s1", 26379 } }, .seed_count = 1, .master = "mymaster" },
	  "redis-sentinel://s1:26379/mymaster/0" },
	{ "Redis-Sentinel://u:p@s1:1,[::1]:2,10.0.0.3,[fe80::1%25eth0]/a%2Fb/7?sentinel_user=su&"
	  "sentinel_password=s%26p&connect_ms=5",
	  { TCP, .topology = REDIS_SENTINEL, .log_in = true, .user = "u", .password = "p", .database = 7,
	    .connect_ms = 5, .master = "a/b", .sentinel_user = "su", .sentinel_password = "s&p",
	    .seeds = { { "s1", 1 }, { "::1", 2 }, { "10.0.0.3", 26379 },
		       { "fe80::1%eth0", 26379 } }, .seed_count = 4 },
	  "redis-sentinel://u:***@s1:1,[::1]:2,10.0.0.3:26379,[fe80::1%25eth0]:26379/a%2Fb/7" },
	{ "rediss-sentinel://s1,s2/m/?ca=ca.pem&sentinel_password=p&db=3",
	  { TLS, .topology = REDIS_SENTINEL, .database = 3, .tls_ca = "ca.pem", .master = "m",
	    .sentinel_password = "p", .seeds = { { "s1", 26379 }, { "s2", 26379 } },
	    .seed_count = 2 },
	  "rediss-sentinel://s1:26379,s2:26379/m/3" },
	{ "redis-cluster://h", { TCP, .topology = REDIS_CLUSTER, .seeds = { { "h", 6379 } },
	    .seed_count = 1 }, "redis-cluster://h:6379/0" },
	{ "Rediss-Cluster://u:p@h:1,10.0.0.2,[::1]:3/0?command_ms=5&ca=c",
	  { TLS, .log_in = true, .user = "u", .password = "p", .command_ms = 5, .tls_ca = "c",
	    .topology = REDIS_CLUSTER, .seeds = { { "h", 1 }, { "10.0.0.2", 6379 }, { "::1", 3 } },
	    .seed_count = 3 },
	  "rediss-cluster://u:***@h:1,10.0.0.2:6379,[::1]:3/0" },
};

START_TEST(means)
{
	struct redis_options expected = good[_i].options, options;
	struct weir_error error;
	char shown[512];

	if (!expected.connect_ms)
		expected.connect_ms = REDIS_CONNECT_MS;
	if (!expected.command_ms)
		expected.command_ms = REDIS_COMMAND_MS;
	ck_assert_msg(redis_url_parse(good[_i].url, &options, &error) == WEIR_OK, "%s",
		      error.message);
	ck_assert_int_eq(error.status, WEIR_OK);
	ck_assert_int_eq(options.transport, expected.transport);
	ck_assert_str_eq(options.host, expected.host);
	ck_assert_uint_eq(options.port, expected.port);
	ck_assert_str_eq(options.path, expected.path);
	ck_assert_int_eq(options.log_in, expected.log_in);
	ck_assert_str_eq(options.user, expected.user);
	ck_assert_str_eq(options.password, expected.password);
	ck_assert_uint_eq(options.database, expected.database);
	ck_assert_str_eq(options.tls_ca, expected.tls_ca);
	ck_assert_str_eq(options.tls_certificate, expected.tls_certificate);
	ck_assert_str_eq(options.tls_key, expected.tls_key);
	ck_assert_uint_eq(options.connect_ms, expected.connect_ms);
	ck_assert_uint_eq(options.command_ms, expected.command_ms);
	ck_assert_int_eq(options.topology, expected.topology);
	ck_assert_str_eq(options.master, expected.master);
	ck_assert_str_eq(options.sentinel_user, expected.sentinel_user);
	ck_assert_str_eq(options.sentinel_password, expected.sentinel_password);
	ck_assert_uint_eq(options.seed_count, expected.seed_count);
	for (unsigned i = 0; i < expected.seed_count; i++) {
		ck_assert_str_eq(options.seeds[i].host, expected.seeds[i].host);
		ck_assert_uint_eq(options.seeds[i].port, expected.seeds[i].port);
	}

	ck_assert_int_eq(redis_url_format(&options, shown, sizeof(shown)),
			 (int)strlen(good[_i].shown));
	ck_assert_str_eq(shown, good[_i].shown);
}
END_TEST

/* What is said after "the Redis URL "...": ", or a whole message. */
static const struct {
	const char *url;
	const char *said;
} bad[] = {
	/* Where it begins */
	{ "", "\"\": it does not begin with redis://, rediss://, unix://, "
	  "redis-sentinel://, rediss-sentinel://, redis-cluster:// or rediss-cluster://; write "
	  "redis://host:port/database or unix:///path" },
	{ "localhost:6379", "\"localhost:6379\": it does not begin" },
	{ "http://h", "\"http://h\": it does not begin" },
	{ "redis:/h", "\"redis:/h\": it does not begin" },
	{ "redi://h", "it does not begin" },
	{ "secret@h", "\"***@h\": it does not begin" },
	{ "h:secret", "\"h:***\": it does not begin" },

	/* Clusters */
	{ "redis://h,i", "the host \"h,i\" is not the name of a host" },
	{ "redis-cluster://h,", "a host is missing; write redis-cluster://host:port,host:port" },
	{ "redis-cluster://,h", "a host is missing" },
	{ "redis-cluster://h/1", "a cluster has no database but 0; remove the 1" },
	{ "redis-cluster://h?sentinel_user=a", "\"sentinel_user\" is for redis-sentinel:// only" },

	/* Bytes */
	{ "redis://h h", "it has the byte \\x20 in it; write it as %20" },
	{ "redis://h\n", "it has the byte \\x0a in it; write it as %0A" },
	{ "redis://h\x7f", "it has the byte \\x7f in it" },
	{ "redis://h#1", "it has a '#' in it; write %23 for one" },

	/* Log-in */
	{ "redis://secret@h", "\"redis://***@h\": before the '@' stands one word without a ':'; "
	  "write user:password@, or :password@ for the user \"default\"" },
	{ "redis://:@h", "user and password are both empty; remove \":@\"" },
	{ "redis://@h", "before the '@' stands one word" },
	{ "redis://u:sec@ret@h", "\"redis://***@h\": an '@' stands where none may" },
	{ "redis://u:sec/secret@h", "\"redis://***@h\": an '@' stands where none may; in a user "
	  "or password write %40 for '@', %2F for '/', %3F for '?' and %23 for '#'" },
	{ "redis://u:sec?secret@h", "\"redis://***@h\": an '@' stands where none may" },
	{ "redis://u:secret%@h", "the password has a '%' without two hexadecimal digits; write "
	  "%25 for a percent sign" },
	{ "redis://u:secret%4@h", "the password has a '%'" },
	{ "redis://u:secret%4g@h", "the password has a '%'" },
	{ "redis://u%zz:secret@h", "the user has a '%'" },
	{ "redis://u:secret%00@h", "the password has a zero byte in it; leave it out" },
	{ "redis://" HUNDRED HUNDRED HUNDRED ":secret@h", "the user is too long; shorten it" },
	{ "redis://:secret", "\"redis://:***\": it has no host; write "
	  "redis://host:port/database" },
	{ "redis://user:secret", "\"redis://user:***\": the port is not a number; give 1 to 65535, "
	  "and an '@' between a password and the host" },
	{ "redis://user:6379secret/1", "\"redis://user:***\": the port is not a number" },

	/* Host and port */
	{ "redis://", "\"redis://\": it has no host" },
	{ "redis:///3", "it has no host" },
	{ "redis://:6379", "it has no host" },
	{ "redis://u:secret@", "\"redis://***@\": it has no host" },
	{ "redis://h!/1", "the host \"h!\" is not the name of a host; letters, digits and - . _ "
	  "make one, and an IPv6 address stands in brackets" },
	{ "redis://.h", "the host \".h\" is not the name of a host" },
	{ "redis://a..b", "the host \"a..b\" is not" },
	{ "redis://" TEN TEN TEN TEN TEN TEN "abcd", "is not the name of a host" },
	{ "redis://%68%00", "the host \"%68%00\" has a zero byte" },
	{ "redis://%6", "the host \"%6\" has a '%'" },
	{ "redis://::1", "it has no host" },
	{ "redis://[::1", "the '[' before the host has no ']'; add one" },
	{ "redis://[::1]1", "after ']' comes something else than ':' and a port; remove it" },
	{ "redis://[]", "it has no host" },
	{ "redis://[127.0.0.1]", "the host \"127.0.0.1\" is not an IPv6 address; correct it, or "
	  "remove the brackets" },
	{ "redis://[::1%25]", "is not an IPv6 address" },
	{ "redis://[::1%250123456789abcdef]", "is not an IPv6 address" },
	{ "redis://[v1.x]", "is not an IPv6 address" },
	{ "redis://h:", "the port is not a number" },
	{ "redis://h:0", "the port \"0\" is no number that fits; give 1 to 65535" },
	{ "redis://h:65536", "the port \"65536\" is no number that fits" },
	{ "redis://h:4294967297", "the port \"4294967297\" is no number that fits" },
	{ "redis://h:18446744073709551617", "the port \"18446744073709551617\" is no number" },
	{ "redis://h:-1", "the port is not a number" },

	/* Database */
	{ "redis://h/x", "the database \"x\" is no number that fits; give 0 to 2147483647" },
	{ "redis://h/2147483648", "the database \"2147483648\" is no number that fits" },
	{ "redis://h/1/", "the database \"1/\" is no number that fits" },
	{ "redis://h/1?db=1", "\"db\" stands there twice; keep one" },

	/* Path */
	{ "unix://", "\"unix://\": it has no path; write unix:///path" },
	{ "unix:///", "it has no path" },
	{ "unix://run/s", "a socket's URL has no host; write three slashes, unix:///path" },
	{ "unix://:1/s", "a socket's URL has no host" },
	{ "unix:///" HUNDRED "0123456", "the path (108 bytes; at most 107) is too long; "
	  "shorten it" },
	{ "unix:///a%", "has a '%' without two" },
	{ "unix:///a@b", "an '@' stands where none may" },

	/* Query */
	{ "redis://h?", "\"\" after the '?' is no parameter with a value; use db=" },
	{ "redis://h?db", "\"db\" after the '?' is no parameter with a value" },
	{ "redis://h?password=secret", "\"redis://h?\": \"password\" after the '?' is no "
	  "parameter with a value; use db=, connect_ms=, command_ms=, ca=, certificate=, key=, "
	  "sentinel_user= or sentinel_password=" },
	{ "redis://h?DB=1", "\"DB\" after the '?'" },
	{ "redis://h?db=1&", "\"\" after the '?'" },
	{ "redis://h?db=1&db=1", "\"db\" stands there twice; keep one" },
	{ "redis://h?db=", "db \"\" is no number that fits" },
	{ "redis://h?db=+1", "db \"+1\" is no number that fits" },
	{ "redis://h?connect_ms=0", "connect_ms \"0\" is no number that fits; give 1 to 60000" },
	{ "redis://h?command_ms=60001", "command_ms \"60001\" is no number that fits" },
	{ "redis://h?ca=x", "\"ca\" is for rediss:// only; remove it" },
	{ "rediss://h?ca=", "\"ca\" is empty; give a value" },
	{ "rediss://h?ca=%0", "\"ca\" has a '%'" },
	{ "rediss://h?ca=" HUNDRED HUNDRED HUNDRED, "\"ca\" is too long; shorten it" },
	{ "rediss://h?key=k", "\"certificate\" and \"key\" go together; give both or neither" },
	{ "rediss://h?certificate=k", "\"certificate\" and \"key\" go together" },

	/* Sentinels */
	{ "redis-sentinel://s1", "\"redis-sentinel://s1\": it does not name the master; write "
	  "redis-sentinel://host,host/master/database" },
	{ "redis-sentinel://s1/", "it does not name the master" },
	{ "redis-sentinel:///m", "a host is missing; write redis-sentinel://host:port,host:port/" },
	{ "redis-sentinel://s1,,s2/m", "a host is missing" },
	{ "rediss-sentinel://s1,/m", "a host is missing; write rediss-sentinel://" },
	{ "redis-sentinel://s1:1,s2:x/m", "\"redis-sentinel://s1:1,s2:***\": the port is not" },
	{ "redis-sentinel://user:secret,s2/m", "\"redis-sentinel://user:***\": the port is not" },
	{ "redis-sentinel://s!/m", "the host \"s!\" is not the name of a host" },
	{ "redis-sentinel://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q/m", "it has more than 16 hosts" },
	{ "redis-sentinel://s1/" HUNDRED TEN TEN TEN, "the name of the master is too long" },
	{ "redis-sentinel://s1/m/x", "the database \"x\" is no number that fits" },
	{ "redis-sentinel://s1/m?sentinel_user=u", "\"sentinel_user\" has no "
	  "\"sentinel_password\"; give both or neither" },
	{ "redis-sentinel://s1/m?sentinel_password=sec%0", "\"sentinel_password\" has a '%'" },
	{ "redis-sentinel://s1/m?sentinel_password=", "\"sentinel_password\" is empty" },
	{ "redis-sentinel://s1/m?ca=x", "\"ca\" is for rediss:// only; remove it" },
	{ "redis://h?sentinel_password=secret", "\"sentinel_password\" is for redis-sentinel:// "
	  "only; remove it" },
	{ "redis://a,b", "the host \"a,b\" is not the name of a host" },
};

START_TEST(refused)
{
	struct redis_options options, zero = { 0 };
	struct weir_error error;

	ck_assert_int_eq(redis_url_parse(bad[_i].url, &options, &error), WEIR_EINVAL);
	ck_assert_int_eq(error.status, WEIR_EINVAL);
	ck_assert_mem_eq(error.message, "the Redis URL \"", 15);
	ck_assert_msg(strstr(error.message, bad[_i].said), "%s", error.message);
	ck_assert_msg(!strstr(error.message, "sec"), "%s", error.message);
	ck_assert_ptr_nonnull(strchr(error.message, ';'));
	ck_assert_mem_eq(&options, &zero, sizeof(zero));
	ck_assert_int_eq(redis_url_parse(bad[_i].url, &options, NULL), WEIR_EINVAL);
}
END_TEST

START_TEST(long_ones)
{
	static char url[REDIS_URL_MAX + 2];
	struct redis_options options;
	struct weir_error error;

	/* The longest password there is room for, and one more. */
	for (size_t length = 2047; length <= 2048; length++) {
		snprintf(url, sizeof(url), "redis://:%*s@h", (int)length, "");
		memset(url + strlen("redis://:"), 'x', length);
		ck_assert_int_eq(redis_url_parse(url, &options, &error),
				 length == 2047 ? WEIR_OK : WEIR_EINVAL);
		if (length == 2047)
			ck_assert_uint_eq(strlen(options.password), length);
	}
	ck_assert_ptr_nonnull(strstr(error.message, "the password is too long"));

	memset(url, 'x', sizeof(url) - 1);
	ck_assert_int_eq(redis_url_parse(url, &options, &error), WEIR_EINVAL);
	ck_assert_ptr_nonnull(strstr(error.message, "it is 8192 bytes long; give at most 8191"));
}
END_TEST

/* As snprintf() does. */
START_TEST(format_into_too_little)
{
	struct redis_options options;
	char text[8] = "#######";

	ck_assert_int_eq(redis_url_parse("redis://u:p@h", &options, NULL), WEIR_OK);
	ck_assert_int_eq(redis_url_format(&options, NULL, 0), 22);
	ck_assert_int_eq(redis_url_format(&options, text, 5), 22);
	ck_assert_str_eq(text, "redi");
	ck_assert_int_eq(text[5], '#');
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("redis_url");
	TCase *urls = tcase_create("urls");

	tcase_add_loop_test(urls, means, 0, LENGTH(good));
	tcase_add_loop_test(urls, refused, 0, LENGTH(bad));
	tcase_add_test(urls, long_ones);
	tcase_add_test(urls, format_into_too_little);
	suite_add_tcase(suite, urls);
	return suite_run(suite);
}
