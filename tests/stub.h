/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stub.h - something that listens where Redis should, and says what it is told
 * to: for each piece of a connection's requests that arrives the next of its
 * answers, whatever was asked.
 */
#ifndef WEIR_TESTS_STUB_H
#define WEIR_TESTS_STUB_H

#include <stdbool.h>
#include <stddef.h>

struct stub;

struct stub_answer {
	const char *bytes;
	size_t length;
	bool close;             /* the connection, after it */
};

/* Listen on the unix socket PATH.  ANSWERS end in one without bytes and live as
 * long as the stub; each connection begins with the first. */
struct stub *stub_start(const char *path, const struct stub_answer *answers);

/* Say more over the newest connection, without being asked. */
void stub_say(struct stub *stub, const char *bytes, size_t length);

void stub_end(struct stub *stub);

#endif
