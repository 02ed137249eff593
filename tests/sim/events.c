/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - what is to happen: a heap, earliest first, in the order of adding. */
#include <stdlib.h>

#include "tests/sim/sim.h"

static struct event *heap;
static size_t count, room;
static uint64_t orders;

void events_clear(void)
{
	count = 0;
	orders = 0;
}

static bool before(const struct event *a, const struct event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

void events_add(int64_t at_ns, enum event_kind kind, unsigned number, uint64_t serial,
		void *subject)
{
	size_t at = count++;
	struct event event;

	if (count > room) {
		room = room ? 2 * room : 256;
		heap = reallocarray(heap, room, sizeof(*heap));
		if (!heap)
			abort();
	}
	event = (struct event){ at_ns, orders++, kind, number, serial, subject };
	for (; at > 0 && before(&event, &heap[(at - 1) / 2]); at = (at - 1) / 2)
		heap[at] = heap[(at - 1) / 2];
	heap[at] = event;
}

bool events_next(struct event *event, int64_t until_ns)
{
	struct event last;
	size_t at = 0;

	if (count == 0 || heap[0].at_ns > until_ns)
		return false;
	*event = heap[0];
	last = heap[--count];
	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < count && before(&heap[child + 1], &heap[child]))
			child++;
		if (child >= count || !before(&heap[child], &last))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
	return true;
}
