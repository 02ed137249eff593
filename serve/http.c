/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "serve/server.h"

/* A client may write "http://HOST/path" for "/path" (RFC 9112, 3.2.2). */
static const char *skip_authority(const char *path)
{
	if (strncasecmp(path, "http://", 7) == 0)
		path += 7;
	else if (strncasecmp(path, "https://", 8) == 0)
		path += 8;
	else
		return path;
	path += strcspn(path, "/");
	return *path ? path : "/";
}

const struct http_page *http_page(const struct options *options, const char *path)
{
	path = skip_authority(path);
	if (options->metrics_path && strcmp(path, options->metrics_path) == 0)
		path = "/metrics";
	for (const struct http_page *page = http_pages; page->path; page++) {
		if (strcmp(page->path, path) == 0)
			return page;
	}
	return NULL;
}

/* ---- Answering --------------------------------------------------------- */

void http_field(struct http_request *request, const char *name, const char *format, ...)
{
	struct http_field *field = &request->fields[request->field_count];
	va_list arguments;

	if (request->field_count == HTTP_FIELDS_MAX)
		return;
	request->field_count++;
	field->name = name;
	va_start(arguments, format);
	vsnprintf(field->value, sizeof(field->value), format, arguments);
	va_end(arguments);
}

void http_reply(struct http_request *request, unsigned status, const char *type,
		const char *text, size_t length)
{
	struct MHD_Response *response;

	if (request->answered)
		return;
	request->answered = true;
	response = MHD_create_response_from_buffer(length, (void *)text, MHD_RESPMEM_MUST_COPY);
	if (!response) {
		request->result = MHD_NO;       /* no memory: the connection is closed */
		return;
	}
	MHD_add_response_header(response, "Content-Type", type);
	if (request->ends_connection || atomic_load(&request->loop->server->draining))
		MHD_add_response_header(response, "Connection", "close");
	/* An answer of now is wrong a moment later. */
	MHD_add_response_header(response, "Cache-Control", "no-store");
	for (size_t i = 0; i < request->field_count; i++)
		MHD_add_response_header(response, request->fields[i].name,
					request->fields[i].value);
	request->result = MHD_queue_response(request->connection, status, response);
	MHD_destroy_response(response);
}

void http_reply_json(struct http_request *request, unsigned status, const char *type,
		     json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	size_t length = text ? strlen(text) : 0;

	json_decref(value);
	if (text)
		text[length++] = '\n';  /* in the place of the zero */
	http_reply(request, text ? status : MHD_HTTP_INTERNAL_SERVER_ERROR, type, text ? text : "",
		   length);
	free(text);
}

void http_fail(struct http_request *request, unsigned status, const char *format, ...)
{
	char detail[1024];
	va_list arguments;
	json_t *string;

	va_start(arguments, format);
	vsnprintf(detail, sizeof(detail), format, arguments);
	va_end(arguments);
	/* What a client sent may stand in it, and need not be UTF-8. */
	string = json_string(detail);
	if (!string) {
		for (char *byte = detail; *byte; byte++) {
			if ((unsigned char)*byte >= 0x80)
				*byte = '?';
		}
		string = json_string(detail);
	}
	http_reply_json(request, status, HTTP_PROBLEM,
			json_pack("{s:s, s:i, s:o}", "title", MHD_get_reason_phrase_for(status),
				  "status", (int)status, "detail", string));
}

/* Values and names outside of strings: none takes more than some hundred bytes, and a
 * microsecond. */
static size_t count_values(const char *text, size_t length)
{
	bool string = false;
	size_t count = 0;

	for (size_t i = 0; i < length; i++) {
		if (text[i] == '"')
			string = !string;
		else if (string)
			i += text[i] == '\\';  /* what follows ends no string */
		else
			count += text[i] == ',' || text[i] == '[' || text[i] == '{';
	}
	return count;
}

json_t *http_read_json(struct http_request *request, const char *wanted)
{
	const char *body = request->body ? request->body : "";
	size_t count = count_values(body, request->body_length);
	json_error_t error;
	json_t *value;

	if (count > HTTP_VALUES_MAX) {
		http_fail(request, MHD_HTTP_CONTENT_TOO_LARGE, "the body has %zu values; send %u at "
			  "most", count, HTTP_VALUES_MAX);
		return NULL;
	}
	value = json_loadb(body, request->body_length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
			   &error);
	if (!value)
		http_fail(request, MHD_HTTP_BAD_REQUEST, "the body is not JSON: %s (line %d, column "
			  "%d); send %s", error.text, error.line, error.column, wanted);
	return value;
}

static const char *methods_allowed(unsigned methods)
{
	return methods == HTTP_POST ? "POST" : methods == HTTP_GET ? "GET, HEAD" :
								     "GET, HEAD, POST";
}

void http_answer(struct http_request *request)
{
	const struct http_page *page = request->page;
	char paths[256] = "";

	if (!page) {
		for (page = http_pages; page->path; page++)
			snprintf(paths + strlen(paths), sizeof(paths) - strlen(paths), "%s%s",
				 *paths ? ", " : "", page->path);
		http_fail(request, MHD_HTTP_NOT_FOUND, "there is nothing at this path; ask for one "
			  "of %s", paths);
	} else if (!(page->methods & request->method)) {
		http_field(request, "Allow", "%s", methods_allowed(page->methods));
		http_fail(request, MHD_HTTP_METHOD_NOT_ALLOWED, "%s does not take this method; use "
			  "%s", page->path, methods_allowed(page->methods));
	} else {
		page->answer(request);
	}
}
