/* SPDX-License-Identifier: Apache-2.0 */
/* Any tree of replies as the answer to CLUSTER SLOTS, and any text as a redirection: what
 * comes out is an address that can be connected to. */
#include <string.h>

#include <hiredis/hiredis.h>

#include "sync/redis_slots.h"
#include "tests/fuzz/fuzz.h"

#define REPLIES 256
#define ELEMENTS 6

static const struct redis_address asked = { "asked", 7000 };

/* The tree that the bytes describe. */
struct maker {
	const uint8_t *data;
	size_t size;
	redisReply replies[REPLIES];
	redisReply *elements[REPLIES][ELEMENTS];
	size_t used;
	char texts[4096];
	size_t text_used;
};

static uint8_t next(struct maker *maker)
{
	if (maker->size == 0)
		return 0;
	maker->size--;
	return *maker->data++;
}

static void make_text(struct maker *maker, redisReply *reply)
{
	size_t length = next(maker);

	/* Some are longer than any name. */
	if (length > 240)
		length = length * 4 - 720;
	if (maker->text_used + length + 1 > sizeof(maker->texts))
		length = 0;
	if (maker->text_used + length + 1 > sizeof(maker->texts))
		maker->text_used = 0;
	reply->str = maker->texts + maker->text_used;
	reply->len = length;
	for (size_t i = 0; i < length; i++)
		reply->str[i] = (char)next(maker);
	reply->str[length] = '\0';
	maker->text_used += length + 1;
}

static void make_integer(struct maker *maker, redisReply *reply)
{
	unsigned bytes = next(maker) % 9;

	reply->integer = 0;
	for (unsigned i = 0; i < bytes; i++)
		reply->integer = (long long)((unsigned long long)reply->integer << 8 | next(maker));
}

static redisReply *make(struct maker *maker, unsigned depth)
{
	static const int types[] = { REDIS_REPLY_ARRAY, REDIS_REPLY_ARRAY, REDIS_REPLY_INTEGER,
				     REDIS_REPLY_STRING, REDIS_REPLY_NIL, REDIS_REPLY_STATUS,
				     REDIS_REPLY_ERROR, REDIS_REPLY_INTEGER };
	size_t place = maker->used++, count;
	redisReply *reply = &maker->replies[place];

	*reply = (redisReply){ .type = types[next(maker) % 8] };
	if (reply->type == REDIS_REPLY_ARRAY) {
		count = depth < REDIS_DEPTH_MAX ? next(maker) % (ELEMENTS + 1) : 0;
		reply->element = maker->elements[place];
		for (size_t i = 0; i < count && maker->used < REPLIES; i++)
			reply->element[reply->elements++] = make(maker, depth + 1);
	} else if (reply->type == REDIS_REPLY_INTEGER) {
		make_integer(maker, reply);
	} else if (reply->type != REDIS_REPLY_NIL) {
		make_text(maker, reply);
	}
	return reply;
}

static void must_be_an_address(const struct redis_address *address)
{
	size_t length = strnlen(address->host, sizeof(address->host));

	must(address->port >= 1);
	must(length >= 1 && length < sizeof(address->host));
	for (size_t i = 0; i < length; i++)
		must(address->host[i] > ' ' && address->host[i] < 0x7f && address->host[i] != '@');
}

static bool visit(void *context, const struct redis_address *address)
{
	unsigned *count = context;

	must_be_an_address(address);
	return ++*count < 20;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct maker maker;
	const struct redis_reply *reply;
	struct redis_address address;
	unsigned count = 0;

	if (redis_slots_redirect((const char *)data, size, &asked, &address))
		must_be_an_address(&address);
	must(redis_slot((const char *)data, size) < REDIS_SLOTS);

	maker.data = data;
	maker.size = size;
	maker.used = maker.text_used = 0;
	reply = (const struct redis_reply *)make(&maker, 1);
	for (unsigned slot = 0; slot < REDIS_SLOTS; slot += 127)
		if (redis_slots_owner(reply, slot, &asked, &address))
			must_be_an_address(&address);
	redis_slots_each(reply, &asked, visit, &count);
	must(count <= 20);
	return 0;
}
