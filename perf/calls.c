/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.c - ask a service Envoy's ShouldRateLimit over HTTP/2 without TLS, and time it.
 *
 * With --rate calls are due at random times (Poisson) that do not wait for answers, and
 * each is timed from when it was due, so that a service which falls behind cannot hide
 * it. Without, each connection has as many calls in flight as it may. Every answer must
 * be one: what is not counts as failed. h2load, which can do neither that nor ask for
 * more than one key, is held beside it by ratelimit.py.
 *
 * A call by itself costs a write and a read on either side. --gather lets those leave in
 * one write that are due within so many us, as a proxy writes once a turn of its event
 * loop; they are timed from when they were due nevertheless. How busy this program was
 * is told, too: one that is busy all the time measures itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nghttp2/nghttp2.h>

#include "perf/measure.h"

#define CONNECTIONS_MAX 256u
#define IN_FLIGHT_MAX 50000u            /* of all connections: then it has fallen behind */
#define OUTPUT_BYTES (64u * 1024)
#define FRAME_BYTES (16384u + 512u)     /* nghttp2 hands out no more at a time */
#define ANSWER_BYTES 7u                 /* the prefix, and overall_code: OK or OVER_LIMIT */
#define S_NS 1000000000ull

struct call {
	struct connection *connection;
	struct call *next;              /* of those that are free */
	uint64_t due_ns;
	unsigned char body[128], answer[ANSWER_BYTES];
	size_t body_length, body_offset, answer_length;
	bool succeeded;                 /* grpc-status 0 */
};

struct connection {
	nghttp2_session *session;
	unsigned char *output;
	size_t output_length;
	unsigned in_flight;
};

struct load {
	const char *descriptor;
	unsigned connection_count, calls, keys;
	double rate;
	uint64_t gather_ns;             /* what is due meanwhile leaves at once; 0: by itself */
	uint64_t count;                 /* stop after as many; 0: by time */
	uint64_t begin_ns, end_ns;      /* calls that are due between them are counted */
	uint64_t due_ns, random;
	uint64_t leave_ns;              /* when calls leave next, gathered */
	unsigned turn;                  /* the connection of the next call, or of what is gathered */
	uint64_t busy_ns;               /* processor time when counting began, then what it took */
	bool counting, over;
	struct call *free;
	unsigned in_flight;
	uint64_t asked, answers;        /* of those that count */
	uint64_t all, failed, ok, over_limit, last_ns;
	struct histogram times;
	struct connection connections[CONNECTIONS_MAX];
	struct pollfd polls[CONNECTIONS_MAX];
};

static struct load load;

/* ---- Requests ------------------------------------------------------------ */

static size_t put_field(unsigned char *place, unsigned number, const void *bytes, size_t length)
{
	place[0] = (unsigned char)(number << 3 | 2);
	place[1] = (unsigned char)length;       /* below 128 */
	memcpy(place + 2, bytes, length);
	return length + 2;
}

/* RateLimitRequest{domain, descriptors{entries{key, value}}} behind gRPC's prefix. */
static void write_body(struct call *call)
{
	unsigned char entry[64], entries[66], *body = call->body;
	char value[16];
	size_t length;

	snprintf(value, sizeof(value), "user%07u", (unsigned)below(&load.random, load.keys));
	length = put_field(entry, 1, load.descriptor, strlen(load.descriptor));
	length += put_field(entry + length, 2, value, strlen(value));
	length = put_field(entries, 1, entry, length);
	call->body_length = 5 + put_field(body + 5, 1, "perf", 4);
	call->body_length += put_field(body + call->body_length, 2, entries, length);
	memset(body, 0, 5);
	body[4] = (unsigned char)(call->body_length - 5);
	call->body_offset = 0;
}

static ssize_t on_read(nghttp2_session *session, int32_t stream_id, uint8_t *bytes, size_t size,
		       uint32_t *flags, nghttp2_data_source *source, void *context)
{
	struct call *call = source->ptr;
	size_t length = call->body_length - call->body_offset;

	(void)session;
	(void)stream_id;
	(void)context;
	if (length > size)
		length = size;
	memcpy(bytes, call->body + call->body_offset, length);
	call->body_offset += length;
	if (call->body_offset == call->body_length)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)length;
}

#define HEADER(name, value) \
	{ (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1, \
	  NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE }

/* Does a call count that was due then? */
static bool is_counted(uint64_t due_ns)
{
	return due_ns >= load.begin_ns && (load.count > 0 || due_ns < load.end_ns);
}

static void ask(struct connection *connection, uint64_t due_ns)
{
	static const nghttp2_nv headers[] = {
		HEADER(":method", "POST"),
		HEADER(":scheme", "http"),
		HEADER(":path", "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"),
		HEADER(":authority", "localhost"),
		HEADER("content-type", "application/grpc"),
		HEADER("te", "trailers"),
	};
	nghttp2_data_provider provider = { .read_callback = on_read };
	struct call *call = load.free;

	if (load.in_flight == IN_FLIGHT_MAX)
		die("the service", "has fallen too far behind; ask for a lower --rate");
	if (call)
		load.free = call->next;
	else
		call = malloc(sizeof(*call));
	if (!call)
		die("a call", "no memory");
	call->connection = connection;
	call->due_ns = due_ns;
	call->answer_length = 0;
	call->succeeded = false;
	write_body(call);
	provider.source.ptr = call;
	if (nghttp2_submit_request(connection->session, NULL, headers,
				   sizeof(headers) / sizeof(headers[0]), &provider, call) < 0)
		die("a call", "nghttp2 takes no more");
	connection->in_flight++;
	load.in_flight++;
	load.asked += is_counted(due_ns);
}

/* ---- Answers ------------------------------------------------------------- */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
		     void *context)
{
	struct call *call;

	(void)flags;
	(void)context;
	if (name_length != strlen("grpc-status") || memcmp(name, "grpc-status", name_length) != 0)
		return 0;
	call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (call)
		call->succeeded = value_length == 1 && *value == '0';
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
		   size_t length, void *context)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, stream_id);
	size_t left;

	(void)flags;
	(void)context;
	if (!call)
		return 0;
	left = ANSWER_BYTES - call->answer_length;
	if (length > left)
		length = left;
	memcpy(call->answer + call->answer_length, data, length);
	call->answer_length += length;
	return 0;
}

/* Field 1 is overall_code, and the first one: 1 is OK, 2 is OVER_LIMIT. */
static void judge(const struct call *call)
{
	bool whole = call->succeeded && call->answer_length == ANSWER_BYTES && call->answer[5] == 8;

	if (whole && call->answer[6] == 1)
		load.ok++;
	else if (whole && call->answer[6] == 2)
		load.over_limit++;
	else
		load.failed++;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code,
			   void *context)
{
	struct call *call = nghttp2_session_get_stream_user_data(session, stream_id);
	uint64_t now = now_ns();

	(void)code;
	(void)context;
	if (!call)
		return 0;
	call->connection->in_flight--;
	load.in_flight--;
	load.all++;
	judge(call);
	if (is_counted(call->due_ns) && !load.over) {
		if (!load.counting) {
			load.counting = true;
			load.busy_ns = time_ns(CLOCK_PROCESS_CPUTIME_ID);
		}
		histogram_count(&load.times, now - call->due_ns);
		load.answers++;
		load.last_ns = now;
		load.over = load.count > 0 && load.answers == load.count;
	}
	call->next = load.free;
	load.free = call;
	return 0;
}

/* ---- Connections --------------------------------------------------------- */

static int connect_to(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		die("the service", strerror(errno));
	return fd;
}

static void open_connections(uint16_t port)
{
	static const nghttp2_settings_entry settings[] = { { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 } };
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		die("nghttp2", "no memory");
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	for (unsigned i = 0; i < load.connection_count; i++) {
		struct connection *connection = &load.connections[i];

		connection->output = malloc(OUTPUT_BYTES);
		if (!connection->output ||
		    nghttp2_session_client_new(&connection->session, callbacks, connection) != 0 ||
		    nghttp2_submit_settings(connection->session, 0, settings, 1) != 0 ||
		    nghttp2_session_set_local_window_size(connection->session, 0, 0, 1 << 24) != 0)
			die("nghttp2", "no memory");
		load.polls[i] = (struct pollfd){ .fd = connect_to(port), .events = POLLIN };
	}
	nghttp2_session_callbacks_del(callbacks);
}

static void receive(struct connection *connection, int fd)
{
	static unsigned char input[256 * 1024];
	ssize_t length = recv(fd, input, sizeof(input), 0);

	if (length < 0 && errno == EAGAIN)
		return;
	if (length <= 0)
		die("the service", length ? strerror(errno) : "closed a connection");
	if (nghttp2_session_mem_recv(connection->session, input, (size_t)length) < 0)
		die("the service", "does not speak HTTP/2");
}

/* Send what the session has to say; what the socket does not take stays. */
static void transmit(struct connection *connection, struct pollfd *waits)
{
	ssize_t sent;

	do {
		while (OUTPUT_BYTES - connection->output_length >= FRAME_BYTES) {
			const uint8_t *frame;
			ssize_t length = nghttp2_session_mem_send(connection->session, &frame);

			if (length < 0)
				die("nghttp2", nghttp2_strerror((int)length));
			if (length == 0)
				break;
			memcpy(connection->output + connection->output_length, frame,
			       (size_t)length);
			connection->output_length += (size_t)length;
		}
		if (connection->output_length == 0)
			break;
		sent = send(waits->fd, connection->output, connection->output_length, MSG_NOSIGNAL);
		if (sent < 0 && errno != EAGAIN)
			die("the service", strerror(errno));
		if (sent > 0) {
			connection->output_length -= (size_t)sent;
			memmove(connection->output, connection->output + sent,
				connection->output_length);
		}
	} while (sent > 0);
	waits->events = connection->output_length > 0 ? POLLIN | POLLOUT : POLLIN;
}

/* ---- Load ---------------------------------------------------------------- */

/* When the call after one that was due at DUE_NS is. */
static uint64_t next_due_ns(uint64_t due_ns)
{
	double uniform = (double)((next_random(&load.random) >> 11) + 1) * 0x1p-53;

	return due_ns + (uint64_t)(-log(uniform) / load.rate * 1e9);
}

/* Ask for what is due; returns how long nothing will be, or UINT64_MAX. */
static uint64_t ask_what_is_due(void)
{
	uint64_t now = now_ns(), next_ns;

	if (load.rate <= 0) {
		for (unsigned i = 0; i < load.connection_count; i++) {
			while (load.connections[i].in_flight < load.calls)
				ask(&load.connections[i], now_ns());
		}
		return UINT64_MAX;
	}
	if (now >= load.leave_ns && load.due_ns <= now) {
		load.leave_ns = now + load.gather_ns;
		load.turn++;
		while (load.due_ns <= now) {
			ask(&load.connections[load.turn % load.connection_count], load.due_ns);
			load.due_ns = next_due_ns(load.due_ns);
			load.turn += load.gather_ns == 0;
		}
	}
	next_ns = load.due_ns > load.leave_ns ? load.due_ns : load.leave_ns;
	return next_ns > now ? next_ns - now : 0;
}

/* What is not answered when the time is over is the slowest, and waited for. */
static bool is_over(void)
{
	return load.over || (load.count == 0 && now_ns() >= load.end_ns &&
			     (load.rate <= 0 || load.due_ns >= load.end_ns) &&
			     load.answers == load.asked);
}

static void run(void)
{
	load.due_ns = now_ns();
	while (!is_over()) {
		uint64_t wait_ns = ask_what_is_due();
		struct timespec wait = { .tv_sec = (time_t)(wait_ns / S_NS),
					 .tv_nsec = (long)(wait_ns % S_NS) };

		for (unsigned i = 0; i < load.connection_count; i++)
			transmit(&load.connections[i], &load.polls[i]);
		if (ppoll(load.polls, load.connection_count, wait_ns == UINT64_MAX ? NULL : &wait,
			  NULL) < 0 && errno != EINTR)
			die("ppoll", strerror(errno));
		for (unsigned i = 0; i < load.connection_count; i++) {
			if (load.polls[i].revents)
				receive(&load.connections[i], load.polls[i].fd);
		}
	}
	load.busy_ns = time_ns(CLOCK_PROCESS_CPUTIME_ID) - load.busy_ns;
}

static void print(void)
{
	double elapsed_ns = (double)(load.last_ns - load.begin_ns);

	printf("{\"answers\": %" PRIu64 ", \"all\": %" PRIu64 ", \"failed\": %" PRIu64
	       ", \"ok\": %" PRIu64 ", \"over_limit\": %" PRIu64 ", \"per_second\": %.0f",
	       load.answers, load.all, load.failed, load.ok, load.over_limit,
	       (double)load.answers * 1e9 / elapsed_ns);
	printf(", \"client_busy\": %.3f", (double)load.busy_ns / elapsed_ns);
	printf(", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}\n",
	       (double)histogram_quantile(&load.times, 2) / 1e3,
	       (double)histogram_quantile(&load.times, 100) / 1e3,
	       (double)histogram_quantile(&load.times, 1000) / 1e3);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "port", required_argument, NULL, 'p' },
		{ "descriptor", required_argument, NULL, 'd' },
		{ "keys", required_argument, NULL, 'k' },
		{ "connections", required_argument, NULL, 'c' },
		{ "calls", required_argument, NULL, 'n' },      /* in flight on each */
		{ "rate", required_argument, NULL, 'r' },       /* a second, of all */
		{ "gather", required_argument, NULL, 'g' },     /* us */
		{ "warm-up", required_argument, NULL, 'w' },    /* ms, not counted */
		{ "time", required_argument, NULL, 't' },       /* ms */
		{ "count", required_argument, NULL, 'N' },      /* instead of a time */
		{ NULL, 0, NULL, 0 },
	};
	uint64_t warm_up_ms = 500, time_ms = 2000;
	uint16_t port = 8081;
	int option;

	load.descriptor = "open";
	load.connection_count = load.calls = load.keys = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 'p': port = (uint16_t)number(optarg, 1, UINT16_MAX); break;
		case 'd': load.descriptor = optarg; break;
		case 'k': load.keys = (unsigned)number(optarg, 1, 9999999); break;
		case 'c': load.connection_count = (unsigned)number(optarg, 1, CONNECTIONS_MAX); break;
		case 'n': load.calls = (unsigned)number(optarg, 1, 1000); break;
		case 'r': load.rate = (double)number(optarg, 1, 100000000); break;
		case 'g': load.gather_ns = number(optarg, 0, 1000000) * 1000; break;
		case 'w': warm_up_ms = number(optarg, 0, 600000); break;
		case 't': time_ms = number(optarg, 1, 600000); break;
		case 'N': load.count = number(optarg, 1, 1000000000); break;
		default: return 2;
		}
	}
	if (strlen(load.descriptor) > 32)
		die(load.descriptor, "is longer than 32 bytes");
	/* Or waiting takes 50 us longer than asked for. */
	prctl(PR_SET_TIMERSLACK, 1);
	open_connections(port);
	load.begin_ns = now_ns() + warm_up_ms * 1000000;
	load.end_ns = load.begin_ns + time_ms * 1000000;
	run();
	print();
	return 0;
}
