/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/served.h"

#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/rules.h"
#include "weir.h"

#define PIECE_BYTES 4096u       /* less than a socket holds */

struct server server;
struct loop loop;
int client = -1;

void served_begin(const struct options *options, const struct weir_policy *policies, size_t count)
{
	struct weir_options segment;
	struct weir_error error;
	char name[128];

	snprintf(name, sizeof(name), "%s/segment", fuzz_directory());
	weir_options_init(&segment);
	segment.slots = 64;
	must(weir_create(name, &segment, &error) == WEIR_OK);
	must(weir_open(name, &server.weir, &error) == WEIR_OK);
	must(weir_remove(name, &error) == WEIR_OK);
	must(weir_policy_set(server.weir, policies, count, &error) == WEIR_OK);
	server.options = options;
	server.rules = fuzz_rules_start(server.weir);
}

void served_turn(void)
{
	static unsigned char answer[65536];

	for (int i = 0; i < 4; i++) {
		event_base_loop(loop.base, EVLOOP_NONBLOCK);
		while (client >= 0 && recv(client, answer, sizeof(answer), MSG_DONTWAIT) > 0)
			;
	}
}

void served_put(const void *bytes, size_t length)
{
	const unsigned char *at = bytes;

	while (length > 0) {
		size_t piece = length < PIECE_BYTES ? length : PIECE_BYTES;

		if (send(client, at, piece, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)piece)
			return;
		at += piece;
		length -= piece;
		served_turn();
	}
}

void served_settle(void)
{
	for (int i = 0; i < 100 && server_connections(&server) > 0; i++)
		served_turn();
	must(server_connections(&server) == 0);
}

void served_leave(void)
{
	close(client);
	client = -1;
	served_settle();
	must(loop.arena.used_bytes == 0);
}
