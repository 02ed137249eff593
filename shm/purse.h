/* SPDX-License-Identifier: Apache-2.0 */
/* purse.h - tokens that a thread has taken ahead of its requests. */
#ifndef WEIR_SHM_PURSE_H
#define WEIR_SHM_PURSE_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/bucket.h"
#include "shm/layout.h"
#include "shm/limit.h"
#include "shm/purse_mark.h"

struct segment;

#define PURSES_OF_THREAD 4u             /* hot keys that a thread may have at a time */

/* The most that a thread takes ahead; and of the burst, one part of so many. */
#define PURSE_TOKENS_MAX 1024u
#define PURSE_PART 64u

struct purses {
	struct purse *all;
	uint32_t count;                 /* a multiple of PURSES_OF_THREAD */
	uint64_t *next;
};

/* A thread's own view of a purse, in its private memory. */
struct purse_own {
	uint64_t word;                  /* the purse's, as the thread left it; 0: has none */
	uint64_t until_ns;              /* the tokens count before this time */
};

#define PURSE_TOKENS_MASK 0xffffull
#define PURSE_STATE_SHIFT 16
#define PURSE_STATE_MASK 3ull
#define PURSE_SEQUENCE_SHIFT 18
#define PURSE_SEQUENCE_MASK ((1ull << 30) - 1)
#define PURSE_INDEX_SHIFT 48

static inline uint64_t purse_tokens(uint64_t word)
{
	return word & PURSE_TOKENS_MASK;
}

/* Take COST of the tokens out of the thread's purse, if it has that many.  False also if
 * somebody has emptied it: then it is the thread's no more. */
static inline bool purse_pay(const struct purses *purses, struct purse_own *own, uint64_t now_ns,
			     uint64_t cost)
{
	uint64_t word = own->word;

	if (cost > purse_tokens(word) || now_ns >= own->until_ns)
		return false;
	own->word = word - cost;
	if (__builtin_expect(atomic_cas_full(&purses->all[word >> PURSE_INDEX_SHIFT].word.first,
					     word, word - cost), 1))    /* E18 */
		return true;
	own->word = 0;
	return false;
}

/* Four purses in a row for a thread; false if the segment has none.  They may have been
 * given to others before. */
bool purses_assign(const struct purses *purses, uint32_t *first);

/* What a thread wants ahead. */
struct purse_wish {
	uint32_t index;                 /* of the purse to put it in */
	uint64_t tokens;
	uint64_t hold_ns;               /* for how long they should count, at least */
};

/* Charge the bucket of REF with COST for a request at NOW and with what WISH says, in one
 * compare-and-swap, and put the latter into the thread's purse.  *AFTER is the state then.
 * False, and nothing happened, if the bucket has not plenty, the purse is another thread's,
 * or anything changed meanwhile. */
bool purse_take(const struct segment *segment, struct purse_own *own,
		const struct purse_wish *wish, const struct bucket_ref *ref,
		const struct limit *limit, const struct bucket_request *request,
		struct bucket_state *after);

/* As bucket_apply() with BUCKET_REFUND or BUCKET_RESET, of a policy that leases: what
 * purses have of the bucket goes with it.  *RETURNED is how many tokens came back from
 * them.  A refund of 0 is good for that alone. */
enum bucket_result purses_give_back(const struct segment *segment, const struct bucket_ref *ref,
				    const struct limit *limit, const struct bucket_request *request,
				    uint64_t *returned);

/* The verdict on REQUEST, a look, if all that purses have of the bucket were in it: as far as
 * can be seen, while their threads pay. */
void purses_look(const struct segment *segment, const struct bucket_ref *ref,
		 const struct limit *limit, const struct bucket_request *request,
		 struct verdict *verdict);

/* The bucket at PLACE (slot index << 16 | generation), in SLOT, was read and is about to be
 * taken: what purses have of it goes with it.  False if that cannot be done now. */
bool purses_void(const struct purses *purses, struct slot *slot, uint64_t place);

#endif
