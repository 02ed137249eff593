/* SPDX-License-Identifier: Apache-2.0 */
/* reason.c - why there is no decision: for the command line, and for the service. */
#include "cli.h"

const char *cli_reason_sentence(enum weir_reason reason)
{
	switch (reason) {
	case WEIR_REASON_TABLE_FULL:
		return "the table has no slot for the key, and the fail mode is closed: create a "
		       "segment with more slots, or choose another fail mode";
	case WEIR_REASON_NO_POLICY:
		return "the policy has just been removed: define it with `weir policy set`";
	case WEIR_REASON_KEY:
		return "the key is empty or too long: give one of 1 to 65536 bytes";
	case WEIR_REASON_CLOCK:
		return "the segment's time comes from the caller: give --now NS, nanoseconds since "
		       "1970";
	case WEIR_REASON_CONTENDED:
		return "too many processes changed the bucket or the policies at once: try "
		       "again";
	case WEIR_REASON_USE_ACQUIRE:
		return "the policy has a concurrency limit: use `weir acquire`";
	case WEIR_REASON_HOLDS_FULL:
		return "no hold record is left, and the fail mode is closed: create a segment with "
		       "more --holds";
	case WEIR_REASON_CLOSED:
		return "the segment is closed";
	case WEIR_REASON_STALE:
		return "the view of the other hosts is too old, and the fail mode is closed: see "
		       "`weir sync status`, or choose another fail mode";
	case WEIR_REASON_LIMIT:
	case WEIR_REASON_COST:
	case WEIR_REASON_SHADOW:
	case WEIR_REASON_DEBT:
	case WEIR_REASON_CAP:
	case WEIR_REASON_LEASE:
		break;
	}
	return weir_reason_name(reason);
}
