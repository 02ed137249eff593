/* SPDX-License-Identifier: Apache-2.0 */
/* script_client.h - calls of sync/weir_sync.lua in a real Redis, in the terms of the model. */
#ifndef WEIR_TESTS_SCRIPT_CLIENT_H
#define WEIR_TESTS_SCRIPT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/script_model.h"

struct redisContext;

/* The key of the shard, if the test does not choose another. */
#define SCRIPT_SHARD "weir:test:0"

enum script_clock {
	SCRIPT_CLOCK_REDIS,                     /* the script as it is */
	SCRIPT_CLOCK_CALL,                      /* its line that reads TIME takes clock_us instead */
};

struct script_client {
	struct redisContext *context;
	enum script_clock clock;
	char shard[64];
	char sha[41];
	char error[256];                        /* of the last call that Redis refused */
};

/* Load the library's script, or a mutant: the file WEIR_SYNC_LUA of the environment.  CONTEXT stays
 * the caller's.  Fails the program when it cannot. */
void script_client_start(struct script_client *client, struct redisContext *context,
			 enum script_clock clock);

/* EVALSHA with the arguments as they are, COUNT of them after the key.  Returns false for an error
 * reply, which is in client->error; fails the program on a reply of another form. */
bool script_client_evaluate(struct script_client *client, size_t count, const char **arguments,
			    const size_t *sizes, struct script_reply *reply);

bool script_client_call(struct script_client *client, const struct script_call *call,
			struct script_reply *reply);

#endif
