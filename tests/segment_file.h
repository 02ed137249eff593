/* SPDX-License-Identifier: Apache-2.0 */
/* segment_file.h - a segment's file, for the tests that make and open it. */
#ifndef WEIR_TESTS_SEGMENT_FILE_H
#define WEIR_TESTS_SEGMENT_FILE_H

#include "tests/support.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define STRANGER      12345 /* a user who owns nothing here */
#define CREW	      54321 /* a group */

/* Each test has a segment NAME, which nobody has open: the file PATH in FOLDER,
 * made with OPTIONS.  ERROR is the last one. */
extern char name[128], path[160], folder[160];
extern struct weir_options options;
extern struct weir_error error;

/* Add TESTS, which have such a segment.  Returns their case. */
TCase *segment_file_add(Suite *suite, const char *part, const TTest *const *tests, size_t count);

/* Open the segment and close it.  Returns weir_open()'s status, with ERROR. */
int open_status(void);

/* That status is WANTED, and the message SAYS so; or it is WEIR_OK. */
void open_fails(int wanted, const char *says);
void open_works(void);

unsigned files_in(const char *directory);

/* Root can try what other users may do.  False, with a word, for others. */
bool is_root(void);

#endif
