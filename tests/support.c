/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/suite.h"
#include "tests/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Running ----------------------------------------------------------- */

static char directory[64];

static void directory_remove(void)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;

	while (stream && (entry = readdir(stream)))
		unlinkat(dirfd(stream), entry->d_name, 0);
	if (stream)
		closedir(stream);
	rmdir(directory);
}

/* A process that removes the directory when this one and its children are gone,
 * however they end.  *ALIVE is what it watches; it leaves when that is closed. */
static pid_t start_janitor(int *alive)
{
	int ends[2];
	pid_t janitor;
	char byte;

	must(pipe(ends) == 0);
	janitor = fork();
	must(janitor >= 0);
	if (janitor == 0) {
		setsid();       /* what ends the tests must not end it */
		close(ends[1]);
		while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
			continue;
		directory_remove();
		_exit(EXIT_SUCCESS);
	}
	close(ends[0]);
	*alive = ends[1];
	return janitor;
}

int support_main(Suite *suite)
{
	int result, alive;
	pid_t janitor;

	snprintf(directory, sizeof(directory), "/dev/shm/weir-test-XXXXXX");
	if (!mkdtemp(directory)) {
		fprintf(stderr, "cannot make %s: %s\n", directory, strerror(errno));
		return EXIT_FAILURE;
	}
	janitor = start_janitor(&alive);
	result = suite_run(suite);
	close(alive);
	waitpid(janitor, NULL, 0);
	return result;
}

void support_add(Suite *suite, const char *name, const TTest *test, double seconds)
{
	TCase *test_case = tcase_create(name);

	tcase_set_timeout(test_case, seconds);
	tcase_add_test(test_case, test);
	suite_add_tcase(suite, test_case);
}

uint64_t support_amount(uint64_t short_form, uint64_t long_form)
{
	const char *soak = getenv("WEIR_SOAK");

	return soak && soak[0] == '1' ? long_form : short_form;
}

/* ---- Random numbers ---------------------------------------------------- */

uint64_t support_seed(void)
{
	const char *given = getenv("WEIR_TEST_SEED");
	uint64_t seed;

	if (given)
		seed = strtoull(given, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t)getpid();
	printf("WEIR_TEST_SEED=%" PRIu64 "\n", seed);
	fflush(stdout);
	return seed;
}

/* SplitMix64. */
uint64_t random_next(struct random_state *random)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

struct random_state random_start(uint64_t seed, uint64_t stream)
{
	struct random_state random = { seed ^ stream * 0xd1342543de82ef95 };

	random.state = random_next(&random);
	return random;
}

uint64_t random_below(struct random_state *random, uint64_t bound)
{
	return (uint64_t)((unsigned __int128)random_next(random) * bound >> 64);
}

/* ---- Segments ---------------------------------------------------------- */

void support_options(struct weir_options *options)
{
	weir_options_init(options);
	options->slots = 1024;
	options->policies = 16;
	options->holds = 256;
}

struct weir *support_named(const struct weir_options *options, const char *word, char *name,
			   size_t size)
{
	struct weir_error error;
	struct weir *weir;

	snprintf(name, size, "%s/%s-%d", directory, word, (int)getpid());
	if (weir_create(name, options, &error) != WEIR_OK)
		ck_abort_msg("%s", error.message);
	if (weir_open(name, &weir, &error) != WEIR_OK)
		ck_abort_msg("%s", error.message);
	return weir;
}

struct weir *support_segment(const struct weir_options *options)
{
	char name[128];
	struct weir *weir = support_named(options, "segment", name, sizeof(name));

	ck_assert_int_eq(weir_remove(name, NULL), WEIR_OK);
	return weir;
}

struct weir_policy support_policy(const char *name, ...)
{
	struct weir_policy policy = { .fail_mode = WEIR_FAIL_SHARE };
	struct weir_error error;
	const char *text;
	va_list limits;

	snprintf(policy.name, sizeof(policy.name), "%s", name);
	va_start(limits, name);
	while ((text = va_arg(limits, const char *))) {
		ck_assert_uint_lt(policy.limit_count, WEIR_LIMITS_MAX);
		if (weir_limit_parse(text, &policy.limits[policy.limit_count++], &error))
			ck_abort_msg("%s", error.message);
	}
	va_end(limits);
	return policy;
}

weir_policy_id support_define(struct weir *weir, const struct weir_policy *policy)
{
	struct weir_error error;
	weir_policy_id id;

	if (weir_policy_set(weir, policy, 1, &error) != WEIR_OK)
		ck_abort_msg("%s", error.message);
	id = weir_policy_find(weir, policy->name);
	ck_assert(id != WEIR_NO_POLICY);
	return id;
}

uint64_t support_counter(const struct weir *weir, const char *name, const char *policy)
{
	const struct weir_counter *counter;

	for (unsigned i = 0; (counter = weir_counter(i)); i++) {
		if (strcmp(counter->name, name) == 0)
			return weir_counter_read(weir, i, policy);
	}
	ck_abort_msg("no counter \"%s\"", name);
	return 0;
}

struct search {
	const char *policy;
	uint32_t limit_index;
	const void *key;
	size_t key_length;
	struct weir_bucket *bucket;
	unsigned found;
};

static bool visit(const struct weir_bucket *bucket, void *context)
{
	struct search *search = context;

	if (strcmp(bucket->policy, search->policy) == 0 &&
	    bucket->limit_index == search->limit_index &&
	    bucket->key_length == search->key_length &&
	    memcmp(bucket->key, search->key, bucket->key_stored) == 0) {
		*search->bucket = *bucket;
		search->found++;
	}
	return true;
}

bool support_bucket(const struct weir *weir, const char *policy, uint32_t limit_index,
		    const void *key, size_t key_length, uint64_t now_ns,
		    struct weir_bucket *bucket)
{
	struct search search = { policy, limit_index, key, key_length, bucket, 0 };

	weir_each_bucket(weir, now_ns, visit, &search);
	ck_assert_uint_le(search.found, 1);     /* one key, one bucket */
	return search.found == 1;
}

/* ---- Processes --------------------------------------------------------- */

void *support_shared(size_t size_bytes)
{
	void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(memory, MAP_FAILED);
	return memory;
}

pid_t support_fork(void)
{
	pid_t parent = getpid(), worker = fork();

	must(worker >= 0);
	if (worker == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(EXIT_FAILURE);
	}
	return worker;
}

void support_join(pid_t worker)
{
	int status;

	must(waitpid(worker, &status, 0) == worker);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "worker %d: %s %d\n", (int)worker,
			WIFEXITED(status) ? "exit status" : "signal",
			WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		abort();
	}
}
