/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-demand.h"
#include "replay-error.h"

#include <math.h>
#include <stdlib.h>

#define REQUESTS_MAX 100000000.0
#define KEY "demand"

/* Above 0, at most 1. */
static double next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (double)((*state >> 11) + 1) / 9007199254740992.0;
}

int replay_demand(struct replay_input *input, const struct weir_limit *limit, double demand,
		  uint64_t seconds, struct weir_error *error)
{
	double per_ns = demand * (double)limit->limit / (double)limit->period_ns;
	double end_ns = (double)seconds * 1e9, expected = per_ns * end_ns, at_ns = 0;
	size_t room = (size_t)(expected + 8 * sqrt(expected) + 64);
	uint64_t random = 88172645463325252u;
	uint32_t key;
	int status;

	*input = (struct replay_input){ 0 };
	if (expected < 1 || expected > REQUESTS_MAX)
		return replay_error_set(error, WEIR_EINVAL,
					"--demand %g for %llu s makes %.0f requests: give one that "
					"makes 1 to %.0f", demand, (unsigned long long)seconds,
					expected, REQUESTS_MAX);
	status = replay_key_set_init(&input->keys, error);
	if (!status)
		status = replay_key_set_add(&input->keys, (const uint8_t *)KEY, sizeof(KEY) - 1,
					    &key, error);
	if (!status) {
		input->requests = calloc(room, sizeof(*input->requests));
		if (!input->requests)
			status = replay_error_set(error, WEIR_ENOMEM, "no memory for %zu requests",
						  room);
	}
	for (; !status && input->request_count < room; input->request_count++) {
		at_ns += -log(next_random(&random)) / per_ns;
		if (at_ns >= end_ns && input->request_count > 0)
			break;
		input->requests[input->request_count] =
			(struct replay_request){ .time_ns = (uint64_t)at_ns, .key = key };
	}
	if (status)
		replay_input_free(input);
	return status;
}
