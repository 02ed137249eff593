/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/redis_cluster.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#define BUS 10000                       /* from a node's port to that of the others */
#define PORT_FIRST 11000
#define PORTS 10000
#define LOOKS 20000

struct redis_cluster_node cluster_nodes[CLUSTER_NODES_MAX];
int cluster_count;

static bool is_free(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool bound = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;

	close(fd);
	return bound;
}

/* One whose bus has a free port as well; others look for theirs at the same time. */
static int free_port(void)
{
	unsigned dice;

	for (int i = 0; i < 1000; i++) {
		ck_assert_int_eq(getrandom(&dice, sizeof(dice), 0), sizeof(dice));
		if (is_free(PORT_FIRST + (int)(dice % PORTS)) &&
		    is_free(PORT_FIRST + BUS + (int)(dice % PORTS)))
			return PORT_FIRST + (int)(dice % PORTS);
	}
	ck_abort_msg("no port is free");
	return 0;
}

static void start_node(struct redis_cluster_node *node)
{
	char port[12];
	const char *options[] = { "--port", port, "--bind", "127.0.0.1", "--cluster-enabled",
				  "yes", "--cluster-node-timeout", "3000", NULL };

	node->port = free_port();
	snprintf(port, sizeof(port), "%d", node->port);
	node->server = redis_server_start(options);
	node->admin = redis_server_connect(node->server);
}

/* ---- Commands ---------------------------------------------------------- */

static redisReply *run(int node, const char *format, va_list arguments)
{
	redisReply *reply = redisvCommand(cluster_nodes[node].admin, format, arguments);

	ck_assert_msg(reply, "node %d, \"%s\": %s", node, format,
		      cluster_nodes[node].admin->errstr);
	ck_assert_msg(reply->type != REDIS_REPLY_ERROR, "node %d, \"%s\": %s", node, format,
		      reply->str);
	return reply;
}

long long cluster_do(int node, const char *format, ...)
{
	va_list arguments;
	redisReply *reply;
	long long integer;

	va_start(arguments, format);
	reply = run(node, format, arguments);
	va_end(arguments);
	integer = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
	freeReplyObject(reply);
	return integer;
}

static void read_text(int node, char *text, size_t size, const char *format, ...)
{
	va_list arguments;
	redisReply *reply;

	va_start(arguments, format);
	reply = run(node, format, arguments);
	va_end(arguments);
	ck_assert_int_eq(reply->type, REDIS_REPLY_STRING);
	snprintf(text, size, "%s", reply->str);
	freeReplyObject(reply);
}

bool cluster_is_up(int node)
{
	char text[1024], known[40];

	read_text(node, text, sizeof(text), "CLUSTER INFO");
	snprintf(known, sizeof(known), "cluster_known_nodes:%d\r", cluster_count);
	return strstr(text, "cluster_state:ok") && strstr(text, known);
}

int cluster_slot(const char *key)
{
	return (int)cluster_do(0, "CLUSTER KEYSLOT %s", key);
}

int cluster_owner(int node, int slot)
{
	redisReply *reply = redisCommand(cluster_nodes[node].admin, "CLUSTER SLOTS");
	int owner = -1;

	ck_assert(reply && reply->type == REDIS_REPLY_ARRAY);
	for (size_t i = 0; i < reply->elements; i++) {
		redisReply **range = reply->element[i]->element;

		for (int k = 0; k < cluster_count; k++)
			if (range[0]->integer <= slot && slot <= range[1]->integer &&
			    strcmp(range[2]->element[2]->str, cluster_nodes[k].id) == 0)
				owner = k;
	}
	freeReplyObject(reply);
	return owner;
}

/* ---- Starting ---------------------------------------------------------- */

static void wait_for(bool (*is_so)(int node), int node)
{
	const struct timespec millisecond = { .tv_nsec = 1000000 };

	for (int i = 0; i < LOOKS && !is_so(node); i++)
		nanosleep(&millisecond, NULL);
	ck_assert_msg(is_so(node), "node %d does not get up", node);
}

/* In the form that Redis 6 knows, too. */
static void add_slots(int node, int first, int last)
{
	static char numbers[CLUSTER_SLOTS][12];
	static const char *argv[CLUSTER_SLOTS + 2] = { "CLUSTER", "ADDSLOTS" };
	redisReply *reply;
	int argc = 2;

	for (int slot = first; slot <= last; slot++) {
		snprintf(numbers[slot], sizeof(numbers[slot]), "%d", slot);
		argv[argc++] = numbers[slot];
	}
	reply = redisCommandArgv(cluster_nodes[node].admin, argc, argv, NULL);
	ck_assert(reply && reply->type == REDIS_REPLY_STATUS);
	freeReplyObject(reply);
}

static bool knows_all(int node)
{
	char text[1024], known[40];

	read_text(node, text, sizeof(text), "CLUSTER INFO");
	snprintf(known, sizeof(known), "cluster_known_nodes:%d\r", cluster_count);
	return strstr(text, known) != NULL;
}

static bool is_replicated(int node)
{
	char text[2048];

	read_text(node, text, sizeof(text), "INFO replication");
	return strstr(text, "master_link_status:up") != NULL;
}

void cluster_start(int masters, int replicas)
{
	cluster_count = masters + replicas;
	ck_assert_int_le(cluster_count, CLUSTER_NODES_MAX);
	for (int i = 0; i < cluster_count; i++) {
		start_node(&cluster_nodes[i]);
		read_text(i, cluster_nodes[i].id, sizeof(cluster_nodes[i].id), "CLUSTER MYID");
	}
	for (int i = 0; i < masters; i++)
		add_slots(i, CLUSTER_SLOTS * i / masters, CLUSTER_SLOTS * (i + 1) / masters - 1);
	for (int i = 0; i < cluster_count; i++) {
		cluster_do(i, "CLUSTER SET-CONFIG-EPOCH %d", i + 1);
		for (int k = 0; k < i; k++)
			cluster_do(i, "CLUSTER MEET 127.0.0.1 %d", cluster_nodes[k].port);
	}
	for (int i = 0; i < cluster_count; i++)
		wait_for(knows_all, i);
	for (int i = masters; i < cluster_count; i++) {
		cluster_do(i, "CLUSTER REPLICATE %s", cluster_nodes[i - masters].id);
		wait_for(is_replicated, i);
	}
	for (int i = 0; i < cluster_count; i++)
		wait_for(cluster_is_up, i);
}

void cluster_end(void)
{
	for (int i = 0; i < cluster_count; i++) {
		redisFree(cluster_nodes[i].admin);
		redis_server_end(cluster_nodes[i].server);
	}
	cluster_count = 0;
}

const char *cluster_url(const char *scheme, const char *query)
{
	static char url[256];

	snprintf(url, sizeof(url), "%s://127.0.0.1:%d%s", scheme, cluster_nodes[0].port, query);
	return url;
}
