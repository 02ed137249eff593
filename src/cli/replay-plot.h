/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CLI_REPLAY_PLOT_H
#define WEIR_CLI_REPLAY_PLOT_H

#include "replay-report.h"

/* Draw the requests over the log's time, as bars of allowed and denied ones, to
 * the SVG file PATH.  Errors: WEIR_ESYSTEM, WEIR_ENOMEM. */
int replay_plot(const char *path, const struct replay_report *report, struct weir_error *error);

#endif
