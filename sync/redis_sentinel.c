/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_sentinel.c - whom to ask, what they say, and what of it is worth telling.
 *
 * The sentinels that the URL names are always known.  Others are learned from the one
 * that answers, and forgotten when it does not name them any more.
 */
#include "sync/redis_sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"
#include "sync/redis_link.h"
#include "sync/redis_socket.h"

#define KNOWN_MAX 32u           /* the URL's, and learned ones */
#define PLACE_SIZE (3 * 256 + 16)
#define SAID_SIZE 384

struct witness {
	struct redis_address address;
	struct redis_lookup *lookup;    /* one that outlasted its deadline */
	bool asked;                     /* in this search */
	bool named;                     /* by the last that answered */
};

struct redis_sentinel {
	const struct redis_options *options;
	const struct redis_tls *tls;
	int interrupt_fd;
	struct redis_options node;      /* how to get into the one that is being asked */
	struct redis_link *link;

	struct witness known[KNOWN_MAX];        /* the URL's first */
	unsigned known_count;
	struct redis_address trusted;   /* who led to the master last time; port 0: nobody */

	/* The search. */
	uint64_t deadline_ns;
	struct redis_address found[KNOWN_MAX];
	unsigned found_count;
	char current[PLACE_SIZE];       /* who is being asked */
	char said[SAID_SIZE];           /* "A: ...; and B: ...", what went wrong so far */
	enum redis_error kind;          /* of it, NONE: nothing yet */
};

static bool same_address(const struct redis_address *one, const struct redis_address *other)
{
	return one->port == other->port && strcmp(one->host, other->host) == 0;
}

/* ---- What went wrong --------------------------------------------------- */

/* One sentinel's part of the message.  What may pass by itself outweighs what takes a
 * person: then trying again soon is worth it. */
static void report(struct redis_sentinel *sentinel, enum redis_error kind, const char *what)
{
	size_t length = strlen(sentinel->said);

	snprintf(sentinel->said + length, sizeof(sentinel->said) - length, "%s%s",
		 length > 0 ? "; and " : "", what);
	if (sentinel->kind == REDIS_ERROR_NONE ||
	    (redis_error_permanent(sentinel->kind) && !redis_error_permanent(kind)))
		sentinel->kind = kind;
}

/* What to do about all of it; each part says what to do about itself. */
static const char *advice(enum redis_error kind)
{
	switch (kind) {
	case REDIS_ERROR_NO_MASTER:
		return " (check that name in the URL against \"sentinel monitor\" in the sentinels' "
		       "configuration, and that the hosts are its sentinels)";
	case REDIS_ERROR_READONLY:
		return " (a failover is due or under way; it is tried again)";
	default:
		return "";
	}
}

static enum redis_error give_up(struct redis_sentinel *sentinel, struct weir_error *error)
{
	enum redis_error kind = sentinel->kind;

	weir_fail(error, redis_error_permanent(kind) ? WEIR_EACCES : WEIR_ESYSTEM,
		  "no master \"%s\"%s: %s", sentinel->options->master, advice(kind),
		  sentinel->said);
	return kind;
}

/* ---- Whom to ask ------------------------------------------------------- */

static struct witness *find_witness(struct redis_sentinel *sentinel,
				    const struct redis_address *address)
{
	for (unsigned i = 0; i < sentinel->known_count; i++)
		if (same_address(&sentinel->known[i].address, address))
			return &sentinel->known[i];
	return NULL;
}

static struct witness *next_witness(struct redis_sentinel *sentinel)
{
	struct witness *trusted = find_witness(sentinel, &sentinel->trusted);

	if (trusted && !trusted->asked)
		return trusted;
	for (unsigned i = 0; i < sentinel->known_count; i++)
		if (!sentinel->known[i].asked)
			return &sentinel->known[i];
	return NULL;
}

/* Until when one of those that have to share the time may try: they are, beside it,
 * MORE, and the sentinels that were not asked yet. */
static uint64_t share(const struct redis_sentinel *sentinel, unsigned more)
{
	uint64_t now_ns = redis_now_ns();
	unsigned parts = 1 + more;

	for (unsigned i = 0; i < sentinel->known_count; i++)
		parts += !sentinel->known[i].asked;
	return now_ns < sentinel->deadline_ns ?
		now_ns + (sentinel->deadline_ns - now_ns) / parts : now_ns;
}

/* ---- What they say ----------------------------------------------------- */

static bool read_port(const struct redis_reply *reply, uint16_t *port)
{
	size_t length;
	const char *text = redis_reply_text(reply, &length);
	unsigned long number = 0;

	if (!text || length == 0 || length > 5 || strspn(text, "0123456789") != length)
		return false;
	number = strtoul(text, NULL, 10);
	*port = (uint16_t)number;
	return number >= 1 && number <= UINT16_MAX;
}

static bool read_address(const struct redis_reply *host, const struct redis_reply *port,
			 struct redis_address *address)
{
	size_t length;
	const char *text = redis_reply_text(host, &length);

	if (!text || length == 0 || length >= sizeof(address->host) || strlen(text) != length)
		return false;
	memset(address, 0, sizeof(*address));
	memcpy(address->host, text, length);
	return read_port(port, &address->port);
}

/* The value of NAME in { name, value, name, value, ... }. */
static const struct redis_reply *field(const struct redis_reply *pairs, const char *name)
{
	for (size_t i = 0; i + 1 < redis_reply_count(pairs); i += 2) {
		size_t length;
		const char *text = redis_reply_text(redis_reply_at(pairs, i), &length);

		if (text && strcmp(text, name) == 0)
			return redis_reply_at(pairs, i + 1);
	}
	return NULL;
}

static void forget_unnamed(struct redis_sentinel *sentinel)
{
	for (unsigned i = sentinel->known_count; i-- > sentinel->options->seed_count;) {
		if (sentinel->known[i].named)
			continue;
		redis_lookup_leave(sentinel->known[i].lookup);
		sentinel->known[i] = sentinel->known[--sentinel->known_count];
	}
}

/* Who answers names the others, and not itself. */
static void learn(struct redis_sentinel *sentinel, const struct redis_address *answering,
		  const struct redis_reply *others)
{
	if (redis_reply_type(others) != REDIS_TYPE_ARRAY)
		return;                         /* it may be forbidden: do without */
	for (unsigned i = 0; i < sentinel->known_count; i++)
		sentinel->known[i].named = same_address(&sentinel->known[i].address, answering);
	for (size_t i = 0; i < redis_reply_count(others); i++) {
		const struct redis_reply *other = redis_reply_at(others, i);
		struct redis_address address;
		struct witness *witness;

		if (!read_address(field(other, "ip"), field(other, "port"), &address))
			continue;
		witness = find_witness(sentinel, &address);
		if (!witness && sentinel->known_count < KNOWN_MAX) {
			witness = &sentinel->known[sentinel->known_count++];
			*witness = (struct witness){ .address = address };
		}
		if (witness)
			witness->named = true;
	}
	forget_unnamed(sentinel);
}

static enum redis_error reply_fail(struct redis_sentinel *sentinel,
				   const struct redis_reply *reply, struct weir_error *error)
{
	size_t length;
	const char *text = redis_reply_text(reply, &length);
	enum redis_error kind;
	char quoted[80];

	if (redis_reply_type(reply) == REDIS_TYPE_NIL)
		return redis_link_fail(sentinel->link, REDIS_ERROR_NO_MASTER, error,
				       "knows no master of that name");
	if (redis_reply_type(reply) != REDIS_TYPE_ERROR)
		return redis_link_fail(sentinel->link, REDIS_ERROR_PROTOCOL, error,
				       "answered what no sentinel should; check what listens there");
	kind = redis_error_classify(text, length);
	if (strncmp(text, "ERR unknown command", 19) == 0)
		return redis_link_fail(sentinel->link, kind, error,
				       "is no sentinel; check the port");
	if (kind == REDIS_ERROR_NOAUTH)
		return redis_link_fail(sentinel->link, kind, error,
				       "wants a password; give sentinel_password");
	return redis_link_fail(sentinel->link, kind, error, "refused (%s); mend that",
			       weir_quote(text, length, quoted, sizeof(quoted)));
}

static enum redis_error append(struct redis_sentinel *sentinel, int count,
			       const char *const *words)
{
	size_t lengths[3];

	for (int i = 0; i < count; i++)
		lengths[i] = strlen(words[i]);
	return redis_link_append(sentinel->link, count, words, lengths);
}

/* AUTH if there is a password, then the two questions, in one piece. */
static enum redis_error append_questions(struct redis_sentinel *sentinel, unsigned *count)
{
	const struct redis_options *options = sentinel->options;
	bool user = options->sentinel_user[0];
	const char *log_in[] = { "AUTH", user ? options->sentinel_user :
				 options->sentinel_password, options->sentinel_password };
	const char *master[] = { "SENTINEL", "get-master-addr-by-name", options->master };
	const char *others[] = { "SENTINEL", "sentinels", options->master };
	enum redis_error result = REDIS_ERROR_NONE;

	*count = 2;
	if (options->sentinel_password[0]) {
		result = append(sentinel, user ? 3 : 2, log_in);
		++*count;
	}
	if (result == REDIS_ERROR_NONE)
		result = append(sentinel, 3, master);
	if (result == REDIS_ERROR_NONE)
		result = append(sentinel, 3, others);
	return result;
}

/* Redis may repeat in an error what it does not understand, a password for one. */
static enum redis_error log_in_fail(struct redis_sentinel *sentinel,
				    const struct redis_reply *reply, struct weir_error *error)
{
	size_t length;
	const char *text = redis_reply_text(reply, &length);

	return redis_link_fail(sentinel->link, redis_error_classify(text, length), error,
			       "refused AUTH; check sentinel_user and sentinel_password");
}

static enum redis_error exchange(struct redis_sentinel *sentinel,
				 const struct redis_address *answering, uint64_t deadline_ns,
				 struct redis_address *master, struct weir_error *error)
{
	enum redis_error result;
	const struct redis_reply *reply;
	unsigned count;

	result = append_questions(sentinel, &count);
	if (result != REDIS_ERROR_NONE)
		return redis_link_fail(sentinel->link, result, error, "no memory; free some");
	result = redis_link_exchange(sentinel->link, count, deadline_ns, error);
	/* One that closes the connection says why first. */
	reply = redis_link_reply_count(sentinel->link) > 0 ?
		redis_link_reply(sentinel->link, 0) : NULL;
	if (count == 3 && redis_reply_type(reply) == REDIS_TYPE_ERROR)
		return log_in_fail(sentinel, reply, error);
	if (result != REDIS_ERROR_NONE)
		return redis_reply_type(reply) == REDIS_TYPE_ERROR ?
			reply_fail(sentinel, reply, error) : result;
	reply = redis_link_reply(sentinel->link, count - 2);
	if (redis_reply_count(reply) != 2 ||
	    !read_address(redis_reply_at(reply, 0), redis_reply_at(reply, 1), master))
		return reply_fail(sentinel, reply, error);
	learn(sentinel, answering, redis_link_reply(sentinel->link, count - 1));
	return REDIS_ERROR_NONE;
}

static enum redis_error ask(struct redis_sentinel *sentinel, struct witness *witness,
			    struct redis_address *master, struct weir_error *error)
{
	/* The list of witnesses may change under it. */
	struct redis_address answering = witness->address;
	uint64_t deadline_ns = share(sentinel, 1);
	enum redis_error result;
	int fd;

	memcpy(sentinel->node.host, answering.host, sizeof(sentinel->node.host));
	sentinel->node.port = answering.port;
	redis_address_format(answering.host, answering.port, sentinel->current,
			     sizeof(sentinel->current));
	redis_link_set_place(sentinel->link, sentinel->current);
	result = redis_socket_open(&sentinel->node, sentinel->interrupt_fd, deadline_ns,
				   &witness->lookup, &fd, error);
	if (result == REDIS_ERROR_NONE)
		result = redis_link_open(sentinel->link, fd, sentinel->tls, deadline_ns, error);
	if (result == REDIS_ERROR_NONE)
		result = exchange(sentinel, &answering, deadline_ns, master, error);
	redis_link_close(sentinel->link);
	redis_link_free_replies(sentinel->link);
	return result;
}

/* ---- The search -------------------------------------------------------- */

void redis_sentinel_begin(struct redis_sentinel *sentinel, uint64_t deadline_ns)
{
	for (unsigned i = 0; i < sentinel->known_count; i++)
		sentinel->known[i].asked = false;
	sentinel->deadline_ns = deadline_ns;
	sentinel->found_count = 0;
	sentinel->said[0] = '\0';
	sentinel->kind = REDIS_ERROR_NONE;
}

static bool was_found(const struct redis_sentinel *sentinel, const struct redis_address *master)
{
	for (unsigned i = 0; i < sentinel->found_count; i++)
		if (same_address(&sentinel->found[i], master))
			return true;
	return false;
}

enum redis_error redis_sentinel_next(struct redis_sentinel *sentinel,
				     struct redis_address *master, uint64_t *try_until_ns,
				     struct weir_error *error)
{
	struct weir_error what = { 0 };
	struct witness *witness;

	while ((witness = next_witness(sentinel)) && sentinel->found_count < KNOWN_MAX) {
		enum redis_error result;

		witness->asked = true;
		result = ask(sentinel, witness, master, &what);
		if (result == REDIS_ERROR_INTERRUPTED) {
			weir_fail(error, WEIR_ESYSTEM, "%s", what.message);
			return result;
		}
		if (result != REDIS_ERROR_NONE) {
			report(sentinel, result, what.message);
		} else if (!was_found(sentinel, master)) {
			sentinel->found[sentinel->found_count++] = *master;
			*try_until_ns = share(sentinel, 0);
			return REDIS_ERROR_NONE;
		}
	}
	return give_up(sentinel, error);
}

void redis_sentinel_reject(struct redis_sentinel *sentinel, enum redis_error kind,
			   const struct weir_error *error)
{
	char what[sizeof(sentinel->current) + sizeof(error->message) + 16];

	snprintf(what, sizeof(what), "%s names %s", sentinel->current, error->message);
	report(sentinel, kind, what);
}

void redis_sentinel_accept(struct redis_sentinel *sentinel)
{
	memcpy(sentinel->trusted.host, sentinel->node.host, sizeof(sentinel->trusted.host));
	sentinel->trusted.port = sentinel->node.port;
}

/* ---- The object -------------------------------------------------------- */

struct redis_sentinel *redis_sentinel_create(const struct redis_options *options,
					     const struct redis_tls *tls, int interrupt_fd)
{
	struct redis_sentinel *sentinel = calloc(1, sizeof(*sentinel));

	if (!sentinel)
		return NULL;
	sentinel->options = options;
	sentinel->tls = tls;
	sentinel->interrupt_fd = interrupt_fd;
	sentinel->node = *options;
	explicit_bzero(sentinel->node.password, sizeof(sentinel->node.password));
	for (unsigned i = 0; i < options->seed_count; i++)
		sentinel->known[i].address = options->seeds[i];
	sentinel->known_count = options->seed_count;
	sentinel->link = redis_link_create(&sentinel->node, interrupt_fd);
	if (!sentinel->link) {
		redis_sentinel_destroy(sentinel);
		return NULL;
	}
	return sentinel;
}

void redis_sentinel_destroy(struct redis_sentinel *sentinel)
{
	if (!sentinel)
		return;
	redis_link_destroy(sentinel->link);
	for (unsigned i = 0; i < sentinel->known_count; i++)
		redis_lookup_leave(sentinel->known[i].lookup);
	explicit_bzero(sentinel, sizeof(*sentinel));
	free(sentinel);
}
