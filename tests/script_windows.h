/* SPDX-License-Identifier: Apache-2.0 */
/* script_windows.h - the windows of script_model.h. */
#ifndef WEIR_TESTS_SCRIPT_WINDOWS_H
#define WEIR_TESTS_SCRIPT_WINDOWS_H

#include "tests/script_model.h"

struct kept_window {
	uint8_t name[SCRIPT_NAME_BYTES];
	int64_t end_ns;
	int64_t length_ns;
	int64_t total;
	int64_t previous;
	uint32_t generation;
};

struct kept_windows {
	struct kept_window *all;
	size_t count;
	size_t room;
};

/* Does any of them begin later than a second from now? */
bool windows_are_ahead(const struct script_window *items, size_t count, int64_t now_ns);

struct script_window_result windows_run(struct kept_windows *windows, int64_t now_ns,
					int64_t floor_ns, const struct script_window *item);

const struct kept_window *windows_find(const struct kept_windows *windows, const uint8_t *name);

void windows_copy(struct kept_windows *to, const struct kept_windows *from);
void windows_free(struct kept_windows *windows);

#endif
