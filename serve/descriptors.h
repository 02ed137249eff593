/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descriptors.h - the .proto files of all services, as protoc describes them, and what is
 * declared in which.
 *
 * They are embedded in the program as a FileDescriptorSet, and searched where they lie:
 * few ask, and rarely.
 */
#ifndef WEIR_SERVE_DESCRIPTORS_H
#define WEIR_SERVE_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>

/* Made by embed.py. */
extern const unsigned char descriptor_set[];
extern const size_t descriptor_set_size;

/* More than there are. */
#define DESCRIPTOR_FILES_MAX 64u

/* A FileDescriptorProto. */
struct descriptor_file {
	const unsigned char *bytes;
	size_t length;
};

/* The file NAME; the file that declares SYMBOL ("weir.v1.Limiter.Allow"), whatever it is.
 * Return false if there is none. */
bool descriptor_file_named(const char *name, struct descriptor_file *file);
bool descriptor_file_of(const char *symbol, struct descriptor_file *file);

/* FILE and all that it imports, itself first.  Returns how many. */
size_t descriptor_files(struct descriptor_file file,
			struct descriptor_file files[DESCRIPTOR_FILES_MAX]);

#endif
