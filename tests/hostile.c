/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/hostile.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/hash.h"
#include "src/handle.h"
#include "tests/fuzz/fuzz.h"

#define GUARD 4096
#define BATCH 20
#define BUCKETS_MAX 100         /* more than there are: visiting must end by itself */

static const char *const names[HOSTILE_POLICIES] = { "bucket", "pair", "window", "door" };

static const char *const limits[HOSTILE_POLICIES][2] = {
	{ "7/3s burst 5", NULL },
	{ "100/1m burst 20", "10/1s sliding-window flag" },
	{ "5/1s fixed-window", NULL },
	{ "3 concurrency", "1000/1s" },
};

static const uint64_t costs[] = { 1, 0, 2, 3, 1000, WEIR_COUNT_MAX, UINT64_MAX, 1ull << 32 };

static const size_t key_lengths[] = { 16, 1, 5000, WEIR_KEY_MAX };

/* ---- Sane answers ------------------------------------------------------ */

static void must_be_sane(bool pass, const struct weir_decision *decision)
{
	must(decision->outcome <= WEIR_UNAVAILABLE);
	must(decision->reason <= WEIR_REASON_CLOSED);
	must(pass == (decision->outcome == WEIR_ALLOWED));
	must(decision->limit_index < WEIR_LIMITS_MAX);
}

static void must_be_policy(const struct weir_policy *policy)
{
	must(weir_policy_check(policy, NULL) == WEIR_OK);
}

static bool look_at(const struct weir_bucket *bucket, void *context)
{
	unsigned *seen = context;

	must(memchr(bucket->policy, '\0', sizeof(bucket->policy)));
	must(bucket->limit_index < WEIR_LIMITS_MAX);
	must(bucket->key_stored <= sizeof(bucket->key) && bucket->key_length <= WEIR_KEY_MAX);
	must(bucket->key_stored <= bucket->key_length);
	must(weir_algorithm_name(bucket->algorithm));
	must(++*seen < BUCKETS_MAX);
	return true;
}

static void read_finding(const char *finding, void *context)
{
	unsigned *findings = context;

	must(strlen(finding) > 0);
	++*findings;
}

/* ---- Operations -------------------------------------------------------- */

static void decide(struct hostile *hostile, const struct weir_request *request)
{
	struct weir *weir = hostile->weir;
	struct weir_request requests[BATCH];
	struct weir_decision decision, decisions[BATCH];
	struct weir_hold hold;

	must_be_sane(weir_decide(weir, request, &decision), &decision);
	must_be_sane(weir_status(weir, request, &decision), &decision);
	must_be_sane(weir_force_take(weir, request, &decision), &decision);
	must_be_sane(weir_refund(weir, request, &decision), &decision);
	if (weir_acquire(weir, request, &hold, &decision)) {
		must(hold.count <= WEIR_LIMITS_MAX);
		weir_release(weir, &hold);
	}
	must(weir_release(weir, &hold) == WEIR_EINVAL || hold.count == 0);
	must_be_sane(weir_reset(weir, request, &decision), &decision);

	for (size_t i = 0; i < BATCH; i++) {
		requests[i] = *request;
		requests[i].key_length = 1 + i % request->key_length;
		requests[i].policy = hostile->ids[i % HOSTILE_POLICIES];
	}
	must(weir_decide_batch(weir, requests, decisions, BATCH) <= BATCH);
	for (size_t i = 0; i < BATCH; i++)
		must_be_sane(decisions[i].outcome == WEIR_ALLOWED, &decisions[i]);
}

static void change_policies(struct hostile *hostile, const char *name)
{
	struct weir_policy policies[16];
	size_t count = weir_policy_list(hostile->weir, policies, 16);
	enum weir_fail_mode mode;

	must(count <= hostile->segment->policies);
	for (size_t i = 0; i < count && i < 16; i++)
		must_be_policy(&policies[i]);
	if (weir_policy_get(hostile->weir, name, &policies[0], NULL) == WEIR_OK) {
		must_be_policy(&policies[0]);
		weir_policy_set(hostile->weir, policies, 1, NULL);
	}
	weir_fail_mode_get(hostile->weir, name, &mode, NULL);
	weir_fail_mode_set(hostile->weir, name, WEIR_FAIL_CLOSED, NULL);
	weir_fail_mode_get(hostile->weir, name, &mode, NULL);
	weir_fail_mode_clear(hostile->weir, name, NULL);
	for (unsigned i = 0; weir_counter(i); i++)
		weir_counter_read(hostile->weir, i, i & 1 ? name : NULL);
}

/* Asks the kernel about each of thousands of participants. */
static void look_around(const struct hostile *hostile)
{
	struct weir_info info;
	unsigned findings = 0;

	weir_info(hostile->weir, &info);
	must(info.slots == hostile->segment->slots && info.size_bytes == hostile->segment->size);
	must(weir_check(hostile->weir, read_finding, &findings) == findings);
}

void hostile_operate(struct hostile *hostile, uint64_t choice)
{
	static const char key[WEIR_KEY_MAX] = "key";
	const uint64_t times[] = { 0, weir_now_ns(hostile->weir) + 1000000000, 1, 1ull << 63,
				   UINT64_MAX };
	unsigned which = choice % HOSTILE_POLICIES, seen = 0;
	struct weir_request request = {
		.policy = choice & 16 ? weir_policy_find(hostile->weir, names[which]) :
					hostile->ids[which],
		.key = key,
		.key_length = key_lengths[(choice >> 5) % 4],
		.cost = costs[(choice >> 8) % 8],
		.now_ns = choice & 1 << 11 ? times[(choice >> 12) % 5] : 0,
	};
	struct weir_hold hold = hostile->hold;

	weir_each_bucket(hostile->weir, 0, look_at, &seen);
	decide(hostile, &request);
	weir_release(hostile->weir, &hold);
	change_policies(hostile, names[which]);
	decide(hostile, &request);
	seen = 0;
	weir_each_bucket(hostile->weir, request.now_ns, look_at, &seen);
	if ((choice >> 15) % 32 == 0)
		look_around(hostile);
	if ((choice >> 20) % 4 == 0) {
		weir_policy_remove(hostile->weir, names[which], NULL);
		decide(hostile, &request);
	}
}

/* ---- The segment ------------------------------------------------------- */

static void define(struct hostile *hostile)
{
	for (int i = 0; i < HOSTILE_POLICIES; i++) {
		struct weir_policy policy = { .shadow = i == 2 };

		strcpy(policy.name, names[i]);
		for (int j = 0; j < 2 && limits[i][j]; j++)
			must(weir_limit_parse(limits[i][j], &policy.limits[policy.limit_count++],
					      NULL) == WEIR_OK);
		must(weir_policy_set(hostile->weir, &policy, 1, NULL) == WEIR_OK);
		hostile->ids[i] = weir_policy_find(hostile->weir, names[i]);
	}
}

/* Something in every region. */
static void populate(struct hostile *hostile)
{
	for (size_t i = 0; i < 3 * HOSTILE_POLICIES; i++) {
		struct weir_request request = {
			.policy = hostile->ids[i % HOSTILE_POLICIES],
			.key = "key and more",
			.key_length = 3 + i / HOSTILE_POLICIES,
			.cost = 1,
		};

		must(weir_acquire(hostile->weir, &request, &hostile->hold, NULL));
	}
}

/* Leave a hole of SIZE bytes between two pages that it is deadly to touch: the
 * kernel is likely to map there what is mapped next. */
static void guard(struct hostile *hostile, size_t size)
{
	unsigned char *place = mmap(NULL, size + 2 * GUARD, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(place != MAP_FAILED);
	munmap(place + GUARD, size);
	hostile->guards[0] = place;
	hostile->guards[1] = place + GUARD + size;
}

static void unguard(const struct hostile *hostile)
{
	munmap(hostile->guards[0], GUARD);
	munmap(hostile->guards[1], GUARD);
}

static void must_open(struct hostile *hostile)
{
	struct weir_error error;

	if (weir_open(hostile->name, &hostile->weir, &error) != WEIR_OK) {
		fprintf(stderr, "%s\n", error.message);
		exit(EXIT_FAILURE);
	}
	hostile->segment = hostile->weir->segment;
	hostile->bytes = (unsigned char *)hostile->segment->header;
	hostile->size = hostile->segment->size;
}

void hostile_start(struct hostile *hostile)
{
	struct weir_options options;

	memset(hostile, 0, sizeof(*hostile));
	snprintf(hostile->name, sizeof(hostile->name), "weir-hostile-%d", (int)getpid());
	weir_options_init(&options);
	options.slots = 16;
	options.key_bytes = 8;
	options.policies = 5;
	options.holds = 24;
	must(weir_create(hostile->name, &options, NULL) == WEIR_OK);
	must_open(hostile);
	/* Again, now that its size is known. */
	weir_close(hostile->weir);
	guard(hostile, hostile->size);
	must_open(hostile);
	weir_remove(hostile->name, NULL);
	define(hostile);
	populate(hostile);
	hostile->pristine = malloc(hostile->size);
	must(hostile->pristine);
	memcpy(hostile->pristine, hostile->bytes, hostile->size);
}

void hostile_restore(struct hostile *hostile)
{
	memcpy(hostile->bytes, hostile->pristine, hostile->size);
}

void hostile_end(struct hostile *hostile)
{
	unguard(hostile);
	weir_close(hostile->weir);
	free(hostile->pristine);
}

/* ---- Opening ----------------------------------------------------------- */

static void fix_header(unsigned char *bytes)
{
	static const uint64_t key[2] = { WEIR_MAGIC, WEIR_LAYOUT_VERSION };
	size_t covered = offsetof(struct segment_header, checksum);
	uint64_t checksum = hash_strong(key, bytes, covered).low;

	memcpy(bytes + covered, &checksum, sizeof(checksum));
}

static void write_file(const char *path, const unsigned char *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	must(fd >= 0);
	must(write(fd, bytes, size) == (ssize_t)size);
	close(fd);
}

void hostile_open(struct hostile *hostile, unsigned char *bytes, size_t size, int fix_checksum,
		  uint64_t choice)
{
	struct hostile opened = *hostile;
	struct weir_error error = { 0 };
	char path[128];
	int status;

	if (fix_checksum && size >= sizeof(struct segment_header))
		fix_header(bytes);
	must(segment_path(hostile->name, path, sizeof(path), NULL) == WEIR_OK);
	write_file(path, bytes, size);
	status = weir_open(hostile->name, &opened.weir, &error);
	unlink(path);
	must(status == error.status && (status == WEIR_OK) == (opened.weir != NULL));
	if (status != WEIR_OK) {
		must(status == WEIR_ECORRUPT || status == WEIR_EVERSION);
		must(strlen(error.message) > 0);
		return;
	}
	opened.segment = opened.weir->segment;
	must(opened.segment->size == size);
	hostile_operate(&opened, choice);
	weir_close(opened.weir);
}
