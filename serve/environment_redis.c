/* SPDX-License-Identifier: Apache-2.0 */
/* environment_redis.c - the URL that the variables of Redis come to. */
#include <string.h>
#include <strings.h>

#include "serve/environment.h"
#include "serve/environment_value.h"

/* TEXT as a URL takes it: what has a meaning there as %XX. */
static const char *encode(struct cli *cli, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~";
	char *encoded = environment_room(cli, 3 * strlen(text) + 1);
	char *end = encoded;

	for (; *text; text++) {
		if (strchr(plain, *text)) {
			*end++ = *text;
		} else {
			*end++ = '%';
			*end++ = digits[(unsigned char)*text >> 4];
			*end++ = digits[(unsigned char)*text & 15];
		}
	}
	*end = '\0';
	return encoded;
}

/* REDIS_AUTH, "PASSWORD" or "USER:PASSWORD", as it stands before the host. */
static const char *authority(struct cli *cli)
{
	const char *given = environment_text("REDIS_AUTH", NULL);
	const char *colon = given ? strchr(given, ':') : NULL;
	const char *user = "";

	if (!given)
		return "";
	if (colon)
		user = encode(cli, environment_print(cli, "%.*s", (int)(colon - given), given));
	return environment_print(cli, "%s:%s@", user, encode(cli, colon ? colon + 1 : given));
}

static const char *scheme_of(struct cli *cli, const char *type, bool tls)
{
	if (strcasecmp(type, "SINGLE") == 0)
		return tls ? "rediss://" : "redis://";
	if (strcasecmp(type, "SENTINEL") == 0)
		return tls ? "rediss-sentinel://" : "redis-sentinel://";
	if (strcasecmp(type, "CLUSTER") == 0)
		return tls ? "rediss-cluster://" : "redis-cluster://";
	cli_die(cli, "REDIS_TYPE is \"%s\"; write SINGLE, SENTINEL or CLUSTER", type);
}

/* URL, and behind it NAME= with what VARIABLE says. */
static const char *add_parameter(struct cli *cli, const char *url, const char *name,
				 const char *variable)
{
	const char *value = environment_text(variable, NULL);

	return value ? environment_print(cli, "%s%c%s=%s", url, strchr(url, '?') ? '&' : '?', name,
					 encode(cli, value)) : url;
}

static const char *add_parameters(struct cli *cli, const char *url, bool sentinel, bool tls)
{
	if (sentinel)
		url = add_parameter(cli, url, "sentinel_password", "REDIS_SENTINEL_AUTH");
	if (!tls)
		return url;
	url = add_parameter(cli, url, "ca", "REDIS_TLS_CACERT");
	url = add_parameter(cli, url, "certificate", "REDIS_TLS_CLIENT_CERT");
	return add_parameter(cli, url, "key", "REDIS_TLS_CLIENT_KEY");
}

/* Of Sentinel REDIS_URL is MASTER,HOST:PORT,HOST:PORT; of the others the hosts. */
static const char *network_url(struct cli *cli, const char *hosts)
{
	const char *type = environment_text("REDIS_TYPE", "SINGLE");
	bool tls = environment_flag(cli, "REDIS_TLS", false);
	bool sentinel = strcasecmp(type, "SENTINEL") == 0;
	const char *scheme = scheme_of(cli, type, tls);
	const char *comma = strchr(hosts, ',');
	const char *url;

	if (sentinel && !comma)
		cli_die(cli, "REDIS_URL is \"%s\"; for REDIS_TYPE SENTINEL write "
			"MASTER,HOST:PORT,HOST:PORT", hosts);
	if (sentinel)
		url = environment_print(cli, "%s%s%s/%.*s", scheme, authority(cli), comma + 1,
					(int)(comma - hosts), hosts);
	else
		url = environment_print(cli, "%s%s%s", scheme, authority(cli), hosts);
	return add_parameters(cli, url, sentinel, tls);
}

const char *environment_redis_url(struct cli *cli)
{
	const char *url = environment_text("REDIS_URL", NULL);
	const char *type = environment_text("REDIS_SOCKET_TYPE", "unix");

	if (strcasecmp(type, "unix") != 0 && strcasecmp(type, "tcp") != 0)
		cli_die(cli, "REDIS_SOCKET_TYPE is \"%s\"; write tcp or unix", type);
	if (!url || strstr(url, "://"))
		return url;
	if (strcasecmp(type, "unix") == 0 && *url == '/')
		return environment_print(cli, "unix://%s%s", authority(cli), url);
	return network_url(cli, url);
}
