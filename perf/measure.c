/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shm/huge_page.h"

void die(const char *what, const char *message)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, message);
	exit(2);
}

uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (end == text || *end || value < least || value > most) {
		fprintf(stderr, "%s: \"%s\" is not a number from %" PRIu64 " to %" PRIu64 "\n",
			program_invocation_short_name, text, least, most);
		exit(2);
	}
	return value;
}

/* ---- Clocks -------------------------------------------------------------- */

double ns_per_tick(void)
{
	uint64_t begin_ns = now_ns(), begin = ticks(), end_ns;

	while ((end_ns = now_ns()) - begin_ns < 50000000)
		;
	return (double)(end_ns - begin_ns) / (double)(ticks() - begin);
}

unsigned processors(void)
{
	return (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

void pin(unsigned processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

void pin_beside(unsigned processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned i = 0; i < processors(); i++) {
		if (i != processor)
			CPU_SET(i, &set);
	}
	if (CPU_COUNT(&set) > 0)
		sched_setaffinity(0, sizeof(set), &set);
}

/* ---- Times --------------------------------------------------------------- */

/* The least time of a cell. */
static uint64_t time_of(unsigned cell)
{
	unsigned exponent;

	if (cell < 2u << HISTOGRAM_FRACTION_BITS)
		return cell;
	exponent = (cell >> HISTOGRAM_FRACTION_BITS) - 1;
	return (uint64_t)(cell - (exponent << HISTOGRAM_FRACTION_BITS)) << exponent;
}

void histogram_add(struct histogram *sum, const struct histogram *one)
{
	for (unsigned i = 0; i < HISTOGRAM_CELLS; i++)
		sum->count[i] += one->count[i];
}

uint64_t histogram_total(const struct histogram *histogram)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < HISTOGRAM_CELLS; i++)
		total += histogram->count[i];
	return total;
}

uint64_t histogram_quantile(const struct histogram *histogram, uint64_t parts)
{
	uint64_t above = histogram_total(histogram) / parts, seen = 0;
	unsigned i = HISTOGRAM_CELLS;

	while (i > 0 && seen <= above)
		seen += histogram->count[--i];
	return time_of(i);
}

void histogram_print_json(const struct histogram *histogram)
{
	const char *separator = "";

	putchar('[');
	for (unsigned i = 0; i < HISTOGRAM_CELLS; i++) {
		if (histogram->count[i] == 0)
			continue;
		printf("%s[%" PRIu64 ", %" PRIu64 "]", separator, time_of(i), histogram->count[i]);
		separator = ", ";
	}
	putchar(']');
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(const double *values, unsigned count, double *least)
{
	double *sorted = malloc(count * sizeof(*sorted)), middle;

	if (!sorted)
		die("median", "no memory");
	memcpy(sorted, values, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), compare);
	if (least)
		*least = sorted[0];
	middle = sorted[count / 2];
	free(sorted);
	return middle;
}

/* ---- Keys ---------------------------------------------------------------- */

/* By inverting the integral of the density: exact but for the first few numbers. */
void zipf_fill(uint32_t *samples, size_t count, uint32_t n, uint64_t seed)
{
	const double rest = 1 - 0.99, whole = pow((double)n + 1, rest) - 1;

	for (size_t i = 0; i < count; i++) {
		double part = (double)(next_random(&seed) >> 11) * 0x1p-53;
		uint32_t sample = (uint32_t)(pow(1 + part * whole, 1 / rest) - 1);

		samples[i] = sample < n ? sample : n - 1;
	}
}

/* ---- Memory -------------------------------------------------------------- */

void *table_map(size_t size)
{
	int fd = memfd_create("table", MFD_CLOEXEC);
	void *base;

	if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
		die("memfd_create", strerror(errno));
	huge_page_fill(fd, size);
	if (posix_fallocate(fd, 0, (off_t)size) != 0)
		die("posix_fallocate", "no memory for a table");
	base = huge_page_map(fd, size);
	if (base == MAP_FAILED)
		die("mmap", strerror(errno));
	close(fd);
	return base;
}

void small_pages_only(void)
{
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0)
		die("prctl", "the kernel cannot do without huge pages");
}

/* ---- Segments ------------------------------------------------------------ */

struct weir *segment_open_new(const struct weir_options *options)
{
	static unsigned count;
	struct weir_error error;
	struct weir *weir;
	char name[64];

	snprintf(name, sizeof(name), "weir-perf-%ld-%u", (long)getpid(), count++);
	if (weir_create(name, options, &error))
		die(name, error.message);
	if (weir_open(name, &weir, &error)) {
		weir_remove(name, NULL);
		die(name, error.message);
	}
	weir_remove(name, NULL);
	return weir;
}

weir_policy_id policy_define(struct weir *weir, const char *name, const char *limit,
			     enum weir_fail_mode fail_mode)
{
	struct weir_policy policy = { .limit_count = 1, .fail_mode = fail_mode };
	struct weir_error error;

	snprintf(policy.name, sizeof(policy.name), "%s", name);
	if (weir_limit_parse(limit, &policy.limits[0], &error) ||
	    weir_policy_set(weir, &policy, 1, &error))
		die(limit, error.message);
	return weir_policy_find(weir, name);
}
