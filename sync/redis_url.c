/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_url.c - a URL is cut into its parts first, where every special byte
 * still means itself, and each part is decoded afterwards.
 *
 * Stricter than most: a raw '@', '/', '?' or '#' in a password is refused, not
 * guessed at.  A wrong guess sends half a password to the wrong host, or
 * prints it.
 */
#include "sync/redis_url.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "shm/error.h"
#include "sync/redis_url_text.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

struct parts {
	struct span login;              /* text is NULL without an '@' */
	struct span hosts;              /* "host:port", with commas if there are several */
	struct span path;               /* from its '/' on */
	struct span query;              /* text is NULL without a '?' */
};

static const struct scheme {
	const char *name;
	enum redis_transport transport;
	enum redis_topology topology;
} schemes[] = {
	{ "redis", REDIS_OVER_TCP, REDIS_ALONE },
	{ "rediss", REDIS_OVER_TLS, REDIS_ALONE },
	{ "unix", REDIS_OVER_UNIX, REDIS_ALONE },
	{ "redis-sentinel", REDIS_OVER_TCP, REDIS_SENTINEL },
	{ "rediss-sentinel", REDIS_OVER_TLS, REDIS_SENTINEL },
	{ "redis-cluster", REDIS_OVER_TCP, REDIS_CLUSTER },
	{ "rediss-cluster", REDIS_OVER_TLS, REDIS_CLUSTER },
};

/* The scheme of OPTIONS, which has one. */
static const char *scheme_of(const struct redis_options *options)
{
	size_t i = 0;

	while (schemes[i].transport != options->transport ||
	       schemes[i].topology != options->topology)
		i++;
	return schemes[i].name;
}

/* ---- The parts --------------------------------------------------------- */

/* Bytes that no URL has.  Raw spaces and line ends are slips of the hand, and
 * would end up in a host or a password. */
static int check_bytes(const char *url, size_t length, struct weir_error *error)
{
	if (length > REDIS_URL_MAX)
		return url_fail(error, url, "it is %zu bytes long; give at most %u", length,
				REDIS_URL_MAX);
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)url[i];

		if (byte <= ' ' || byte == 0x7f)
			return url_fail(error, url,
					"it has the byte \\x%02x in it; write it as %%%02X", byte,
					byte);
	}
	if (strchr(url, '#'))
		return url_fail(error, url, "it has a '#' in it; write %%23 for one");
	return WEIR_OK;
}

static int find_scheme(const char *url, struct span *rest, struct redis_options *options,
		       struct weir_error *error)
{
	const char *mark = strstr(url, "://");
	struct span scheme = { url, mark ? (size_t)(mark - url) : 0 };

	for (size_t i = 0; i < LENGTH(schemes); i++) {
		if (!mark || !span_is(scheme, schemes[i].name))
			continue;
		options->transport = schemes[i].transport;
		options->topology = schemes[i].topology;
		*rest = (struct span){ mark + 3, strlen(mark + 3) };
		return WEIR_OK;
	}
	return url_fail(error, url,
			"it does not begin with redis://, rediss://, unix://, redis-sentinel://, "
			"rediss-sentinel://, redis-cluster:// or rediss-cluster://; write "
			"redis://host:port/database or unix:///path");
}

static int find_parts(const char *url, struct span rest, struct parts *parts,
		      struct weir_error *error)
{
	struct span before;

	*parts = (struct parts){ 0 };
	before = span_cut(rest, '?', &parts->query);
	parts->hosts = span_cut(before, '/', &parts->path);
	if (parts->path.text) {
		parts->path.text--;
		parts->path.length++;
	}
	if (memchr(rest.text, '@', rest.length)) {
		parts->login = span_cut(parts->hosts, '@', &parts->hosts);
		if (!parts->hosts.text || strchr(parts->hosts.text, '@'))
			return url_fail(error, url,
					"an '@' stands where none may; in a user or password "
					"write %%40 for '@', %%2F for '/', %%3F for '?' and "
					"%%23 for '#'");
	}
	return WEIR_OK;
}

/* ---- Their meaning ----------------------------------------------------- */

static int set_login(const char *url, struct span login, struct redis_options *options,
		     struct weir_error *error)
{
	struct span password;
	struct span user = span_cut(login, ':', &password);
	const char *wrong;

	if (!login.text)
		return WEIR_OK;
	/* Whether the one word is a user or a password is not for us to guess. */
	if (!password.text)
		return url_fail(error, url, "before the '@' stands one word without a ':'; write "
				"user:password@, or :password@ for the user \"default\"");
	if (user.length + password.length == 0)
		return url_fail(error, url, "user and password are both empty; remove \":@\"");
	wrong = span_decode(user, options->user, sizeof(options->user));
	if (wrong)
		return url_fail(error, url, "the user %s", wrong);
	wrong = span_decode(password, options->password, sizeof(options->password));
	if (wrong)
		return url_fail(error, url, "the password %s", wrong);
	options->log_in = true;
	return WEIR_OK;
}

static bool is_host_name(const char *host)
{
	size_t label = 0;

	for (; *host; host++) {
		bool word = (*host >= 'a' && *host <= 'z') || (*host >= 'A' && *host <= 'Z') ||
			    (*host >= '0' && *host <= '9') || *host == '-' || *host == '_';

		if (!word && (*host != '.' || label == 0))
			return false;
		label = word ? label + 1 : 0;
		if (label > 63)
			return false;
	}
	return true;
}

/* An IPv6 address, with a zone behind '%' if it is of one link only. */
static bool is_address(const char *host)
{
	struct in6_addr address;
	char text[INET6_ADDRSTRLEN];
	size_t length = strcspn(host, "%");
	const char *zone = host[length] == '%' ? host + length + 1 : NULL;

	if (length >= sizeof(text) || (zone && (!*zone || strlen(zone) >= IF_NAMESIZE)))
		return false;
	memcpy(text, host, length);
	text[length] = '\0';
	return inet_pton(AF_INET6, text, &address) == 1;
}

/* Cut host[:port], where an address in brackets has colons of its own. */
static int cut_port(const char *url, struct span authority, struct span *host,
		    struct span *port, struct weir_error *error)
{
	struct span rest;

	*port = (struct span){ NULL, 0 };
	if (authority.length == 0 || authority.text[0] != '[') {
		*host = span_cut(authority, ':', port);
		return WEIR_OK;
	}
	authority.text++;
	authority.length--;
	*host = span_cut(authority, ']', &rest);
	if (!rest.text)
		return url_fail(error, url, "the '[' before the host has no ']'; add one");
	if (rest.length > 0 && rest.text[0] != ':')
		return url_fail(error, url, "after ']' comes something else than ':' and a port; "
				"remove it");
	if (rest.length > 0)
		*port = (struct span){ rest.text + 1, rest.length - 1 };
	return WEIR_OK;
}

/* ADDRESS has the default port already. */
static int set_address(const char *url, struct span authority, struct redis_address *address,
		       struct weir_error *error)
{
	bool brackets = authority.length > 0 && authority.text[0] == '[';
	uint32_t number = address->port;
	char quoted[QUOTED_SIZE];
	struct span host, port;
	const char *wrong;

	if (cut_port(url, authority, &host, &port, error) < 0)
		return WEIR_EINVAL;
	if (host.length == 0)
		return url_fail(error, url, "it has no host; write redis://host:port/database");
	wrong = span_decode(host, address->host, sizeof(address->host));
	if (!wrong && !(brackets ? is_address(address->host) : is_host_name(address->host)))
		wrong = brackets ? "is not an IPv6 address; correct it, or remove the brackets" :
			"is not the name of a host; letters, digits and - . _ make one, and an "
			"IPv6 address stands in brackets";
	if (wrong)
		return url_fail(error, url, "the host \"%s\" %s",
				weir_quote(host.text, host.length, quoted, sizeof(quoted)), wrong);
	if (port.text && !span_is_digits(port))
		return url_fail(error, url, "the port is not a number; give 1 to 65535, and an '@' "
				"between a password and the host");
	if (port.text && !span_number(port, 1, 65535, &number))
		return url_number_fail(error, url, "the port", port, 1, 65535);
	address->port = (uint16_t)number;
	return WEIR_OK;
}

static int set_host(const char *url, struct span hosts, struct redis_options *options,
		    struct weir_error *error)
{
	struct redis_address address = { .port = REDIS_PORT };

	if (set_address(url, hosts, &address, error) < 0)
		return WEIR_EINVAL;
	memcpy(options->host, address.host, sizeof(options->host));
	options->port = address.port;
	return WEIR_OK;
}

static int set_seeds(const char *url, struct span hosts, uint16_t port,
		     struct redis_options *options, struct weir_error *error)
{
	do {
		struct span host = span_cut(hosts, ',', &hosts);
		struct redis_address *seed = &options->seeds[options->seed_count];

		if (options->seed_count == REDIS_SEEDS_MAX)
			return url_fail(error, url, "it has more than %u hosts; give some of them, "
					"the others are learned", REDIS_SEEDS_MAX);
		if (host.length == 0)
			return url_fail(error, url, "a host is missing; write %s://host:port,"
					"host:port%s", scheme_of(options),
					options->topology == REDIS_SENTINEL ? "/..." : "");
		seed->port = port;
		if (set_address(url, host, seed, error) < 0)
			return WEIR_EINVAL;
		options->seed_count++;
	} while (hosts.text);
	return WEIR_OK;
}

/* "/mymaster/3": the path that is left is that of a single server's URL. */
static int set_master(const char *url, struct span *path, struct redis_options *options,
		      struct weir_error *error)
{
	struct span name = { 0 }, rest = { 0 };
	const char *wrong;

	if (path->length > 1)
		name = span_cut((struct span){ path->text + 1, path->length - 1 }, '/', &rest);
	if (name.length == 0)
		return url_fail(error, url, "it does not name the master; write "
				"redis-sentinel://host,host/master/database, with the name from "
				"\"sentinel monitor\" in the sentinels' configuration");
	wrong = span_decode(name, options->master, sizeof(options->master));
	if (wrong)
		return url_fail(error, url, "the name of the master %s", wrong);
	*path = rest.text ? (struct span){ rest.text - 1, rest.length + 1 } : rest;
	return WEIR_OK;
}

static int set_socket(const char *url, const struct parts *parts, struct redis_options *options,
		      struct weir_error *error)
{
	const char *wrong;

	if (parts->hosts.length > 0)
		return url_fail(error, url, "a socket's URL has no host; write three slashes, "
				"unix:///path");
	if (parts->path.length < 2)
		return url_fail(error, url, "it has no path; write unix:///path");
	wrong = span_decode(parts->path, options->path, sizeof(options->path));
	if (wrong)
		return url_fail(error, url, "the path (%zu bytes; at most %zu) %s",
				parts->path.length, sizeof(options->path) - 1, wrong);
	return WEIR_OK;
}

#define DATABASE_MAX INT32_MAX

/* The path of a host's URL is a database, and may be left out. */
static int set_database(const char *url, struct span path, struct redis_options *options,
			bool *given, struct weir_error *error)
{
	struct span digits;

	*given = path.length > 1;
	if (!*given)
		return WEIR_OK;
	digits = (struct span){ path.text + 1, path.length - 1 };
	if (!span_number(digits, 0, DATABASE_MAX, &options->database))
		return url_number_fail(error, url, "the database", digits, 0, DATABASE_MAX);
	return WEIR_OK;
}

/* ---- The query --------------------------------------------------------- */

enum parameter_use {
	FOR_ALL,
	FOR_TLS,
	FOR_SENTINEL,
};

struct parameter {
	const char *name;
	enum parameter_use use;
	uint32_t *value;                /* a number from MIN to MAX, ... */
	uint32_t min, max;
	char *text;                     /* ... or a text */
	size_t size;
	bool given;
};

static int set_parameter(const char *url, struct parameter *parameter, struct span value,
			 const struct redis_options *options, struct weir_error *error)
{
	const char *wrong = NULL;

	if (parameter->use == FOR_TLS && options->transport != REDIS_OVER_TLS)
		wrong = "is for rediss:// only; remove it";
	if (parameter->use == FOR_SENTINEL && options->topology != REDIS_SENTINEL)
		wrong = "is for redis-sentinel:// only; remove it";
	if (wrong)
		return url_fail(error, url, "\"%s\" %s", parameter->name, wrong);
	if (parameter->given)
		return url_fail(error, url, "\"%s\" stands there twice; keep one",
				parameter->name);
	parameter->given = true;
	if (parameter->value) {
		if (!span_number(value, parameter->min, parameter->max, parameter->value))
			return url_number_fail(error, url, parameter->name, value, parameter->min,
					   parameter->max);
		return WEIR_OK;
	}
	wrong = value.length > 0 ? span_decode(value, parameter->text, parameter->size) :
		"is empty; give a value, or remove it";
	if (wrong)
		return url_fail(error, url, "\"%s\" %s", parameter->name, wrong);
	return WEIR_OK;
}

static int set_query(const char *url, struct span query, struct redis_options *options,
		     bool database_given, struct weir_error *error)
{
	struct parameter parameters[] = {
		{ "db", FOR_ALL, &options->database, 0, DATABASE_MAX, .given = database_given },
		{ "connect_ms", FOR_ALL, &options->connect_ms, 1, REDIS_TIMEOUT_MAX_MS },
		{ "command_ms", FOR_ALL, &options->command_ms, 1, REDIS_TIMEOUT_MAX_MS },
		{ "ca", FOR_TLS, .text = options->tls_ca, .size = sizeof(options->tls_ca) },
		{ "certificate", FOR_TLS, .text = options->tls_certificate,
		  .size = sizeof(options->tls_certificate) },
		{ "key", FOR_TLS, .text = options->tls_key, .size = sizeof(options->tls_key) },
		{ "sentinel_user", FOR_SENTINEL, .text = options->sentinel_user,
		  .size = sizeof(options->sentinel_user) },
		{ "sentinel_password", FOR_SENTINEL, .text = options->sentinel_password,
		  .size = sizeof(options->sentinel_password) },
	};
	char quoted[40];

	while (query.text) {
		struct span value;
		struct span item = span_cut(query, '&', &query);
		struct span name = span_cut(item, '=', &value);
		size_t i = 0;

		while (i < LENGTH(parameters) &&
		       (strlen(parameters[i].name) != name.length ||
			memcmp(parameters[i].name, name.text, name.length) != 0))
			i++;
		if (i == LENGTH(parameters) || !value.text)
			return url_fail(error, url,
					"\"%s\" after the '?' is no parameter with a value; use "
					"db=, connect_ms=, command_ms=, ca=, certificate=, key=, "
					"sentinel_user= or sentinel_password=",
					weir_quote(name.text, name.length, quoted,
						   sizeof(quoted)));
		if (set_parameter(url, &parameters[i], value, options, error) < 0)
			return WEIR_EINVAL;
	}
	if (!options->tls_certificate[0] != !options->tls_key[0])
		return url_fail(error, url, "\"certificate\" and \"key\" go together; give both "
				"or neither");
	if (options->sentinel_user[0] && !options->sentinel_password[0])
		return url_fail(error, url, "\"sentinel_user\" has no \"sentinel_password\"; "
				"give both or neither");
	return WEIR_OK;
}

/* ---- Together ---------------------------------------------------------- */

static int parse(const char *url, struct redis_options *options, struct weir_error *error)
{
	bool database_given = false;
	struct span rest = { 0 };
	struct parts parts;
	int status;

	if (check_bytes(url, strlen(url), error) < 0 ||
	    find_scheme(url, &rest, options, error) < 0 ||
	    find_parts(url, rest, &parts, error) < 0 ||
	    set_login(url, parts.login, options, error) < 0)
		return WEIR_EINVAL;
	if (options->transport == REDIS_OVER_UNIX)
		status = set_socket(url, &parts, options, error);
	else if (options->topology == REDIS_SENTINEL)
		status = set_seeds(url, parts.hosts, REDIS_SENTINEL_PORT, options, error);
	else if (options->topology == REDIS_CLUSTER)
		status = set_seeds(url, parts.hosts, REDIS_PORT, options, error);
	else
		status = set_host(url, parts.hosts, options, error);
	if (status == WEIR_OK && options->topology == REDIS_SENTINEL)
		status = set_master(url, &parts.path, options, error);
	if (status == WEIR_OK && options->transport != REDIS_OVER_UNIX)
		status = set_database(url, parts.path, options, &database_given, error);
	if (status == WEIR_OK)
		status = set_query(url, parts.query, options, database_given, error);
	if (status == WEIR_OK && options->topology == REDIS_CLUSTER && options->database > 0)
		status = url_fail(error, url, "a cluster has no database but 0; remove the %u",
				  options->database);
	return status;
}

int redis_url_parse(const char *url, struct redis_options *options, struct weir_error *error)
{
	memset(options, 0, sizeof(*options));
	options->connect_ms = REDIS_CONNECT_MS;
	options->command_ms = REDIS_COMMAND_MS;
	if (parse(url, options, error) < 0) {
		explicit_bzero(options, sizeof(*options));
		return WEIR_EINVAL;
	}
	return weir_ok(error);
}

/* ---- Writing ----------------------------------------------------------- */

/* Every byte that could mean something else is written as %XX, so that it also
 * stands on one line of a terminal. */
static void encode(const char *text, const char *also, char *encoded, size_t size)
{
	static const char digits[] = "0123456789ABCDEF";
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ-._~";
	size_t length = 0;

	for (; *text && length + 4 <= size; text++) {
		unsigned char byte = (unsigned char)*text;

		if (strchr(plain, byte) || strchr(also, byte)) {
			encoded[length++] = (char)byte;
			continue;
		}
		encoded[length++] = '%';
		encoded[length++] = digits[byte >> 4];
		encoded[length++] = digits[byte & 15];
	}
	encoded[length] = '\0';
}

int redis_address_format(const char *host, uint16_t port, char *text, size_t size)
{
	char encoded[3 * sizeof(((struct redis_address *)NULL)->host)];
	bool brackets = strchr(host, ':');

	encode(host, ":", encoded, sizeof(encoded));
	return snprintf(text, size, "%s%s%s:%u", brackets ? "[" : "", encoded,
			brackets ? "]" : "", port);
}

/* "host:port,host:port" */
static void format_seeds(const struct redis_options *options, char *text, size_t size)
{
	size_t length = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < options->seed_count && length + 1 < size; i++) {
		if (i > 0)
			text[length++] = ',';
		length += (size_t)redis_address_format(options->seeds[i].host,
						       options->seeds[i].port, text + length,
						       size - length);
	}
}

int redis_url_format(const struct redis_options *options, char *text, size_t size)
{
	char user[3 * sizeof(options->user)], path[3 * sizeof(options->path)];
	char hosts[2 * REDIS_URL_MAX], master[3 * sizeof(options->master)];
	const char *password = options->log_in ? ":***@" : "";

	encode(options->user, "", user, sizeof(user));
	encode(options->path, "/", path, sizeof(path));
	encode(options->master, "", master, sizeof(master));
	if (options->transport == REDIS_OVER_UNIX)
		return snprintf(text, size, "unix://%s%s%s?db=%u", user, password, path,
				options->database);
	if (options->seed_count > 0)
		format_seeds(options, hosts, sizeof(hosts));
	else
		redis_address_format(options->host, options->port, hosts, sizeof(hosts));
	return snprintf(text, size, "%s://%s%s%s%s%s/%u", scheme_of(options), user, password,
			hosts, master[0] ? "/" : "", master, options->database);
}
