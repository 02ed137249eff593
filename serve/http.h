/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - HTTP/1.1: pages, and how one answers.
 *
 * libmicrohttpd reads requests and writes answers; each listening socket of a loop has a
 * daemon of it, which the loop's events drive (http_room.c).  A page is a path with a
 * function that answers in place, as a gRPC method does.
 *
 * ERRORS are application/problem+json (RFC 9457): title, status, and a detail that says
 * what was wrong, with which value, and what to do.
 *
 * THREADS: a request belongs to its loop's thread.
 */
#ifndef WEIR_SERVE_HTTP_H
#define WEIR_SERVE_HTTP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include <jansson.h>
#include <microhttpd.h>

#include "serve/loop.h"

#define HTTP_VALUES_MAX 65536u  /* in a body: others wait while it is read */
#define HTTP_FIELDS_MAX 12      /* headers that an answer has of its own */

struct http_request;

enum http_methods {
	HTTP_GET = 1,           /* and HEAD */
	HTTP_POST = 2,
};

struct http_page {
	const char *path;
	unsigned methods;               /* enum http_methods, or-ed */
	void (*answer)(struct http_request *request);
};

/* A header of an answer.  NAME is static; the value is short: numbers and names. */
struct http_field {
	const char *name;
	char value[512];
};

struct http_request {
	struct loop *loop;
	struct MHD_Connection *connection;
	const struct http_page *page;   /* NULL: there is none at this path */
	unsigned method;
	char *body;                     /* of a POST, or NULL */
	size_t body_length;
	size_t body_room;
	struct http_field fields[HTTP_FIELDS_MAX];
	size_t field_count;
	enum MHD_Result result;         /* what MHD said to the answer */
	bool answered;
	bool ends_connection;           /* with the answer */
};

/* Give the answer that follows a header.  VALUE is cut to what there is room for. */
void http_field(struct http_request *request, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Answer with LENGTH bytes at TEXT, which are copied.  The first answer counts. */
void http_reply(struct http_request *request, unsigned status, const char *type,
		const char *text, size_t length);

/* Answer with a JSON value, which is taken over; NULL: there was no memory for it. */
void http_reply_json(struct http_request *request, unsigned status, const char *type,
		     json_t *value);

/* Answer with an error. */
void http_fail(struct http_request *request, unsigned status, const char *format, ...)
	__attribute__((format(printf, 3, 4), cold));

/* The body as JSON, for the caller to give back; NULL: it is none, or has too many values,
 * and the request is answered: "...; send WANTED". */
json_t *http_read_json(struct http_request *request, const char *wanted);

/* The rooms' own. */
void http_answer(struct http_request *request);
const struct http_page *http_page(const struct options *options, const char *path);

/* All pages, in http_pages.c: an entry without path ends the table. */
extern const struct http_page http_pages[];

#define HTTP_JSON "application/json"
#define HTTP_PROBLEM "application/problem+json"

#endif
