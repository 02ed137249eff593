/* SPDX-License-Identifier: Apache-2.0 */
#include "sync/redis_error.h"

#include <string.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define NS_PER_MS 1000000ull

/* An error inside of a script may have come after writes of the same script, so
 * what a script can run into half-way is doubtful.  The refusals are not: Redis
 * makes up its mind before the first write, and lets a script that has written
 * go on. */
static const struct {
	const char *name;
	const char *word;               /* of an error reply, NULL: none of its own */
	enum redis_fate fate;
	bool permanent;
	bool fatal;
} errors[REDIS_ERROR_COUNT] = {
	[REDIS_ERROR_NONE] = { "none", NULL, REDIS_EXECUTED, false, false },

	[REDIS_ERROR_NOSCRIPT] = { "noscript", "NOSCRIPT", REDIS_NOT_EXECUTED, false, false },
	[REDIS_ERROR_READONLY] = { "readonly", "READONLY", REDIS_NOT_EXECUTED, false, false },
	[REDIS_ERROR_MOVED] = { "moved", "MOVED", REDIS_NOT_EXECUTED, false, false },
	[REDIS_ERROR_ASK] = { "ask", "ASK", REDIS_NOT_EXECUTED, false, false },
	[REDIS_ERROR_TRYAGAIN] = { "tryagain", "TRYAGAIN", REDIS_NOT_EXECUTED, false, false },
	[REDIS_ERROR_CLUSTERDOWN] = { "clusterdown", "CLUSTERDOWN", REDIS_NOT_EXECUTED, false,
				      false },
	[REDIS_ERROR_LOADING] = { "loading", "LOADING", REDIS_NOT_EXECUTED, false, false },
	[REDIS_ERROR_BUSY] = { "busy", "BUSY", REDIS_NOT_EXECUTED, false, false },
	[REDIS_ERROR_MASTERDOWN] = { "masterdown", "MASTERDOWN", REDIS_NOT_EXECUTED, false,
				     false },
	[REDIS_ERROR_OOM] = { "oom", "OOM", REDIS_NOT_EXECUTED, false, false },
	[REDIS_ERROR_NOREPLICAS] = { "noreplicas", "NOREPLICAS", REDIS_NOT_EXECUTED, false,
				     false },
	[REDIS_ERROR_MISCONF] = { "misconf", "MISCONF", REDIS_NOT_EXECUTED, false, false },
	[REDIS_ERROR_MAXCLIENTS] = { "maxclients", NULL, REDIS_NOT_EXECUTED, false, false },

	[REDIS_ERROR_NOAUTH] = { "noauth", "NOAUTH", REDIS_NOT_EXECUTED, true, false },
	[REDIS_ERROR_WRONGPASS] = { "wrongpass", "WRONGPASS", REDIS_NOT_EXECUTED, true, false },
	[REDIS_ERROR_NOPERM] = { "noperm", "NOPERM", REDIS_DOUBTFUL, true, false },
	[REDIS_ERROR_DATABASE] = { "database", NULL, REDIS_NOT_EXECUTED, true, false },
	[REDIS_ERROR_WRONGTYPE] = { "wrongtype", "WRONGTYPE", REDIS_DOUBTFUL, true, false },
	[REDIS_ERROR_DENIED] = { "denied", "DENIED", REDIS_NOT_EXECUTED, true, false },
	[REDIS_ERROR_OTHER] = { "other", NULL, REDIS_DOUBTFUL, true, false },
	[REDIS_ERROR_NO_MASTER] = { "no-master", NULL, REDIS_NOT_EXECUTED, true, true },

	[REDIS_ERROR_NOT_CONNECTED] = { "not-connected", NULL, REDIS_NOT_EXECUTED, false, true },
	[REDIS_ERROR_RESOLVE] = { "resolve", NULL, REDIS_NOT_EXECUTED, false, true },
	[REDIS_ERROR_CONNECT] = { "connect", NULL, REDIS_NOT_EXECUTED, false, true },
	[REDIS_ERROR_TLS] = { "tls", NULL, REDIS_NOT_EXECUTED, true, true },
	[REDIS_ERROR_TIMEOUT] = { "timeout", NULL, REDIS_DOUBTFUL, false, true },
	[REDIS_ERROR_CUT] = { "cut", NULL, REDIS_DOUBTFUL, false, true },
	[REDIS_ERROR_PROTOCOL] = { "protocol", NULL, REDIS_DOUBTFUL, false, true },
	[REDIS_ERROR_INTERRUPTED] = { "interrupted", NULL, REDIS_DOUBTFUL, false, true },
	[REDIS_ERROR_NO_ROOM] = { "no-room", NULL, REDIS_DOUBTFUL, false, true },
};

/* Errors whose first word is ERR, told apart by how they go on. */
static const struct {
	const char *begin;
	enum redis_error error;
} sentences[] = {
	{ "ERR max number of clients", REDIS_ERROR_MAXCLIENTS },
	{ "ERR invalid password", REDIS_ERROR_WRONGPASS },              /* before 6.0 */
	{ "ERR Client sent AUTH, but no password", REDIS_ERROR_WRONGPASS },
	{ "ERR AUTH <password> called without any password", REDIS_ERROR_WRONGPASS },
	{ "ERR wrong number of arguments for 'auth'", REDIS_ERROR_WRONGPASS },  /* before 6.0 */
	/* What who has not logged in may send is short, and a script is not. */
	{ "ERR Protocol error: unauthenticated", REDIS_ERROR_NOAUTH },
	{ "ERR DB index is out of range", REDIS_ERROR_DATABASE },
	{ "ERR invalid DB index", REDIS_ERROR_DATABASE },               /* before 7.0 */
	{ "ERR SELECT is not allowed in cluster mode", REDIS_ERROR_DATABASE },
	{ "ERR The user executing the script can't", REDIS_ERROR_NOPERM },      /* 7.0 */
	{ "ERR ACL failure in script", REDIS_ERROR_NOPERM },                    /* 7.2 */
};

/* How Redis 6 and older begin the error that wraps a script's own. */
#define WRAPPER "ERR Error running script"

const char *redis_error_name(enum redis_error error)
{
	return (unsigned)error < REDIS_ERROR_COUNT ? errors[error].name : "unknown";
}

const char *redis_error_advice(enum redis_error error)
{
	switch (error) {
	case REDIS_ERROR_NOSCRIPT:
		return "it is loaded again";
	case REDIS_ERROR_READONLY:
	case REDIS_ERROR_MASTERDOWN:
		return "this is a replica: give its master's address, or that of its sentinels";
	case REDIS_ERROR_TRYAGAIN:
		return "the slot is on its way to another node: wait";
	case REDIS_ERROR_CLUSTERDOWN:
		return "nodes or slots of the cluster are missing: see CLUSTER INFO";
	case REDIS_ERROR_LOADING:
		return "wait until Redis has loaded its data";
	case REDIS_ERROR_BUSY:
		return "a script of others runs for too long: wait, or end it with SCRIPT KILL";
	case REDIS_ERROR_OOM:
		return "Redis is full: raise Redis' maxmemory, or make room";
	case REDIS_ERROR_NOREPLICAS:
		return "too few replicas are in touch: see min-replicas-to-write";
	case REDIS_ERROR_MISCONF:
		return "Redis cannot save its data: see its log";
	case REDIS_ERROR_MAXCLIENTS:
		return "raise maxclients";
	case REDIS_ERROR_NOAUTH:
		return "Redis wants a password: write user:password@, or :password@, before the host";
	case REDIS_ERROR_WRONGPASS:
		return "check user and password, and Redis' ACL";
	case REDIS_ERROR_NOPERM:
		return "allow the user +evalsha +script|load +select +info, the keys, and what else "
		       "weir(7) lists for Redis' user";
	case REDIS_ERROR_DATABASE:
		return "Redis has no such database: give a lower number in the URL, or raise "
		       "databases in redis.conf; a Redis Cluster has only 0";
	case REDIS_ERROR_WRONGTYPE:
		return "another program uses that key: use another prefix, or remove it";
	case REDIS_ERROR_DENIED:
		return "set a password in Redis, or bind it to an address";
	default:
		return "see Redis' manual";
	}
}

enum redis_fate redis_error_fate(enum redis_error error)
{
	return (unsigned)error < REDIS_ERROR_COUNT ? errors[error].fate : REDIS_DOUBTFUL;
}

bool redis_error_permanent(enum redis_error error)
{
	return (unsigned)error < REDIS_ERROR_COUNT && errors[error].permanent;
}

bool redis_error_fatal(enum redis_error error)
{
	return (unsigned)error >= REDIS_ERROR_COUNT || errors[error].fatal;
}

static bool begins_with(const char *text, size_t length, const char *begin)
{
	return length >= strlen(begin) && memcmp(text, begin, strlen(begin)) == 0;
}

static enum redis_error by_first_word(const char *text, size_t length)
{
	const char *space = length > 0 ? memchr(text, ' ', length) : NULL;
	size_t word = space ? (size_t)(space - text) : length;

	for (unsigned i = 0; i < REDIS_ERROR_COUNT; i++)
		if (errors[i].word && strlen(errors[i].word) == word &&
		    memcmp(text, errors[i].word, word) == 0)
			return (enum redis_error)i;
	for (size_t i = 0; i < LENGTH(sentences); i++)
		if (begins_with(text, length, sentences[i].begin))
			return sentences[i].error;
	return REDIS_ERROR_OTHER;
}

enum redis_error redis_error_classify(const char *text, size_t length)
{
	const char *inner;

	if (begins_with(text, length, WRAPPER)) {
		inner = memmem(text, length, ": -", 3);
		if (inner)
			return by_first_word(inner + 3, length - (size_t)(inner + 3 - text));
	}
	return by_first_word(text, length);
}

uint64_t redis_backoff_ns(unsigned attempt, uint64_t random, bool permanent)
{
	uint64_t least = permanent ? 1000 * NS_PER_MS : NS_PER_MS;
	uint64_t most = permanent ? 60000 * NS_PER_MS : 1000 * NS_PER_MS;
	uint64_t ceiling = most;

	if (attempt < 16 && (least << (attempt + 1)) < most)
		ceiling = least << (attempt + 1);
	/* The high half of a product: uniform, without a division's bias. */
	return least + (uint64_t)((unsigned __int128)random * (ceiling - least) >> 64);
}
