/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_link.c - hiredis formats commands, buffers and parses; sockets and
 * waiting are ours.  Its own blocking calls have a timeout for each read()
 * instead of a deadline, none for the host's name, and cannot be interrupted.
 * So the context is a non-blocking one around a socket that is already
 * connected, and only redis_link_exchange_all() waits.  (redisReconnect() forgets the timeouts,
 * and hangs on a frozen server.)
 *
 * Works with hiredis 0.14 and 1.x, and is the only file that includes it.
 */
#include "sync/redis_link.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef WEIR_REDIS_TLS
#include <hiredis/hiredis_ssl.h>
#include <openssl/ssl.h>
#endif

#include "shm/error.h"
#include "sync/redis_socket.h"
#include "sync/redis_tls.h"

/* How hiredis counts the elements of an array. */
#if HIREDIS_MAJOR >= 1
#define ELEMENTS_TYPE size_t
#else
#define ELEMENTS_TYPE int
#endif

struct redis_link {
	const struct redis_options *options;
	char place[1536];
	int interrupt_fd;

	redisContext *context;          /* NULL: closed */
	redisReplyObjectFunctions functions;
	void *(*create_array)(const redisReadTask *task, ELEMENTS_TYPE elements);
	bool too_large;                 /* create_array() has refused one */

	redisReply *replies[REDIS_LINK_REPLIES_MAX];
	unsigned reply_count;
};

/* ---- Ends -------------------------------------------------------------- */

void redis_link_free_replies(struct redis_link *link)
{
	for (unsigned i = 0; i < link->reply_count; i++)
		freeReplyObject(link->replies[i]);
	link->reply_count = 0;
}

void redis_link_close(struct redis_link *link)
{
	if (link->context)
		redisFree(link->context);
	link->context = NULL;
}

enum redis_error redis_link_fail(struct redis_link *link, enum redis_error kind,
				 struct weir_error *error, const char *format, ...)
{
	char what[384];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	weir_fail(error, redis_error_permanent(kind) ? WEIR_EACCES : WEIR_ESYSTEM, "%s: %s",
		  link->place, what);
	redis_link_close(link);
	return kind;
}

/* What hiredis found. */
static enum redis_error fail_of_context(struct redis_link *link, struct weir_error *error)
{
	const char *text = link->context->errstr;
	char quoted[160];

	weir_quote(text, strlen(text), quoted, sizeof(quoted));
	if (link->too_large)
		return redis_link_fail(link, REDIS_ERROR_PROTOCOL, error,
				       "an array has more than %u elements, or is nested deeper "
				       "than %u; check what listens there", REDIS_ELEMENTS_MAX,
				       REDIS_DEPTH_MAX);
	switch (link->context->err) {
	case REDIS_ERR_PROTOCOL:
		return redis_link_fail(link, REDIS_ERROR_PROTOCOL, error,
				       "the answer is not Redis' protocol (%s); check what "
				       "listens there", quoted);
	case REDIS_ERR_OOM:
		return redis_link_fail(link, REDIS_ERROR_NO_ROOM, error,
				       "no memory for a reply (%s); free some", quoted);
	default:
		return redis_link_fail(link, REDIS_ERROR_CUT, error,
				       "the connection was cut (%s); check Redis' log, and what is in between",
				       quoted);
	}
}

static enum redis_error fail_of_wait(struct redis_link *link, enum redis_error kind,
				    struct weir_error *error)
{
	if (kind == REDIS_ERROR_TIMEOUT)
		return redis_link_fail(link, kind, error,
				       "%u replies came within the time, then no more; check "
				       "Redis' load and the network, or raise command_ms=%u",
				       link->reply_count, link->options->command_ms);
	return redis_link_fail(link, kind, error,
			       "waiting for replies ended early (%s); connect again",
			       redis_error_name(kind));
}

/* ---- Replies ----------------------------------------------------------- */

enum redis_type redis_reply_type(const struct redis_reply *reply)
{
	switch (reply ? ((const redisReply *)reply)->type : 0) {
	case 0:
		return REDIS_TYPE_NONE;
	case REDIS_REPLY_STRING:
		return REDIS_TYPE_STRING;
	case REDIS_REPLY_STATUS:
		return REDIS_TYPE_STATUS;
	case REDIS_REPLY_ERROR:
		return REDIS_TYPE_ERROR;
	case REDIS_REPLY_INTEGER:
		return REDIS_TYPE_INTEGER;
	case REDIS_REPLY_NIL:
		return REDIS_TYPE_NIL;
	case REDIS_REPLY_ARRAY:
		return REDIS_TYPE_ARRAY;
	default:
		return REDIS_TYPE_OTHER;
	}
}

int64_t redis_reply_integer(const struct redis_reply *reply)
{
	if (redis_reply_type(reply) != REDIS_TYPE_INTEGER)
		return 0;
	return ((const redisReply *)reply)->integer;
}

const char *redis_reply_text(const struct redis_reply *reply, size_t *length)
{
	enum redis_type type = redis_reply_type(reply);
	const redisReply *text = (const redisReply *)reply;

	*length = 0;
	if (type != REDIS_TYPE_STRING && type != REDIS_TYPE_STATUS && type != REDIS_TYPE_ERROR)
		return NULL;
	*length = text->len;
	return text->str;
}

size_t redis_reply_count(const struct redis_reply *reply)
{
	if (redis_reply_type(reply) != REDIS_TYPE_ARRAY)
		return 0;
	return ((const redisReply *)reply)->elements;
}

const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t index)
{
	if (index >= redis_reply_count(reply))
		return NULL;
	return (const struct redis_reply *)((const redisReply *)reply)->element[index];
}

/* An array is allocated when its length has been read, before any element, and
 * freed by recursion: a few bytes of garbage must take neither gigabytes nor the
 * stack. */
static void *create_array(const redisReadTask *task, ELEMENTS_TYPE elements)
{
	struct redis_link *link = task->privdata;
	unsigned depth = 1;

	for (const redisReadTask *parent = task->parent; parent; parent = parent->parent)
		depth++;
	if (elements > (ELEMENTS_TYPE)REDIS_ELEMENTS_MAX || depth > REDIS_DEPTH_MAX) {
		link->too_large = true;
		return NULL;
	}
	return link->create_array(task, elements);
}

/* ---- The one place that waits ------------------------------------------ */

static bool bytes_left(const struct redis_link *link)
{
	return link->context->reader->pos < link->context->reader->len;
}

/* Parse what was read, up to reply END.  False if it is not the protocol. */
static bool take_replies(struct redis_link *link, unsigned end)
{
	while (link->reply_count < end) {
		void *reply = NULL;

		if (redisGetReplyFromReader(link->context, &reply) != REDIS_OK)
			return false;
		if (!reply)
			return true;
		link->replies[link->reply_count++] = reply;
	}
	return true;
}

/* Writing failed, but a server that refuses a connection says why first. */
static void read_last_words(struct redis_link *link, unsigned end)
{
	int cause = link->context->err;

	link->context->err = 0;
	redisBufferRead(link->context);
	take_replies(link, end);
	link->context->err = cause;
}

static bool interrupted(const struct redis_link *link)
{
	return redis_wait(-1, 0, link->interrupt_fd, 0) == REDIS_ERROR_INTERRUPTED;
}

static void end_exchange(struct redis_exchange *exchange, enum redis_error result)
{
	exchange->result = result;
	exchange->over = true;
}

static void write_more(struct redis_exchange *exchange)
{
	struct redis_link *link = exchange->link;
	int sent = 0;

	if (redisBufferWrite(link->context, &sent) != REDIS_OK) {
		read_last_words(link, exchange->end);
		end_exchange(exchange, fail_of_context(link, exchange->error));
	}
	exchange->sent = sent;
}

static void read_more(struct redis_exchange *exchange)
{
	struct redis_link *link = exchange->link;
	redisContext *context = link->context;
	enum redis_error result = REDIS_ERROR_NONE;

	if (redisBufferRead(context) != REDIS_OK || !take_replies(link, exchange->end))
		result = fail_of_context(link, exchange->error);
	else if (context->reader->len > REDIS_REPLIES_MAX_BYTES)
		result = redis_link_fail(link, REDIS_ERROR_PROTOCOL, exchange->error,
					 "a reply is longer than %u bytes; check what listens "
					 "there", REDIS_REPLIES_MAX_BYTES);
	else if (link->reply_count < exchange->end)
		return;
	else if (bytes_left(link))
		result = redis_link_fail(link, REDIS_ERROR_PROTOCOL, exchange->error,
					 "there are more replies than calls; check what is in "
					 "between");
	end_exchange(exchange, result);
}

static void begin_exchange(struct redis_exchange *exchange)
{
	exchange->end = exchange->link->reply_count + exchange->count;
	exchange->sent = exchange->over = false;
	exchange->result = REDIS_ERROR_NONE;
	if (interrupted(exchange->link))
		end_exchange(exchange, fail_of_wait(exchange->link, REDIS_ERROR_INTERRUPTED,
						    exchange->error));
	else if (exchange->count == 0)
		exchange->over = true;
	else
		write_more(exchange);
}

/* What to wait for: the links that are not over, and an interruption. */
static unsigned list_fds(const struct redis_exchange *exchanges, unsigned count,
			 struct pollfd *fds)
{
	unsigned open = 0;

	for (unsigned i = 0; i < count; i++) {
		fds[i] = (struct pollfd){ .fd = -1 };   /* poll() skips it */
		if (exchanges[i].over)
			continue;
		open++;
		fds[i].fd = exchanges[i].link->context->fd;
		/* Reading while there is more to send: a server whose replies are not
		 * read stops reading, too. */
		fds[i].events = exchanges[i].sent ? POLLIN : POLLIN | POLLOUT;
	}
	if (count > 0)
		fds[count] = (struct pollfd){ .fd = exchanges[0].link->interrupt_fd,
					      .events = POLLIN };
	return open;
}

void redis_link_exchange_all(struct redis_exchange *exchanges, unsigned count,
			     uint64_t deadline_ns)
{
	struct pollfd fds[REDIS_EXCHANGES_MAX + 1];

	for (unsigned i = 0; i < count; i++)
		begin_exchange(&exchanges[i]);
	while (list_fds(exchanges, count, fds) > 0) {
		enum redis_error result = redis_poll(fds, count + 1, deadline_ns);

		/* A server that dribbles is always readable. */
		if (result == REDIS_ERROR_NONE && redis_now_ns() >= deadline_ns)
			result = REDIS_ERROR_TIMEOUT;
		if (result == REDIS_ERROR_NONE && fds[count].revents)
			result = REDIS_ERROR_INTERRUPTED;
		for (unsigned i = 0; i < count; i++) {
			struct redis_exchange *each = &exchanges[i];

			if (each->over)
				continue;
			/* An event wins over an interruption: what has arrived is not in
			 * doubt. */
			if (fds[i].revents && result != REDIS_ERROR_TIMEOUT) {
				read_more(each);
				if (!each->over && !each->sent)
					write_more(each);
			} else if (result != REDIS_ERROR_NONE) {
				end_exchange(each, fail_of_wait(each->link, result, each->error));
			}
		}
	}
}

enum redis_error redis_link_exchange(struct redis_link *link, unsigned count,
				     uint64_t deadline_ns, struct weir_error *error)
{
	struct redis_exchange exchange = { .link = link, .count = count, .error = error };

	redis_link_exchange_all(&exchange, 1, deadline_ns);
	return exchange.result;
}

/* A server that has closed leaves no doubt about what was not sent yet, and a
 * reply that nobody waits for means that those before were not the ones they
 * were taken for. */
enum redis_error redis_link_check(struct redis_link *link, struct weir_error *error)
{
	if (redisBufferRead(link->context) != REDIS_OK)
		return redis_link_fail(link, REDIS_ERROR_NOT_CONNECTED, error,
				       "Redis has closed the idle connection; connect again");
	if (bytes_left(link))
		return redis_link_fail(link, REDIS_ERROR_PROTOCOL, error,
				       "a reply came that belongs to no call; check what is in "
				       "between");
	return REDIS_ERROR_NONE;
}

/* ---- Opening ------------------------------------------------------------ */

#ifdef WEIR_REDIS_TLS

static enum redis_error start_tls(struct redis_link *link, const struct redis_tls *tls,
				  uint64_t deadline_ns, struct weir_error *error)
{
	SSL *session;
	enum redis_error result;

	if (!tls)
		return REDIS_ERROR_NONE;
	session = redis_tls_session(tls, link->options, error);
	if (!session) {
		redis_link_close(link);
		return REDIS_ERROR_NO_ROOM;
	}
	/* It belongs to the context from here on, unless this fails. */
	if (redisInitiateSSL(link->context, session) != REDIS_OK) {
		redis_tls_fail(session, link->options, error);
		SSL_free(session);
		redis_link_close(link);
		return REDIS_ERROR_TLS;
	}
	result = redis_tls_handshake(session, link->options, link->context->fd,
				     link->interrupt_fd, deadline_ns, error);
	if (result != REDIS_ERROR_NONE)
		redis_link_close(link);
	return result;
}

#else

static enum redis_error start_tls(struct redis_link *link, const struct redis_tls *tls,
				  uint64_t deadline_ns, struct weir_error *error)
{
	(void)link, (void)tls, (void)deadline_ns, (void)error;
	return REDIS_ERROR_NONE;        /* redis_create() has refused rediss:// */
}

#endif

/* Put a context around FD, which is its own from then on. */
static enum redis_error adopt(struct redis_link *link, int fd, struct weir_error *error)
{
	redisContext *context = redisConnectFd(fd);

	if (!context || context->err) {
		if (context)
			redisFree(context);
		else
			close(fd);
		return redis_link_fail(link, REDIS_ERROR_NO_ROOM, error, "no memory; free some");
	}
	/* The socket does not block, and hiredis must know. */
	context->flags &= ~REDIS_BLOCK;
	link->functions = *context->reader->fn;
	link->create_array = link->functions.createArray;
	link->functions.createArray = create_array;
	context->reader->fn = &link->functions;
	context->reader->privdata = link;
	link->too_large = false;
	link->context = context;
	return REDIS_ERROR_NONE;
}

enum redis_error redis_link_open(struct redis_link *link, int fd, const struct redis_tls *tls,
				 uint64_t deadline_ns, struct weir_error *error)
{
	enum redis_error result = adopt(link, fd, error);

	return result == REDIS_ERROR_NONE ? start_tls(link, tls, deadline_ns, error) : result;
}

bool redis_link_is_open(const struct redis_link *link)
{
	return link->context != NULL;
}

enum redis_error redis_link_append(struct redis_link *link, int argc, const char *const *argv,
				   const size_t *lengths)
{
	/* hiredis forgot a const. */
	if (redisAppendCommandArgv(link->context, argc, (const char **)argv, lengths) == REDIS_OK)
		return REDIS_ERROR_NONE;
	redis_link_close(link);
	return REDIS_ERROR_NO_ROOM;
}

unsigned redis_link_reply_count(const struct redis_link *link)
{
	return link->reply_count;
}

const struct redis_reply *redis_link_reply(const struct redis_link *link, unsigned index)
{
	return (const struct redis_reply *)link->replies[index];
}

/* ---- The object -------------------------------------------------------- */

struct redis_link *redis_link_create(const struct redis_options *options, int interrupt_fd)
{
	struct redis_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->options = options;
	link->interrupt_fd = interrupt_fd;
	redis_url_format(options, link->place, sizeof(link->place));
	return link;
}

void redis_link_destroy(struct redis_link *link)
{
	if (!link)
		return;
	redis_link_close(link);
	redis_link_free_replies(link);
	free(link);
}

const char *redis_link_place(const struct redis_link *link)
{
	return link->place;
}

void redis_link_set_place(struct redis_link *link, const char *place)
{
	snprintf(link->place, sizeof(link->place), "%s", place);
}
