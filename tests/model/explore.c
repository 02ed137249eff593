/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explore.c - every interleaving, as a search through states.
 *
 * What.  A depth-first search.  A state is the scenario's regions and each
 * thread's stack in use, registers included.  From each state each thread makes
 * one access; a state that was seen before is not entered again, so that the work
 * grows with the number of states and not with that of schedules.
 *
 * Invariant.  The images of a frame are what memory held when its state was
 * reached.  An image that did not change is shared with the frame below.
 *
 * A thread that stops for ever at some access is one that the search no longer
 * chooses: all states with it standing there are visited anyway.  A death that
 * others can find out about (model_killed) is an action of its own.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/coroutine.h"
#include "tests/model/schedule.h"
#include "tests/model/states.h"

#define IMAGES (MODEL_THREADS_MAX + 1)          /* the regions, then each thread */
#define DEPTH_MAX 16384u
#define POOL_SIZE (192u << 20)

struct image {
	struct digest digest;
	struct coroutine coroutine;             /* of a thread */
	size_t size;
	unsigned char bytes[];
};

struct frame {
	const struct image *images[IMAGES];
	size_t pool_used;                       /* before this frame's images */
	uint32_t state;
	unsigned next;                          /* the action to try next */
};

static const struct model_scenario *scenario;
static struct model_region regions[MODEL_REGIONS_MAX];
static unsigned region_count;
static size_t regions_size;

static struct frame frames[DEPTH_MAX];
static unsigned depth;
static unsigned char *pool;
static size_t pool_used;
static const struct image *in_memory[IMAGES];   /* NULL: changed since */
static const struct image *before;              /* the regions before the access */
static char violation[512];

/* ---- What scenarios call ------------------------------------------------ */

void model_region(const char *name, void *memory, size_t size)
{
	if (region_count == MODEL_REGIONS_MAX || size % 8 != 0) {
		fprintf(stderr, "model: region %s does not fit (%zu bytes)\n", name, size);
		abort();
	}
	regions[region_count++] = (struct model_region){ name, memory, size, regions_size };
	regions_size += size;
}

const void *model_before(const void *memory)
{
	for (unsigned i = 0; i < region_count; i++) {
		size_t at = (size_t)((const unsigned char *)memory - regions[i].memory);

		if (at < regions[i].size)
			return before->bytes + regions[i].offset + at;
	}
	fprintf(stderr, "model: %p is in no region\n", memory);
	abort();
}

void model_violation(const char *format, ...)
{
	va_list arguments;

	if (violation[0])
		return;
	va_start(arguments, format);
	vsnprintf(violation, sizeof(violation), format, arguments);
	va_end(arguments);
}

bool model_killed(unsigned thread)
{
	return coroutines[thread].status == COROUTINE_KILLED;
}

/* ---- Images ------------------------------------------------------------- */

static struct image *image_new(size_t size)
{
	struct image *image = (struct image *)(pool + pool_used);

	pool_used += (sizeof(*image) + size + 15) & ~(size_t)15;
	if (pool_used > POOL_SIZE) {
		fprintf(stderr, "model: %s is too deep; raise POOL_SIZE\n", scenario->name);
		exit(2);
	}
	image->size = size;
	return image;
}

static const struct image *save_regions(const struct image *old)
{
	bool same = old != NULL;
	struct image *image;

	for (unsigned i = 0; i < region_count && same; i++)
		same = memcmp(old->bytes + regions[i].offset, regions[i].memory,
			      regions[i].size) == 0;
	if (same)
		return old;
	image = image_new(regions_size);
	for (unsigned i = 0; i < region_count; i++)
		memcpy(image->bytes + regions[i].offset, regions[i].memory, regions[i].size);
	image->digest = digest_of(image->bytes, image->size, 0);
	return image;
}

static const struct image *save_thread(unsigned thread)
{
	size_t size;
	const void *stack = coroutine_stack(thread, &size);
	struct image *image = image_new(size);

	image->coroutine = coroutines[thread];
	memcpy(image->bytes, stack, size);
	/* The stack pointer follows from the size; the status has to be told. */
	image->digest = digest_of(image->bytes, size,
				  (uint64_t)image->coroutine.status << 8 | (thread + 1));
	return image;
}

static void put_back(const struct frame *frame)
{
	if (in_memory[0] != frame->images[0]) {
		for (unsigned i = 0; i < region_count; i++)
			memcpy(regions[i].memory, frame->images[0]->bytes + regions[i].offset,
			       regions[i].size);
	}
	for (unsigned t = 0; t < scenario->threads; t++) {
		const struct image *image = frame->images[t + 1];

		if (in_memory[t + 1] != image)
			coroutine_restore(t, &image->coroutine, image->bytes, image->size);
	}
	memcpy(in_memory, frame->images, sizeof(in_memory));
}

/* ---- Actions ------------------------------------------------------------ */

/* Action T: thread T makes its access.  Action threads + T: thread T dies. */
static bool is_possible(unsigned action)
{
	unsigned thread = action % scenario->threads;

	return coroutines[thread].status == COROUTINE_READY &&
	       (action < scenario->threads || (scenario->killable >> thread & 1));
}

static void act(unsigned action)
{
	unsigned thread = action % scenario->threads;

	if (action < scenario->threads) {
		coroutine_run(thread);
	} else {
		coroutines[thread].status = COROUTINE_KILLED;
		coroutines[thread].where = NULL;
		coroutines[thread].stack_pointer = NULL;
	}
	if (scenario->moved)
		scenario->moved(thread);
}

static void judge_end(void)
{
	unsigned unfinished = 0;

	for (unsigned t = 0; t < scenario->threads; t++) {
		if (coroutines[t].status != COROUTINE_FINISHED)
			unfinished |= 1u << t;
	}
	if (!scenario->ended || (unfinished & ~(scenario->mortal | scenario->killable)))
		return;
	scenario->ended(unfinished);
	in_memory[0] = NULL;    /* it may have gone on, with reaping say */
}

static void begin(void)
{
	region_count = 0;
	regions_size = 0;
	violation[0] = '\0';
	memset(coroutines, 0, sizeof(coroutines));
	scenario->setup();
	for (unsigned t = 0; t < scenario->threads; t++)
		coroutine_start(t, scenario->body);
}

/* ---- The search --------------------------------------------------------- */

/* Enter the state that is in memory if it is new.  Returns its number. */
static uint32_t enter(struct states *states, const struct frame *parent, unsigned action)
{
	struct frame *frame = &frames[depth];
	struct digest digest = { { 0, 0 } };
	uint32_t state;
	bool added;

	frame->pool_used = pool_used;
	for (unsigned i = 0; i <= scenario->threads; i++) {
		if (i == 0)
			frame->images[i] = save_regions(parent ? parent->images[0] : NULL);
		else if (parent && i - 1 != action % scenario->threads)
			frame->images[i] = parent->images[i];
		else
			frame->images[i] = save_thread(i - 1);
		digest.words[0] += frame->images[i]->digest.words[0];
		digest.words[1] += frame->images[i]->digest.words[1];
	}
	state = states_add(states, digest, &added);
	if (!added) {
		pool_used = frame->pool_used;
		memset(in_memory, 0, sizeof(in_memory));
		return state;
	}
	memcpy(in_memory, frame->images, sizeof(in_memory));
	frame->state = state;
	frame->next = 0;
	states->all[state].from = parent ? parent->state : NO_STATE;
	states->all[state].action = (uint8_t)action;
	if (++depth == DEPTH_MAX) {
		fprintf(stderr, "model: a schedule of %s has %u steps; raise DEPTH_MAX\n",
			scenario->name, depth);
		exit(2);
	}
	return state;
}

/* Returns false at the first violation; *last is then the state before it and
 * *action what led into it. */
static bool search(struct states *states, struct model_result *result, uint32_t *last,
		   unsigned *action)
{
	enter(states, NULL, 0);
	while (depth > 0) {
		struct frame *frame = &frames[depth - 1];
		uint32_t next, known = states->count;

		if (frame->next == 2 * scenario->threads) {
			pool_used = frame->pool_used;
			depth--;
			continue;
		}
		put_back(frame);
		*action = frame->next++;
		if (!is_possible(*action))
			continue;
		before = frame->images[0];
		act(*action);
		result->steps++;
		next = enter(states, frame, *action);
		if (states->count > known)
			judge_end();
		*last = frame->state;
		if (violation[0])
			return false;
		if (*action < scenario->threads)
			states->all[frame->state].after[*action] = next;
	}
	return true;
}

/* Start again and go the same way, showing each step. */
static void replay(const struct states *states, uint32_t last, const unsigned *more, unsigned count)
{
	unsigned actions[DEPTH_MAX];
	unsigned length = 0;
	char message[sizeof(violation)];

	for (uint32_t state = last; states->all[state].from != NO_STATE;
	     state = states->all[state].from)
		actions[length++] = states->all[state].action;
	for (unsigned i = 0; i < length / 2; i++) {
		unsigned swap = actions[i];

		actions[i] = actions[length - 1 - i];
		actions[length - 1 - i] = swap;
	}
	for (unsigned i = 0; i < count && length < DEPTH_MAX; i++)
		actions[length++] = more[i];

	memcpy(message, violation, sizeof(message));
	begin();
	for (unsigned i = 0; i < length; i++) {
		const void *where = coroutines[actions[i] % scenario->threads].where;

		before = save_regions(NULL);
		act(actions[i]);
		schedule_print(i, actions[i] % scenario->threads, actions[i] >= scenario->threads,
			       where, regions, region_count, before->bytes);
		pool_used = 0;
	}
	memcpy(violation, message, sizeof(message));
}

static void check_progress(struct states *states, struct model_result *result, uint32_t *last,
			   unsigned *action)
{
	result->alone = states_longest_alone(states, scenario->threads, last, action);
	if (result->alone == UINT32_MAX)
		model_violation("thread %u alone never ends", *action);
	else if (result->alone > scenario->alone_max)
		model_violation("thread %u alone needs %u steps, more than %u", *action,
				result->alone, scenario->alone_max);
}

struct model_result model_explore(const struct model_scenario *chosen, bool quiet)
{
	struct model_result result = { .violated = false };
	struct states states;
	uint32_t last = 0;
	unsigned action = 0;

	scenario = chosen;
	if (!pool)
		pool = malloc(POOL_SIZE);
	if (!pool) {
		fprintf(stderr, "model: no memory for %u bytes of images\n", POOL_SIZE);
		exit(2);
	}
	depth = 0;
	pool_used = 0;
	states_init(&states);
	begin();
	if (search(&states, &result, &last, &action))
		check_progress(&states, &result, &last, &action);
	result.states = states.count;
	result.violated = violation[0] != '\0';
	if (result.violated && !quiet) {
		pool_used = 0;
		replay(&states, last, &action, 1);
		printf("%s: %s\n", scenario->name, violation);
	}
	states_free(&states);
	return result;
}
