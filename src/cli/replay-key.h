/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-key.h - the key of a request: one field of its line, or several; and
 * the set of all keys of a log, each with a number.
 */
#ifndef WEIR_CLI_REPLAY_KEY_H
#define WEIR_CLI_REPLAY_KEY_H

#include "replay-log.h"
#include "weir.h"

/* Bytes in a key: the fields of one line, and a length before each. */
#define REPLAY_KEY_SIZE WEIR_KEY_MAX

/* Which fields make the key, in this order. */
struct replay_key_form {
	unsigned count;
	enum replay_field fields[REPLAY_FIELD_COUNT];
};

/* Names of the fields on the command line and in JSON. */
const char *replay_field_name(enum replay_field field);

/* Read "addr" or "addr+path".  Errors: WEIR_EINVAL. */
int replay_key_form_parse(const char *text, struct replay_key_form *form, struct weir_error *error);

/* Write the key of LINE to BYTES (REPLAY_KEY_SIZE of them); returns its length.
 * A single field is the key as it is.  Of several, each has its length in front
 * (4 bytes, little endian): "ab" + "c" is not "a" + "bc". */
size_t replay_key_build(const struct replay_key_form *form, const struct replay_line *line,
			uint8_t *bytes);

/* Field INDEX of a key that was built by FORM. */
struct replay_text replay_key_field(const struct replay_key_form *form, const uint8_t *bytes,
				    size_t length, unsigned index);

struct replay_key {
	size_t offset;          /* of its bytes in the set's */
	uint64_t hash;
	uint32_t length;
};

/* All-zero but for the secret is an empty set. */
struct replay_key_set {
	uint8_t *bytes;
	size_t bytes_used;
	size_t bytes_size;
	struct replay_key *keys;
	uint32_t count;
	uint32_t keys_size;
	uint32_t *index;        /* hash table: number of a key + 1, 0: free */
	uint32_t index_size;    /* a power of two, or 0 */
	uint64_t secret[2];     /* keys come from strangers: nobody may choose collisions */
};

int replay_key_set_init(struct replay_key_set *set, struct weir_error *error);
void replay_key_set_free(struct replay_key_set *set);

/* The number of a key, from 0; a new key gets the next one.  Errors:
 * WEIR_ENOMEM. */
int replay_key_set_add(struct replay_key_set *set, const uint8_t *bytes, size_t length,
		       uint32_t *number, struct weir_error *error);

static inline const uint8_t *replay_key_bytes(const struct replay_key_set *set, uint32_t number)
{
	return set->bytes + set->keys[number].offset;
}

#endif
