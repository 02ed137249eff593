/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CLI_REPLAY_DEMAND_H
#define WEIR_CLI_REPLAY_DEMAND_H

#include "replay-input.h"

/* Instead of a log: requests for one key, as independent of each other as those of
 * many clients (a Poisson process, the same each time), DEMAND times as many as LIMIT
 * lets pass in SECONDS.  Errors: WEIR_EINVAL (too many, or none), WEIR_ENOMEM. */
int replay_demand(struct replay_input *input, const struct weir_limit *limit, double demand,
		  uint64_t seconds, struct weir_error *error);

#endif
