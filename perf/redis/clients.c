/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clients.c - what one writes to ask Redis for each decision.
 *
 * One thread has some connections, sends on each of them, then reads from each: no
 * thread switches, and Redis finds the requests of all in one turn of its loop, which
 * is the cheapest that it can have them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "perf/redis/redis.h"
#include "tests/redis_server.h"

#define CONNECTIONS_MAX 16u
#define KEY_SIZE 17                     /* "k" and 16 digits: as long as weir's */

/* A token bucket as one number, the time at which it is full again; times are
 * microseconds of Redis' clock.  One read, one write that carries its expiry. */
static const char gcra_script[] =
	"local time = redis.call('TIME')\n"
	"local now = time[1] * 1000000 + time[2]\n"
	"local period, burst = tonumber(ARGV[1]), tonumber(ARGV[2])\n"
	"local full = tonumber(redis.call('GET', KEYS[1]) or now)\n"
	"if full < now then full = now end\n"
	"local after = full + period * tonumber(ARGV[3])\n"
	"local wait = after - burst - now\n"
	"if wait > 0 then return {0, 0, wait} end\n"
	"redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX',\n"
	"           math.ceil((after - now) / 1000))\n"
	"return {1, math.floor(-wait / period), 0}\n";

static const struct shape {
	unsigned connections;
	unsigned depth;                 /* operations in flight on each */
	bool script;
} shapes[WAYS] = {
	[WAY_GCRA_1] = { 1, 1, true },
	[WAY_GCRA_16] = { 16, 1, true },
	[WAY_GCRA_PIPELINED] = { 4, 32, true },
	[WAY_INCRBY_PIPELINED] = { 1, 100, false },
};

struct clients {
	struct shape shape;
	char sha[41];
	redisContext *connections[CONNECTIONS_MAX];
	uint64_t sent_ns[CONNECTIONS_MAX];
	uint64_t random;
};

struct clients *clients_start(const struct redis_server *server, enum way way)
{
	struct clients *clients = calloc(1, sizeof(*clients));
	redisReply *reply;

	if (!clients)
		die("clients", "no memory");
	clients->shape = shapes[way];
	clients->random = (uint64_t)way + 1;
	for (unsigned i = 0; i < clients->shape.connections; i++)
		clients->connections[i] = redis_server_connect(server);
	reply = redisCommand(clients->connections[0], "SCRIPT LOAD %s", gcra_script);
	if (!reply || reply->type != REDIS_REPLY_STRING || reply->len != 40)
		die("SCRIPT LOAD", reply && reply->str ? reply->str : "no answer");
	memcpy(clients->sha, reply->str, 40);
	freeReplyObject(reply);
	return clients;
}

void clients_end(struct clients *clients)
{
	for (unsigned i = 0; i < clients->shape.connections; i++)
		redisFree(clients->connections[i]);
	free(clients);
}

static void append(struct clients *clients, redisContext *connection, uint32_t keys)
{
	char key[KEY_SIZE + 1];
	int length = snprintf(key, sizeof(key), "k%016llu",
			      (unsigned long long)below(&clients->random, keys));
	/* 1,000,000 a second, ten seconds' worth at once: it allows. */
	const char *script[] = { "EVALSHA", clients->sha, "1", key, "1", "10000000", "1" };
	const size_t script_lengths[] = { 7, 40, 1, (size_t)length, 1, 8, 1 };
	const char *add[] = { "INCRBY", key, "1" };
	const size_t add_lengths[] = { 6, (size_t)length, 1 };
	const char *expire[] = { "PEXPIRE", key, "10000" };
	const size_t expire_lengths[] = { 7, (size_t)length, 5 };

	if (clients->shape.script) {
		redisAppendCommandArgv(connection, 7, script, script_lengths);
		return;
	}
	redisAppendCommandArgv(connection, 3, add, add_lengths);
	redisAppendCommandArgv(connection, 3, expire, expire_lengths);
}

static void send_requests(struct clients *clients, unsigned i, uint32_t keys)
{
	redisContext *connection = clients->connections[i];
	int done = 0;

	for (unsigned j = 0; j < clients->shape.depth; j++)
		append(clients, connection, keys);
	clients->sent_ns[i] = now_ns();
	while (!done) {
		if (redisBufferWrite(connection, &done) != REDIS_OK)
			die("write to Redis", connection->errstr);
	}
}

static void read_answers(struct clients *clients, unsigned i, struct histogram *histogram)
{
	redisContext *connection = clients->connections[i];
	unsigned answers = clients->shape.depth * (clients->shape.script ? 1 : 2);

	for (unsigned j = 0; j < answers; j++) {
		redisReply *reply;

		if (redisGetReply(connection, (void **)&reply) != REDIS_OK)
			die("read from Redis", connection->errstr);
		if (reply->type == REDIS_REPLY_ERROR)
			die("Redis", reply->str);
		if (reply->type == REDIS_REPLY_ARRAY && reply->element[0]->integer != 1)
			die("GCRA script", "denied what it should allow");
		freeReplyObject(reply);
	}
	histogram_count(histogram, now_ns() - clients->sent_ns[i]);
}

uint64_t clients_run(struct clients *clients, uint32_t keys, uint64_t duration_ns,
		     struct histogram *histogram)
{
	const struct shape *shape = &clients->shape;
	uint64_t until = now_ns() + duration_ns, operations = 0;

	do {
		for (unsigned i = 0; i < shape->connections; i++)
			send_requests(clients, i, keys);
		for (unsigned i = 0; i < shape->connections; i++)
			read_answers(clients, i, histogram);
		operations += (uint64_t)shape->connections * shape->depth;
	} while (now_ns() < until);
	return operations;
}
