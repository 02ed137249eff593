/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/script_client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "sync/script.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "struct script_item is sent as it lies in memory"
#endif

#define GIGA UINT64_C(1000000000)
#define MAX_ARGUMENTS 16

static const char clock_line[] = "local clock = redis.call('TIME')\n";
static const char test_line[] =
	"local clock = {string.match(table.remove(ARGV), '^(%d+) (%d+)$')}\n";

#define must(condition, ...) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
			fprintf(stderr, __VA_ARGS__); \
			fputc('\n', stderr); \
			exit(EXIT_FAILURE); \
		} \
	} while (0)

/* ---- The script -------------------------------------------------------- */

static char *file_read(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = calloc(1, 1 << 16);
	size_t size;

	must(file, "cannot open WEIR_SYNC_LUA=%s: %s", path, strerror(errno));
	must(text, "no memory");
	size = fread(text, 1, (1 << 16) - 1, file);
	must(size > 0 && feof(file) && !ferror(file), "cannot read %s", path);
	fclose(file);
	return text;
}

/* The one line that asks for the time. */
static char *clock_replace(const char *text)
{
	const char *line = strstr(text, clock_line);
	char *replaced = NULL;

	must(line && !strstr(line + strlen(clock_line), "TIME'"), "the script has not one line: %s",
	     clock_line);
	must(asprintf(&replaced, "%.*s%s%s", (int)(line - text), text, test_line,
		      line + strlen(clock_line)) > 0, "no memory");
	return replaced;
}

void script_client_start(struct script_client *client, struct redisContext *context,
			 enum script_clock clock)
{
	const char *path = getenv("WEIR_SYNC_LUA");
	char *text = path ? file_read(path) : strdup(sync_script);
	redisReply *reply;

	must(text, "no memory");
	memset(client, 0, sizeof(*client));
	client->context = context;
	client->clock = clock;
	snprintf(client->shard, sizeof(client->shard), "%s", SCRIPT_SHARD);
	if (clock == SCRIPT_CLOCK_CALL) {
		char *replaced = clock_replace(text);

		free(text);
		text = replaced;
	}
	reply = redisCommand(context, "SCRIPT LOAD %s", text);
	must(reply, "SCRIPT LOAD: %s", context->errstr);
	must(reply->type == REDIS_REPLY_STRING && reply->len + 1 == sizeof(client->sha),
	     "SCRIPT LOAD: %s", reply->str);
	memcpy(client->sha, reply->str, sizeof(client->sha));
	freeReplyObject(reply);
	free(text);
}

/* ---- Replies ----------------------------------------------------------- */

/* To the call of TERM and SEQ, which it names. */
static void reply_parse(const redisReply *array, const char *term, const char *seq,
			struct script_reply *reply)
{
	static const int types[] = {
		REDIS_REPLY_INTEGER, REDIS_REPLY_STRING, REDIS_REPLY_INTEGER,
		REDIS_REPLY_INTEGER, REDIS_REPLY_INTEGER, REDIS_REPLY_STRING,
		REDIS_REPLY_STRING,  REDIS_REPLY_STRING, REDIS_REPLY_INTEGER,
		REDIS_REPLY_INTEGER,
	};
	uint32_t now[2];

	must(array->type == REDIS_REPLY_ARRAY && array->elements == 10, "not ten elements");
	for (int i = 0; i < 10; i++)
		must(array->element[i]->type == types[i], "element %d has type %d", i,
		     array->element[i]->type);
	must(array->element[8]->integer == strtoll(term, NULL, 10) &&
	     array->element[9]->integer == strtoll(seq, NULL, 10), "it names call %lld:%lld",
	     array->element[8]->integer, array->element[9]->integer);
	must(array->element[1]->len == sizeof(now), "a time of %zu bytes", array->element[1]->len);
	memcpy(now, array->element[1]->str, sizeof(now));
	must(now[1] < GIGA, "%" PRIu32 " nanoseconds", now[1]);
	must(array->element[5]->len % sizeof(struct script_answer) == 0 &&
	     array->element[5]->len / sizeof(struct script_answer) <= SCRIPT_MAX_ITEMS,
	     "%zu bytes of items", array->element[5]->len);

	reply->code = (enum script_code)array->element[0]->integer;
	reply->now_ns = (int64_t)(now[0] * GIGA + now[1]);
	reply->live = (uint64_t)array->element[2]->integer;
	reply->term = (uint64_t)array->element[3]->integer;
	reply->seq = (uint64_t)array->element[4]->integer;
	reply->count = array->element[5]->len / sizeof(struct script_answer);
	for (size_t i = 0; i < reply->count; i++) {
		struct script_answer answer;

		memcpy(&answer, array->element[5]->str + i * sizeof(answer), sizeof(answer));
		reply->results[i] = script_result(answer, reply->now_ns);
		must(answer.nanoseconds % (1u << 30) < GIGA, "item %zu: %" PRIu32 " nanoseconds",
		     i, answer.nanoseconds);
	}
	must(array->element[6]->len % sizeof(struct script_window_result) == 0 &&
	     array->element[6]->len <= sizeof(reply->windows), "%zu bytes of windows",
	     array->element[6]->len);
	reply->window_count = array->element[6]->len / sizeof(struct script_window_result);
	memcpy(reply->windows, array->element[6]->str, array->element[6]->len);
	must(array->element[7]->len % sizeof(struct script_hold_result) == 0 &&
	     array->element[7]->len <= sizeof(reply->holds), "%zu bytes of holds",
	     array->element[7]->len);
	reply->hold_count = array->element[7]->len / sizeof(struct script_hold_result);
	memcpy(reply->holds, array->element[7]->str, array->element[7]->len);
}

/* ---- Calls ------------------------------------------------------------- */

bool script_client_evaluate(struct script_client *client, size_t count, const char **arguments,
			    const size_t *sizes, struct script_reply *reply)
{
	const char *argv[4 + MAX_ARGUMENTS] = { "EVALSHA", client->sha, "1", client->shard };
	size_t lengths[4 + MAX_ARGUMENTS];
	redisReply *array;
	bool done;

	must(count <= MAX_ARGUMENTS, "%zu arguments", count);
	memcpy(&argv[4], arguments, count * sizeof(*arguments));
	for (size_t i = 0; i < 4 + count; i++)
		lengths[i] = i < 4 ? strlen(argv[i]) : sizes[i - 4];
	array = redisCommandArgv(client->context, (int)(4 + count), argv, lengths);
	must(array, "EVALSHA: %s", client->context->errstr);
	done = array->type != REDIS_REPLY_ERROR;
	if (done)
		reply_parse(array, arguments[1], arguments[2], reply);
	else
		snprintf(client->error, sizeof(client->error), "%s", array->str);
	freeReplyObject(array);
	return done;
}

bool script_client_call(struct script_client *client, const struct script_call *call,
			struct script_reply *reply)
{
	uint32_t low[2] = { 0, 0 };
	char numbers[5][48];
	const char *arguments[10] = { (const char *)call->host, numbers[0], numbers[1],
				     (const char *)low, numbers[2], numbers[3],
				     call->items ? (const char *)call->items : "",
				     call->windows ? (const char *)call->windows : "",
				     call->holds ? (const char *)call->holds : "", numbers[4] };
	size_t sizes[10];

	if (call->low_ns >= 0) {
		low[0] = (uint32_t)((uint64_t)call->low_ns / GIGA);
		low[1] = (uint32_t)((uint64_t)call->low_ns % GIGA);
	}
	snprintf(numbers[0], sizeof(numbers[0]), "%" PRIu64, call->term);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu64, call->seq);
	snprintf(numbers[2], sizeof(numbers[2]), "%" PRIu64, call->tolerance_ns);
	snprintf(numbers[3], sizeof(numbers[3]), "%" PRIu64, call->keep_seconds);
	snprintf(numbers[4], sizeof(numbers[4]), "%" PRIu64 " %" PRIu64, call->clock_us / 1000000,
		 call->clock_us % 1000000);
	sizes[0] = sizeof(call->host);
	sizes[1] = strlen(numbers[0]);
	sizes[2] = strlen(numbers[1]);
	sizes[3] = call->low_ns >= 0 ? sizeof(low) : 0;
	sizes[4] = strlen(numbers[2]);
	sizes[5] = strlen(numbers[3]);
	sizes[6] = call->count * sizeof(*call->items);
	sizes[7] = call->window_count * sizeof(*call->windows);
	sizes[8] = call->hold_count * sizeof(*call->holds);
	sizes[9] = strlen(numbers[4]);
	return script_client_evaluate(client, client->clock == SCRIPT_CLOCK_CALL ? 10 : 9, arguments,
				      sizes, reply);
}
