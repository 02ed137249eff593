/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input overwrites a segment: its first byte says whether in a file that is
 * then opened (with or without a header whose checksum is right), or in a mapping
 * that is in use.  Eight bytes follow that select keys, costs and times, then
 * edits of ten bytes each: a place (modulo the size) and a word.
 */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/hostile.h"

enum { IN_USE = 0, IN_FILE = 1, IN_FILE_WITH_CHECKSUM = 2 };

static struct hostile hostile;

static uint64_t little_endian(const uint8_t *data, size_t size)
{
	uint64_t word = 0;

	while (size-- > 0)
		word = word << 8 | data[size];
	return word;
}

static void edit(unsigned char *bytes, const uint8_t *data, size_t size)
{
	for (; size >= 10; data += 10, size -= 10) {
		size_t place = little_endian(data, 2) * 8 % hostile.size;
		uint64_t word = little_endian(data + 2, 8);

		memcpy(bytes + place, &word, sizeof(word));
	}
}

static void edit_file(const uint8_t *data, size_t size, bool fix_checksum, uint64_t choice)
{
	unsigned char *bytes = malloc(hostile.size);

	must(bytes);
	memcpy(bytes, hostile.pristine, hostile.size);
	edit(bytes, data, size);
	hostile_open(&hostile, bytes, hostile.size, fix_checksum, choice);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t choice;

	if (!hostile.weir)
		hostile_start(&hostile);
	if (size < 9)
		return 0;
	choice = little_endian(data + 1, 8);
	if (data[0] % 3 == IN_USE) {
		hostile_restore(&hostile);
		edit(hostile.bytes, data + 9, size - 9);
		hostile_operate(&hostile, choice);
	} else {
		edit_file(data + 9, size - 9, data[0] % 3 == IN_FILE_WITH_CHECKSUM, choice);
	}
	return 0;
}
