/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/statsd.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/fail.h"

/* What leaves in one piece on a network with an MTU of 1500. */
#define PACKET_BYTES 1432u
#define LINES_MAX (PACKET_BYTES / 16)   /* no line is shorter */

/* Connecting, and each packet over TCP. */
#define PATIENCE_S 1

/* A counter in the packet: it was told once the packet has left. */
struct line {
	uint64_t *told;
	uint64_t value;
};

struct statsd {
	struct statsd_options options;
	const struct envoy_service *service;
	void (*tell)(const char *sentence);
	int fd;                         /* -1: none */
	bool failing;                   /* and was told of */
	bool given_up;                  /* until the next time */
	atomic_uint_fast64_t errors;
	uint64_t told[COUNTER_COUNT];
	struct line lines[LINES_MAX];
	size_t line_count;
	char packet[PACKET_BYTES];
	size_t length;
	int stop_fd;                    /* eventfd: the thread is to end */
	pthread_t thread;
};

/* ---- The network --------------------------------------------------------------- */

/* A wait that was too long has names of its own. */
static const char *name_failure(int code)
{
	return strerror(code == EINPROGRESS || code == EAGAIN ? ETIMEDOUT : code);
}

static int connect_to(const struct addrinfo *address)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	/* Of connect(), too. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
	    connect(fd, address->ai_addr, address->ai_addrlen) == 0)
		return fd;
	close(fd);
	return -1;
}

/* The name is looked up each time: what it stands for may have moved.  Returns NULL, or
 * what was wrong. */
static const char *open_socket(struct statsd *statsd)
{
	const struct addrinfo wanted = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = statsd->options.udp ? SOCK_DGRAM : SOCK_STREAM,
	};
	struct addrinfo *found = NULL;
	char port[8];
	int failure, saved = 0;

	snprintf(port, sizeof(port), "%u", statsd->options.port);
	failure = getaddrinfo(statsd->options.host, port, &wanted, &found);
	if (failure != 0)
		return failure == EAI_SYSTEM ? strerror(errno) : gai_strerror(failure);
	for (struct addrinfo *each = found; each && statsd->fd < 0; each = each->ai_next) {
		statsd->fd = connect_to(each);
		saved = errno;
	}
	freeaddrinfo(found);
	return statsd->fd >= 0 ? NULL : name_failure(saved);
}

/* Returns how much left; all of it, or the connection is of no use any more (*WRONG). */
static size_t transmit(struct statsd *statsd, const char **wrong)
{
	size_t done = 0;

	while (done < statsd->length) {
		ssize_t sent = send(statsd->fd, statsd->packet + done, statsd->length - done,
				    MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0) {
			*wrong = name_failure(errno);
			break;
		}
		done += (size_t)sent;
	}
	return done;
}

/* WRONG: what is, or NULL. */
static void tell_failure(struct statsd *statsd, const char *wrong)
{
	char sentence[512];

	if (statsd->failing == (wrong != NULL))
		return;
	statsd->failing = wrong != NULL;
	if (wrong)
		snprintf(sentence, sizeof(sentence), "cannot send statistics to statsd at %s:%u: "
			 "%s; what was counted is kept until that can be.  Set STATSD_HOST and "
			 "STATSD_PORT, or USE_STATSD=false if there is none",
			 statsd->options.host, statsd->options.port, wrong);
	else
		snprintf(sentence, sizeof(sentence), "statistics are sent to statsd at %s:%u again",
			 statsd->options.host, statsd->options.port);
	statsd->tell(sentence);
}

/* Part of a packet may have been read: its lines were told, so that none is twice. */
static void send_packet(struct statsd *statsd)
{
	const char *wrong = NULL;
	size_t done = 0;

	if (statsd->length > 0 && !statsd->given_up) {
		if (statsd->fd < 0)
			wrong = open_socket(statsd);
		if (!wrong)
			done = transmit(statsd, &wrong);
		statsd->given_up = wrong != NULL;
		tell_failure(statsd, wrong);
		if (statsd->given_up) {
			atomic_fetch_add(&statsd->errors, 1);
			if (statsd->fd >= 0)
				close(statsd->fd);
			statsd->fd = -1;
		}
	}
	for (size_t i = 0; done > 0 && i < statsd->line_count; i++)
		*statsd->lines[i].told = statsd->lines[i].value;
	statsd->length = 0;
	statsd->line_count = 0;
}

/* ---- Lines --------------------------------------------------------------------- */

static void add_line(struct statsd *statsd, const char *line, int length, uint64_t *told,
		     uint64_t value)
{
	if (length < 0 || (size_t)length > PACKET_BYTES) {
		atomic_fetch_add(&statsd->errors, 1);
		*told = value;          /* it will not be shorter the next time */
		return;
	}
	if (statsd->length + (size_t)length > PACKET_BYTES || statsd->line_count == LINES_MAX)
		send_packet(statsd);
	memcpy(statsd->packet + statsd->length, line, (size_t)length);
	statsd->length += (size_t)length;
	statsd->lines[statsd->line_count++] = (struct line){ told, value };
}

/* What counter NAME, or NAME.COUNTER, has grown by. */
static void tell_growth(struct statsd *statsd, const char *name, const char *counter,
			uint64_t *told, uint64_t value)
{
	const char *tags = statsd->options.tags;
	bool last = statsd->options.tags_last;
	char line[PACKET_BYTES + 1];
	int length;

	if (value == *told)
		return;
	length = snprintf(line, sizeof(line), "ratelimit.service.%s%s%s%s:%" PRIu64 "|c%s\n", name,
			  *counter ? "." : "", counter, last ? "" : tags, value - *told,
			  last ? tags : "");
	add_line(statsd, line, length, told, value);
}

static void tell_stats(const struct stats *stats, void *context)
{
	struct statsd *statsd = context;
	char name[PACKET_BYTES + 16] = "rate_limit.";
	size_t prefix = strlen(name);
	/* The one thread that writes these. */
	uint64_t *told = ((struct stats *)stats)->told;

	if (stats->key_length > PACKET_BYTES) {
		memset(name + prefix, 'x', PACKET_BYTES);       /* too long, and so refused */
		name[prefix + PACKET_BYTES] = '\0';
	} else {
		stats_clean_key(stats, name + prefix);
		for (size_t i = prefix; i < prefix + stats->key_length; i++) {
			if ((unsigned char)name[i] < ' ')
				name[i] = '_';  /* a line ends with such a byte */
		}
	}
	for (unsigned i = 0; i < STAT_COUNT; i++)
		tell_growth(statsd, name, stats_name((enum stats_counter)i), &told[i],
			    stats_read(stats, (enum stats_counter)i));
}

static void tell_all(struct statsd *statsd)
{
	statsd->given_up = false;
	for (unsigned i = 0; i < COUNTER_COUNT; i++)
		tell_growth(statsd, envoy_service_counter_name((enum service_counter)i), "",
			    &statsd->told[i],
			    envoy_service_counter(statsd->service, (enum service_counter)i));
	stats_each(envoy_service_stats(statsd->service), tell_stats, statsd);
	send_packet(statsd);
}

/* ---- The thread ---------------------------------------------------------------- */

static void *run(void *context)
{
	struct statsd *statsd = context;
	const struct timespec interval = {
		(time_t)(statsd->options.interval_ns / 1000000000),
		(long)(statsd->options.interval_ns % 1000000000),
	};
	struct pollfd stop = { .fd = statsd->stop_fd, .events = POLLIN };

	while (ppoll(&stop, 1, &interval, NULL) <= 0)
		tell_all(statsd);
	/* Who could not be reached before is not waited for in the end. */
	if (!statsd->failing)
		tell_all(statsd);
	return NULL;
}

int statsd_start(const struct statsd_options *options, const struct envoy_service *service,
		 void (*tell)(const char *sentence), struct statsd **statsd,
		 struct weir_error *error)
{
	struct statsd *new = calloc(1, sizeof(*new));
	int failure;

	if (!new)
		return fail(error, WEIR_ENOMEM, "no memory for statsd");
	new->options = *options;
	new->service = service;
	new->tell = tell;
	new->fd = -1;
	new->stop_fd = eventfd(0, EFD_CLOEXEC);
	/* Signals are blocked in the main thread, and so in this one. */
	failure = new->stop_fd < 0 ? errno : pthread_create(&new->thread, NULL, run, new);
	if (failure) {
		if (new->stop_fd >= 0)
			close(new->stop_fd);
		free(new);
		return fail(error, WEIR_ESYSTEM, "cannot start the thread that sends to statsd: %s; "
			    "raise the limits of processes and descriptors", strerror(failure));
	}
	*statsd = new;
	return WEIR_OK;
}

void statsd_stop(struct statsd *statsd)
{
	const uint64_t one = 1;

	while (write(statsd->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(statsd->thread, NULL);
	close(statsd->stop_fd);
	if (statsd->fd >= 0)
		close(statsd->fd);
	free(statsd);
}

uint64_t statsd_errors(const struct statsd *statsd)
{
	return atomic_load(&statsd->errors);
}
