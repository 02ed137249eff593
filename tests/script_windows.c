/* SPDX-License-Identifier: Apache-2.0 */
/* Windows, as the script has them: a list, for there are few in a simulation. */
#include "tests/script_windows.h"

#include <stdlib.h>
#include <string.h>

#define GIGA INT64_C(1000000000)
#define EXACT (INT64_C(1) << 53)
#define MOST (INT64_C(1) << 52)

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t bounded(int64_t tokens)
{
	return tokens < 0 ? 0 : tokens > MOST ? MOST : tokens;
}

static int64_t time_ns(struct script_time time)
{
	return time.seconds * GIGA + time.nanoseconds;
}

static struct kept_window *find(const struct kept_windows *windows, const uint8_t *name)
{
	for (size_t i = 0; i < windows->count; i++)
		if (memcmp(windows->all[i].name, name, SCRIPT_NAME_BYTES) == 0)
			return &windows->all[i];
	return NULL;
}

const struct kept_window *windows_find(const struct kept_windows *windows, const uint8_t *name)
{
	return find(windows, name);
}

static void resize(struct kept_windows *windows, size_t room)
{
	windows->all = reallocarray(windows->all, room, sizeof(*windows->all));
	if (!windows->all)
		abort();
	windows->room = room;
}

static void store(struct kept_windows *windows, const struct kept_window *window)
{
	struct kept_window *place = find(windows, window->name);

	if (!place) {
		if (windows->count == windows->room)
			resize(windows, windows->room ? 2 * windows->room : 16);
		place = &windows->all[windows->count++];
	}
	*place = *window;
}

void windows_copy(struct kept_windows *to, const struct kept_windows *from)
{
	*to = (struct kept_windows){ .count = from->count };
	if (from->count == 0)
		return;
	resize(to, from->count);
	memcpy(to->all, from->all, from->count * sizeof(*from->all));
}

void windows_free(struct kept_windows *windows)
{
	free(windows->all);
	*windows = (struct kept_windows){ .all = NULL };
}

static bool is_malformed(const struct script_window *item)
{
	return item->end.nanoseconds >= GIGA || item->length.nanoseconds >= GIGA ||
	       time_ns(item->length) == 0 || item->flags > (SCRIPT_RESTORE | SCRIPT_RESET) ||
	       item->tokens <= -EXACT || item->tokens >= EXACT || item->total >= (uint64_t)EXACT ||
	       item->previous >= (uint64_t)EXACT;
}

/* What is kept of the name, if it is not over and no damage. */
static struct kept_window kept(const struct kept_windows *windows, int64_t ahead_ns,
			       int64_t floor_ns, const uint8_t *name)
{
	const struct kept_window *stored = find(windows, name);
	struct kept_window none = { .end_ns = 0 };

	if (stored && stored->end_ns <= ahead_ns && stored->end_ns + stored->length_ns >= floor_ns)
		return *stored;
	memcpy(none.name, name, sizeof(none.name));
	return none;
}

/* A later window is kept from now on. */
static void go_on(struct kept_window *window, int64_t end_ns, int64_t length_ns)
{
	window->previous = window->end_ns + length_ns == end_ns ? window->total : 0;
	window->total = 0;
	window->end_ns = end_ns;
}

/* What the host knows of them, of the generation in force. */
struct facts {
	int64_t total;
	int64_t previous;
};

/* A Redis that lost state has tokens of before a reset: in the item's window, and before. */
static void roll_back(struct kept_window *window, const struct script_window *item)
{
	if (window->end_ns <= time_ns(item->end))
		window->total = window->previous = 0;
	else if (window->end_ns - window->length_ns == time_ns(item->end))
		window->previous = 0;
}

static struct facts take_facts(struct kept_window *window, const struct script_window *item)
{
	struct facts facts = { (int64_t)item->total, (int64_t)item->previous };

	if (item->generation > window->generation) {
		if (item->flags & SCRIPT_RESTORE)
			roll_back(window, item);
		window->generation = item->generation;
	}
	if (item->flags & SCRIPT_RESET) {
		window->total = window->previous = 0;
		window->generation += window->generation < UINT32_MAX;
	}
	if ((item->flags & SCRIPT_RESET) || item->generation < window->generation)
		facts = (struct facts){ 0, 0 };
	return facts;
}

bool windows_are_ahead(const struct script_window *items, size_t count, int64_t now_ns)
{
	for (size_t i = 0; i < count; i++) {
		int64_t length_ns = time_ns(items[i].length);

		if (length_ns > 0 && time_ns(items[i].end) > now_ns + GIGA + length_ns)
			return true;
	}
	return false;
}

struct script_window_result windows_run(struct kept_windows *windows, int64_t now_ns,
					int64_t floor_ns, const struct script_window *item)
{
	int64_t end_ns = time_ns(item->end), length_ns = time_ns(item->length);
	int64_t ahead_ns = now_ns + GIGA + length_ns;
	struct script_window_result result = { -1, -1, 0, SCRIPT_ITEM_DONE };
	bool lost = item->flags & SCRIPT_RESTORE, begun;
	struct kept_window window;
	struct facts facts;

	if (is_malformed(item)) {
		result.error = SCRIPT_ITEM_MALFORMED;
		return result;
	}
	window = kept(windows, ahead_ns, floor_ns, item->name);
	begun = end_ns > window.end_ns;
	if (begun)
		go_on(&window, end_ns, length_ns);
	window.length_ns = length_ns;
	facts = take_facts(&window, item);
	if (window.end_ns == end_ns) {
		if (begun || lost)
			window.total = larger(window.total, facts.total);
		window.total = bounded(window.total + item->tokens);
		window.previous = bounded(larger(window.previous, facts.previous));
		result.total = window.total;
		result.previous = window.previous;
	} else if (window.end_ns - length_ns == end_ns) {
		if (lost)
			window.previous = larger(window.previous, facts.total);
		window.previous = bounded(window.previous + item->tokens);
		result.total = window.previous;
	}
	result.generation = window.generation;
	store(windows, &window);
	return result;
}
