/* SPDX-License-Identifier: Apache-2.0 */
/* script_fixture.h - a shard in a real Redis beside one in the model, and hosts that talk to both:
 * whatever a test does, the answers must be equal. */
#ifndef WEIR_TESTS_SCRIPT_FIXTURE_H
#define WEIR_TESTS_SCRIPT_FIXTURE_H

#include <check.h>
#include <hiredis/hiredis.h>

#include "tests/redis_server.h"
#include "tests/script_client.h"
#include "tests/script_model.h"

#define SECOND_NS INT64_C(1000000000)
#define SECOND_US INT64_C(1000000)

struct shard {
	struct redisContext *context;
	struct script_client client;
	struct script_model *model;
	int64_t true_us;                        /* how time passes */
	int64_t step_us;                        /* what Redis' clock has been stepped by */
	uint64_t tolerance_ns;
	uint64_t keep_seconds;
	struct script_reply reply;              /* of the last call */
};

struct peer {
	uint8_t id[SCRIPT_HOST_BYTES];
	uint64_t term;
	uint64_t seq;
	int64_t now_ns;                         /* of the last reply, and true_us then */
	int64_t at_us;
};

/* The server of all tests of a program, and its shard, which each test finds empty. */
extern struct redis_server *server;
extern struct shard shard;

/* Run SUITE with a server.  Returns main()'s result. */
int script_main(Suite *suite);

/* Add TEST, between a flush and the comparison of what is left. */
void script_add(Suite *suite, const char *name, const TTest *test, double seconds);

struct peer peer(const char *name);

/* A host's next call. */
struct script_call peer_call(const struct peer *peer, const struct script_item *items,
			     size_t count);

/* Make CALL, here and there.  Returns the code. */
enum script_code shard_call(const struct script_call *call);

/* Take over what the last call, a batch of PEER, was answered. */
void peer_done(struct peer *peer);

/* A fence with the next term, and a batch with the next seq; both must be done. */
void peer_fence(struct peer *peer);
void peer_send(struct peer *peer, const struct script_item *items, size_t count);

/* COUNT hosts, "a" and on, and a fence of each. */
void peers_fence(struct peer *peers, int count);

/* An item that charges D of an entry NAME, which never ran empty and was never merged. */
struct script_item item(const char *name, int64_t charge_ns);

/* Send it.  Returns the result, which is without an error. */
struct script_result peer_send_item(struct peer *peer, struct script_item item);

/* tat - now of NAME, as anybody sees it who charges nothing. */
int64_t peer_debt_ns(struct peer *peer, const char *name);

/* The fields of the shard's hash. */
long long shard_fields(void);

/* PEER's empty batches, ROUNDS of them at most, have the script collect what nobody needs
 * until FIELDS are left. */
void shard_collects(struct peer *peer, long long fields, int rounds);

/* FLUSHALL. */
void shard_flush(void);

/* A command in hiredis' format; its integer, or the length of its text or array. */
long long shard_command(const char *format, ...);

#endif
