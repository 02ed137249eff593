/* SPDX-License-Identifier: Apache-2.0 */
/* top: the keys with the most consumption or denials, once or as a live view. */
#include "cli.h"
#include "top.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define COUNT_ONCE 20
#define COUNT_LIVE 200          /* more than a terminal has lines */
#define COUNT_MAX 1000
#define HEAD_LINES 4            /* of the live view, above the rows */
#define REFRESH_NS 1000000000ull

/* The alternate screen, without a cursor and without wrapping: long lines are
 * cut by the terminal, which knows how wide its characters are. */
#define ENTER_SCREEN "\033[?1049h\033[?25l\033[?7l\033[H\033[2J"
#define LEAVE_SCREEN "\033[?7h\033[?25h\033[?1049l"
#define CURSOR_HOME "\033[H"
#define ERASE_LINE "\033[K\n"
#define ERASE_BELOW "\033[J"

struct view {
	struct cli *cli;
	struct top tops[2];             /* this picture and the one before */
	unsigned current;               /* index of this one */
	enum weir_top_order order;
	uint64_t now_ns;                /* of --now */
	uint64_t taken_ns;              /* when this picture was taken, CLOCK_MONOTONIC */
	uint64_t elapsed_ns;            /* since the one before; 0: there is none */
	uint64_t allowed[2], denied[2]; /* totals of both pictures */
};

static const char *order_choice(unsigned index)
{
	static const char *const names[] = {
		[WEIR_TOP_CONSUMED] = "consumed",
		[WEIR_TOP_DENIED] = "denied",
	};

	return index < sizeof(names) / sizeof(names[0]) ? names[index] : NULL;
}

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t read_counter(struct cli *cli, const char *name)
{
	const struct weir_counter *counter;

	for (unsigned i = 0; (counter = weir_counter(i)); i++) {
		if (strcmp(counter->name, name) == 0)
			return weir_counter_read(cli->weir, i, NULL);
	}
	return 0;
}

/* ---- Pictures ---------------------------------------------------------- */

static void take_picture(struct view *view)
{
	uint64_t before_ns = view->taken_ns;
	struct top *top;

	view->current ^= 1;
	top = &view->tops[view->current];
	top_take(top, view->cli->weir, view->now_ns, view->order);
	view->allowed[view->current] = read_counter(view->cli, "allowed");
	view->denied[view->current] = read_counter(view->cli, "denied");
	view->taken_ns = monotonic_ns();
	view->elapsed_ns = before_ns ? view->taken_ns - before_ns : 0;
}

/* Per second, rounded; only with a picture before. */
static uint64_t rate(const struct view *view, uint64_t growth)
{
	return (uint64_t)((double)growth * 1e9 / (double)view->elapsed_ns + 0.5);
}

/* Totals fall when a policy is removed. */
static uint64_t total_rate(const struct view *view, const uint64_t totals[2])
{
	uint64_t now = totals[view->current], before = totals[view->current ^ 1];

	return now > before ? rate(view, now - before) : 0;
}

static void print_row(const struct view *view, const struct weir_bucket *bucket)
{
	const struct top *previous = &view->tops[view->current ^ 1];
	char per_second[24] = "-";
	uint64_t growth;

	if (view->elapsed_ns > 0 && previous->order == view->order &&
	    top_growth(previous, bucket, &growth))
		snprintf(per_second, sizeof(per_second), "%" PRIu64, rate(view, growth));
	printf("%-20s %5" PRIu32 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %10s  ",
	       *bucket->policy ? bucket->policy : "-", bucket->limit_index, bucket->consumed,
	       bucket->denied_sampled, bucket->status.remaining, per_second);
	cli_print_bucket_key(stdout, bucket);
}

static void print_row_head(void)
{
	printf("%-20s %5s %12s %12s %12s %10s  %s", "POLICY", "LIMIT", "CONSUMED", "DENIED",
	       "REMAINING", "PER S", "KEY");
}

static void print_once(struct view *view)
{
	const struct top *top;

	take_picture(view);
	top = &view->tops[view->current];
	if (view->cli->json) {
		json_t *array = json_array();

		for (size_t i = 0; i < top->count; i++)
			json_array_append_new(array, cli_json_bucket(&top->buckets[i]));
		cli_print_json(view->cli, json_pack("{s:s, s:o}", "by", order_choice(view->order),
						    "buckets", array));
		return;
	}
	print_row_head();
	putchar('\n');
	for (size_t i = 0; i < top->count; i++) {
		print_row(view, &top->buckets[i]);
		putchar('\n');
	}
}

/* ---- The live view ----------------------------------------------------- */

static volatile sig_atomic_t leave_asked;
static volatile sig_atomic_t stop_asked;

static void on_leave(int signal)
{
	(void)signal;
	leave_asked = 1;
}

static void on_stop(int signal)
{
	(void)signal;
	stop_asked = 1;
}

static void on_resize(int signal)
{
	(void)signal;           /* ends ppoll(), that is all */
}

/* The signals arrive in ppoll() only; *WAITING is the mask for it. */
static void catch_signals(sigset_t *waiting)
{
	static const struct {
		int signal;
		void (*handler)(int signal);
	} handlers[] = {
		{ SIGINT, on_leave }, { SIGTERM, on_leave }, { SIGHUP, on_leave },
		{ SIGQUIT, on_leave }, { SIGTSTP, on_stop }, { SIGWINCH, on_resize },
	};
	sigset_t blocked;

	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
		struct sigaction action = { .sa_handler = handlers[i].handler };

		sigaction(handlers[i].signal, &action, NULL);
		sigaddset(&blocked, handlers[i].signal);
	}
	sigprocmask(SIG_BLOCK, &blocked, waiting);
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
		sigdelset(waiting, handlers[i].signal);
}

/* Keys one by one and not echoed.  *SAVED is what to go back to; returns false
 * if standard input is no terminal. */
static bool enter_screen(struct termios *saved)
{
	bool keys = tcgetattr(STDIN_FILENO, saved) == 0;

	if (keys) {
		struct termios raw = *saved;

		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		raw.c_cc[VMIN] = 1;
		raw.c_cc[VTIME] = 0;
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	fputs(ENTER_SCREEN, stdout);
	fflush(stdout);
	return keys;
}

static void leave_screen(bool keys, const struct termios *saved)
{
	fputs(LEAVE_SCREEN, stdout);
	fflush(stdout);
	if (keys)
		tcsetattr(STDIN_FILENO, TCSANOW, saved);
}

static size_t rows_that_fit(size_t count)
{
	struct winsize size;
	size_t lines = 24;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0)
		lines = size.ws_row;
	/* The last line stays empty: its newline would scroll the screen. */
	lines = lines > HEAD_LINES + 1 ? lines - HEAD_LINES - 1 : 1;
	return lines < count ? lines : count;
}

static void draw(const struct view *view)
{
	const struct top *top = &view->tops[view->current];
	size_t rows = rows_that_fit(top->count);

	fputs(CURSOR_HOME, stdout);
	printf("weir top: segment ");
	cli_print_key(stdout, view->cli->segment, strlen(view->cli->segment));
	printf(", by %s" ERASE_LINE, order_choice(view->order));
	printf("allowed %" PRIu64 ", denied %" PRIu64, view->allowed[view->current],
	       view->denied[view->current]);
	if (view->elapsed_ns > 0)
		printf(" (%" PRIu64 "/s, %" PRIu64 "/s)", total_rate(view, view->allowed),
		       total_rate(view, view->denied));
	printf(ERASE_LINE "c: by consumption   d: by denials   q: quit" ERASE_LINE);
	print_row_head();
	fputs(ERASE_LINE, stdout);
	for (size_t i = 0; i < rows; i++) {
		print_row(view, &top->buckets[i]);
		fputs(ERASE_LINE, stdout);
	}
	fputs(ERASE_BELOW, stdout);
	fflush(stdout);
}

/* Obey the keys that were pressed.  Returns false to leave. */
static bool read_keys(struct view *view)
{
	char keys[64];
	ssize_t length = read(STDIN_FILENO, keys, sizeof(keys));

	if (length == 0 || (length < 0 && errno != EINTR && errno != EAGAIN))
		return false;           /* the terminal is gone */
	for (ssize_t i = 0; i < length; i++) {
		if (keys[i] == 'q' || keys[i] == 'Q')
			return false;
		if (keys[i] == 'c' || keys[i] == 'd') {
			view->order = keys[i] == 'c' ? WEIR_TOP_CONSUMED : WEIR_TOP_DENIED;
			take_picture(view);
		}
	}
	return true;
}

/* ^Z: give the terminal back while we are stopped. */
static void stop(bool keys, struct termios *saved)
{
	stop_asked = 0;
	leave_screen(keys, saved);
	raise(SIGSTOP);
	enter_screen(saved);
}

static void watch(struct view *view)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	struct termios saved;
	sigset_t waiting;
	bool keys;

	catch_signals(&waiting);
	keys = enter_screen(&saved);
	take_picture(view);
	while (!leave_asked && !ferror(stdout)) {
		uint64_t age_ns = monotonic_ns() - view->taken_ns;
		uint64_t left_ns = age_ns < REFRESH_NS ? REFRESH_NS - age_ns : 0;
		struct timespec timeout = {
			.tv_sec = (time_t)(left_ns / 1000000000u),
			.tv_nsec = (long)(left_ns % 1000000000u),
		};
		int ready;

		draw(view);
		ready = ppoll(&input, keys ? 1 : 0, &timeout, &waiting);
		if (stop_asked)
			stop(keys, &saved);
		else if (ready > 0 && !read_keys(view))
			break;
		else if (ready == 0)
			take_picture(view);
	}
	leave_screen(keys, &saved);
}

int cmd_top(struct cli *cli, int argc, char **argv)
{
	struct view view = { .cli = cli };
	unsigned order = WEIR_TOP_CONSUMED;
	uint64_t count = 0;
	bool once = false;
	const struct cli_option options[] = {
		{ "by", "ORDER", "consumed (default) or denied (estimated from samples)",
		  CLI_CHOICE, &order, .choice = order_choice },
		{ "count", "N", "keys to show at most (default 20, or what fits the screen)",
		  CLI_NUMBER, &count, 1, COUNT_MAX },
		{ "once", NULL, "print once, for scripts (--json implies it)", CLI_FLAG, &once },
		CLI_OPTION_NOW(&view.now_ns),
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};

	cli_parse(cli, argc, argv, options, 0, 0);
	once |= cli->json;
	if (!once && !isatty(STDOUT_FILENO))
		cli_die(cli, "standard output is no terminal: use `weir top --once`");
	cli_open(cli);
	cli_need_keys(cli);
	cli_check_now(cli, view.now_ns, true);
	view.order = (enum weir_top_order)order;
	if (count == 0)
		count = once ? COUNT_ONCE : COUNT_LIVE;
	if (!top_init(&view.tops[0], count) || !top_init(&view.tops[1], count))
		cli_die(cli, "no memory for %" PRIu64 " keys", count);
	if (once)
		print_once(&view);
	else
		watch(&view);
	top_free(&view.tops[0]);
	top_free(&view.tops[1]);
	return CLI_OK;
}
