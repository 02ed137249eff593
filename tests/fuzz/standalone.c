/* SPDX-License-Identifier: Apache-2.0 */
/*
 * standalone.c - a main() for a libFuzzer entry point, where there is no
 * libFuzzer: plain `meson test` with gcc runs each harness over its corpus and
 * then over a fixed number of mutations of it, the same ones on every run.
 *
 *	fuzz_NAME MUTATIONS PATH...
 *
 * A PATH is an input, or a directory of inputs.  If an input brings the program
 * down, it is written to crash-input in the current directory; run it again by
 * `fuzz_NAME 0 crash-input`.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUTS_MAX 4096
#define INPUT_SIZE_MAX (1u << 20)
#define EDITS_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* There when this is linked with a sanitizer. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

struct input {
	uint8_t *data;
	size_t size;
};

static struct input inputs[INPUTS_MAX];
static size_t input_count;

/* The input under way, for keep_input(). */
static struct input current;

static void keep_input(void)
{
	int fd = open("crash-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd >= 0 && write(fd, current.data, current.size) == (ssize_t)current.size)
		dprintf(STDERR_FILENO, "the input is in crash-input (%zu bytes)\n", current.size);
}

static void keep_input_and_die(int signal_number)
{
	keep_input();
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

static void die(const char *what, const char *path)
{
	fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
	exit(2);
}

/* From memory of exactly the right size, so that ASan sees a read beyond it. */
static void run(const uint8_t *data, size_t size)
{
	current.data = malloc(size ? size : 1);
	if (!current.data)
		die("no memory for", "an input");
	current.size = size;
	if (size > 0)
		memcpy(current.data, data, size);
	LLVMFuzzerTestOneInput(current.data, size);
	free(current.data);
}

static void read_input(const char *path)
{
	struct input *input = &inputs[input_count];
	FILE *file = fopen(path, "rb");

	if (!file)
		die("cannot open", path);
	if (input_count == INPUTS_MAX) {
		fprintf(stderr, "more than %d inputs; remove some\n", INPUTS_MAX);
		exit(2);
	}
	input->data = malloc(INPUT_SIZE_MAX);
	if (!input->data)
		die("no memory for", path);
	input->size = fread(input->data, 1, INPUT_SIZE_MAX, file);
	if (ferror(file))
		die("cannot read", path);
	fclose(file);
	input->data = realloc(input->data, input->size ? input->size : 1);
	input_count++;
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* In the order of their names, so that every machine makes the same mutations. */
static void read_inputs(const char *path)
{
	struct dirent **entries;
	struct stat status;
	int count;

	if (stat(path, &status) < 0)
		die("cannot find", path);
	if (!S_ISDIR(status.st_mode)) {
		read_input(path);
		return;
	}
	count = scandir(path, &entries, is_visible, alphasort);
	if (count < 0)
		die("cannot list", path);
	for (int i = 0; i < count; i++) {
		char *name;

		if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
			die("no memory for", path);
		read_input(name);
		free(name);
		free(entries[i]);
	}
	free(entries);
}

/* ---- Mutations --------------------------------------------------------- */

/* SplitMix64. */
static uint64_t next_random(void)
{
	static uint64_t state = 20240229;
	uint64_t z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static size_t below(size_t bound)
{
	return (size_t)(next_random() % bound);
}

/* Take REMOVED bytes out at OFFSET and put ADDED bytes of FROM there, which may
 * be in the buffer itself. */
static size_t replace(uint8_t *data, size_t size, size_t offset, size_t removed,
		      const uint8_t *from, size_t added)
{
	static uint8_t piece[INPUT_SIZE_MAX];

	if (size - removed + added > INPUT_SIZE_MAX)
		return size;
	memcpy(piece, from, added);
	memmove(data + offset + added, data + offset + removed, size - offset - removed);
	memcpy(data + offset, piece, added);
	return size - removed + added;
}

static const uint8_t interesting[] = {
	0x00, 0x01, 0x7f, 0x80, 0xff, '\t', '\n', ' ', '"', '#', '&', '*', '-', '/', '0', '1', '9',
	':', '?', '[', '\\', ']', '{', '}',
};

static size_t edit(uint8_t *data, size_t size)
{
	size_t offset = below(size + 1);
	size_t length = size > offset ? 1 + below(size - offset < 32 ? size - offset : 32) : 0;
	const struct input *other = &inputs[below(input_count)];
	size_t other_offset = below(other->size + 1);
	size_t other_rest = other->size - other_offset;
	size_t other_length = other_rest > 0 ? 1 + below(other_rest) : 0;
	uint8_t byte = interesting[below(sizeof(interesting))];

	switch (below(8)) {
	case 0:                                 /* flip a bit */
		if (length > 0)
			data[offset] ^= (uint8_t)(1u << below(8));
		return size;
	case 1:                                 /* any byte */
		if (length > 0)
			data[offset] = (uint8_t)next_random();
		return size;
	case 2:
		if (length > 0)
			data[offset] = byte;
		return size;
	case 3:
		return replace(data, size, offset, 0, &byte, 1);
	case 4:                                 /* remove some */
		return replace(data, size, offset, length, &byte, 0);
	case 5:                                 /* repeat some */
		return replace(data, size, offset, 0, data + offset, length);
	case 6:                                 /* cut the end off */
		return offset;
	default:                                /* a piece of another input */
		return replace(data, size, offset, length, other->data + other_offset,
			       other_length);
	}
}

static void run_mutation(void)
{
	static uint8_t data[INPUT_SIZE_MAX];
	const struct input *input = &inputs[below(input_count)];
	size_t size = input->size;
	size_t edits = 1 + below(EDITS_MAX);

	memcpy(data, input->data, size);
	while (edits-- > 0)
		size = edit(data, size);
	run(data, size);
}

int main(int argc, char **argv)
{
	unsigned long mutations;
	char *end;

	if (argc < 3 || (mutations = strtoul(argv[1], &end, 10), *end != '\0')) {
		fprintf(stderr, "usage: %s MUTATIONS PATH...\n", argv[0]);
		return 2;
	}
	for (int i = 2; i < argc; i++)
		read_inputs(argv[i]);
	if (input_count == 0) {
		fprintf(stderr, "there are no inputs in %s; add some\n", argv[2]);
		return 2;
	}

	signal(SIGABRT, keep_input_and_die);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(keep_input);

	for (size_t i = 0; i < input_count; i++)
		run(inputs[i].data, inputs[i].size);
	for (unsigned long i = 0; i < mutations; i++)
		run_mutation();

	printf("%zu inputs and %lu mutations of them\n", input_count, mutations);
	for (size_t i = 0; i < input_count; i++)
		free(inputs[i].data);
	return 0;
}
