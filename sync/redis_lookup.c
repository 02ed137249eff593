/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_lookup.c - the thread and who asked share one struct, and the last to
 * leave frees it.  The thread is detached: nobody ever waits for it.
 */
#include "sync/redis_lookup.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct redis_lookup {
	atomic_uint users;              /* 2: the thread and who asked */
	int fd;                         /* eventfd: answered */
	int result;
	struct addrinfo *addresses;
	char host[256];
	char port[8];
};

void redis_lookup_leave(struct redis_lookup *lookup)
{
	/* Release what this user wrote; the last one acquires it, to free it. */
	if (!lookup || atomic_fetch_sub_explicit(&lookup->users, 1, memory_order_acq_rel) > 1)
		return;
	if (lookup->addresses)
		freeaddrinfo(lookup->addresses);
	close(lookup->fd);
	free(lookup);
}

static void *look_up(void *argument)
{
	struct redis_lookup *lookup = argument;
	uint64_t answered = 1;
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_ADDRCONFIG,
	};

	lookup->result = getaddrinfo(lookup->host, lookup->port, &hints, &lookup->addresses);
	if (lookup->result != 0)
		lookup->addresses = NULL;
	/* The reader of the eventfd sees what was written before: the kernel orders.
	 * The first write to an eventfd has room. */
	while (write(lookup->fd, &answered, sizeof(answered)) < 0 && errno == EINTR)
		;
	redis_lookup_leave(lookup);
	return NULL;
}

/* Detached, with all signals blocked: they belong to the program's threads. */
static int start_thread(struct redis_lookup *lookup)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int result;

	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&thread, &attributes, look_up, lookup);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return result;
}

struct redis_lookup *redis_lookup_start(const char *host, uint16_t port)
{
	struct redis_lookup *lookup = calloc(1, sizeof(*lookup));
	int result;

	if (!lookup)
		return NULL;
	lookup->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (lookup->fd < 0) {
		free(lookup);
		return NULL;
	}
	snprintf(lookup->host, sizeof(lookup->host), "%s", host);
	snprintf(lookup->port, sizeof(lookup->port), "%u", port);
	atomic_init(&lookup->users, 2);
	result = start_thread(lookup);
	if (result != 0) {
		close(lookup->fd);
		free(lookup);
		errno = result;
		return NULL;
	}
	return lookup;
}

int redis_lookup_fd(const struct redis_lookup *lookup)
{
	return lookup->fd;
}

int redis_lookup_result(const struct redis_lookup *lookup, struct addrinfo **addresses)
{
	uint64_t answered;

	*addresses = NULL;
	if (read(lookup->fd, &answered, sizeof(answered)) < 0)
		return EAI_AGAIN;       /* not there yet */
	*addresses = lookup->addresses;
	return lookup->result;
}
