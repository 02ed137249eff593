/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-hosts-plot.c - over-admission beside its bound, as an SVG file that needs
 * nothing else.
 *
 * A row for each mode and limit, on a logarithmic axis of percents of the burst: modes
 * differ by factors of a hundred.  It can be read without colours and without eyes.
 */
#include "replay-hosts-report.h"
#include "replay-error.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define WIDTH 960
#define LEFT 220                /* of the bars */
#define RIGHT (WIDTH - 190)
#define TOP 96
#define ROW 34
#define BAR 16
#define LEAST 0.01              /* percent: where the axis begins */
#define DECADES_MAX 12

#define BAR_COLOUR "#4477aa"
#define ABOVE_COLOUR "#cc3311"
#define TEXT_COLOUR "#222222"
#define GRID_COLOUR "#dddddd"

struct plot {
	const struct replay_hosts_report *report;
	FILE *file;
	unsigned rows;
	int decades;            /* of the axis */
	int bottom;
};

struct row {
	const struct replay_mode_measure *mode;
	const struct replay_policy_measure *policy;
	uint32_t number, limit; /* of the policy, of its limit */
	double over, bound;     /* percent of the burst */
};

/* Call VISIT for each row. */
static void each_row(struct plot *plot, void (*visit)(struct plot *plot, const struct row *row))
{
	const struct replay_hosts_report *report = plot->report;

	plot->rows = 0;
	for (uint32_t i = 0; i < report->plan->policy_count; i++) {
		const struct weir_policy *policy = &report->accelerated->policies[i];

		for (uint32_t j = 0; j < policy->limit_count; j++) {
			const struct weir_limit *limit = &policy->limits[j];
			double percent = 100 / (double)limit->burst;

			for (unsigned k = 0; k < report->measure_count; k++) {
				const struct replay_mode_measure *mode = &report->measures[k];
				const struct replay_policy_measure *measure = &mode->policies[i];
				const struct row row = {
					mode, measure, i, j,
					replay_tokens(measure->limits[j].over, limit) * percent,
					replay_tokens(measure->limits[j].bound, limit) * percent,
				};

				visit(plot, &row);
				plot->rows++;
			}
		}
	}
}

static void fit(struct plot *plot, const struct row *row)
{
	double most = row->over > row->bound ? row->over : row->bound;

	while (LEAST * pow(10, plot->decades) < most && plot->decades < DECADES_MAX)
		plot->decades++;
}

static double x_of(const struct plot *plot, double percent)
{
	double decades = percent > LEAST ? log10(percent / LEAST) : 0;

	if (decades > plot->decades)
		decades = plot->decades;
	return LEFT + decades / plot->decades * (RIGHT - LEFT);
}

static void put_row(struct plot *plot, const struct row *row)
{
	const struct weir_policy *policy = &plot->report->plan->policies[row->number];
	enum replay_verdict verdict = replay_verdict_of(row->policy, row->limit);
	const char *mode = weir_consistency_name(row->mode->mode);
	int y = TOP + ROW * (int)plot->rows;
	char limit[96];

	weir_limit_format(&policy->limits[row->limit], limit, sizeof(limit));
	fprintf(plot->file,
		"<g><title>%s, %s, %s: %.3f %% of the burst beyond the limit, %s %.3f %%</title>"
		"<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s, %.40s</text>",
		mode, policy->name, limit, row->over,
		verdict == REPLAY_NO_VERDICT ? "by the fail mode; without it the bound is" : "bound",
		row->bound, LEFT - 10, y + BAR - 3, mode, policy->name);
	fprintf(plot->file,
		"<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>",
		LEFT, y, x_of(plot, row->over) - LEFT, BAR,
		verdict == REPLAY_ABOVE ? ABOVE_COLOUR : BAR_COLOUR);
	if (verdict != REPLAY_NO_VERDICT)
		fprintf(plot->file,
			"<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"%s\" "
			"stroke-width=\"2.5\"/>",
			x_of(plot, row->bound), y - 4, x_of(plot, row->bound), y + BAR + 4,
			TEXT_COLOUR);
	fprintf(plot->file, "<text x=\"%d\" y=\"%d\">%.2f %%, admitted %.3f</text></g>\n",
		RIGHT + 14, y + BAR - 3, row->over, replay_admitted_to_ideal(row->policy));
}

static void put_head(const struct plot *plot)
{
	const struct replay_hosts_options *options = plot->report->options;
	int height = plot->bottom + 60;

	fprintf(plot->file,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
		"height=\"%d\" role=\"img\" aria-labelledby=\"title description\" "
		"font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"13\" "
		"fill=\"%s\">\n"
		"<title id=\"title\">Over-admission of %u hosts, by consistency mode</title>\n"
		"<desc id=\"description\">Bars: over-admission in percent of the burst, on a "
		"logarithmic axis. Strokes: the bound of the mode. %" PRIu32
		" requests.</desc>\n"
		"<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n"
		"<text x=\"24\" y=\"30\" font-size=\"18\" font-weight=\"bold\">"
		"Over-admission of %u hosts, by consistency mode</text>\n"
		"<text x=\"24\" y=\"52\">%% of the burst, a round every %g ms; strokes are the "
		"bounds; on the right, admitted by ideal</text>\n",
		WIDTH, height, WIDTH, height, TEXT_COLOUR, options->hosts,
		plot->report->input->request_count, WIDTH, height, options->hosts,
		(double)options->sync.interval_ns / 1e6);
}

static void put_axis(const struct plot *plot)
{
	for (int i = 0; i <= plot->decades; i++) {
		double percent = LEAST * pow(10, i), x = x_of(plot, percent);

		fprintf(plot->file,
			"<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"%s\"/>"
			"<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g %%</text>\n",
			x, TOP - 12, x, plot->bottom, GRID_COLOUR, x, plot->bottom + 20, percent);
	}
}

int replay_hosts_plot(const char *path, const struct replay_hosts_report *report,
		      struct weir_error *error)
{
	struct plot plot = { .report = report, .decades = 1, .file = fopen(path, "we") };
	bool failed = !plot.file;

	if (plot.file) {
		each_row(&plot, fit);
		plot.bottom = TOP + ROW * (int)plot.rows;
		put_head(&plot);
		put_axis(&plot);
		each_row(&plot, put_row);
		fputs("</svg>\n", plot.file);
		failed = ferror(plot.file) != 0;
		failed |= fclose(plot.file) != 0;
	}
	if (failed)
		return replay_error_set(
			error, WEIR_ESYSTEM,
			"cannot write the plot %s: %s: give --plot the name of a file in a folder "
			"that exists and has room", path, strerror(errno));
	return 0;
}
