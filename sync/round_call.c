/* SPDX-License-Identifier: Apache-2.0 */
/*
 * round_call.c - calls of rounds and fences, as words to Redis and back.
 *
 * One call's failure is not the others': each has a reply of its own, or none.
 */
#include "sync/round_call.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shm/error.h"
#include "sync/keys.h"
#include "sync/redis_socket.h"

#define HOST_BYTES 16u
#define ROUND_AGE_MAX_NS 100000000ull   /* from taking a round to sending it */
#define TOLERANCE_NS 1000000000ull      /* that Redis' clock may run ahead by, once */

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- Words ------------------------------------------------------------- */

/* The shard's virtual time as this host has seen it pass, for the script to guard
 * its clock with; nothing before the first reply. */
static size_t virtual_now(const struct shard_record *shard, unsigned char out[8])
{
	/* Relaxed: leaders' own; the leader word hands them on. */
	uint64_t seconds = atomic_load_relaxed(&shard->virtual_seconds);
	uint64_t part = atomic_load_relaxed(&shard->virtual_part_ns);
	uint64_t at = atomic_load_relaxed(&shard->virtual_at_ns), now = now_ns();

	if (at == 0 || at > now)
		return 0;
	part += now - at;
	seconds += part / (uint64_t)WIRE_SECOND;
	wire_put32(wire_put32(out, (uint32_t)seconds), (uint32_t)(part % (uint64_t)WIRE_SECOND));
	return 8;
}

#define ARGUMENTS 9

/* The words of a call, which live as long as it may be made again. */
struct call_words {
	char key[SYNC_KEY_SIZE], term[12], sequence[12], tolerance[24], keep[24];
	unsigned char low[8];
	const char *argv[ARGUMENTS];
	size_t lengths[ARGUMENTS];
};

static void set_word(struct call_words *words, unsigned i, const void *text, size_t length)
{
	words->argv[i] = text;
	words->lengths[i] = length;
}

static void write_number(struct call_words *words, unsigned i, char text[], size_t size,
			 uint64_t number)
{
	int length = snprintf(text, size, "%llu", (unsigned long long)number);

	set_word(words, i, text, (size_t)length);
}

static struct redis_call write_call(const struct round_caller *caller,
				    const struct leader_call *call, struct call_words *words)
{
	const struct round *round = call->round;
	size_t key_length = sync_shard_key(words->key, caller->prefix, call->shard);

	set_word(words, 0, caller->host, HOST_BYTES);
	write_number(words, 1, words->term, sizeof(words->term), call->term);
	write_number(words, 2, words->sequence, sizeof(words->sequence), call->sequence);
	set_word(words, 3, words->low,
		 virtual_now(&caller->segment->shards[call->shard], words->low));
	write_number(words, 4, words->tolerance, sizeof(words->tolerance), TOLERANCE_NS);
	write_number(words, 5, words->keep, sizeof(words->keep), caller->keep_s);
	set_word(words, 6, round ? (const char *)round->blob : "",
		 round ? round->count * WIRE_ITEM : 0);
	set_word(words, 7, round ? (const char *)round->window_blob : "",
		 round ? round->window_count * WIRE_WINDOW : 0);
	set_word(words, 8, round ? (const char *)round->hold_blob : "",
		 round ? round->hold_count * WIRE_HOLD : 0);
	return (struct redis_call){ .script = caller->script, .key = words->key,
				    .key_length = key_length, .argc = ARGUMENTS, .argv = words->argv,
				    .lengths = words->lengths };
}

/* A text of COUNT elements of SIZE bytes each; NULL if it is not one, or too long. */
static const unsigned char *read_items(const struct redis_reply *reply, size_t size,
				       unsigned *count)
{
	size_t length = 0;
	const char *items = redis_reply_text(reply, &length);

	if (!items || length % size != 0 || length / size > ROUND_ITEMS)
		return NULL;
	*count = (unsigned)(length / size);
	return (const unsigned char *)items;
}

/* {code, now, hosts, term, sequence, items, windows, holds, and the call's own term and
 * sequence}, which name it: another call's reply never passes for this one's. */
static bool read_reply(const struct redis_reply *reply, const struct leader_call *call,
		       struct round_reply *result)
{
	size_t now_length = 0;
	const char *now = redis_reply_text(redis_reply_at(reply, 1), &now_length);

	result->items = read_items(redis_reply_at(reply, 5), WIRE_REPLY, &result->count);
	result->windows = read_items(redis_reply_at(reply, 6), WIRE_WINDOW_REPLY,
				     &result->window_count);
	result->holds = read_items(redis_reply_at(reply, 7), WIRE_HOLD_REPLY, &result->hold_count);
	if (redis_reply_count(reply) != 10 ||
	    redis_reply_integer(redis_reply_at(reply, 8)) != call->term ||
	    redis_reply_integer(redis_reply_at(reply, 9)) != call->sequence ||
	    !now || now_length != 8 || !result->items || !result->windows || !result->holds)
		return false;
	result->code = (unsigned)redis_reply_integer(redis_reply_at(reply, 0));
	if (result->code > ROUND_MUST_FENCE)
		return false;
	result->virtual_seconds = wire_get32((const unsigned char *)now);
	result->virtual_part_ns = wire_get32((const unsigned char *)now + 4);
	result->hosts = (uint64_t)redis_reply_integer(redis_reply_at(reply, 2));
	result->last_tag = (uint64_t)redis_reply_integer(redis_reply_at(reply, 3)) << 32 |
			   (uint32_t)redis_reply_integer(redis_reply_at(reply, 4));
	result->received_ns = now_ns();
	return true;
}

/* ---- Calls ------------------------------------------------------------- */

/* A thread that was stopped since it took the round must not send it: durations as
 * of then would be too long by now.  Returns from when on, redis_now_ns(); 0: now. */
static uint64_t send_by_ns(const struct leader_call *calls, unsigned count)
{
	uint64_t now = now_ns(), left = UINT64_MAX;

	for (unsigned i = 0; i < count; i++) {
		uint64_t until = calls[i].round ? calls[i].round->taken_ns + ROUND_AGE_MAX_NS :
						  UINT64_MAX;

		if (until <= now)
			return 0;
		if (until != UINT64_MAX && until - now < left)
			left = until - now;
	}
	return left == UINT64_MAX ? left : redis_now_ns() + left;
}

/* Why the call has no reply that is one; NONE if it has. */
static enum redis_error take_reply(const struct round_caller *caller,
				   const struct leader_call *call,
				   const struct redis_result *result, struct round_reply *reply,
				   struct round_faults *faults, struct weir_error *error)
{
	unsigned bit = 1u << call->shard;

	if (!result->reply)
		return result->error;           /* ERROR tells of the first one */
	if (result->error == REDIS_ERROR_NONE) {
		if (read_reply(result->reply, call, reply)) {
			faults->sound |= bit;
			return REDIS_ERROR_NONE;
		}
		weir_fail(error, WEIR_ESYSTEM, "%s: the script answered what it never should; is "
			  "another program's script behind the same name?",
			  redis_route_place(caller->route));
		return REDIS_ERROR_PROTOCOL;
	}
	/* A replica stays one for as long as it likes: the master is looked for anew. */
	if (result->error != REDIS_ERROR_READONLY && result->error != REDIS_ERROR_MASTERDOWN)
		faults->sound |= bit;
	redis_route_explain(caller->route, result, "a call", error->message,
			    sizeof(error->message));
	return result->error;
}

enum redis_error round_call_redis(const struct round_caller *caller,
				  const struct leader_call *calls, struct round_reply *replies,
				  unsigned count, struct round_faults *faults,
				  struct weir_error *error)
{
	struct call_words words[SYNC_SHARDS];
	struct redis_call made[SYNC_SHARDS];
	struct redis_result results[SYNC_SHARDS];
	uint64_t by_ns = send_by_ns(calls, count);
	enum redis_error outcome = REDIS_ERROR_NONE;

	for (unsigned i = 0; i < count; i++) {
		replies[i] = (struct round_reply){ .code = ROUND_UNANSWERED };
		faults->sound &= ~(1u << calls[i].shard);
		faults->permanent &= ~(1u << calls[i].shard);
		made[i] = write_call(caller, &calls[i], &words[i]);
	}
	if (by_ns == 0) {
		for (unsigned i = 0; i < count; i++)
			faults->sound |= 1u << calls[i].shard;
		return REDIS_ERROR_NONE;
	}
	outcome = redis_route_call(caller->route, made, count, by_ns, results, error);
	for (unsigned i = 0; i < count; i++) {
		struct weir_error other;
		enum redis_error kind = take_reply(caller, &calls[i], &results[i], &replies[i], faults,
						   outcome == REDIS_ERROR_NONE ? error : &other);

		if (kind == REDIS_ERROR_NONE)
			continue;
		replies[i] = (struct round_reply){ .code = ROUND_UNANSWERED };
		if (redis_error_permanent(kind))
			faults->permanent |= 1u << calls[i].shard;
		if (outcome == REDIS_ERROR_NONE)
			outcome = kind;
	}
	return outcome;
}
