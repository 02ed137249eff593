/* SPDX-License-Identifier: Apache-2.0 */
/* What of the service needs no client: memory, addresses, descriptors, gzip. */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zlib.h>

#include "serve/arena.h"
#include "serve/buffer.h"
#include "serve/descriptors.h"
#include "serve/gunzip.h"
#include "serve/listen.h"

/* ---- arena ------------------------------------------------------------- */

/* An assertion for each byte would take seconds. */
static bool is_filled(const unsigned char *bytes, size_t length, unsigned char value)
{
	for (size_t i = 0; i < length; i++) {
		if (bytes[i] != value)
			return false;
	}
	return true;
}

START_TEST(arena_hands_out_aligned_pieces_that_are_apart)
{
	enum { PIECES = 1000 };
	static unsigned char *pieces[PIECES];
	struct arena arena;

	ck_assert_int_eq(arena_init(&arena, 16 << 20), 0);
	for (int turn = 0; turn < 2; turn++) {
		for (size_t i = 0; i < PIECES; i++) {
			pieces[i] = arena_alloc(&arena, i % 300);
			ck_assert_ptr_nonnull(pieces[i]);
			ck_assert_uint_eq((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
			memset(pieces[i], (int)(i % 251), i % 300);
		}
		for (size_t i = 0; i < PIECES; i++)
			ck_assert(is_filled(pieces[i], i % 300, (unsigned char)(i % 251)));
		arena_reset(&arena);
	}
	arena_destroy(&arena);
}
END_TEST

START_TEST(arena_has_a_bound)
{
	const size_t mib = 1 << 20;
	struct arena arena;

	ck_assert_int_eq(arena_init(&arena, 2 * mib), 0);
	for (int turn = 0; turn < 3; turn++) {
		ck_assert_ptr_nonnull(arena_alloc(&arena, mib));
		ck_assert_ptr_nonnull(arena_alloc(&arena, mib));
		ck_assert_ptr_null(arena_alloc(&arena, mib));
		ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX));
		ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX - 4));
		arena_reset(&arena);
	}
	arena_destroy(&arena);
}
END_TEST

/* ---- buffer ------------------------------------------------------------ */

/* Put and take pieces of all lengths: the bytes come out as they went in. */
START_TEST(buffer_keeps_the_order)
{
	struct buffer buffer;
	unsigned char in = 0, out = 0;
	bool sound = true;

	buffer_init(&buffer);
	for (size_t turn = 0; turn < 2000; turn++) {
		size_t put = turn * 7 % 113, take = turn * 11 % 127;
		size_t told = buffer_heap_bytes_with(&buffer, put);
		unsigned char *place = buffer_reserve(&buffer, put);

		ck_assert_ptr_nonnull(place);
		ck_assert_uint_eq(buffer_heap_bytes(&buffer), told);
		for (size_t i = 0; i < put; i++)
			place[i] = in++;
		buffer.length += put;
		if (take > buffer_length(&buffer))
			take = buffer_length(&buffer);
		for (size_t i = 0; i < take; i++)
			sound &= buffer_bytes(&buffer)[i] == out++;
		ck_assert(sound);
		buffer_take(&buffer, take);
	}
	buffer_free(&buffer);
	ck_assert_uint_eq(buffer_length(&buffer), 0);
}
END_TEST

START_TEST(buffer_uses_the_heap_for_what_is_long)
{
	struct buffer buffer;

	buffer_init(&buffer);
	ck_assert_ptr_nonnull(buffer_reserve(&buffer, BUFFER_SMALL_BYTES));
	ck_assert_uint_eq(buffer_heap_bytes(&buffer), 0);
	ck_assert_ptr_nonnull(buffer_reserve(&buffer, BUFFER_SMALL_BYTES + 1));
	ck_assert_uint_ge(buffer_heap_bytes(&buffer), BUFFER_SMALL_BYTES + 1);
	ck_assert_uint_eq(buffer_heap_bytes_with(&buffer, SIZE_MAX), SIZE_MAX);
	ck_assert_ptr_null(buffer_reserve(&buffer, SIZE_MAX / 2 + 1));
	ck_assert_ptr_null(buffer_reserve(&buffer, SIZE_MAX));
	buffer_free(&buffer);
	ck_assert_uint_eq(buffer_heap_bytes(&buffer), 0);
}
END_TEST

/* ---- listen ------------------------------------------------------------ */

static struct listener *listen_on(const char *address)
{
	const struct options options = { .listeners[0].address = address };
	struct listener *listener = NULL;
	struct weir_error error;

	ck_assert_msg(listener_open(&options, 0, &listener, &error) == WEIR_OK, "%s",
		      error.message);
	return listener;
}

START_TEST(listen_names_what_was_found)
{
	struct listener *listener = listen_on("127.0.0.1:0");
	char name[LISTEN_NAME_MAX];
	struct weir_error error;
	int fds[2];

	ck_assert_uint_eq(listener->address_count, 1);
	ck_assert_msg(strncmp(listener_name(listener, 0, name), "127.0.0.1:", 10) == 0, "%s", name);
	ck_assert_str_ne(name, "127.0.0.1:0");
	/* All loops have the same port. */
	for (int i = 0; i < 2; i++) {
		struct sockaddr_in address;
		socklen_t length = sizeof(address);

		ck_assert_int_eq(listener_socket(listener, 0, &fds[i], &error), WEIR_OK);
		ck_assert_int_eq(getsockname(fds[i], (struct sockaddr *)&address, &length), 0);
		ck_assert_uint_eq(address.sin_port, listener->addresses[0].address.v4.sin_port);
	}
	close(fds[0]);
	close(fds[1]);
	listener_close(listener);

	listener = listen_on(":0");
	listener_name(listener, 0, name);
	ck_assert_msg(strncmp(name, "[::]:", 5) == 0 || strncmp(name, "0.0.0.0:", 8) == 0, "%s",
		      name);
	listener_close(listener);
}
END_TEST

START_TEST(listen_removes_its_own_socket_only)
{
	char directory[] = "/tmp/weir-serve-XXXXXX";
	char path[64], address[80], name[LISTEN_NAME_MAX];
	struct listener *one, *other = NULL;
	struct options options = { .listeners[0].address = address };
	struct weir_error error;

	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	snprintf(address, sizeof(address), "unix:%s", path);
	one = listen_on(address);
	ck_assert_str_eq(listener_name(one, 0, name), address);
	ck_assert_int_eq(listener_open(&options, 0, &other, &error), WEIR_EBUSY);
	options.takeover = true;
	ck_assert_int_eq(listener_open(&options, 0, &other, &error), WEIR_OK);
	listener_close(one);
	ck_assert_int_eq(access(path, F_OK), 0);
	listener_close(other);
	ck_assert_int_eq(access(path, F_OK), -1);
	ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

/* ---- descriptors ------------------------------------------------------- */

START_TEST(descriptors_find_what_is_declared)
{
	static const char *const symbols[] = {
		"weir.v1.Limiter", "weir.v1.Limiter.Watch", "weir.v1.Decision",
		"weir.v1.Decision.outcome", "weir.v1.Outcome", "weir.v1.OUTCOME_DENIED",
	};
	static const char *const strangers[] = {
		"", ".", "weir", "weir.v1", "weir.v1.", "weir.v1.Limiter.", "weir.v1.Limite",
		"weir.v1.Limiter.Watch.x", "weir.v1.Outcome.x", "v1.Limiter", ".weir.v1.Limiter",
	};
	struct descriptor_file file, named, files[DESCRIPTOR_FILES_MAX];

	ck_assert(descriptor_file_named("weir/v1/limiter.proto", &named));
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		ck_assert_msg(descriptor_file_of(symbols[i], &file), "%s", symbols[i]);
		ck_assert_ptr_eq(file.bytes, named.bytes);
	}
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++)
		ck_assert_msg(!descriptor_file_of(strangers[i], &file), "%s", strangers[i]);
	ck_assert(!descriptor_file_named("limiter.proto", &file));
	ck_assert(!descriptor_file_named("", &file));
	ck_assert_uint_eq(descriptor_files(named, files), 1);
	ck_assert_ptr_eq(files[0].bytes, named.bytes);
}
END_TEST

/* ---- gunzip ------------------------------------------------------------ */

#define LONG_BYTES 100000u

/* LENGTH bytes that repeat after a while, as gzip. */
static size_t compress_bytes(size_t length, unsigned char *out, size_t size)
{
	static unsigned char bytes[LONG_BYTES];
	z_stream stream = { .next_in = bytes, .avail_in = (unsigned)length, .next_out = out,
			    .avail_out = (unsigned)size };

	for (size_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)(i * i % 251);
	ck_assert_int_eq(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	ck_assert_int_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
	deflateEnd(&stream);
	return stream.total_out;
}

START_TEST(gunzip_makes_what_may_be_made)
{
	static const size_t lengths[] = { 0, 1, 4095, 4096, 4097, 8192, 8193, LONG_BYTES };
	unsigned char in[LONG_BYTES], *out;
	size_t out_length;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t length = lengths[i], in_length = compress_bytes(length, in, sizeof(in));

		for (size_t more = 0; more < 3; more++) {
			ck_assert_int_eq(gunzip(in, in_length, length + more, &out, &out_length),
					 GUNZIP_OK);
			ck_assert_uint_eq(out_length, length);
			for (size_t j = 0; j < length; j += 97)
				ck_assert_uint_eq(out[j], (unsigned char)(j * j % 251));
			free(out);
		}
		if (length == 0)
			continue;
		ck_assert_int_eq(gunzip(in, in_length, length - 1, &out, &out_length),
				 GUNZIP_TOO_LARGE);
		ck_assert_ptr_null(out);
		ck_assert_int_eq(gunzip(in, in_length, 0, &out, &out_length), GUNZIP_TOO_LARGE);
	}
}
END_TEST

START_TEST(gunzip_knows_what_is_none)
{
	unsigned char in[2048], bad[sizeof(in) + 1], *out;
	size_t length = compress_bytes(5000, in, sizeof(in)), out_length;

	/* Cut off anywhere; something behind it; its checksum or length are wrong. */
	for (size_t cut = 0; cut < length; cut++)
		ck_assert_int_eq(gunzip(in, cut, 10000, &out, &out_length), GUNZIP_MALFORMED);
	memcpy(bad, in, length);
	bad[length] = 'x';
	ck_assert_int_eq(gunzip(bad, length + 1, 10000, &out, &out_length), GUNZIP_MALFORMED);
	for (size_t i = length - 8; i < length; i++) {
		memcpy(bad, in, length);
		bad[i] ^= 1;
		ck_assert_int_eq(gunzip(bad, length, 10000, &out, &out_length), GUNZIP_MALFORMED);
		ck_assert_ptr_null(out);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("serve");
	TCase *tests = tcase_create("units");
	SRunner *runner;
	int failed;

	tcase_add_test(tests, arena_hands_out_aligned_pieces_that_are_apart);
	tcase_add_test(tests, arena_has_a_bound);
	tcase_add_test(tests, buffer_keeps_the_order);
	tcase_add_test(tests, buffer_uses_the_heap_for_what_is_long);
	tcase_add_test(tests, listen_names_what_was_found);
	tcase_add_test(tests, listen_removes_its_own_socket_only);
	tcase_add_test(tests, descriptors_find_what_is_declared);
	tcase_add_test(tests, gunzip_makes_what_may_be_made);
	tcase_add_test(tests, gunzip_knows_what_is_none);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
