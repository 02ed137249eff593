/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as what a client of HTTP sends.  The first byte says how they are sent: as they
 * are, as a path with its query, or as the body of a request to one of the pages; and
 * whether all timeouts pass then.  The service must survive, and when the client has gone
 * nothing may be left of it.
 */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/http.h"
#include "serve/http_room.h"
#include "tests/fuzz/rules.h"
#include "tests/fuzz/served.h"
#include "weir.h"

#define TIME_PASSES 0x80        /* in the first byte, beside two bits for how */

static struct options options = {
	.loops = 1,
	.connections_max = 10,
	.message_max_bytes = 65536,
	.request_timeout_s = 30,
};
static struct sockaddr_un address = { .sun_family = AF_UNIX };

static const struct weir_policy policies[] = {
	{ .name = "api", .limit_count = 1, .limits = { { .limit = 100, .period_ns = 1000000000 } } },
	{ .name = "held", .limit_count = 1,
	  .limits = { { .limit = 2, .algorithm = WEIR_CONCURRENCY } } },
};

static int listen_there(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", fuzz_directory());
	must(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	must(listen(fd, 16) == 0);
	return fd;
}

static void begin(void)
{
	struct weir_error error;

	if (loop.base)
		return;
	served_begin(&options, policies, 2);
	must(survey_start(&server, 5, &server.survey, &error) == WEIR_OK);
	must(loop_open(&loop, &server, &error) == WEIR_OK);
	must(http_room.open(&loop, &error) == WEIR_OK);
	must(http_room.listen(&loop, listen_there(), false, &error) == WEIR_OK);
}

static void put_text(const char *text)
{
	served_put(text, strlen(text));
}

static size_t page_count(void)
{
	size_t count = 0;

	while (http_pages[count].path)
		count++;
	return count;
}

/* The bytes as the body of a request, to the page that the first one names. */
static void put_body(const uint8_t *data, size_t size)
{
	const char *path = http_pages[size > 0 ? data[0] % page_count() : 0].path;
	char head[256];

	if (size > 0) {
		data++;
		size--;
	}
	snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", path,
		 size);
	put_text(head);
	served_put(data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t how = size > 0 ? data[0] : 0;

	begin();
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	must(client >= 0 && connect(client, (struct sockaddr *)&address, sizeof(address)) == 0);
	switch (how % 4) {
	case 0:
		served_put(data, size);
		break;
	case 1:
		put_text("POST /v1/allow?");
		served_put(data + 1, size - 1);
		put_text(" HTTP/1.1\r\nHost: x\r\n\r\n");
		break;
	case 2:
		put_text("GET /v1/status?policy=api&");
		served_put(data + 1, size - 1);
		put_text(" HTTP/1.1\r\nHost: x\r\n\r\n");
		break;
	case 3:
		put_body(data + 1, size - 1);
		break;
	}
	served_turn();
	if (how & TIME_PASSES) {
		loop.seconds += options.request_timeout_s + 1;
		http_room.tick(&loop);
		served_settle();
	}
	served_leave();
	return 0;
}
