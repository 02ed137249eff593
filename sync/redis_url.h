/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_url.h - where Redis is, and how to get in, written as a URL.
 *
 *	redis://[user:password@]host[:port][/database]
 *	rediss://...                                     the same over TLS
 *	unix://[user:password@]/path/to/socket
 *	redis-sentinel://[user:password@]host[:port],host[:port].../master[/database]
 *	rediss-sentinel://...                            the same over TLS
 *	redis-cluster://[user:password@]host[:port],host[:port]...
 *	rediss-cluster://...                             the same over TLS
 *
 * The hosts of the latter are sentinels, which tell where their master of that
 * name is; user and password are for the master.  Those of a cluster are some of its
 * nodes, which tell of the others.
 *
 * After a '?' may stand, joined by '&':
 *
 *	db=N                    the database, for unix:// too
 *	connect_ms=N            time for a connection, log-in included, and asking
 *	                        sentinels
 *	command_ms=N            time for a round of calls
 *	ca=PATH                 (rediss) certificates to trust instead of the system's
 *	certificate=PATH key=PATH        (rediss) what the client shows
 *	sentinel_user=NAME sentinel_password=TEXT        for the sentinels themselves
 *
 * The user may be empty (":password@"): Redis' user "default".  Bytes that have
 * a meaning in a URL are written as %XX; an IPv6 address stands in brackets.
 */
#ifndef WEIR_SYNC_REDIS_URL_H
#define WEIR_SYNC_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir.h"

#define REDIS_URL_MAX 8191u             /* bytes in a URL */
#define REDIS_PORT 6379u
#define REDIS_SENTINEL_PORT 26379u
#define REDIS_SEEDS_MAX 16u             /* hosts in a URL */
#define REDIS_TIMEOUT_MAX_MS 60000u

#define REDIS_CONNECT_MS 1000u          /* defaults */
#define REDIS_COMMAND_MS 200u

enum redis_transport {
	REDIS_OVER_TCP,
	REDIS_OVER_TLS,
	REDIS_OVER_UNIX,
};

/* How the server is found. */
enum redis_topology {
	REDIS_ALONE,                    /* it is the one that the URL names */
	REDIS_SENTINEL,                 /* sentinels are asked */
	REDIS_CLUSTER,                  /* nodes share the keys out, and know who has which */
};

struct redis_address {
	char host[256];                 /* a name or an address, without brackets */
	uint16_t port;
};

/* Strings end in a zero byte and are empty where they do not apply. */
struct redis_options {
	enum redis_transport transport;
	char host[256];                 /* a name or an address, without brackets */
	uint16_t port;
	char path[108];                 /* of the unix socket, as in sockaddr_un */
	bool log_in;                    /* user and password are to be sent */
	char user[256];                 /* empty: "default" */
	char password[2048];
	uint32_t database;
	char tls_ca[256];
	char tls_certificate[256];
	char tls_key[256];
	uint32_t connect_ms;
	uint32_t command_ms;

	enum redis_topology topology;   /* unless REDIS_ALONE: */
	struct redis_address seeds[REDIS_SEEDS_MAX];    /* whom to ask; no host above */
	unsigned seed_count;
	char master[128];               /* REDIS_SENTINEL: its name */
	char sentinel_user[256];        /* as user and password, sent if the password is there */
	char sentinel_password[2048];
};

/* Read URL.  No message ever has the password in it, nor anything that may have
 * been meant as one.  Errors: WEIR_EINVAL; OPTIONS are all zero then. */
int redis_url_parse(const char *url, struct redis_options *options, struct weir_error *error);

/* Write OPTIONS as a URL, for messages and status: "***" stands for the
 * password.  Returns the length as snprintf() does. */
int redis_url_format(const struct redis_options *options, char *text, size_t size);

/* Write "host:port", with brackets around an IPv6 address.  As snprintf(). */
int redis_address_format(const char *host, uint16_t port, char *text, size_t size);

#endif
