/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit.c - limits as people write them, and which of them a segment accepts.
 *
 *	limit     = count [ "/" period ] { word }
 *	period    = [ count ] unit
 *	unit      = "ns" | "us" | "ms" | "s" | "m" | "h" | "d"
 *	word      = algorithm | action | "burst" count
 *	algorithm = "token-bucket" | "sliding-window" | "fixed-window" | "concurrency"
 *	action    = "deny" | "flag"
 *
 * Words stand in any order, each kind at most once, with spaces or tabs between
 * them.  A count is decimal, without sign and without leading zeros (which
 * would be octal to some readers of YAML).
 *
 * Rates are compared as products of 128 bits: a quotient would round, and let
 * pass what is a hair too fast.
 */
#include "src/limit_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shm/error.h"
#include "src/names.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define NS_PER_SECOND 1000000000ull

/* Room for a value in a message; longer ones are cut. */
#define QUOTED_SIZE 80

/* Room for a period: 20 digits and a unit. */
#define PERIOD_SIZE 24

struct word {
	const char *text;
	size_t length;
};

/* From the longest to the shortest, as weir_limit_format() tries them. */
static const struct unit {
	const char *name;
	uint64_t length_ns;
} units[] = {
	{ "d", 86400 * NS_PER_SECOND },
	{ "h", 3600 * NS_PER_SECOND },
	{ "m", 60 * NS_PER_SECOND },
	{ "s", NS_PER_SECOND },
	{ "ms", 1000000 },
	{ "us", 1000 },
	{ "ns", 1 },
};

static bool word_is(const struct word *word, const char *text)
{
	return strlen(text) == word->length && memcmp(word->text, text, word->length) == 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* ---- Reading ----------------------------------------------------------- */

int weir_limit_text_count(const char *field, const char *text, size_t length, uint64_t *count,
			  struct weir_error *error)
{
	char quoted[QUOTED_SIZE];
	uint64_t value = 0;
	size_t digits = 0;

	while (digits < length && is_digit(text[digits]))
		digits++;
	if (digits == 0 || digits < length || (text[0] == '0' && length > 1))
		return weir_fail(error, WEIR_EINVAL,
				 "the %s \"%s\" is not a whole number; write decimal digits only, "
				 "without leading zeros, such as 100",
				 field, weir_quote(text, length, quoted, sizeof(quoted)));

	for (size_t i = 0; i < length; i++)
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
			return weir_fail(error, WEIR_EINVAL,
					 "the %s %s is too large; write at most %" PRIu64, field,
					 weir_quote(text, length, quoted, sizeof(quoted)),
					 UINT64_MAX);

	*count = value;
	return weir_ok(error);
}

int weir_limit_text_burst(const char *text, size_t length, uint64_t *burst,
			  struct weir_error *error)
{
	uint64_t value;
	int status = weir_limit_text_count("burst", text, length, &value, error);

	if (status < 0)
		return status;
	if (value == 0)
		return weir_fail(error, WEIR_EINVAL,
				 "the burst is 0 tokens; write at least 1, or leave it out to have "
				 "a burst as large as the limit");
	*burst = value;
	return weir_ok(error);
}

int weir_limit_text_period(const char *text, size_t length, uint64_t *period_ns,
			   struct weir_error *error)
{
	char quoted[QUOTED_SIZE];
	size_t digits = 0;
	uint64_t count = 1;
	struct word name;
	int status;

	while (digits < length && is_digit(text[digits]))
		digits++;
	if (digits > 0) {
		status = weir_limit_text_count("period's number", text, digits, &count, error);
		if (status < 0)
			return status;
	}

	name = (struct word){ text + digits, length - digits };
	for (size_t i = 0; i < LENGTH(units); i++) {
		if (!word_is(&name, units[i].name))
			continue;
		if (__builtin_mul_overflow(count, units[i].length_ns, &count))
			return weir_fail(error, WEIR_EINVAL,
					 "the period %s is too long; write at most 365d",
					 weir_quote(text, length, quoted, sizeof(quoted)));
		*period_ns = count;
		return weir_ok(error);
	}
	return weir_fail(error, WEIR_EINVAL,
			 "the period \"%s\" has no known unit; write a whole number and ms, s, m, "
			 "h or d, such as 1m",
			 weir_quote(text, length, quoted, sizeof(quoted)));
}

static bool next_word(const char **at, struct word *word)
{
	*at += strspn(*at, " \t");
	word->text = *at;
	word->length = strcspn(*at, " \t");
	*at += word->length;
	return word->length > 0;
}

/* "100/1m", or "5" where no period is due. */
static int read_rate(const struct word *word, struct weir_limit *limit, struct weir_error *error)
{
	const char *slash = memchr(word->text, '/', word->length);
	size_t count_length = slash ? (size_t)(slash - word->text) : word->length;
	int status = weir_limit_text_count("limit", word->text, count_length, &limit->limit, error);

	if (status < 0 || !slash)
		return status;
	status = weir_limit_text_period(slash + 1, word->length - count_length - 1,
					&limit->period_ns, error);
	if (status == WEIR_OK && limit->period_ns == 0)
		return weir_fail(error, WEIR_EINVAL,
				 "the period is 0; give 1ms to 365d, or leave \"/\" and it out of a "
				 "limit of concurrency");
	return status;
}

struct words_seen {
	bool algorithm;
	bool action;
	bool burst;
};

static int read_word(const struct word *word, const char **at, struct words_seen *seen,
		     struct weir_limit *limit, struct weir_error *error)
{
	char quoted[QUOTED_SIZE];
	struct word number;
	bool *kind;

	if (weir_algorithm_find(word->text, word->length, &limit->algorithm)) {
		kind = &seen->algorithm;
	} else if (weir_action_find(word->text, word->length, &limit->action)) {
		kind = &seen->action;
	} else if (word_is(word, "burst")) {
		int status;

		kind = &seen->burst;
		if (!next_word(at, &number))
			return weir_fail(error, WEIR_EINVAL,
					 "no number follows \"burst\"; write \"burst 20\"");
		status = weir_limit_text_burst(number.text, number.length, &limit->burst, error);
		if (status < 0)
			return status;
	} else {
		return weir_fail(error, WEIR_EINVAL,
				 "\"%s\" is not known here; write \"burst N\", token-bucket, "
				 "sliding-window, fixed-window, concurrency, deny or flag",
				 weir_quote(word->text, word->length, quoted, sizeof(quoted)));
	}

	if (*kind)
		return weir_fail(error, WEIR_EINVAL, "\"%s\" %s; keep one",
				 weir_quote(word->text, word->length, quoted, sizeof(quoted)),
				 kind == &seen->algorithm ? "is a second algorithm" :
				 kind == &seen->action ? "is a second action" :
				 "stands there twice");
	*kind = true;
	return weir_ok(error);
}

static int read_limit(const char *text, struct weir_limit *limit, struct weir_error *error)
{
	struct words_seen seen = { false };
	struct word word;
	int status;

	if (!next_word(&text, &word))
		return weir_fail(error, WEIR_EINVAL,
				 "it is empty; write a limit such as \"100/1m\"");

	status = read_rate(&word, limit, error);
	while (status == WEIR_OK && next_word(&text, &word))
		status = read_word(&word, &text, &seen, limit, error);
	if (status < 0)
		return status;

	if (limit->period_ns == 0 && limit->algorithm != WEIR_CONCURRENCY &&
	    limit->limit != 0)
		return weir_fail(error, WEIR_EINVAL,
				 "it has no period; write \"%" PRIu64 "/1m\" for so many a minute, "
				 "or \"%" PRIu64 " concurrency\" for so many at once",
				 limit->limit, limit->limit);

	/* "100/1m burst 100" says no more than "100/1m". */
	if (limit->burst == limit->limit)
		limit->burst = 0;
	return weir_limit_check(limit, error);
}

int weir_limit_parse(const char *text, struct weir_limit *limit, struct weir_error *error)
{
	struct weir_limit parsed = { .algorithm = WEIR_TOKEN_BUCKET };
	struct weir_error reason;
	char quoted[QUOTED_SIZE];

	if (!text || !limit)
		return weir_fail(error, WEIR_EINVAL,
				 "weir_limit_parse: the %s is NULL; pass a text and a limit",
				 text ? "limit" : "text");
	if (read_limit(text, &parsed, &reason) < 0)
		return weir_fail(error, WEIR_EINVAL, "limit \"%s\": %s",
				 weir_quote(text, strlen(text), quoted, sizeof(quoted)),
				 reason.message);
	*limit = parsed;
	return weir_ok(error);
}

/* ---- Writing ----------------------------------------------------------- */

static const char *write_period(uint64_t period_ns, char *text)
{
	const struct unit *unit = units;

	if (period_ns == 0)
		return "0s";
	while (period_ns % unit->length_ns != 0)
		unit++;         /* ends at "ns", which divides everything */
	snprintf(text, PERIOD_SIZE, "%" PRIu64 "%s", period_ns / unit->length_ns, unit->name);
	return text;
}

int weir_limit_format(const struct weir_limit *limit, char *text, size_t size)
{
	bool concurrency = limit->algorithm == WEIR_CONCURRENCY;
	bool burst = limit->burst != 0 && limit->burst != limit->limit;
	char period_text[PERIOD_SIZE];
	char period[PERIOD_SIZE + 1] = "";
	char burst_text[32] = "";

	/* What does not belong to a limit is shown all the same: it is in a message
	 * that says so. */
	if (!concurrency || limit->period_ns != 0)
		snprintf(period, sizeof(period), "/%s",
			 write_period(limit->period_ns, period_text));
	if (burst)
		snprintf(burst_text, sizeof(burst_text), " burst %" PRIu64, limit->burst);

	return snprintf(text, size, "%" PRIu64 "%s%s%s%s%s%s", limit->limit, period,
			limit->algorithm == WEIR_TOKEN_BUCKET ? "" : " ",
			limit->algorithm == WEIR_TOKEN_BUCKET ?
				"" : weir_algorithm_name(limit->algorithm),
			burst_text,
			limit->action == WEIR_ACTION_DENY ? "" : " ",
			limit->action == WEIR_ACTION_DENY ? "" : weir_action_name(limit->action));
}

/* ---- Checking ---------------------------------------------------------- */

static int check_period(const struct weir_limit *limit, struct weir_error *error)
{
	char period[PERIOD_SIZE];

	if (limit->algorithm == WEIR_CONCURRENCY) {
		if (limit->period_ns != 0)
			return weir_fail(error, WEIR_EINVAL,
					 "a concurrency limit has no period (%s); leave it out",
					 write_period(limit->period_ns, period));
		return weir_ok(error);
	}
	if (limit->period_ns < WEIR_PERIOD_MIN_NS || limit->period_ns > WEIR_PERIOD_MAX_NS)
		return weir_fail(error, WEIR_EINVAL, "the period %s is too %s; give 1ms to 365d",
				 write_period(limit->period_ns, period),
				 limit->period_ns < WEIR_PERIOD_MIN_NS ? "short" : "long");
	return weir_ok(error);
}

/* limit / period <= WEIR_RATE_MAX per second, without a division. */
static int check_rate(const struct weir_limit *limit, struct weir_error *error)
{
	unsigned __int128 tokens = (unsigned __int128)limit->limit * NS_PER_SECOND;
	unsigned __int128 most = (unsigned __int128)WEIR_RATE_MAX * limit->period_ns;
	char period[PERIOD_SIZE];

	if (tokens <= most)
		return weir_ok(error);
	return weir_fail(error, WEIR_EINVAL,
			 "%" PRIu64 " per %s is more than %llu tokens per second; lower the limit "
			 "to at most %" PRIu64 " or lengthen the period",
			 limit->limit, write_period(limit->period_ns, period), WEIR_RATE_MAX,
			 (uint64_t)(most / NS_PER_SECOND));
}

/* burst x period / limit <= WEIR_DEBT_MAX_NS: how long an empty bucket takes to
 * fill.  The period is at most that, so a burst of the limit always passes. */
static int check_burst(const struct weir_limit *limit, struct weir_error *error)
{
	unsigned __int128 debt = (unsigned __int128)limit->burst * limit->period_ns;
	unsigned __int128 most = (unsigned __int128)WEIR_DEBT_MAX_NS * limit->limit;

	if (limit->burst == 0 || limit->burst == limit->limit)
		return weir_ok(error);
	if (limit->algorithm != WEIR_TOKEN_BUCKET)
		return weir_fail(error, WEIR_EINVAL,
				 "a %s limit has no burst (%" PRIu64 "); leave it out, or use "
				 "token-bucket",
				 weir_algorithm_name(limit->algorithm), limit->burst);
	if (debt <= most)
		return weir_ok(error);
	return weir_fail(error, WEIR_EINVAL,
			 "a burst of %" PRIu64 " takes more than 400 days to come back at this "
			 "rate; lower it to at most %" PRIu64,
			 limit->burst, (uint64_t)(most / limit->period_ns));
}

int weir_limit_check(const struct weir_limit *limit, struct weir_error *error)
{
	unsigned algorithm = (unsigned)limit->algorithm;
	unsigned action = (unsigned)limit->action;
	int status;

	if (algorithm > WEIR_CONCURRENCY)
		return weir_fail(error, WEIR_EINVAL,
				 "algorithm %u does not exist; use one of enum weir_algorithm, 0 "
				 "to %u", algorithm, (unsigned)WEIR_CONCURRENCY);
	if (action > WEIR_ACTION_FLAG)
		return weir_fail(error, WEIR_EINVAL,
				 "action %u does not exist; use one of enum weir_action, 0 to %u",
				 action, (unsigned)WEIR_ACTION_FLAG);
	if (limit->limit == 0)
		return weir_fail(error, WEIR_EINVAL, "the limit is 0 tokens; give at least 1");
	if (action == WEIR_ACTION_FLAG && algorithm != WEIR_SLIDING_WINDOW)
		return weir_fail(error, WEIR_EINVAL,
				 "a %s limit cannot flag; use sliding-window, or the action deny",
				 weir_algorithm_name(limit->algorithm));

	status = check_period(limit, error);
	if (status == WEIR_OK && algorithm != WEIR_CONCURRENCY)
		status = check_rate(limit, error);
	if (status == WEIR_OK)
		status = check_burst(limit, error);
	if (status < 0)
		return status;

	/* A token bucket counts what it consumed modulo 2^44 and remembers a time;
	 * the others remember the count itself. */
	if (algorithm != WEIR_TOKEN_BUCKET && limit->limit > WEIR_COUNT_MAX)
		return weir_fail(error, WEIR_EINVAL,
				 "the limit %" PRIu64 " is more than a %s limit can count; give at "
				 "most %llu%s",
				 limit->limit, weir_algorithm_name(limit->algorithm),
				 WEIR_COUNT_MAX,
				 algorithm == WEIR_CONCURRENCY ? "" : ", or use token-bucket");
	return weir_ok(error);
}

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
	       (c != '\0' && strchr("._:/-", c));
}

/* WHAT is "the policy's name", or another of up to MAX bytes. */
static int check_name(const char *what, const char *name, size_t length, size_t max,
		      struct weir_error *error)
{
	char quoted[QUOTED_SIZE];

	weir_quote(name, length, quoted, sizeof(quoted));
	if (length == 0)
		return weir_fail(error, WEIR_EINVAL, "%s is empty; give 1 to %zu characters", what,
				 max);
	if (length > max)
		return weir_fail(error, WEIR_EINVAL, "%s \"%s\" is %zu bytes long; give at most %zu",
				 what, quoted, length, max);
	for (size_t i = 0; i < length; i++) {
		char byte[8];

		if (!is_name_byte(name[i]))
			return weir_fail(error, WEIR_EINVAL,
					 "%s \"%s\" has \"%s\" in it; use letters, digits and . _ : "
					 "/ - only", what, quoted,
					 weir_quote(name + i, 1, byte, sizeof(byte)));
	}
	return weir_ok(error);
}

int weir_policy_name_check(const char *name, size_t length, struct weir_error *error)
{
	return check_name("the policy's name", name, length, WEIR_NAME_MAX, error);
}

int weir_policy_buckets_check(const char *name, size_t length, struct weir_error *error)
{
	return check_name("the name of the policy's buckets", name, length, WEIR_BUCKETS_MAX, error);
}

/* A bool that holds neither 0 nor 1 must not be read as one. */
static int check_bool(const struct weir_policy *policy, const char *name, const bool *value,
		      struct weir_error *error)
{
	unsigned char byte;

	memcpy(&byte, value, sizeof(byte));
	if (byte > 1)
		return weir_fail(error, WEIR_EINVAL,
				 "policy \"%s\": %s is neither false nor true (%u); clear the "
				 "struct before filling it in", policy->name, name, byte);
	return WEIR_OK;
}

/* What a thread takes ahead is tokens of one bucket of this host. */
static int check_lease(const struct weir_policy *policy, struct weir_error *error)
{
	const char *wrong = NULL;

	if (!policy->lease)
		return WEIR_OK;
	if (policy->consistency != WEIR_LOCAL)
		wrong = "it takes consistency local";
	else if (policy->shadow)
		wrong = "it takes a policy that is not in shadow";
	else if (policy->limit_count != 1 || policy->limits[0].algorithm != WEIR_TOKEN_BUCKET)
		wrong = "it takes one limit, a token bucket";
	if (wrong)
		return weir_fail(error, WEIR_EINVAL,
				 "policy \"%s\" cannot lease: %s; change that, or leave lease out",
				 policy->name, wrong);
	return WEIR_OK;
}

static int check_policy_modes(const struct weir_policy *policy, struct weir_error *error)
{
	unsigned fail_mode = (unsigned)policy->fail_mode;
	unsigned consistency = (unsigned)policy->consistency;
	int status;

	if (fail_mode > WEIR_FAIL_CLOSED)
		return weir_fail(error, WEIR_EINVAL,
				 "policy \"%s\": fail mode %u does not exist; use one of enum "
				 "weir_fail_mode, 0 to %u",
				 policy->name, fail_mode, (unsigned)WEIR_FAIL_CLOSED);
	if (consistency > WEIR_STRICT)
		return weir_fail(error, WEIR_EINVAL,
				 "policy \"%s\": consistency %u does not exist; use one of enum "
				 "weir_consistency, 0 to %u",
				 policy->name, consistency, (unsigned)WEIR_STRICT);

	for (uint32_t i = 0; consistency == WEIR_STRICT && i < policy->limit_count; i++) {
		if (policy->limits[i].algorithm != WEIR_TOKEN_BUCKET)
			return weir_fail(error, WEIR_EINVAL,
					 "policy \"%s\": limit %u is of algorithm %s, and mode "
					 "strict is for token buckets alone; use bounded, or another "
					 "algorithm",
					 policy->name, i,
					 weir_algorithm_name(policy->limits[i].algorithm));
	}

	/* What other hosts are told of a token bucket is tokens at its policy's rate. */
	for (uint32_t i = 0; policy->buckets[0] && i < policy->limit_count; i++) {
		if (policy->limits[i].algorithm == WEIR_TOKEN_BUCKET)
			return weir_fail(error, WEIR_EINVAL,
					 "policy \"%s\": limit %u is a token bucket, whose tokens "
					 "mean another time with another rate: it cannot share the "
					 "buckets \"%.*s\"; use windows, or leave buckets out",
					 policy->name, i, (int)WEIR_BUCKETS_MAX, policy->buckets);
	}

	status = check_bool(policy, "shadow", &policy->shadow, error);
	if (status == WEIR_OK)
		status = check_bool(policy, "lease", &policy->lease, error);
	if (status == WEIR_OK)
		status = check_lease(policy, error);
	return status == WEIR_OK ? weir_ok(error) : status;
}

int weir_policy_check(const struct weir_policy *policy, struct weir_error *error)
{
	struct weir_error reason;
	int status;

	status = weir_policy_name_check(policy->name, strnlen(policy->name, sizeof(policy->name)),
					error);
	if (status == WEIR_OK && policy->buckets[0] != '\0')
		status = weir_policy_buckets_check(
			policy->buckets, strnlen(policy->buckets, sizeof(policy->buckets)), error);
	if (status < 0)
		return status;
	if (policy->limit_count < 1 || policy->limit_count > WEIR_LIMITS_MAX)
		return weir_fail(error, WEIR_EINVAL, "policy \"%s\" has %u limits; give 1 to %u",
				 policy->name, policy->limit_count, WEIR_LIMITS_MAX);

	for (uint32_t i = 0; i < policy->limit_count; i++) {
		char text[96];

		if (weir_limit_check(&policy->limits[i], &reason) == WEIR_OK)
			continue;
		weir_limit_format(&policy->limits[i], text, sizeof(text));
		return weir_fail(error, WEIR_EINVAL, "policy \"%s\", limit %u (%s): %s",
				 policy->name, i + 1, text, reason.message);
	}
	return check_policy_modes(policy, error);
}
