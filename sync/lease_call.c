/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease_call.c - a call about leases, as words to Redis and back.
 *
 * Each call has a name that the reply repeats: a reply that belongs to another call
 * would be taken for a grant.
 */
#include "sync/lease_call.h"

#include <string.h>
#include <time.h>

#include "shm/error.h"
#include "sync/keys.h"

#define HOST_BYTES 16u
#define CALL_NAME 16u
#define ARGUMENTS 6

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void name_call(const struct lease_call *call, const unsigned char *host,
		      unsigned char name[CALL_NAME])
{
	memcpy(name, host, 8);
	wire_put32(wire_put32(name + 8, call->term), call->number);
}

/* The words of a call, which live as long as it may be made again. */
struct lease_words {
	char key[SYNC_KEY_SIZE];
	unsigned char low[16], name[CALL_NAME];
	const char *argv[ARGUMENTS];
	size_t lengths[ARGUMENTS];
};

static void set_word(struct lease_words *words, unsigned i, const void *bytes, size_t length)
{
	words->argv[i] = bytes;
	words->lengths[i] = length;
}

static struct redis_call write_call(unsigned script, const char *prefix,
				    const unsigned char *host, struct lease_call *call,
				    struct lease_words *words)
{
	size_t key_length = sync_lease_key(words->key, prefix, call->shard);

	name_call(call, host, words->name);
	call->sent_ns = now_ns();
	set_word(words, 0, host, HOST_BYTES);
	set_word(words, 1, call->epoch, call->has_epoch ? sizeof(call->epoch) : 0);
	set_word(words, 2, call->tenure, call->has_tenure ? sizeof(call->tenure) : 0);
	set_word(words, 3, words->low, lease_low(call, call->sent_ns, words->low));
	set_word(words, 4, words->name, sizeof(words->name));
	set_word(words, 5, call->items, (size_t)call->count * LEASE_ITEM);
	return (struct redis_call){ .script = script, .key = words->key, .key_length = key_length,
				    .argc = ARGUMENTS, .argv = words->argv,
				    .lengths = words->lengths };
}

static const unsigned char *bytes_at(const struct redis_reply *reply, size_t index,
				     size_t *length)
{
	*length = 0;
	return (const unsigned char *)redis_reply_text(redis_reply_at(reply, index), length);
}

/* {code, name of the call, epoch, tenure, now, items} */
static bool read_reply(const struct redis_reply *reply, const struct lease_call *call,
		       const unsigned char *host, struct lease_reply *result)
{
	size_t name_length, epoch_length, tenure_length, now_length, items_length;
	const unsigned char *name = bytes_at(reply, 1, &name_length);
	const unsigned char *epoch = bytes_at(reply, 2, &epoch_length);
	const unsigned char *tenure = bytes_at(reply, 3, &tenure_length);
	const unsigned char *now = bytes_at(reply, 4, &now_length);
	unsigned char expected[CALL_NAME];

	memset(result, 0, sizeof(*result));
	result->items = bytes_at(reply, 5, &items_length);
	name_call(call, host, expected);
	if (redis_reply_count(reply) != 6 || !name || name_length != sizeof(expected) ||
	    memcmp(name, expected, sizeof(expected)) != 0 || !epoch ||
	    epoch_length != sizeof(result->epoch) || !tenure ||
	    (tenure_length != 0 && tenure_length != sizeof(result->tenure)) || !now ||
	    now_length != 8 || !result->items || items_length % LEASE_REPLY != 0 ||
	    items_length / LEASE_REPLY > LEASE_ITEMS)
		return false;
	result->code = (unsigned)redis_reply_integer(redis_reply_at(reply, 0));
	if (result->code > LEASE_VOID)
		return false;
	result->has_tenure = tenure_length != 0;
	memcpy(result->epoch, epoch, sizeof(result->epoch));
	memcpy(result->tenure, tenure, tenure_length);
	result->virtual_ns = (uint64_t)wire_get32(now) * (uint64_t)WIRE_SECOND +
			     wire_get32(now + 4);
	result->count = (unsigned)(items_length / LEASE_REPLY);
	return true;
}

/* Why the call has no reply that is one; NONE if it has. */
static enum redis_error take_reply(struct redis_route *route, const struct lease_call *call,
				   const unsigned char *host, const struct redis_result *result,
				   struct lease_reply *reply, unsigned *astray,
				   struct weir_error *error)
{
	if (!result->reply)
		return result->error;           /* ERROR tells of the first one */
	if (result->error != REDIS_ERROR_NONE) {
		redis_route_explain(route, result, "leases", error->message, sizeof(error->message));
		return result->error;
	}
	if (read_reply(result->reply, call, host, reply))
		return REDIS_ERROR_NONE;
	*astray |= 1u << call->shard;
	weir_fail(error, WEIR_ESYSTEM, "the script of leases answered what it never should; is "
		  "another program's script behind the same name?");
	return REDIS_ERROR_PROTOCOL;
}

enum redis_error lease_call_redis(struct redis_route *route, unsigned script, const char *prefix,
				  const unsigned char *host, struct lease_call *calls,
				  struct lease_reply *replies, unsigned count,
				  unsigned *astray, struct weir_error *error)
{
	struct lease_words words[SYNC_SHARDS];
	struct redis_call made[SYNC_SHARDS] = { { 0 } };
	struct redis_result results[SYNC_SHARDS];
	enum redis_error outcome;
	uint64_t got_ns;

	for (unsigned i = 0; i < count; i++)
		made[i] = write_call(script, prefix, host, &calls[i], &words[i]);
	outcome = redis_route_call(route, made, count, UINT64_MAX, results, error);
	got_ns = now_ns();
	for (unsigned i = 0; i < count; i++) {
		struct weir_error other;
		enum redis_error kind = take_reply(route, &calls[i], host, &results[i], &replies[i],
						   astray,
						   outcome == REDIS_ERROR_NONE ? error : &other);

		if (kind == REDIS_ERROR_NONE) {
			replies[i].got_ns = got_ns;
			continue;
		}
		replies[i] = (struct lease_reply){ .code = LEASE_UNANSWERED };
		if (outcome == REDIS_ERROR_NONE)
			outcome = kind;
	}
	return outcome;
}
