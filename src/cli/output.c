/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys, decisions and buckets, as text; and JSON on its way out.
 *
 * A key is whatever a stranger sent.  Printed as it is, it could move the
 * cursor, retitle the terminal or forge a line of the output; so all output of
 * keys goes through here.
 */
#include "cli.h"

#include <inttypes.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>

/* Non-ASCII characters leave as ASCII escapes: JSON itself escapes only C0. */
#define JSON_FLAGS JSON_ENSURE_ASCII

/* In a terminal of another character set the bytes of UTF-8 are something
 * else, and some are controls. */
static enum text_escape terminal_escape(void)
{
	return strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? TEXT_UTF8 : TEXT_ASCII;
}

static void print_escaped(FILE *file, const unsigned char *bytes, size_t length, bool backslashes)
{
	enum text_escape escape = terminal_escape();

	while (length > 0) {
		size_t printable = text_printable(bytes, length, escape);

		fwrite(bytes, 1, printable, file);
		bytes += printable;
		length -= printable;
		if (length == 0)
			break;
		if (*bytes == '\\')
			fputs(backslashes ? "\\\\" : "\\", file);
		else
			fprintf(file, "\\x%02x", *bytes);
		bytes++;
		length--;
	}
}

void cli_print_key(FILE *file, const void *key, size_t length)
{
	print_escaped(file, key, length, true);
}

void cli_print_message(FILE *file, const char *message, size_t length)
{
	print_escaped(file, (const unsigned char *)message, length, false);
}

/* ---- JSON -------------------------------------------------------------- */

void cli_print_json_line(struct cli *cli, json_t *document)
{
	if (!document)
		cli_die(cli, "no memory for the JSON output");
	/* A failed write stays in ferror(stdout), where cli_finish() finds it. */
	json_dumpf(document, stdout, JSON_FLAGS | JSON_COMPACT);
	json_decref(document);
}

void cli_print_json(struct cli *cli, json_t *document)
{
	if (!document)
		cli_die(cli, "no memory for the JSON output");
	json_dumpf(document, stdout, JSON_FLAGS | JSON_INDENT(2));
	putchar('\n');
	json_decref(document);
}

json_t *cli_json_text(const char *text)
{
	json_t *string = json_string(text);     /* NULL if it is not UTF-8 */
	char *escaped = NULL;
	size_t size;
	FILE *file;

	if (string)
		return string;
	file = open_memstream(&escaped, &size);
	if (!file)
		return NULL;
	cli_print_message(file, text, strlen(text));
	if (fclose(file) == 0)
		string = json_string(escaped);
	free(escaped);
	return string;
}

/* ---- Buckets ----------------------------------------------------------- */

void cli_print_bucket_key(FILE *file, const struct weir_bucket *bucket)
{
	if (bucket->key_stored == 0) {
		fputs("(fingerprint ", file);
		for (size_t i = 0; i < sizeof(bucket->fingerprint); i++)
			fprintf(file, "%02x", bucket->fingerprint[i]);
		fputc(')', file);
		return;
	}
	cli_print_key(file, bucket->key, bucket->key_stored);
	if (bucket->key_stored < bucket->key_length)
		fprintf(file, "... (%" PRIu32 " bytes)", bucket->key_length);
}

/* ---- Decisions --------------------------------------------------------- */

/* The limit that decided, as the policy now writes it; "" if it has no such. */
static void format_limit(struct cli *cli, const char *name, uint32_t index, char text[96])
{
	struct weir_policy policy;

	*text = '\0';
	if (weir_policy_get(cli->weir, name, &policy, NULL) == 0 && index < policy.limit_count)
		weir_limit_format(&policy.limits[index], text, 96);
}

/* What is to be known beside the numbers. */
static const char *decision_note(const struct weir_decision *decision)
{
	switch (decision->reason) {
	case WEIR_REASON_COST:
		return ", the cost is above what the limit can ever allow";
	case WEIR_REASON_SHADOW:
		return ", only because the policy is in shadow";
	case WEIR_REASON_DEBT:
		return ", the bucket would be beyond the largest debt";
	default:
		return "";
	}
}

/* Why the fail mode allowed it; NULL if limits decided. */
static const char *fail_mode_cause(const struct weir_decision *decision)
{
	switch (decision->reason) {
	case WEIR_REASON_TABLE_FULL:
		return "the table has no slot for the key";
	case WEIR_REASON_CONTENDED:
		return "too many processes changed the bucket at once";
	case WEIR_REASON_HOLDS_FULL:
		return "no hold record is left";
	default:
		return NULL;
	}
}

static void print_decision_text(struct cli *cli, const char *policy,
				const struct weir_decision *decision, const char *done)
{
	char limit[96] = "";
	char duration[TEXT_DURATION_SIZE];

	if (fail_mode_cause(decision)) {
		printf("%s by the fail mode: %s\n", weir_outcome_name(decision->outcome),
		       fail_mode_cause(decision));
		return;
	}
	if (!done)
		format_limit(cli, policy, decision->limit_index, limit);
	printf("%s%s%s: %" PRIu64 " of %" PRIu64 " remaining",
	       done ? done : weir_outcome_name(decision->outcome), *limit ? " by " : "", limit,
	       decision->remaining, decision->limit);
	if (decision->retry_after_ns != 0 && decision->retry_after_ns != WEIR_NEVER)
		printf(", retry after %s", text_duration(decision->retry_after_ns, duration));
	if (decision->reset_after_ns != 0 && decision->reset_after_ns != WEIR_NEVER)
		printf(", full in %s", text_duration(decision->reset_after_ns, duration));
	printf("%s%s\n", decision_note(decision), decision->flagged ? ", flagged" : "");
}

int cli_print_decision(struct cli *cli, const char *policy, const struct weir_request *request,
		       const struct weir_decision *decision, const char *done)
{
	if (cli->json) {
		json_t *object = json_object();

		json_object_set_new(object, "policy", json_string(policy));
		cli_json_set_key(object, request->key, request->key_length);
		json_object_set_new(object, "cost", cli_json_u64(request->cost));
		cli_json_set_decision(object, decision);
		cli_print_json(cli, object);
	}
	if (decision->outcome == WEIR_UNAVAILABLE) {
		cli_warn("rate limiter unavailable: %s", cli_reason_sentence(decision->reason));
		return CLI_UNAVAILABLE;
	}
	if (!cli->json)
		print_decision_text(cli, policy, decision,
				    decision->outcome == WEIR_DENIED ? NULL : done);
	return decision->outcome == WEIR_DENIED ? CLI_DENIED : CLI_OK;
}
