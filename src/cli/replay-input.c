/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-input.h"
#include "replay-error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define BUFFER_SIZE (4u * REPLAY_LINE_MAX)
#define PROGRESS_LINES 65536u   /* a power of two: some tens of milliseconds */

struct reader {
	gzFile file;
	const char *name;       /* of the log, in messages */
	bool end;
	size_t from, to;        /* what of the buffer has not been consumed */
	uint8_t key[REPLAY_KEY_SIZE];
	char buffer[BUFFER_SIZE];
};

static int reader_error(const struct reader *reader, uint64_t line, struct weir_error *error)
{
	int saved = errno;
	int status;
	const char *message = gzerror(reader->file, &status);

	if (status == Z_ERRNO)
		return replay_error_set(error, WEIR_ESYSTEM, "cannot read %s after line %llu: %s",
					reader->name, (unsigned long long)line, strerror(saved));
	return replay_error_set(
		error, WEIR_EINVAL,
		"%s is damaged after line %llu (%s): unpack it with gzip -dc to see "
		"what can be saved",
		reader->name, (unsigned long long)line, message);
}

/* More of the log behind what the buffer holds. */
static int reader_fill(struct reader *reader, uint64_t line, struct weir_error *error)
{
	size_t have = reader->to - reader->from;

	memmove(reader->buffer, reader->buffer + reader->from, have);
	reader->from = 0;
	reader->to = have;

	int count = gzread(reader->file, reader->buffer + have, (unsigned)(BUFFER_SIZE - have));
	int status;

	if (count > 0) {
		reader->to += (size_t)count;
		return 0;
	}
	/* zlib tells a stream that was cut off as the end, and an error beside it. */
	gzerror(reader->file, &status);
	if (count < 0 || status < 0)
		return reader_error(reader, line, error);
	reader->end = true;
	return 0;
}

/* The next line, without its newline.  Of a line above REPLAY_LINE_MAX, which is
 * malformed, only the first REPLAY_LINE_MAX bytes are right; its length is above
 * REPLAY_LINE_MAX.  Returns 1, 0 at the end, or an error. */
static int reader_next(struct reader *reader, uint64_t number, const char **line, size_t *length,
		       struct weir_error *error)
{
	size_t searched = 0;    /* bytes of the line known to hold no newline */

	for (;;) {
		const char *from = reader->buffer + reader->from;
		size_t have = reader->to - reader->from;
		const char *newline = memchr(from + searched, '\n', have - searched);

		if (newline || (reader->end && have > 0)) {
			*line = from;
			*length = newline ? (size_t)(newline - from) : have;
			reader->from += *length + (newline != NULL);
			return 1;
		}
		if (reader->end)
			return 0;

		searched = have;
		if (have > REPLAY_LINE_MAX) {   /* make room: too long already */
			searched = REPLAY_LINE_MAX + 1;
			reader->to = reader->from + searched;
		}

		int status = reader_fill(reader, number, error);

		if (status)
			return status;
	}
}

static void keep_example(struct replay_input *input, const char *line, size_t length,
			 const char *reason)
{
	if (input->example_count == REPLAY_EXAMPLES)
		return;

	struct replay_example *example = &input->examples[input->example_count++];

	example->line = input->lines;
	example->reason = reason;
	example->cut = length > REPLAY_EXAMPLE_BYTES;
	example->length = example->cut ? REPLAY_EXAMPLE_BYTES : (uint32_t)length;
	memcpy(example->bytes, line, example->length);
}

static int add_request(struct replay_input *input, uint64_t time_ns, uint32_t key,
		       struct weir_error *error)
{
	if (input->request_count == input->requests_size) {
		uint32_t size = input->requests_size ? input->requests_size * 2 : 16384;
		struct replay_request *requests =
			size ? reallocarray(input->requests, size, sizeof(*requests)) : NULL;

		if (!requests)
			return replay_error_set(
				error, WEIR_ENOMEM,
				"no memory for the requests of the log (%u so far): "
				"replay a part of the log",
				input->request_count);
		input->requests = requests;
		input->requests_size = size;
	}

	uint64_t latest_ns =
		input->request_count ? input->requests[input->request_count - 1].time_ns : 0;

	input->steps_back += time_ns < input->last_logged_ns;
	input->held += time_ns < latest_ns;
	input->last_logged_ns = time_ns;
	input->requests[input->request_count++] = (struct replay_request){
		.time_ns = time_ns > latest_ns ? time_ns : latest_ns,
		.key = key,
	};
	return 0;
}

static int read_lines(struct replay_input *input, struct reader *reader,
		      const struct replay_key_form *form, bool progress,
		      struct weir_error *error)
{
	struct replay_line parsed;
	const char *line = NULL;
	size_t length = 0;
	uint32_t key;
	int status;

	while ((status = reader_next(reader, input->lines, &line, &length, error)) > 0) {
		const char *reason = replay_log_parse(line, length, &parsed);

		input->lines++;
		if (progress && input->lines % PROGRESS_LINES == 0)
			fprintf(stderr, "\rweir: read %llu lines",
				(unsigned long long)input->lines);
		if (reason) {
			input->malformed++;
			keep_example(input, line, length, reason);
			continue;
		}
		length = replay_key_build(form, &parsed, reader->key);
		status = replay_key_set_add(&input->keys, reader->key, length, &key, error);
		if (!status)
			status = add_request(input, parsed.time_ns, key, error);
		if (status)
			return status;
	}
	return status;
}

static int no_request(const struct replay_input *input, const char *name, struct weir_error *error)
{
	const struct replay_example *example = &input->examples[0];

	if (input->lines == 0)
		return replay_error_set(error, WEIR_EINVAL, "%s is empty: give an access log",
					name);
	return replay_error_set(
		error, WEIR_EINVAL,
		"%s has no line in the common or combined log format (%llu line%s): "
		"line %llu: %s: %.*s",
		name, (unsigned long long)input->lines, input->lines == 1 ? "" : "s",
		(unsigned long long)example->line, example->reason, (int)example->length,
		example->bytes);
}

static int open_log(struct reader *reader, const char *path, struct weir_error *error)
{
	if (strcmp(path, "-") == 0) {
		int fd = dup(STDIN_FILENO);

		reader->name = "stdin";
		reader->file = fd < 0 ? NULL : gzdopen(fd, "rb");
		if (!reader->file && fd >= 0)
			close(fd);
	} else {
		reader->name = path;
		errno = 0;
		reader->file = gzopen(path, "rbe");
	}
	if (!reader->file)
		return replay_error_set(error, errno == ENOENT ? WEIR_ENOENT : WEIR_ESYSTEM,
					"cannot open the log %s: %s", reader->name,
					strerror(errno ? errno : ENOMEM));
	gzbuffer(reader->file, 128 * 1024);
	return 0;
}

int replay_input_read(struct replay_input *input, const char *path,
		      const struct replay_key_form *form, bool progress,
		      struct weir_error *error)
{
	struct reader *reader = calloc(1, sizeof(*reader));

	*input = (struct replay_input){ 0 };
	if (!reader)
		return replay_error_set(error, WEIR_ENOMEM, "no memory to read %s", path);

	int status = open_log(reader, path, error);

	if (!status)
		status = replay_key_set_init(&input->keys, error);
	if (!status)
		status = read_lines(input, reader, form, progress, error);
	if (progress && input->lines >= PROGRESS_LINES)
		fputs("\r\033[K", stderr);
	if (!status && input->request_count == 0)
		status = no_request(input, reader->name, error);
	if (status)
		replay_input_free(input);
	if (reader->file)
		gzclose(reader->file);
	free(reader);
	return status;
}

void replay_input_free(struct replay_input *input)
{
	replay_key_set_free(&input->keys);
	free(input->requests);
	*input = (struct replay_input){ 0 };
}
