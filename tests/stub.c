/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stub.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/must.h"

struct stub {
	struct sockaddr_un address;
	const struct stub_answer *answers;
	int listener;
	int end;                        /* eventfd */
	pthread_t thread;
	pthread_mutex_t mutex;
	int client;                     /* the newest connection, or -1; by mutex */
	const struct stub_answer *next; /* the thread's own */
};

/* To a client that has left there is nothing to say. */
static void say(int client, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t put = send(client, bytes, length, MSG_NOSIGNAL);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return;
		bytes += put;
		length -= (size_t)put;
	}
}

static void replace_client(struct stub *stub, int client)
{
	pthread_mutex_lock(&stub->mutex);
	if (stub->client >= 0)
		close(stub->client);
	stub->client = client;
	stub->next = stub->answers;
	pthread_mutex_unlock(&stub->mutex);
}

static void answer(struct stub *stub)
{
	char bytes[65536];

	if (recv(stub->client, bytes, sizeof(bytes), 0) <= 0) {
		replace_client(stub, -1);
		return;
	}
	if (!stub->next->bytes)
		return;
	say(stub->client, stub->next->bytes, stub->next->length);
	if ((stub->next++)->close)
		replace_client(stub, -1);
}

static void *run(void *argument)
{
	struct stub *stub = argument;

	for (;;) {
		struct pollfd fds[] = {
			{ stub->end, POLLIN, 0 },
			{ stub->listener, POLLIN, 0 },
			{ stub->client, POLLIN, 0 },
		};

		must(poll(fds, 3, -1) >= 0 || errno == EINTR);
		if (fds[0].revents)
			return NULL;
		if (fds[2].revents)
			answer(stub);
		if (fds[1].revents)
			replace_client(stub, accept4(stub->listener, NULL, NULL, SOCK_CLOEXEC));
	}
}

struct stub *stub_start(const char *path, const struct stub_answer *answers)
{
	struct stub *stub = calloc(1, sizeof(*stub));

	must(stub && strlen(path) < sizeof(stub->address.sun_path));
	stub->answers = stub->next = answers;
	stub->client = -1;
	stub->address.sun_family = AF_UNIX;
	strcpy(stub->address.sun_path, path);
	stub->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(stub->listener >= 0);
	must(bind(stub->listener, (struct sockaddr *)&stub->address, sizeof(stub->address)) == 0);
	must(listen(stub->listener, 16) == 0);
	stub->end = eventfd(0, EFD_CLOEXEC);
	must(stub->end >= 0);
	pthread_mutex_init(&stub->mutex, NULL);
	must(pthread_create(&stub->thread, NULL, run, stub) == 0);
	return stub;
}

void stub_say(struct stub *stub, const char *bytes, size_t length)
{
	pthread_mutex_lock(&stub->mutex);
	must(stub->client >= 0);
	say(stub->client, bytes, length);
	pthread_mutex_unlock(&stub->mutex);
}

void stub_end(struct stub *stub)
{
	must(eventfd_write(stub->end, 1) == 0);
	pthread_join(stub->thread, NULL);
	replace_client(stub, -1);
	close(stub->listener);
	close(stub->end);
	unlink(stub->address.sun_path);
	pthread_mutex_destroy(&stub->mutex);
	free(stub);
}
