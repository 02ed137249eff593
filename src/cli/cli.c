/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* getopt's codes of our options start above its one-letter ones. */
#define OPTION_CODE 256
#define OPTIONS_MAX 63

#define POLICIES_NAMED 8        /* in a message about an unknown one */

/* ---- Ends -------------------------------------------------------------- */

static bool (*log_write)(enum cli_level level, const char *message);

void cli_set_log(bool (*write)(enum cli_level level, const char *message))
{
	log_write = write;
}

static void tell(enum cli_level level, const char *format, va_list arguments)
{
	char message[2048];
	int length = vsnprintf(message, sizeof(message), format, arguments);

	if (length < 0)
		length = 0;
	if ((size_t)length >= sizeof(message))
		length = sizeof(message) - 1;
	if (log_write && log_write(level, length > 0 ? message : ""))
		return;
	fputs("weir: ", stderr);
	cli_print_message(stderr, message, (size_t)length);
	fputc('\n', stderr);
}

void cli_tell(enum cli_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	tell(level, format, arguments);
	va_end(arguments);
}

void cli_warn(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	tell(CLI_LEVEL_WARNING, format, arguments);
	va_end(arguments);
}

void cli_die(struct cli *cli, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	tell(CLI_LEVEL_FATAL, format, arguments);
	va_end(arguments);
	exit(cli_finish(cli, CLI_ERROR));
}

/* Opened the wrong way round, they answer EBADF, as closed ones do. */
void cli_occupy_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) == -1 && errno == EBADF &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) == -1)
			_exit(CLI_ERROR);
	}
}

int cli_finish(struct cli *cli, int status)
{
	bool failed = ferror(stdout);

	weir_close(cli->weir);
	cli->weir = NULL;
	free(cli->operands);
	cli->operands = NULL;
	free(cli->policies);
	cli->policies = NULL;

	errno = 0;
	if (fflush(stdout) != 0)
		failed = true;
	if (failed) {
		cli_warn("cannot write to standard output: %s",
			 errno ? strerror(errno) : "an earlier write failed");
		return CLI_ERROR;
	}
	return status;
}

/* ---- Options ----------------------------------------------------------- */

static void print_help(const struct cli_command *command, const struct cli_option *options)
{
	printf("Usage: weir %s%s%s\n\n%c%s.\n\n", command->name, *command->synopsis ? " " : "",
	       command->synopsis, toupper((unsigned char)command->help[0]), command->help + 1);
	for (const struct cli_option *option = options; option->name; option++) {
		int width = printf("  --%s%s%s", option->name, option->argument ? " " : "",
				   option->argument ? option->argument : "");

		printf("%*s%s\n", width < 24 ? 24 - width : 2, "", option->help);
	}
	printf("  %-22s%s\n", "--help", "print this help");
}

static _Noreturn void unknown_option(struct cli *cli, const struct cli_option *options,
				     const char *given)
{
	char name[64];
	struct text_search search;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(given + 2, "="), given + 2);
	search = text_search_begin(name);
	for (const struct cli_option *option = options; option->name; option++)
		text_search_offer(&search, option->name);
	if (search.nearest)
		cli_die(cli, "unknown option %s: did you mean --%s?", given, search.nearest);
	cli_die(cli, "unknown or ambiguous option %s: see `weir help %s`", given,
		cli->command->name);
}

uint64_t cli_number(struct cli *cli, const char *what, const char *text, uint64_t minimum,
		    uint64_t maximum)
{
	uint64_t value = 0;

	if (text_parse_number(text, 10, &value) == TEXT_NUMBER_MALFORMED)
		cli_die(cli, "%s is \"%s\", which is no whole number: give one from %" PRIu64
			" to %" PRIu64, what, text, minimum, maximum);
	if (text_parse_number(text, 10, &value) == TEXT_NUMBER_OVERFLOW || value < minimum ||
	    value > maximum)
		cli_die(cli, "%s is %s, which is out of range: give a number from %" PRIu64
			" to %" PRIu64, what, text, minimum, maximum);
	return value;
}

void cli_check_staleness(struct cli *cli, uint64_t interval_ms, uint64_t staleness_ms)
{
	if (staleness_ms < 2 * interval_ms)
		cli_die(cli, "--max-staleness-ms is %" PRIu64 ", which is less than two intervals "
			"(--interval-ms is %" PRIu64 "): give a number from %" PRIu64 " to %u",
			staleness_ms, interval_ms, 2 * interval_ms, CLI_STALENESS_MAX_MS);
}

unsigned cli_choice(struct cli *cli, const char *what, const char *text,
		    const char *(*choice)(unsigned index))
{
	char names[256] = "";
	size_t length = 0;

	for (unsigned index = 0; choice(index); index++) {
		const char *separator = index == 0 ? "" : choice(index + 1) ? ", " : " or ";

		if (strcmp(choice(index), text) == 0)
			return index;
		if (length < sizeof(names))
			length += (size_t)snprintf(names + length, sizeof(names) - length, "%s%s",
						   separator, choice(index));
	}
	cli_die(cli, "%s is \"%s\", which is unknown: give %s", what, text, names);
}

const char *cli_fail_mode_choice(unsigned index)
{
	return index <= WEIR_FAIL_CLOSED ? weir_fail_mode_name((enum weir_fail_mode)index) : NULL;
}

const char *cli_consistency_choice(unsigned index)
{
	return index <= WEIR_STRICT ? weir_consistency_name((enum weir_consistency)index) : NULL;
}

static unsigned hex_digit(char c)
{
	return c >= '0' && c <= '9' ? (unsigned)(c - '0') :
	       c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 :
	       c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10 : 16;
}

void cli_read_secret(struct cli *cli, const char *path, unsigned char secret[WEIR_SECRET_SIZE])
{
	char text[2 * WEIR_SECRET_SIZE + 2];
	FILE *file = fopen(path, "re");
	size_t length;

	if (!file)
		cli_die(cli, "cannot open --secret-file %s: %s", path, strerror(errno));
	length = fread(text, 1, sizeof(text), file);
	if (ferror(file))
		cli_die(cli, "cannot read --secret-file %s: %s", path, strerror(errno));
	fclose(file);

	if (length == WEIR_SECRET_SIZE) {
		memcpy(secret, text, WEIR_SECRET_SIZE);
		return;
	}
	if (length == 2 * WEIR_SECRET_SIZE + 1 && text[length - 1] == '\n')
		length--;
	for (size_t i = 0; i < length && length == 2 * WEIR_SECRET_SIZE; i++) {
		unsigned digit = hex_digit(text[i]);

		if (digit > 15)
			break;
		secret[i / 2] = (unsigned char)(i % 2 ? secret[i / 2] | digit : digit << 4);
		if (i + 1 == length)
			return;
	}
	cli_die(cli, "--secret-file %s holds no secret: it must be %u bytes, or %u hexadecimal "
		"digits (make one with `head -c %u /dev/urandom`)", path, WEIR_SECRET_SIZE,
		2 * WEIR_SECRET_SIZE, WEIR_SECRET_SIZE);
}

static void set_option(struct cli *cli, const struct cli_option *option, const char *value)
{
	char what[64];

	snprintf(what, sizeof(what), "--%s", option->name);
	switch (option->type) {
	case CLI_FLAG:
		*(bool *)option->target = true;
		break;
	case CLI_STRING:
		*(const char **)option->target = value;
		if (option->target == &cli->segment)
			cli->segment_given = true;
		break;
	case CLI_NUMBER:
		*(uint64_t *)option->target = cli_number(cli, what, value, option->minimum,
							 option->maximum);
		break;
	case CLI_CHOICE:
		*(unsigned *)option->target = cli_choice(cli, what, value, option->choice);
		break;
	case CLI_CALL:
		option->call(cli, option, value);
		break;
	}
}

/* What main() took before the command's name must suit the command, too. */
static void check_early_options(struct cli *cli, const struct cli_option *options)
{
	bool takes_segment = false;
	bool takes_json = false;

	for (const struct cli_option *option = options; option->name; option++) {
		takes_segment |= option->target == &cli->segment;
		takes_json |= option->target == &cli->json;
	}
	if (cli->segment_given && !takes_segment)
		cli_die(cli, "`weir %s` uses no segment: leave out --segment", cli->command->name);
	if (cli->json && !takes_json)
		cli_die(cli, "`weir %s` reports nothing: leave out --json", cli->command->name);
}

static void check_operands(struct cli *cli, size_t minimum, size_t maximum)
{
	const char *name = cli->command->name;
	const char *synopsis = cli->command->synopsis;

	if (cli->operand_count < minimum)
		cli_die(cli, "arguments are missing (%zu given, %zu needed): use `weir %s %s`",
			cli->operand_count, minimum, name, synopsis);
	if (cli->operand_count > maximum)
		cli_die(cli, "stray argument \"%s\": use `weir %s%s%s`", cli->operands[maximum],
			name, *synopsis ? " " : "", synopsis);
}

static size_t fill_getopt_options(const struct cli_option *options, struct option *long_options)
{
	size_t count = 0;

	for (; options[count].name; count++) {
		if (count == OPTIONS_MAX)
			abort();        /* a command has grown: raise it */
		long_options[count] = (struct option){
			.name = options[count].name,
			.has_arg = options[count].argument ? required_argument : no_argument,
			.val = OPTION_CODE + (int)count,
		};
	}
	long_options[count] = (struct option){ .name = "help", .val = 'h' };
	return count;
}

void cli_parse(struct cli *cli, int argc, char **argv, const struct cli_option *options,
	       size_t minimum, size_t maximum)
{
	struct option long_options[OPTIONS_MAX + 2] = { 0 };
	size_t count = fill_getopt_options(options, long_options);
	int code;

	cli->operands = calloc((size_t)argc + 1, sizeof(*cli->operands));
	if (!cli->operands)
		cli_die(cli, "no memory for %d arguments", argc);

	/* "-": operands come as code 1, in order, whatever POSIXLY_CORRECT says.
	 * ":": the messages are ours.  0 makes glibc start over after main(). */
	optind = 0;
	opterr = 0;
	while ((code = getopt_long(argc, argv, "-:h", long_options, NULL)) != -1) {
		if (code == 1) {
			cli->operands[cli->operand_count++] = optarg;
		} else if (code == 'h') {
			print_help(cli->command, options);
			exit(cli_finish(cli, CLI_OK));
		} else if (code >= OPTION_CODE && (size_t)(code - OPTION_CODE) < count) {
			set_option(cli, &options[code - OPTION_CODE], optarg);
		} else if (code == ':') {
			cli_die(cli, "option %s needs a value: see `weir help %s`",
				argv[optind - 1], cli->command->name);
		} else if (optopt == 0) {
			unknown_option(cli, options, argv[optind - 1]);
		} else if (optopt == 'h' || optopt >= OPTION_CODE) {
			cli_die(cli, "option %s takes no value", argv[optind - 1]);
		} else {
			cli_die(cli, "unknown option -%c: see `weir help %s`; an argument that "
				"begins with a dash goes behind --", optopt, cli->command->name);
		}
	}

	cli->operands_before_dashes = cli->operand_count;
	while (optind < argc)
		cli->operands[cli->operand_count++] = argv[optind++];
	check_early_options(cli, options);
	check_operands(cli, minimum, maximum);
}

/* ---- The segment ------------------------------------------------------- */

struct weir *cli_open(struct cli *cli)
{
	struct weir_error error;

	if (weir_open(cli->segment, &cli->weir, &error) < 0) {
		cli->weir = NULL;
		/* What is said of a file's content does not say of which file's. */
		if (!strstr(error.message, cli->segment))
			cli_die(cli, "segment \"%s\": %s", cli->segment, error.message);
		cli_die(cli, "%s", error.message);
	}
	return cli->weir;
}

void cli_need_keys(struct cli *cli)
{
	struct weir_info info;

	weir_info(cli->weir, &info);
	if (info.compact)
		cli_die(cli, "segment \"%s\" is compact: it keeps no keys that could be listed; "
			"`weir status POLICY KEY` tells of one, `weir stats` of all together",
			cli->segment);
}

void cli_unknown_policy(struct cli *cli, const char *name)
{
	size_t count = 0;
	const struct weir_policy *policies = cli_policies(cli, &count);
	struct text_search search = text_search_begin(name);
	char names[POLICIES_NAMED * (WEIR_NAME_MAX + 3)] = "";
	size_t length = 0;

	for (size_t i = 0; i < count; i++)
		text_search_offer(&search, policies[i].name);
	if (search.nearest)
		cli_die(cli, "no policy \"%s\" in segment \"%s\": did you mean \"%s\"?", name,
			cli->segment, search.nearest);
	if (count == 0)
		cli_die(cli, "no policy \"%s\" in segment \"%s\", which has none yet: define it "
			"with `weir policy set`", name, cli->segment);
	for (size_t i = 0; i < count && i < POLICIES_NAMED; i++)
		length += (size_t)snprintf(names + length, sizeof(names) - length, "%s%s",
					   i ? ", " : "", policies[i].name);
	cli_die(cli, "no policy \"%s\" in segment \"%s\": it has %s%s; define another with "
		"`weir policy set`", name, cli->segment, names,
		count > POLICIES_NAMED ? ", ..." : "");
}

const struct weir_policy *cli_policies(struct cli *cli, size_t *count)
{
	size_t capacity;

	/* Another process may add some between the two calls. */
	*count = weir_policy_list(cli->weir, NULL, 0);
	do {
		capacity = *count;
		free(cli->policies);
		cli->policies = calloc(capacity + 1, sizeof(*cli->policies));
		if (!cli->policies)
			cli_die(cli, "no memory for %zu policies", capacity);
		*count = weir_policy_list(cli->weir, cli->policies, capacity);
	} while (*count > capacity);
	return cli->policies;
}

weir_policy_id cli_find_policy(struct cli *cli, const char *name)
{
	weir_policy_id policy = weir_policy_find(cli->weir, name);

	if (policy == WEIR_NO_POLICY)
		cli_unknown_policy(cli, name);
	return policy;
}

void cli_check_now(struct cli *cli, uint64_t now_ns, bool required)
{
	struct weir_info info;

	weir_info(cli->weir, &info);
	if (info.clock != WEIR_CLOCK_CALLER && now_ns != 0)
		cli_die(cli, "segment \"%s\" reads the clock itself: leave out --now",
			cli->segment);
	if (info.clock == WEIR_CLOCK_CALLER && now_ns == 0 && required)
		cli_die(cli, "segment \"%s\" has the caller's clock: give --now NS, nanoseconds "
			"since 1970", cli->segment);
}
