/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trouble.c - what is wrong between this host and Redis.
 *
 * Who asks for the state of sync is seldom the process that leads.  So the leader keeps one
 * report in the segment: what is wrong in a word and in a sentence, of which shards, and
 * since when.  A new leader finds it: trouble that goes on has begun when it began.
 */
#include "sync/trouble.h"

#include <stdio.h>
#include <string.h>

#include "shm/counter.h"

void trouble_init(struct trouble *trouble, struct segment *segment)
{
	memset(trouble, 0, sizeof(*trouble));
	trouble->segment = segment;
	pthread_mutex_init(&trouble->mutex, NULL);
}

void trouble_end(struct trouble *trouble)
{
	pthread_mutex_destroy(&trouble->mutex);
}

static void set_text(struct trouble *trouble, const char *text)
{
	pthread_mutex_lock(&trouble->mutex);
	snprintf(trouble->text, sizeof(trouble->text), "%s", text);
	pthread_mutex_unlock(&trouble->mutex);
}

void trouble_is(struct trouble *trouble, enum redis_error kind, const char *text)
{
	counter_add_global(trouble->segment, COUNTER_SYNC_ERRORS, 1);
	trouble->kind = kind;
	set_text(trouble, text);
}

void trouble_tell(struct trouble *trouble, unsigned shards, uint64_t now_ns)
{
	struct report before, now;
	bool told = report_read(trouble->segment, REPORT_TROUBLE, &before);

	if (shards == 0) {
		if (trouble->text[0])
			set_text(trouble, "");
		if (told)
			report_write(trouble->segment, REPORT_TROUBLE, NULL);
		return;
	}
	if (!trouble->text[0])
		return;                 /* not known yet, as of a leader that begins */
	memset(&now, 0, sizeof(now));
	now.since_ns = told && before.since_ns <= now_ns ? before.since_ns : now_ns;
	now.shards = shards;
	snprintf(now.kind, sizeof(now.kind), "%s", redis_error_name(trouble->kind));
	snprintf(now.text, sizeof(now.text), "%s", trouble->text);
	if (!told || memcmp(&before, &now, sizeof(now)) != 0)
		report_write(trouble->segment, REPORT_TROUBLE, &now);
}

void trouble_copy(struct trouble *trouble, char *text, size_t size)
{
	pthread_mutex_lock(&trouble->mutex);
	snprintf(text, size, "%s", trouble->text);
	pthread_mutex_unlock(&trouble->mutex);
}
