/* SPDX-License-Identifier: Apache-2.0 */
/* Concurrency limits, as the script has them: one list of what any host told of any name. */
#include "tests/script_holds.h"

#include <stdlib.h>
#include <string.h>

#define HELD_LIMIT (UINT64_C(1) << 44)
#define MOST (UINT64_C(1) << 52)
#define ALIVE_SECONDS 30

static bool is_alive(const struct kept_hold *hold, const uint8_t *name, int64_t now_seconds)
{
	return memcmp(hold->name, name, SCRIPT_NAME_BYTES) == 0 && hold->held > 0 &&
	       now_seconds - hold->told_seconds < ALIVE_SECONDS;
}

static bool is_of(const struct kept_hold *hold, const uint8_t *host)
{
	return memcmp(hold->host, host, SCRIPT_HOST_BYTES) == 0;
}

static void resize(struct kept_holds *holds, size_t room)
{
	holds->all = reallocarray(holds->all, room, sizeof(*holds->all));
	if (!holds->all)
		abort();
	holds->room = room;
}

static struct kept_hold *place(struct kept_holds *holds, const uint8_t *name, const uint8_t *host)
{
	struct kept_hold *hold;

	for (size_t i = 0; i < holds->count; i++) {
		hold = &holds->all[i];
		if (is_of(hold, host) && memcmp(hold->name, name, SCRIPT_NAME_BYTES) == 0)
			return hold;
	}
	if (holds->count == holds->room)
		resize(holds, holds->room ? 2 * holds->room : 16);
	hold = &holds->all[holds->count++];
	memcpy(hold->name, name, SCRIPT_NAME_BYTES);
	memcpy(hold->host, host, SCRIPT_HOST_BYTES);
	return hold;
}

static uint64_t bounded(uint64_t units)
{
	return units < MOST ? units : MOST;
}

struct script_hold_result holds_run(struct kept_holds *holds, int64_t now_seconds,
				    const uint8_t *host, const struct script_hold *item)
{
	struct script_hold_result result = { .error = SCRIPT_ITEM_DONE };
	struct kept_hold *own;

	for (size_t i = 0; i < holds->count; i++) {
		const struct kept_hold *hold = &holds->all[i];

		if (!is_alive(hold, item->name, now_seconds) || is_of(hold, host))
			continue;
		result.others = bounded(result.others + hold->held);
		result.hosts++;
	}
	if (item->held >= HELD_LIMIT) {
		result.error = SCRIPT_ITEM_MALFORMED;
		return result;
	}
	own = place(holds, item->name, host);
	own->held = item->held;
	own->told_seconds = now_seconds;
	return result;
}

uint64_t holds_sum(const struct kept_holds *holds, int64_t now_seconds, const uint8_t *name)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < holds->count; i++) {
		if (is_alive(&holds->all[i], name, now_seconds))
			sum = bounded(sum + holds->all[i].held);
	}
	return sum;
}

void holds_copy(struct kept_holds *to, const struct kept_holds *from)
{
	*to = (struct kept_holds){ .count = from->count };
	if (from->count == 0)
		return;
	resize(to, from->count);
	memcpy(to->all, from->all, from->count * sizeof(*from->all));
}

void holds_free(struct kept_holds *holds)
{
	free(holds->all);
	*holds = (struct kept_holds){ .all = NULL };
}
