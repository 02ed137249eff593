/* SPDX-License-Identifier: Apache-2.0 */
/* handle.h - a handle, and the segment behind it. */
#ifndef WEIR_HANDLE_H
#define WEIR_HANDLE_H

#include "shm/segment.h"
#include "src/rcu.h"

struct weir {
	/* NULL once closed.  Readers load it inside a read-side section. */
	struct segment *segment;
	/* The same, where decisions may be plain and by the processor's ticks (plain.h);
	 * else NULL. */
	struct segment *ticking;
};

static inline const struct segment *handle_load(struct segment *const *pointer)
{
	const struct segment *segment = __atomic_load_n(pointer, __ATOMIC_ACQUIRE);

#ifdef WEIR_THREAD_SANITIZER
	/* Shows it who reads; never true. */
	if (segment && !segment->mapped)
		__builtin_trap();
#endif
	return segment;
}

/* The segment, inside a read-side section.  NULL if the handle is closed. */
static inline const struct segment *handle_segment(const struct weir *weir)
{
	return handle_load(&weir->segment);
}

/* Likewise, and NULL also if its decisions are not by ticks. */
static inline const struct segment *handle_ticking(const struct weir *weir)
{
	return handle_load(&weir->ticking);
}

/* Begin to read: the segment stays mapped until handle_leave().  NULL if the
 * handle is closed; call handle_leave() all the same. */
static inline const struct segment *handle_enter(const struct weir *weir)
{
	rcu_enter();
	return handle_segment(weir);
}

static inline void handle_leave(void)
{
	rcu_leave();
}

/* For control functions: the segment without a read-side section, which the
 * rule that weir_close() is a handle's last call makes safe. */
static inline struct segment *handle_control(const struct weir *weir)
{
	return __atomic_load_n(&weir->segment, __ATOMIC_ACQUIRE);
}

/* Keep handles from being opened and closed, and the process from forking: to start
 * and stop a segment's sync thread. */
void handles_lock(void);
void handles_unlock(void);

#endif
