/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-key.h"
#include "replay-error.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PREFIX_BYTES 4u

/* Fields are disjoint parts of a line, and a line has more than this in between
 * (brackets, quotes and a date): a key always fits. */
_Static_assert(REPLAY_KEY_SIZE >= REPLAY_LINE_MAX, "a key must hold the fields of any line");
_Static_assert(PREFIX_BYTES * REPLAY_FIELD_COUNT < 28, "the date alone makes room for the lengths");

static const char *const field_names[REPLAY_FIELD_COUNT] = {
	[REPLAY_ADDR] = "addr",
	[REPLAY_USER] = "user",
	[REPLAY_METHOD] = "method",
	[REPLAY_PATH] = "path",
	[REPLAY_USER_AGENT] = "user-agent",
};

const char *replay_field_name(enum replay_field field)
{
	return field_names[field];
}

static bool find_field(const char *text, size_t length, enum replay_field *field)
{
	for (int i = 0; i < REPLAY_FIELD_COUNT; i++) {
		if (strlen(field_names[i]) == length && memcmp(field_names[i], text, length) == 0) {
			*field = (enum replay_field)i;
			return true;
		}
	}
	return false;
}

int replay_key_form_parse(const char *text, struct replay_key_form *form, struct weir_error *error)
{
	unsigned seen = 0;

	form->count = 0;
	for (const char *at = text;; at++) {
		size_t length = strcspn(at, "+");
		enum replay_field field;

		if (!find_field(at, length, &field))
			return replay_error_set(
				error, WEIR_EINVAL,
				"--key has no field \"%.*s\": use addr, user, method, "
				"path or user-agent, or several joined by \"+\"",
				length < 64 ? (int)length : 64, at);
		if (seen & 1u << field)
			return replay_error_set(error, WEIR_EINVAL,
						"--key names the field \"%s\" twice: name it once",
						field_names[field]);
		seen |= 1u << field;
		form->fields[form->count++] = field;
		at += length;
		if (*at == '\0')
			return 0;
	}
}

size_t replay_key_build(const struct replay_key_form *form, const struct replay_line *line,
			uint8_t *bytes)
{
	size_t used = 0;

	for (unsigned i = 0; i < form->count; i++) {
		struct replay_text text = line->fields[form->fields[i]];

		if (form->count > 1)
			for (unsigned shift = 0; shift < 8 * PREFIX_BYTES; shift += 8)
				bytes[used++] = (uint8_t)(text.length >> shift);
		memcpy(bytes + used, text.bytes, text.length);
		used += text.length;
	}
	return used;
}

struct replay_text replay_key_field(const struct replay_key_form *form, const uint8_t *bytes,
				    size_t length, unsigned index)
{
	if (form->count == 1)
		return (struct replay_text){ (const char *)bytes, length };
	for (;; index--) {
		size_t field_length = 0;

		for (unsigned i = 0; i < PREFIX_BYTES; i++)
			field_length |= (size_t)*bytes++ << (8 * i);
		if (index == 0)
			return (struct replay_text){ (const char *)bytes, field_length };
		bytes += field_length;
	}
}

static inline uint64_t rotate(uint64_t word, int bits)
{
	return word << bits | word >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein): keyed, and short. */
static uint64_t hash_of(const uint64_t secret[2], const uint8_t *bytes, size_t length)
{
	uint64_t v[4] = {
		secret[0] ^ 0x736f6d6570736575u,
		secret[1] ^ 0x646f72616e646f6du,
		secret[0] ^ 0x6c7967656e657261u,
		secret[1] ^ 0x7465646279746573u,
	};
	uint64_t last = (uint64_t)length << 56;

	for (; length >= 8; bytes += 8, length -= 8) {
		uint64_t word;

		memcpy(&word, bytes, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	for (size_t i = 0; i < length; i++)
		last |= (uint64_t)bytes[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int replay_key_set_init(struct replay_key_set *set, struct weir_error *error)
{
	*set = (struct replay_key_set){ 0 };
	if (getrandom(set->secret, sizeof(set->secret), 0) != (ssize_t)sizeof(set->secret))
		return replay_error_set(error, WEIR_ESYSTEM, "cannot get random bytes: %s",
					strerror(errno));
	return 0;
}

void replay_key_set_free(struct replay_key_set *set)
{
	free(set->bytes);
	free(set->keys);
	free(set->index);
	*set = (struct replay_key_set){ 0 };
}

/* The place of a key in the index, or the free place where it belongs. */
static uint32_t *place_of(const struct replay_key_set *set, const uint8_t *bytes, size_t length,
			  uint64_t hash)
{
	uint32_t mask = set->index_size - 1;

	/* Ends: the index is never full. */
	for (uint32_t at = (uint32_t)hash & mask;; at = (at + 1) & mask) {
		uint32_t number = set->index[at];
		const struct replay_key *key = &set->keys[number - 1];

		if (number == 0 ||
		    (key->hash == hash && key->length == length &&
		     memcmp(set->bytes + key->offset, bytes, length) == 0))
			return &set->index[at];
	}
}

/* Double the index, which is at most half full then. */
static bool grow_index(struct replay_key_set *set)
{
	uint32_t size = set->index_size ? set->index_size * 2 : 1024;
	uint32_t *index = size ? calloc(size, sizeof(*index)) : NULL;

	if (!index)
		return false;
	for (uint32_t number = 1; number <= set->count; number++) {
		uint32_t at = (uint32_t)set->keys[number - 1].hash & (size - 1);

		while (index[at])
			at = (at + 1) & (size - 1);
		index[at] = number;
	}
	free(set->index);
	set->index = index;
	set->index_size = size;
	return true;
}

/* Room for one more key of LENGTH bytes. */
static bool reserve(struct replay_key_set *set, size_t length)
{
	if (set->count >= set->index_size / 4 * 3 && !grow_index(set))
		return false;
	if (set->count == set->keys_size) {
		uint32_t size = set->keys_size ? set->keys_size * 2 : 1024;
		struct replay_key *keys = reallocarray(set->keys, size, sizeof(*keys));

		if (!keys)
			return false;
		set->keys = keys;
		set->keys_size = size;
	}
	if (set->bytes_size - set->bytes_used < length) {
		size_t size = set->bytes_size * 2 + REPLAY_KEY_SIZE;
		uint8_t *bytes = realloc(set->bytes, size);

		if (!bytes)
			return false;
		set->bytes = bytes;
		set->bytes_size = size;
	}
	return true;
}

int replay_key_set_add(struct replay_key_set *set, const uint8_t *bytes, size_t length,
		       uint32_t *number, struct weir_error *error)
{
	uint64_t hash = hash_of(set->secret, bytes, length);

	if (!reserve(set, length))
		return replay_error_set(error, WEIR_ENOMEM,
					"no memory for the keys of the log (%u so far): "
					"replay a part of the log", set->count);

	uint32_t *place = place_of(set, bytes, length, hash);

	if (*place == 0) {
		struct replay_key *key = &set->keys[set->count++];

		*key = (struct replay_key){ set->bytes_used, hash, (uint32_t)length };
		memcpy(set->bytes + set->bytes_used, bytes, length);
		set->bytes_used += length;
		*place = set->count;
	}
	*number = *place - 1;
	return 0;
}
