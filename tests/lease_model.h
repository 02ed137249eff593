/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease_model.h - sync/weir_lease.lua again, in C: a shard's leases as numbers.
 *
 * For the simulator, which runs it instead of Redis, and for a test that makes the
 * same calls to both.  It collects no garbage: what is collected tells nothing.
 */
#ifndef WEIR_TESTS_LEASE_MODEL_H
#define WEIR_TESTS_LEASE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/lease.h"

#define LEASE_MODEL_HOSTS 128u
#define LEASE_MODEL_KEYS 8u

struct lease_model_host {
	unsigned char id[16];
	int64_t tenure_ns;
	int64_t end_ns;
};

struct lease_model_lease {
	bool used;
	bool ended;
	int64_t ended_ns;
	int64_t tenure_ns;
	uint64_t session;
	int64_t granted_ns;
	int64_t spent_ns;
	int64_t returned_ns;
	uint32_t resets;
};

struct lease_model_key {
	unsigned char name[16];
	int64_t tat_ns;
	uint32_t generation;
	struct lease_model_lease leases[LEASE_MODEL_HOSTS];     /* as the shard's hosts */
};

/* All of a shard.  Zeroes are a shard that is not there; what is beyond the counts tells
 * nothing. */
struct lease_model {
	bool exists;
	unsigned char epoch[16];
	char run_id[41];
	int64_t offset_ns;
	int64_t last_ns;
	int64_t lost_ns;                /* by the virtual clock */
	int64_t end_ns;                 /* of the quarantine */
	unsigned host_count;
	unsigned key_count;
	struct lease_model_host hosts[LEASE_MODEL_HOSTS];
	struct lease_model_key keys[LEASE_MODEL_KEYS];
};

struct lease_model_call {
	unsigned char host[16];
	unsigned char epoch[16];
	unsigned char tenure[8];
	unsigned char low[16];
	bool has_epoch;
	bool has_tenure;
	bool has_low;
	unsigned char name[16];
	const char *run_id;
	const unsigned char *items;
	unsigned count;
	int64_t clock_ns;               /* whole microseconds */
};

struct lease_model_reply {
	unsigned code;
	unsigned char epoch[16];
	unsigned char tenure[8];
	bool has_tenure;
	int64_t now_ns;                 /* with what was lost */
	unsigned count;
	unsigned char items[LEASE_ITEMS * LEASE_REPLY];
};

void lease_model_flush(struct lease_model *model);
void lease_model_copy(struct lease_model *to, const struct lease_model *from);

void lease_model_call(struct lease_model *model, const struct lease_model_call *call,
		      struct lease_model_reply *reply);

/* Of the key NAME: its debt at the last call, and all that hosts may still spend.  False if it is
 * not there. */
bool lease_model_read(const struct lease_model *model, const unsigned char name[16],
		      int64_t *debt_ns, int64_t *left_ns);

#endif
