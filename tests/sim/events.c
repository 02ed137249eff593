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

static void swap(size_t a, size_t b)
{
	struct event event = heap[a];

	heap[a] = heap[b];
	heap[b] = event;
}

void events_add(int64_t at_ns, enum event_kind kind, unsigned number, uint64_t serial,
		void *subject)
{
	size_t at = count++;

	if (count > room) {
		room = room ? 2 * room : 256;
		heap = reallocarray(heap, room, sizeof(*heap));
		if (!heap)
			abort();
	}
	heap[at] = (struct event){ at_ns, orders++, kind, number, serial, subject };
	for (; at > 0 && before(&heap[at], &heap[(at - 1) / 2]); at = (at - 1) / 2)
		swap(at, (at - 1) / 2);
}

bool events_next(struct event *event, int64_t until_ns)
{
	size_t at = 0;

	if (count == 0 || heap[0].at_ns > until_ns)
		return false;
	*event = heap[0];
	heap[0] = heap[--count];
	for (;;) {
		size_t least = at;

		for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++) {
			if (before(&heap[child], &heap[least]))
				least = child;
		}
		if (least == at)
			return true;
		swap(at, least);
		at = least;
	}
}
