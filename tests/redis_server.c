/* SPDX-License-Identifier: Apache-2.0 */
/* Who cleans up: the server asks the kernel to be killed with its starter, and a janitor, a process
 * that only waits for the end of a pipe that the starter holds, then removes the directory.  So a
 * test that fails, crashes or is killed for being late leaves nothing behind. */
#include "tests/redis_server.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#define PROGRAM "redis-server"
#define MAX_OPTIONS 64
#define ANSWER_ATTEMPTS 5000
#define ANSWER_PAUSE_MS 4
#define REMOVE_ATTEMPTS 100
#define TIMEOUT_SECONDS 5
#define SKIPPED 77

extern char **environ;

struct redis_server {
	pid_t pid;                              /* 0: killed */
	pid_t janitor;
	int janitor_pipe;                       /* closed: remove the directory */
	char directory[sizeof(((struct sockaddr_un *)NULL)->sun_path) - sizeof("/redis.sock")];
	char socket[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char log[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char *arguments[MAX_OPTIONS];
	size_t argument_count;
};

/* Say what failed, with the server's log, and fail: Check counts exit() in a test as a failure. */
static void __attribute__((noreturn, format(printf, 2, 3)))
fail(const struct redis_server *server, const char *format, ...)
{
	va_list arguments;
	char line[512];
	FILE *log;

	va_start(arguments, format);
	fputs(PROGRAM ": ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	log = server ? fopen(server->log, "re") : NULL;
	while (log && fgets(line, sizeof(line), log))
		fputs(line, stderr);
	if (log)
		fclose(log);
	exit(EXIT_FAILURE);
}

void redis_server_require(void)
{
	char program[] = PROGRAM, version[] = "--version";
	char *arguments[] = { program, version, NULL };
	posix_spawn_file_actions_t quiet;
	int error, status = 0;
	pid_t pid;

	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	error = posix_spawnp(&pid, PROGRAM, &quiet, NULL, arguments, environ);
	posix_spawn_file_actions_destroy(&quiet);
	if (!error && waitpid(pid, &status, 0) == pid && status == 0)
		return;
	printf("skipped: there is no " PROGRAM " in PATH (%s); install it to run this test\n",
	       error ? strerror(error) : "it does not run");
	exit(SKIPPED);
}

/* ---- The janitor ------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)status;
	(void)type;
	(void)where;
	remove(path);
	return 0;
}

/* Again while somebody, who is being killed, still makes files. */
static void directory_remove(const char *directory)
{
	for (int i = 0; i < REMOVE_ATTEMPTS && access(directory, F_OK) == 0; i++)
		nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void janitor_start(struct redis_server *server)
{
	int ends[2];
	char byte;

	if (pipe2(ends, O_CLOEXEC) < 0)
		fail(NULL, "pipe: %s", strerror(errno));
	server->janitor = fork();
	if (server->janitor < 0)
		fail(NULL, "fork: %s", strerror(errno));
	if (server->janitor > 0) {
		close(ends[0]);
		server->janitor_pipe = ends[1];
		return;
	}

	setsid();                               /* Check kills the group of a test that hangs */
	dup2(ends[0], STDIN_FILENO);
	close_range(STDIN_FILENO + 1, ~0U, 0);  /* nobody waits for our output, no other pipe */
	while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
		;
	directory_remove(server->directory);
	_exit(EXIT_SUCCESS);
}

/* ---- The process ------------------------------------------------------- */

static void process_start(struct redis_server *server)
{
	pid_t starter = getpid();

	server->pid = fork();
	if (server->pid < 0)
		fail(NULL, "fork: %s", strerror(errno));
	if (server->pid > 0)
		return;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != starter)
		_exit(EXIT_FAILURE);            /* it ended before it could be asked for */
	execvp(PROGRAM, server->arguments);
	_exit(EXIT_FAILURE);
}

static bool answers(const struct redis_server *server)
{
	struct timeval timeout = { .tv_sec = TIMEOUT_SECONDS };
	redisContext *context = redisConnectUnixWithTimeout(server->socket, timeout);
	redisReply *reply = NULL;
	bool pong;

	if (context && !context->err && redisSetTimeout(context, timeout) == REDIS_OK)
		reply = redisCommand(context, "PING");
	/* An error is an answer as well, if it is not that it loads: NOAUTH, say. */
	pong = reply && !(reply->type == REDIS_REPLY_ERROR &&
			  strncmp(reply->str, "LOADING", 7) == 0);
	if (reply)
		freeReplyObject(reply);
	if (context)
		redisFree(context);
	return pong;
}

static void wait_until_it_answers(struct redis_server *server)
{
	struct pollfd ended = { .events = POLLIN };

	ended.fd = (int)syscall(SYS_pidfd_open, server->pid, 0);
	if (ended.fd < 0)
		fail(server, "pidfd_open: %s", strerror(errno));
	for (int i = 0; i < ANSWER_ATTEMPTS && !answers(server); i++) {
		if (poll(&ended, 1, ANSWER_PAUSE_MS) > 0)
			fail(server, "ended at once");
		if (i == ANSWER_ATTEMPTS - 1)
			fail(server, "does not answer at %s", server->socket);
	}
	close(ended.fd);
}

/* Wait for the change that OPTIONS name; it may end instead, unasked. */
static int process_wait(struct redis_server *server, int options)
{
	int status;

	while (waitpid(server->pid, &status, options) < 0)
		if (errno != EINTR)
			fail(server, "waitpid: %s; only its starter may do this", strerror(errno));
	return status;
}

/* ---- The server -------------------------------------------------------- */

static void add_argument(struct redis_server *server, const char *text)
{
	if (server->argument_count + 1 == MAX_OPTIONS)
		fail(NULL, "more than %d arguments", MAX_OPTIONS - 1);
	server->arguments[server->argument_count] = strdup(text);
	if (!server->arguments[server->argument_count++])
		fail(NULL, "no memory");
}

/* The program, and for a sentinel its configuration, which it changes itself. */
static void add_program(struct redis_server *server, const char *configuration)
{
	char path[sizeof(server->directory) + sizeof("/sentinel.conf")];
	FILE *file;

	add_argument(server, PROGRAM);
	if (!configuration)
		return;
	snprintf(path, sizeof(path), "%s/sentinel.conf", server->directory);
	file = fopen(path, "we");
	if (!file || fputs(configuration, file) < 0 || fclose(file) != 0)
		fail(NULL, "cannot write %s: %s", path, strerror(errno));
	add_argument(server, path);
	add_argument(server, "--sentinel");
}

static void add_arguments(struct redis_server *server, const char *const *options)
{
	const char *const always[] = {
		"--port", "0", "--unixsocket", server->socket, "--unixsocketperm", "700",
		"--dir", server->directory, "--logfile", server->log, "--save", "",
		"--appendonly", "no", "--daemonize", "no", NULL
	};

	for (size_t i = 0; always[i]; i++)
		add_argument(server, always[i]);
	for (size_t i = 0; options && options[i]; i++)
		add_argument(server, options[i]);
}

static struct redis_server *start(const char *configuration, const char *const *options)
{
	struct redis_server *server = calloc(1, sizeof(*server));
	const char *parent = getenv("TMPDIR");
	int length;

	if (!server)
		fail(NULL, "no memory");
	length = snprintf(server->directory, sizeof(server->directory), "%s/weir-redis-XXXXXX",
			  parent && parent[0] ? parent : "/tmp");
	if (length < 0 || (size_t)length >= sizeof(server->directory))
		fail(NULL, "TMPDIR=%s is too long for the path of a socket", parent);
	if (!mkdtemp(server->directory))
		fail(NULL, "cannot make %s: %s", server->directory, strerror(errno));
	snprintf(server->socket, sizeof(server->socket), "%s/redis.sock", server->directory);
	snprintf(server->log, sizeof(server->log), "%s/redis.log", server->directory);
	add_program(server, configuration);
	add_arguments(server, options);
	janitor_start(server);
	process_start(server);
	wait_until_it_answers(server);
	return server;
}

struct redis_server *redis_server_start(const char *const *options)
{
	return start(NULL, options);
}

struct redis_server *redis_server_start_sentinel(const char *configuration)
{
	return start(configuration, NULL);
}

void redis_server_end(struct redis_server *server)
{
	if (!server)
		return;
	redis_server_kill(server);
	close(server->janitor_pipe);
	while (waitpid(server->janitor, NULL, 0) < 0 && errno == EINTR)
		;
	for (size_t i = 0; i < server->argument_count; i++)
		free(server->arguments[i]);
	free(server);
}

const char *redis_server_socket(const struct redis_server *server)
{
	return server->socket;
}

const char *redis_server_directory(const struct redis_server *server)
{
	return server->directory;
}

struct redisContext *redis_server_connect(const struct redis_server *server)
{
	struct timeval timeout = { .tv_sec = TIMEOUT_SECONDS };
	redisContext *context = redisConnectUnixWithTimeout(server->socket, timeout);

	if (!context || context->err || redisSetTimeout(context, timeout) != REDIS_OK)
		fail(server, "cannot connect to %s: %s", server->socket,
		     context ? context->errstr : "no memory");
	return context;
}

void redis_server_stop(struct redis_server *server)
{
	kill(server->pid, SIGSTOP);
	if (!WIFSTOPPED(process_wait(server, WUNTRACED)))
		fail(server, "ended before it could be stopped");
}

void redis_server_continue(struct redis_server *server)
{
	kill(server->pid, SIGCONT);
	if (!WIFCONTINUED(process_wait(server, WCONTINUED)))
		fail(server, "ended before it could go on");
}

void redis_server_kill(struct redis_server *server)
{
	if (server->pid == 0)
		return;
	kill(server->pid, SIGKILL);
	process_wait(server, 0);
	server->pid = 0;
	unlink(server->socket);                 /* not to be mistaken for the next one's */
}

void redis_server_restart(struct redis_server *server)
{
	redis_server_kill(server);
	process_start(server);
	wait_until_it_answers(server);
}
