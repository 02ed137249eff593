/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-plot.c - allowed and denied over time, as an SVG file that needs nothing
 * else: no script, no font, no style sheet.
 *
 * It can be read without colours (denied is hatched) and without eyes (title,
 * description, and a title on each bar, which browsers show as a tooltip).  Its
 * size follows the width of the time axis, not the number of requests.
 */
#include "replay-plot.h"
#include "replay-error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WIDTH 960
#define HEIGHT 440
#define LEFT 68                 /* of the area with the bars */
#define RIGHT (WIDTH - 24)
#define TOP 104
#define BOTTOM (HEIGHT - 56)

#define BINS_MAX 120u
#define TIME_TICKS_MAX 9u
#define COUNT_TICKS_MAX 6u

#define ALLOWED_COLOUR "#4477aa"
#define DENIED_COLOUR "#cc3311"
#define UNAVAILABLE_COLOUR "#999999"
#define TEXT_COLOUR "#222222"
#define GRID_COLOUR "#dddddd"

#define DAY_S 86400u

/* Spans that people count time in, in seconds; a multiple of the last if none is
 * enough. */
static const uint32_t spans_s[] = {
	1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY_S,
	2 * DAY_S, 7 * DAY_S, 14 * DAY_S, 28 * DAY_S,
};

struct bin {
	uint32_t counts[3];     /* by enum replay_outcome */
};

struct plot {
	const struct replay_report *report;
	FILE *file;
	uint64_t first_s;       /* where the axis begins: a multiple of the bins' width */
	uint64_t bin_s;
	uint32_t bin_count;
	uint32_t top_count;     /* where the axis of counts ends */
	uint32_t count_step;
	struct bin bins[BINS_MAX];
};

/* ---- Scales ------------------------------------------------------------- */

/* The shortest span of which at most COUNT_MAX, begun at multiples of it, cover
 * FIRST_S to LAST_S. */
static uint64_t choose_span(uint64_t first_s, uint64_t last_s, uint32_t count_max)
{
	size_t spans = sizeof(spans_s) / sizeof(spans_s[0]);
	uint64_t span = 0;

	for (size_t i = 0; i < spans; i++) {
		span = spans_s[i];
		if (last_s / span - first_s / span < count_max)
			return span;
	}
	while (last_s / span - first_s / span >= count_max)
		span *= 2;
	return span;
}

/* 1, 2 or 5 times a power of ten, of which at most COUNT_TICKS_MAX reach MOST. */
static uint32_t choose_count_step(uint32_t most)
{
	uint64_t step = 1;

	for (;; step *= 10) {
		static const uint32_t factors[] = { 1, 2, 5 };

		for (unsigned i = 0; i < 3; i++)
			if (step * factors[i] * COUNT_TICKS_MAX >= most)
				return (uint32_t)(step * factors[i]);
	}
}

static void fill_bins(struct plot *plot)
{
	const struct replay_input *input = plot->report->input;
	uint64_t first_s = input->requests[0].time_ns / 1000000000u;
	uint64_t last_s = input->requests[input->request_count - 1].time_ns / 1000000000u;
	uint32_t most = 1;

	plot->bin_s = choose_span(first_s, last_s, BINS_MAX);
	plot->first_s = first_s / plot->bin_s * plot->bin_s;
	plot->bin_count = (uint32_t)((last_s - plot->first_s) / plot->bin_s) + 1;

	for (uint32_t i = 0; i < input->request_count; i++) {
		uint64_t time_s = input->requests[i].time_ns / 1000000000u;
		struct bin *bin = &plot->bins[(time_s - plot->first_s) / plot->bin_s];

		bin->counts[plot->report->result->outcomes[i]]++;
	}
	for (uint32_t i = 0; i < plot->bin_count; i++) {
		const uint32_t *counts = plot->bins[i].counts;
		uint32_t sum = counts[0] + counts[1] + counts[2];

		most = sum > most ? sum : most;
	}
	plot->count_step = choose_count_step(most);
	plot->top_count = (most + plot->count_step - 1) / plot->count_step * plot->count_step;
}

static double x_of(const struct plot *plot, uint64_t time_s)
{
	double span_s = (double)plot->bin_s * plot->bin_count;

	return LEFT + (double)(time_s - plot->first_s) / span_s * (RIGHT - LEFT);
}

static double y_of(const struct plot *plot, uint64_t count)
{
	return BOTTOM - (double)count / plot->top_count * (BOTTOM - TOP);
}

/* ---- Text --------------------------------------------------------------- */

/* TEXT, safe within an element: of XML and for a reader's terminal. */
static void put_text(FILE *file, const char *text)
{
	char *escaped = NULL;
	size_t size;
	FILE *memory = open_memstream(&escaped, &size);

	if (!memory)
		return;
	cli_print_message(memory, text, strlen(text));
	if (fclose(memory) == 0) {
		for (const char *at = escaped; *at; at++) {
			if (*at == '&')
				fputs("&amp;", file);
			else if (*at == '<')
				fputs("&lt;", file);
			else
				fputc(*at, file);
		}
	}
	free(escaped);
}

/* "10 min": a span in its largest whole unit. */
static void format_span(uint64_t span_s, char *text, size_t size)
{
	static const struct {
		uint32_t s;
		const char *name;
	} units[] = { { DAY_S, "day" }, { 3600, "hour" }, { 60, "minute" }, { 1, "second" } };
	unsigned i = 0;

	while (span_s % units[i].s != 0)
		i++;
	if (span_s == units[i].s)
		snprintf(text, size, "%s", units[i].name);
	else
		snprintf(text, size, "%" PRIu64 " %ss", span_s / units[i].s, units[i].name);
}

static void format_time(uint64_t time_s, const char *format, char *text, size_t size)
{
	time_t seconds = (time_t)time_s;
	struct tm utc;

	gmtime_r(&seconds, &utc);
	if (strftime(text, size, format, &utc) == 0)
		*text = '\0';
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (strcmp(path, "-") == 0)
		return "standard input";
	return slash && slash[1] ? slash + 1 : path;
}

/* What was replayed: the log and the limits. */
static void put_subject(const struct plot *plot)
{
	const struct replay_plan *plan = plot->report->plan;
	const struct weir_policy *policy = &plan->policies[0];
	char text[256];

	snprintf(text, sizeof(text), "%.100s, by ", base_name(plot->report->path));
	put_text(plot->file, text);
	if (plan->policy_count > 1) {
		fprintf(plot->file, "%" PRIu32 " policies", plan->policy_count);
		return;
	}
	for (uint32_t i = 0; i < policy->limit_count; i++) {
		weir_limit_format(&policy->limits[i], text, sizeof(text));
		fputs(i ? " and " : "", plot->file);
		put_text(plot->file, text);
	}
	fputs(" per ", plot->file);
	for (unsigned i = 0; i < plot->report->form->count; i++)
		fprintf(plot->file, "%s%s", i ? " + " : "",
			replay_field_name(plot->report->form->fields[i]));
}

/* ---- Parts -------------------------------------------------------------- */

static void put_head(const struct plot *plot)
{
	const struct replay_input *input = plot->report->input;
	const struct replay_result *result = plot->report->result;
	char first[REPLAY_TIME_SIZE], last[REPLAY_TIME_SIZE], span[32];

	format_span(plot->bin_s, span, sizeof(span));
	fprintf(plot->file,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
		"height=\"%d\" role=\"img\" aria-labelledby=\"title description\" "
		"font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"13\" "
		"fill=\"%s\">\n"
		"<title id=\"title\">Requests allowed and denied over time: ",
		WIDTH, HEIGHT, WIDTH, HEIGHT, TEXT_COLOUR);
	put_subject(plot);
	fprintf(plot->file,
		"</title>\n"
		"<desc id=\"description\">Bars of requests per %s, from %s to %s: %" PRIu32
		" requests, %" PRIu64 " allowed, %" PRIu64 " denied, %" PRIu64
		" unavailable.</desc>\n"
		"<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" "
		"patternUnits=\"userSpaceOnUse\" "
		"patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"%s\"/>"
		"<rect width=\"1.5\" height=\"6\" fill=\"#ffffff\" fill-opacity=\"0.6\"/></pattern>"
		"</defs>\n"
		"<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n"
		"<text x=\"%d\" y=\"30\" font-size=\"18\" font-weight=\"bold\">"
		"Requests allowed and denied over time</text>\n"
		"<text x=\"%d\" y=\"51\">",
		span, replay_time_text(input->requests[0].time_ns, first),
		replay_time_text(input->requests[input->request_count - 1].time_ns, last),
		input->request_count, result->allowed, result->denied, result->unavailable,
		DENIED_COLOUR, WIDTH, HEIGHT, LEFT, LEFT);
	put_subject(plot);
	fprintf(plot->file, "</text>\n");
}

static void put_legend(const struct plot *plot)
{
	const struct replay_result *result = plot->report->result;
	const struct {
		const char *name;
		const char *fill;
		uint64_t count;
	} entries[] = {
		{ "allowed", ALLOWED_COLOUR, result->allowed },
		{ "denied", "url(#hatch)", result->denied },
		{ "unavailable", UNAVAILABLE_COLOUR, result->unavailable },
	};
	unsigned shown = result->unavailable ? 3 : 2;

	/* From the right, above the bars: the entries are of one width. */
	for (unsigned i = 0; i < shown; i++) {
		int x = RIGHT - 180 * (int)(shown - i);

		fprintf(plot->file,
			"<rect x=\"%d\" y=\"%d\" width=\"14\" height=\"14\" fill=\"%s\"/>"
			"<text x=\"%d\" y=\"%d\">%s (%" PRIu64 ")</text>\n",
			x, TOP - 34, entries[i].fill, x + 20, TOP - 22, entries[i].name,
			entries[i].count);
	}
}

static void put_count_axis(const struct plot *plot)
{
	char span[32];

	format_span(plot->bin_s, span, sizeof(span));
	fprintf(plot->file, "<text x=\"%d\" y=\"%d\">requests per %s (times in UTC)</text>\n", LEFT,
		TOP - 22, span);
	for (uint64_t count = 0; count <= plot->top_count; count += plot->count_step) {
		double y = y_of(plot, count);

		fprintf(plot->file,
			"<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"%s\"/>"
			"<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%" PRIu64 "</text>\n",
			LEFT, y, RIGHT, y, count ? GRID_COLOUR : TEXT_COLOUR, LEFT - 8, y + 4.5,
			count);
	}
}

static void put_bar(const struct plot *plot, uint32_t index)
{
	static const char *const fills[] = { ALLOWED_COLOUR, "url(#hatch)", UNAVAILABLE_COLOUR };
	const uint32_t *counts = plot->bins[index].counts;
	uint64_t from_s = plot->first_s + index * plot->bin_s;
	double x = x_of(plot, from_s);
	double width = x_of(plot, from_s + plot->bin_s) - x;
	char time[REPLAY_TIME_SIZE];
	uint64_t below = 0;

	if (counts[0] + counts[1] + counts[2] == 0)
		return;
	format_time(from_s, "%Y-%m-%d %H:%M:%S", time, sizeof(time));
	fprintf(plot->file, "<g><title>%s UTC: %" PRIu32 " allowed, %" PRIu32 " denied", time,
		counts[REPLAY_ALLOWED], counts[REPLAY_DENIED]);
	if (counts[REPLAY_UNAVAILABLE])
		fprintf(plot->file, ", %" PRIu32 " unavailable", counts[REPLAY_UNAVAILABLE]);
	fputs("</title>", plot->file);
	for (unsigned i = 0; i < 3; i++) {
		double y = y_of(plot, below + counts[i]);

		if (counts[i])
			fprintf(plot->file,
				"<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" "
				"fill=\"%s\"/>",
				x + 0.5, y, width > 400 ? 400 : width - 1, y_of(plot, below) - y,
				fills[i]);
		below += counts[i];
	}
	fputs("</g>\n", plot->file);
}

/* Two lines: the time, and below it the date where it changes (the day, and
 * below it the year, if ticks are days apart). */
static void put_time_axis(const struct plot *plot)
{
	uint64_t end_s = plot->first_s + plot->bin_s * plot->bin_count;
	uint64_t step_s = choose_span(plot->first_s, end_s, TIME_TICKS_MAX);
	bool days = step_s >= DAY_S;
	char shown[32] = "";

	for (uint64_t time_s = (plot->first_s + step_s - 1) / step_s * step_s; time_s <= end_s;
	     time_s += step_s) {
		double x = x_of(plot, time_s);
		char above[32], below[32];

		format_time(time_s, days ? "%-d %b" : step_s < 60 ? "%H:%M:%S" : "%H:%M", above,
			    sizeof(above));
		format_time(time_s, days ? "%Y" : "%-d %b %Y", below, sizeof(below));
		fprintf(plot->file,
			"<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"%s\"/>"
			"<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
			x, BOTTOM, x, BOTTOM + 5, TEXT_COLOUR, x, BOTTOM + 20, above);
		if (strcmp(below, shown) != 0)
			fprintf(plot->file,
				"<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x,
				BOTTOM + 38, below);
		strcpy(shown, below);
	}
}

static void put_plot(struct plot *plot)
{
	fill_bins(plot);
	put_head(plot);
	put_legend(plot);
	put_count_axis(plot);
	for (uint32_t i = 0; i < plot->bin_count; i++)
		put_bar(plot, i);
	put_time_axis(plot);
	fputs("</svg>\n", plot->file);
}

int replay_plot(const char *path, const struct replay_report *report, struct weir_error *error)
{
	struct plot *plot = calloc(1, sizeof(*plot));

	if (!plot)
		return replay_error_set(error, WEIR_ENOMEM, "no memory for the plot %s", path);
	plot->report = report;
	plot->file = fopen(path, "we");

	bool failed = !plot->file;

	if (plot->file) {
		put_plot(plot);
		failed = ferror(plot->file) != 0;
		failed |= fclose(plot->file) != 0;
	}
	free(plot);
	if (failed)
		return replay_error_set(
			error, WEIR_ESYSTEM,
			"cannot write the plot %s: %s: give --plot the name of a file in "
			"a folder that exists and has room",
			path, strerror(errno));
	return 0;
}
