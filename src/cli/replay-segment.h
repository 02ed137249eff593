/* SPDX-License-Identifier: Apache-2.0 */
/* replay-segment.h - a segment without a name, for this process and its children. */
#ifndef WEIR_CLI_REPLAY_SEGMENT_H
#define WEIR_CLI_REPLAY_SEGMENT_H

#include "weir.h"

/* Make a segment with slots, clock, sync and secret of OPTIONS and the COUNT
 * POLICIES, whose ids are then in *IDS (to be freed).  Signals that could end this
 * process are blocked, so that nothing is left of it however anybody dies.  After
 * an error *WEIR may be open, and *IDS set.  Errors: those of weir_create(),
 * weir_open() and weir_policy_set(). */
int replay_segment_make(const struct weir_options *options, const struct weir_policy *policies,
			uint32_t count, struct weir **weir, weir_policy_id **ids,
			struct weir_error *error);

#endif
