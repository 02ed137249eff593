/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rcu.h - the one file that uses liburcu.
 *
 * What it protects: a process's own view of a segment.  A thread that decides is
 * inside a read-side section; weir_close() takes the mapping away from new
 * readers, waits for a grace period, and only then unmaps it.
 *
 * What it does not protect: anything inside the segment.  liburcu's registry and
 * grace periods are private to a process, so a grace period here says nothing
 * about readers there.  What lies in the segment is never freed while mapped, and
 * is revalidated by its generation or version instead.
 *
 * The bulletproof flavour registers threads that it has not seen by itself (the
 * first time with a mutex and an mmap), and they leave through a key destructor.
 * There is no call_rcu, hence no thread of its own: who removes, waits.
 */
#ifndef WEIR_RCU_H
#define WEIR_RCU_H

#define _LGPL_SOURCE            /* inline read side: 1 ns instead of 10 */
#include <urcu/urcu-bp.h>

#if defined(__SANITIZE_THREAD__)
#define WEIR_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEIR_THREAD_SANITIZER 1
#endif
#endif

#ifdef WEIR_THREAD_SANITIZER
/* The sanitizer does not see the memory barriers that liburcu forces on other
 * threads: tell it that what readers did came before the end of the grace
 * period. */
extern char weir_rcu_tag;
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#endif

static inline void rcu_enter(void)
{
	urcu_bp_read_lock();
}

static inline void rcu_leave(void)
{
#ifdef WEIR_THREAD_SANITIZER
	__tsan_release(&weir_rcu_tag);
#endif
	urcu_bp_read_unlock();
}

/* What this thread is to liburcu; NULL before its first section. */
static inline struct urcu_bp_reader *rcu_reader(void)
{
	return URCU_TLS(urcu_bp_reader);
}

/*
 * The same at a third of the instructions, where the kernel has membarrier(2), so that
 * neither end of a section needs a barrier of its own.  NULL if this thread is not
 * registered yet, or is in a section already.
 */
static inline struct urcu_bp_reader *rcu_enter_light(void)
{
	struct urcu_bp_reader *reader = rcu_reader();

	if (__builtin_expect(!reader || CMM_LOAD_SHARED(reader->ctr) & URCU_BP_GP_CTR_NEST_MASK, 0))
		return NULL;
	_CMM_STORE_SHARED(reader->ctr, _CMM_LOAD_SHARED(urcu_bp_gp.ctr));
	cmm_barrier();
	return reader;
}

static inline void rcu_leave_light(struct urcu_bp_reader *reader)
{
#ifdef WEIR_THREAD_SANITIZER
	__tsan_release(&weir_rcu_tag);
#endif
	cmm_barrier();
	/* Any word that counts no section says that the thread is in none. */
	_CMM_STORE_SHARED(reader->ctr, 0);
	cmm_barrier();
}

static inline void rcu_wait(void)
{
	urcu_bp_synchronize_rcu();
#ifdef WEIR_THREAD_SANITIZER
	__tsan_acquire(&weir_rcu_tag);
#endif
}

#endif
