/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handle.c - opening and closing, threads and forks.
 *
 * What.  A process maps a segment once, however many handles it opens: the
 * mappings are in a list, found by device and inode.  A handle points to its
 * mapping; closing takes the pointer away, waits until the decisions under way
 * have left (RCU), and unmaps with the last handle.
 *
 * Fork.  A child inherits the mapping, which is shared and stays good, and a copy
 * of the descriptor, which is not good: locks taken through it belong to the open
 * file that parent and child share.  So the child opens the file anew, before
 * fork() returns there.  The list's mutex is held across the fork, so that the
 * child finds the list whole; liburcu's handlers do the same for its registry,
 * unless the host calls those itself: called twice they wait for themselves.
 *
 * Who changes policies may wait seconds for another process, and holds a mutex of
 * its own meanwhile (shm/control.c), which keeps nobody from opening, closing or
 * forking.  A child makes it anew.
 */
#include "src/handle.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/error.h"
#include "src/plain.h"
#include "sync/thread.h"

#ifdef WEIR_THREAD_SANITIZER
char weir_rcu_tag;
#endif

struct mapping {
	struct segment *segment;
	unsigned handles;
	struct mapping *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct mapping *mappings;
static pthread_once_t process_once = PTHREAD_ONCE_INIT;
static bool host_calls_liburcu;

void handles_lock(void)
{
	pthread_mutex_lock(&mutex);
}

void handles_unlock(void)
{
	pthread_mutex_unlock(&mutex);
}

/* ---- Fork -------------------------------------------------------------- */

static void before_fork(void)
{
	pthread_mutex_lock(&mutex);
	if (!host_calls_liburcu)
		urcu_bp_before_fork();
}

static void after_fork_parent(void)
{
	if (!host_calls_liburcu)
		urcu_bp_after_fork_parent();
	pthread_mutex_unlock(&mutex);
}

static void after_fork_child(void)
{
	if (!host_calls_liburcu)
		urcu_bp_after_fork_child();
	segment_lock_after_fork();
	for (struct mapping *mapping = mappings; mapping; mapping = mapping->next) {
		participant_after_fork(mapping->segment);
		sync_after_fork(mapping->segment);
	}
	pthread_mutex_unlock(&mutex);
}

static void prepare_process(void)
{
	weir_plain_possible = urcu_bp_has_sys_membarrier && hash_hardware_runs();
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

void weir_skip_fork_handlers(void)
{
	host_calls_liburcu = true;
}

/* ---- Open and close ---------------------------------------------------- */

static struct mapping *mapping_find(dev_t device, ino_t inode)
{
	struct mapping *mapping = mappings;

	while (mapping &&
	       (mapping->segment->device != device || mapping->segment->inode != inode))
		mapping = mapping->next;
	return mapping;
}

/* Map the file, or count one more handle on the mapping that is there. */
static int mapping_get(const char *name, struct mapping **result, struct weir_error *error)
{
	char path[256];
	struct mapping *mapping;
	dev_t device;
	ino_t inode;
	int fd, status;

	status = segment_open_file(name, &fd, path, sizeof(path), &device, &inode, error);
	if (status)
		return status;
	mapping = mapping_find(device, inode);
	if (mapping) {
		close(fd);
	} else {
		mapping = calloc(1, sizeof(*mapping));
		if (!mapping) {
			close(fd);
			return weir_fail(error, WEIR_ENOMEM, "no memory for a handle");
		}
		status = segment_map(fd, path, &mapping->segment, error);
		if (status) {
			free(mapping);
			return status;
		}
		mapping->next = mappings;
		mappings = mapping;
	}
	mapping->handles++;
	*result = mapping;
	return 0;
}

/* One handle less; the mapping if it was the last. */
static struct mapping *mapping_put(struct segment *segment)
{
	struct mapping **link = &mappings, *mapping;

	while (*link && (*link)->segment != segment)
		link = &(*link)->next;
	mapping = *link;
	if (!mapping || --mapping->handles > 0)
		return NULL;
	*link = mapping->next;
	return mapping;
}

/* The compiler may assume cmpxchg16b (-mcx16); the processor must have it. */
static int check_processor(struct weir_error *error)
{
#ifdef __x86_64__
	unsigned a, b, c = 0, d;

	__asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(1), "2"(0));
	if (!(c & (1u << 13)))
		return weir_fail(error, WEIR_ESYSTEM,
				 "this processor has no 16-byte compare-and-swap (cmpxchg16b), "
				 "which Weir needs");
#endif
	return weir_ok(error);
}

int weir_open(const char *name, struct weir **result, struct weir_error *error)
{
	struct weir *weir = calloc(1, sizeof(*weir));
	struct mapping *mapping = NULL;
	int status = check_processor(error);

	*result = NULL;
	if (!weir)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a handle");
	pthread_once(&process_once, prepare_process);
	pthread_mutex_lock(&mutex);
	if (status == 0)
		status = mapping_get(name, &mapping, error);
	pthread_mutex_unlock(&mutex);
	if (status) {
		free(weir);
		return status;
	}
	__atomic_store_n(&weir->segment, mapping->segment, __ATOMIC_RELEASE);
	if (weir_plain_possible && mapping->segment->has_ticks)
		__atomic_store_n(&weir->ticking, mapping->segment, __ATOMIC_RELEASE);
	*result = weir;
	return weir_ok(error);
}

void weir_close(struct weir *weir)
{
	struct segment *segment;
	struct mapping *last;

	if (!weir)
		return;
	__atomic_store_n(&weir->ticking, NULL, __ATOMIC_RELEASE);
	segment = __atomic_exchange_n(&weir->segment, NULL, __ATOMIC_ACQ_REL);
	rcu_wait();
	if (segment) {
		pthread_mutex_lock(&mutex);
		last = mapping_put(segment);
		/* Under the lock, so that opening the same file meanwhile waits
		 * and gets a mapping and a participant of its own. */
		if (last) {
			sync_stop(last->segment);
			segment_unmap(last->segment);
		}
		pthread_mutex_unlock(&mutex);
		free(last);
	}
	free(weir);
}

/* ---- Names and description --------------------------------------------- */

void weir_options_init(struct weir_options *options)
{
	memset(options, 0, sizeof(*options));
	options->slots = 65536;
	options->key_bytes = 32;
	options->policies = 256;
	options->holds = 4096;
	options->purses = 1024;
	options->mode = 0600;
	options->group = (gid_t)-1;
	options->clock = WEIR_CLOCK_BOOTTIME;
}

int weir_create(const char *name, const struct weir_options *options, struct weir_error *error)
{
	struct weir_options defaults;
	int status = check_processor(error);

	if (status)
		return status;
	weir_options_init(&defaults);
	status = segment_create(name, options ? options : &defaults, error);
	return status ? status : weir_ok(error);
}

int weir_remove(const char *name, struct weir_error *error)
{
	int status = segment_remove(name, error);

	return status ? status : weir_ok(error);
}

static uint32_t slot_bytes(const struct segment *segment)
{
	if (segment->compact.groups)
		return sizeof(struct compact_slot);
	return (uint32_t)sizeof(struct slot) + segment->note_size +
	       (segment->shards ? (uint32_t)sizeof(struct slot_sync) : 0);
}

void weir_info(const struct weir *weir, struct weir_info *info)
{
	const struct segment *segment = handle_enter(weir);

	memset(info, 0, sizeof(*info));
	if (segment) {
		memcpy(info->path, segment->path, sizeof(info->path));
		info->slots = segment->slots;
		info->size_bytes = segment->size;
		info->incarnation = segment->incarnation;
		info->layout_version = WEIR_LAYOUT_VERSION;
		info->slot_bytes = slot_bytes(segment);
		info->key_bytes = segment->key_bytes;
		info->policies = segment->policies;
		info->holds = segment->holds.count;
		info->purses = segment->purses.count;
		info->participants = participant_count(segment);
		info->clock = segment->clock;
		info->huge_pages = segment->huge_pages;
		info->compact = segment->compact.groups != 0;
	}
	handle_leave();
}
