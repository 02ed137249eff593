/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - what the commands of `weir` share: options, the segment, errors,
 * decisions and JSON.
 *
 * A command is a function that parses its arguments with cli_parse(), does its
 * work, prints to standard output and returns its exit status.  What goes wrong
 * on the way ends in cli_die(), which does not return: a command line has
 * nobody to hand an error to but its user.
 */
#ifndef WEIR_CLI_H
#define WEIR_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "text.h"
#include "json.h"
#include "weir.h"

enum cli_status {
	CLI_OK = 0,             /* allowed, or done */
	CLI_DENIED = 1,
	CLI_ERROR = 2,          /* usage, or an error */
	CLI_UNAVAILABLE = 3,    /* the rate limiter could not decide */
};

struct cli;

struct cli_command {
	const char *name;       /* one word or two ("policy set") */
	const char *synopsis;   /* what follows the name */
	const char *help;       /* one line, for the list of commands */
	int (*run)(struct cli *cli, int argc, char **argv);
};

/* One run of the program. */
struct cli {
	const struct cli_command *command;
	const char *segment;    /* --segment, WEIR_SEGMENT or "weir" */
	bool segment_given;     /* by --segment */
	bool json;              /* --json */
	struct weir *weir;      /* what cli_open() opened */
	struct weir_policy *policies;   /* a command's, on the heap, or NULL */

	/* cli_parse() leaves the operands here, in their order. */
	char **operands;
	size_t operand_count;
	size_t operands_before_dashes;  /* how many stood before "--" */
};

/* ---- Options ----------------------------------------------------------- */

enum cli_option_type {
	CLI_FLAG,               /* target is a bool */
	CLI_STRING,             /* target is a const char * */
	CLI_NUMBER,             /* target is a uint64_t, from minimum to maximum */
	CLI_CHOICE,             /* target is an unsigned: the index of a choice */
	CLI_CALL,               /* call() takes the value, each time it is given */
};

#define CLI_STALENESS_MAX_MS 3600000u

/* An option of a command.  A table of them ends with an empty one. */
struct cli_option {
	const char *name;       /* without the dashes */
	const char *argument;   /* what --help calls its value; NULL: it has none */
	const char *help;       /* one line */
	enum cli_option_type type;
	void *target;
	uint64_t minimum;
	uint64_t maximum;
	const char *(*choice)(unsigned index);  /* NULL past the last one */
	void (*call)(struct cli *cli, const struct cli_option *option, const char *value);
};

/* Options that many commands have.  A command whose table lacks one refuses
 * it, also before the command's name. */
#define CLI_OPTION_SEGMENT(cli) \
	{ "segment", "NAME", "the segment (default: $WEIR_SEGMENT, else \"weir\")", CLI_STRING, \
	  &(cli)->segment }
#define CLI_OPTION_JSON(cli) \
	{ "json", NULL, "print JSON", CLI_FLAG, &(cli)->json }
#define CLI_OPTION_NOW(now_ns) \
	{ "now", "NS", "the time, for a segment whose clock is the caller's", CLI_NUMBER, \
	  (now_ns), 1, UINT64_MAX }

/* Parse the arguments of a command, argv[0] being the last word of its name,
 * and check that MINIMUM to MAXIMUM operands are left (cli->operands).  Options
 * and operands may be mixed; "--" ends the options.  --help prints the
 * command's help and exits. */
void cli_parse(struct cli *cli, int argc, char **argv, const struct cli_option *options,
	       size_t minimum, size_t maximum);

/* The whole of TEXT as a decimal number from MINIMUM to MAXIMUM.  WHAT names it
 * in the message that tells of anything else. */
uint64_t cli_number(struct cli *cli, const char *what, const char *text, uint64_t minimum,
		    uint64_t maximum);

/* Check the values of --interval-ms and --max-staleness-ms, each of which is in its own
 * range, against one another: in their unit, which is not the library's. */
void cli_check_staleness(struct cli *cli, uint64_t interval_ms, uint64_t staleness_ms);

/* The index of TEXT among the choices, as for CLI_CHOICE. */
unsigned cli_choice(struct cli *cli, const char *what, const char *text,
		    const char *(*choice)(unsigned index));

/* The hash secret in the file PATH, as --secret-file gives it: 16 bytes, or 32 hexadecimal
 * digits and perhaps a newline. */
void cli_read_secret(struct cli *cli, const char *path, unsigned char secret[WEIR_SECRET_SIZE]);

const char *cli_fail_mode_choice(unsigned index);
const char *cli_consistency_choice(unsigned index);

/* ---- Ends -------------------------------------------------------------- */

/* What a line is worth to who reads it; only a log that cli_set_log() set tells. */
enum cli_level {
	CLI_LEVEL_FATAL,
	CLI_LEVEL_ERROR,
	CLI_LEVEL_WARNING,
	CLI_LEVEL_INFO,
};

/* Print "weir: MESSAGE" to standard error.  Bytes that could harm a terminal
 * are escaped. */
void cli_tell(enum cli_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* cli_tell() a warning. */
void cli_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From now on WRITE has each message first, as it was formatted, and returns whether it
 * has written it.  Before there are threads. */
void cli_set_log(bool (*write)(enum cli_level level, const char *message));

/* cli_tell() what is fatal, then exit with CLI_ERROR. */
_Noreturn void cli_die(struct cli *cli, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Before anything else is opened: standard descriptors that were closed would be given to
 * a socket or a file, and what is printed would be written there. */
void cli_occupy_descriptors(void);

/* Close the segment and flush standard output; an output that could not be
 * written turns STATUS into CLI_ERROR.  Returns the status to exit with. */
int cli_finish(struct cli *cli, int status);

/* ---- The segment ------------------------------------------------------- */

/* Open the segment, to be closed by cli_finish(). */
struct weir *cli_open(struct cli *cli);

/* A compact segment keeps no keys, and so has no list of them: die, and say so. */
void cli_need_keys(struct cli *cli);

/* The policy NAME of the open segment.  An unknown one is an error that says
 * which there are. */
weir_policy_id cli_find_policy(struct cli *cli, const char *name);
_Noreturn void cli_unknown_policy(struct cli *cli, const char *name);

/* All policies of the open segment, in the order of their names: cli->policies,
 * to be freed by cli_finish(). */
const struct weir_policy *cli_policies(struct cli *cli, size_t *count);

/* Check the value of --now, 0 if not given, against the segment's clock.  A
 * caller's clock needs it if REQUIRED. */
void cli_check_now(struct cli *cli, uint64_t now_ns, bool required);

/* ---- Output ------------------------------------------------------------ */

/* Print DOCUMENT and drop the reference to it. */
void cli_print_json(struct cli *cli, json_t *document);

/* As cli_print_json(), on one line and without a newline: for long arrays that
 * are printed as they are read. */
void cli_print_json_line(struct cli *cli, json_t *document);

/* A string; bytes that are not UTF-8 become "\\xNN". */
json_t *cli_json_text(const char *text);

/* Print KEY to FILE, escaped, without a newline. */
void cli_print_key(FILE *file, const void *key, size_t length);

/* As cli_print_key(), but backslashes stay as they are. */
void cli_print_message(FILE *file, const char *message, size_t length);

/* The key of a bucket, as far as the segment keeps it. */
void cli_print_bucket_key(FILE *file, const struct weir_bucket *bucket);

/* Print the decision on REQUEST (or, if DONE is not NULL, that this was done),
 * tell of an unavailable one on standard error, and return the exit status. */
int cli_print_decision(struct cli *cli, const char *policy, const struct weir_request *request,
		       const struct weir_decision *decision, const char *done);

/* Why a decision was unavailable, as a sentence that says what to do. */
const char *cli_reason_sentence(enum weir_reason reason);

/* ---- Commands ---------------------------------------------------------- */

int cmd_acquire(struct cli *cli, int argc, char **argv);
int cmd_allow(struct cli *cli, int argc, char **argv);
int cmd_check(struct cli *cli, int argc, char **argv);
int cmd_create(struct cli *cli, int argc, char **argv);
int cmd_fail_mode(struct cli *cli, int argc, char **argv);
int cmd_force_take(struct cli *cli, int argc, char **argv);
int cmd_info(struct cli *cli, int argc, char **argv);
int cmd_list(struct cli *cli, int argc, char **argv);
int cmd_policy_list(struct cli *cli, int argc, char **argv);
int cmd_policy_load(struct cli *cli, int argc, char **argv);
int cmd_policy_remove(struct cli *cli, int argc, char **argv);
int cmd_policy_set(struct cli *cli, int argc, char **argv);
int cmd_refund(struct cli *cli, int argc, char **argv);
int cmd_remove(struct cli *cli, int argc, char **argv);
int cmd_replay(struct cli *cli, int argc, char **argv);
int cmd_reset(struct cli *cli, int argc, char **argv);
int cmd_serve(struct cli *cli, int argc, char **argv);
int cmd_stats(struct cli *cli, int argc, char **argv);
int cmd_sync_pause(struct cli *cli, int argc, char **argv);
int cmd_sync_publish(struct cli *cli, int argc, char **argv);
int cmd_sync_resume(struct cli *cli, int argc, char **argv);
int cmd_sync_run(struct cli *cli, int argc, char **argv);
int cmd_sync_status(struct cli *cli, int argc, char **argv);
int cmd_sync_withdraw(struct cli *cli, int argc, char **argv);
int cmd_status(struct cli *cli, int argc, char **argv);
int cmd_top(struct cli *cli, int argc, char **argv);

#endif
