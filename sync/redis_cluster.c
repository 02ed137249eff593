/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_cluster.c - calls to the nodes that have their keys.
 *
 * What.  Of the map of 16384 slots only those are kept whose keys are called: a few.
 * It is asked for (CLUSTER SLOTS, which all versions know) when a slot is new, and
 * when something shows that it is old: a redirection, a node that fails, CLUSTERDOWN.
 * Each time another node is asked first: one that is cut off from the others tells
 * what was.
 *
 * Invariant.  A call is made again only when a node has said that it did not execute
 * it: MOVED, ASK, TRYAGAIN, NOSCRIPT.  What else becomes of it is for the caller to
 * resolve.
 *
 * A node that fails takes its own calls with it and no others; it is left alone for a
 * while (redis_nodes.h), and its calls fail at once.
 */
#include "sync/redis_cluster.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "shm/error.h"
#include "sync/redis_nodes.h"
#include "sync/redis_slots.h"
#include "sync/redis_socket.h"

#define CALLS_MAX REDIS_ROUTE_CALLS_MAX
#define REDIRECTIONS_MAX 5u
#define PLACES_MAX 64u
#define REFRESH_NS 100000000ull         /* between two questions for the map, at least */
#define TRY_AGAIN_NS 2000000ull
#define NS_PER_MS 1000000ull

/* Where a slot is. */
struct place {
	unsigned slot;
	unsigned node;                  /* REDIS_NODE_NONE: nobody knows */
};

struct redis_cluster {
	uint64_t connect_ns;
	uint64_t command_ns;
	bool old;                       /* the map may have changed */
	uint64_t refresh_ns;            /* when it may be asked for again */
	unsigned next;                  /* node to ask */
	unsigned place_count;
	unsigned place_next;            /* to be replaced when there are PLACES_MAX */
	struct place places[PLACES_MAX];
	struct redis_nodes nodes;
};

/* One call of redis_cluster_call(). */
struct attempt {
	unsigned node;
	bool open;                      /* to be made (again) */
	bool asking;                    /* of a node that is about to get the slot */
	unsigned result;                /* where it is in struct work */
};

struct work {
	struct redis_cluster *cluster;
	const struct redis_call *calls;
	struct redis_result *results;
	unsigned count;
	uint64_t send_by_ns;
	uint64_t deadline_ns;           /* 0: nothing was sent yet */
	bool try_again;                 /* a node has asked for a pause */
	struct weir_error *error;
	enum redis_error outcome;       /* of the first call that has no reply */
	struct attempt attempts[CALLS_MAX];
	struct redis_result replies[2 * CALLS_MAX];     /* those to ASKING among them */
	unsigned reply_count;
};

/* ---- Where slots are --------------------------------------------------- */

/* Nodes of places and of open calls must not be forgotten. */
static void mark_kept(struct redis_cluster *cluster, const struct work *work)
{
	for (unsigned i = 0; i < cluster->nodes.count; i++)
		cluster->nodes.list[i].kept = false;
	for (unsigned i = 0; i < cluster->place_count; i++)
		if (cluster->places[i].node != REDIS_NODE_NONE)
			cluster->nodes.list[cluster->places[i].node].kept = true;
	for (unsigned i = 0; work && i < work->count; i++)
		if (work->attempts[i].node != REDIS_NODE_NONE)
			cluster->nodes.list[work->attempts[i].node].kept = true;
}

static struct place *place_of(struct redis_cluster *cluster, const struct redis_call *call)
{
	unsigned slot = redis_slot(call->key, call->key_length);
	struct place *place;

	for (unsigned i = 0; i < cluster->place_count; i++)
		if (cluster->places[i].slot == slot)
			return &cluster->places[i];
	if (cluster->place_count < PLACES_MAX)
		place = &cluster->places[cluster->place_count++];
	else
		place = &cluster->places[cluster->place_next++ % PLACES_MAX];
	*place = (struct place){ slot, REDIS_NODE_NONE };
	return place;
}

static bool add_candidate(void *context, const struct redis_address *address)
{
	struct redis_cluster *cluster = context;

	return redis_nodes_add(&cluster->nodes, address);
}

/* What the node ASKED says of the slots that we need, and of nodes to ask later. */
static void learn(struct redis_cluster *cluster, const struct work *work,
		  const struct redis_reply *reply, unsigned asked)
{
	struct redis_address from = cluster->nodes.list[asked].address, owner;

	for (unsigned i = 0; i < cluster->place_count; i++) {
		struct place *place = &cluster->places[i];

		mark_kept(cluster, work);
		cluster->nodes.list[asked].kept = true;
		if (redis_slots_owner(reply, place->slot, &from, &owner))
			place->node = redis_nodes_find(&cluster->nodes, &owner);
		else
			place->node = REDIS_NODE_NONE;
	}
	redis_slots_each(reply, &from, add_candidate, cluster);
	mark_kept(cluster, work);
	cluster->nodes.list[asked].kept = true;
	redis_nodes_trim(&cluster->nodes);
}

static enum redis_error refuse(const struct redis_node *node, const struct redis_result *result,
			       struct weir_error *error)
{
	size_t length;
	const char *text = redis_reply_text(result->reply, &length);
	bool alone = redis_identity(node->redis)->version[0] &&
		     !redis_identity(node->redis)->cluster;
	char quoted[160] = "what is no list";
	enum redis_error kind = result->error;

	if (text)
		weir_quote(text, length, quoted, sizeof(quoted));
	if (kind == REDIS_ERROR_NONE)
		kind = REDIS_ERROR_PROTOCOL;
	weir_fail(error, redis_error_permanent(kind) ? WEIR_EACCES : WEIR_ESYSTEM,
		  "%s: CLUSTER SLOTS was answered by %s; %s", redis_place(node->redis), quoted,
		  alone ? "this Redis is no cluster: write redis:// in the URL" :
			  "allow the user +cluster|slots, and check what listens there");
	return kind;
}

static enum redis_error ask(struct redis_cluster *cluster, const struct work *work,
			    unsigned asked, struct weir_error *error)
{
	static const char *const words[] = { "CLUSTER", "SLOTS" };
	struct redis_node *node = &cluster->nodes.list[asked];
	uint64_t begin_ns = redis_now_ns();
	struct redis_result result;
	struct redis_flush flush = { .redis = node->redis, .results = &result, .count = 1 };

	flush.outcome = redis_append(node->redis, 2, words, NULL);
	if (flush.outcome == REDIS_ERROR_NONE)
		redis_flush_all(&flush, 1, begin_ns + cluster->command_ns);
	if (flush.outcome != REDIS_ERROR_NONE) {
		if (error)
			*error = flush.error;
		redis_nodes_failed(&cluster->nodes, node, flush.outcome,
				   redis_now_ns() - begin_ns);
		return flush.outcome;
	}
	if (redis_reply_type(result.reply) != REDIS_TYPE_ARRAY)
		return refuse(node, &result, error);
	node->failures = 0;
	learn(cluster, work, result.reply, asked);
	return REDIS_ERROR_NONE;
}

/* Ask for the map: those to whom there is a connection, then any other, while there is
 * time for one. */
static enum redis_error refresh(struct redis_cluster *cluster, const struct work *work,
				struct weir_error *error)
{
	uint64_t begin_ns = redis_now_ns();
	unsigned count = cluster->nodes.count, first = cluster->next++;
	enum redis_error result = REDIS_ERROR_NOT_CONNECTED;

	cluster->refresh_ns = begin_ns + REFRESH_NS;
	for (unsigned i = 0; i < 2 * count; i++) {
		unsigned index = (first + i) % count;
		struct redis_node *node = &cluster->nodes.list[index];
		bool late = i > 0 && redis_now_ns() > begin_ns + cluster->connect_ns;

		if (late || redis_node_connected(node) != (i < count))
			continue;
		result = redis_nodes_connect(&cluster->nodes, node, error);
		if (result == REDIS_ERROR_NONE)
			result = ask(cluster, work, index, error);
		if (result == REDIS_ERROR_NONE) {
			cluster->old = false;
			return REDIS_ERROR_NONE;
		}
		if (result == REDIS_ERROR_INTERRUPTED)
			break;
	}
	return result;
}

/* ---- One call's end ---------------------------------------------------- */

/* It gets no reply: ERROR says why. */
static void give_up(struct work *work, unsigned i, enum redis_error kind,
		    const struct weir_error *error)
{
	work->attempts[i].open = false;
	work->results[i] = (struct redis_result){ kind, NULL };
	if (work->outcome != REDIS_ERROR_NONE)
		return;
	work->outcome = kind;
	if (work->error)
		*work->error = *error;
}

/* It was not sent, so whatever is in the way leaves no doubt about it. */
static enum redis_error unsent(enum redis_error kind)
{
	return redis_error_permanent(kind) || kind == REDIS_ERROR_INTERRUPTED ?
		kind : REDIS_ERROR_NOT_CONNECTED;
}

__attribute__((format(printf, 4, 5)))
static void give_up_saying(struct work *work, unsigned i, enum redis_error kind,
			   const char *format, ...)
{
	struct weir_error error;
	char what[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	weir_fail(&error, WEIR_ESYSTEM, "%s", what);
	give_up(work, i, kind, &error);
}

static void redirect(struct work *work, unsigned i, const struct redis_result *result)
{
	struct redis_cluster *cluster = work->cluster;
	struct attempt *attempt = &work->attempts[i];
	size_t length;
	const char *text = redis_reply_text(result->reply, &length);
	struct redis_address to;

	cluster->old = true;
	if (!redis_slots_redirect(text, length, &cluster->nodes.list[attempt->node].address, &to))
		return;                 /* the error stands as it is */
	mark_kept(cluster, work);
	attempt->node = redis_nodes_find(&cluster->nodes, &to);
	attempt->asking = result->error == REDIS_ERROR_ASK;
	attempt->open = attempt->node != REDIS_NODE_NONE;
	if (!attempt->asking)
		place_of(cluster, &work->calls[i])->node = attempt->node;
}

static void sort_out(struct work *work, unsigned i)
{
	struct attempt *attempt = &work->attempts[i];
	const struct redis_result *result = &work->replies[attempt->result];

	attempt->open = false;
	work->results[i] = *result;
	switch (result->error) {
	case REDIS_ERROR_MOVED:
	case REDIS_ERROR_ASK:
		redirect(work, i, result);
		break;
	case REDIS_ERROR_TRYAGAIN:
		work->try_again = true;
		attempt->open = true;
		break;
	case REDIS_ERROR_NOSCRIPT:      /* they were loaded again */
		attempt->open = true;
		break;
	case REDIS_ERROR_CLUSTERDOWN:
		work->cluster->old = true;
		break;
	default:
		break;
	}
}

/* ---- Sending ----------------------------------------------------------- */

/* The map is old, or the place of a slot is not known. */
static void find_places(struct work *work)
{
	struct redis_cluster *cluster = work->cluster;
	struct weir_error error = { 0 };
	bool unknown = false;

	for (unsigned i = 0; i < work->count; i++)
		if (place_of(cluster, &work->calls[i])->node == REDIS_NODE_NONE)
			unknown = true;
	if (unknown || (cluster->old && redis_now_ns() >= cluster->refresh_ns))
		refresh(cluster, work, &error);
	for (unsigned i = 0; i < work->count; i++) {
		struct attempt *attempt = &work->attempts[i];
		struct place *place = place_of(cluster, &work->calls[i]);

		attempt->node = place->node;
		if (place->node != REDIS_NODE_NONE)
			continue;
		if (error.status)
			give_up(work, i, REDIS_ERROR_NOT_CONNECTED, &error);
		else
			give_up_saying(work, i, REDIS_ERROR_CLUSTERDOWN,
				       "no node of the cluster has slot %u; look at CLUSTER INFO",
				       place->slot);
		cluster->old = true;
	}
}

static void connect_nodes(struct work *work)
{
	struct redis_cluster *cluster = work->cluster;

	for (unsigned i = 0; i < work->count; i++) {
		struct attempt *attempt = &work->attempts[i];
		struct weir_error error;
		enum redis_error result;

		if (!attempt->open)
			continue;
		result = redis_nodes_connect(&cluster->nodes, &cluster->nodes.list[attempt->node],
					     &error);
		if (result == REDIS_ERROR_NONE)
			continue;
		cluster->old = true;
		give_up(work, i, unsent(result), &error);
	}
}

/* Time passes while nodes are connected to. */
static bool in_time(struct work *work)
{
	uint64_t now_ns = redis_now_ns();
	bool late = now_ns >= work->send_by_ns ||
		    (work->deadline_ns && now_ns >= work->deadline_ns);

	for (unsigned i = 0; late && i < work->count; i++)
		if (work->attempts[i].open && work->results[i].reply)
			work->attempts[i].open = false;         /* which says it all */
		else if (work->attempts[i].open)
			give_up_saying(work, i, REDIS_ERROR_NOT_CONNECTED,
				       "connecting to a node took so long that the calls are too "
				       "old to be sent; make new ones");
	if (work->deadline_ns == 0)
		work->deadline_ns = now_ns + work->cluster->command_ns;
	return !late;
}

/* Queue the open calls of NODE; returns how many replies they have. */
static unsigned queue(struct work *work, unsigned node)
{
	static const char *const asking[] = { "ASKING" };
	struct redis *redis = work->cluster->nodes.list[node].redis;
	unsigned first = work->reply_count;

	for (unsigned i = 0; i < work->count; i++) {
		struct attempt *attempt = &work->attempts[i];
		enum redis_error result = REDIS_ERROR_NONE;

		if (!attempt->open || attempt->node != node)
			continue;
		if (attempt->asking) {
			result = redis_append(redis, 1, asking, NULL);
			work->reply_count += result == REDIS_ERROR_NONE;
		}
		if (result == REDIS_ERROR_NONE)
			result = redis_append_call(redis, &work->calls[i]);
		if (result == REDIS_ERROR_NONE)
			attempt->result = work->reply_count++;
		else
			give_up_saying(work, i, result, "no memory, or too many arguments, for a "
				       "call; free some");
	}
	return work->reply_count - first;
}

/* What became of each node. */
static void sort_out_node(struct work *work, const struct redis_flush *flush, unsigned node,
			  uint64_t spent_ns)
{
	struct redis_cluster *cluster = work->cluster;

	if (flush->outcome == REDIS_ERROR_NONE) {
		cluster->nodes.list[node].failures = 0;
	} else {
		cluster->old = true;
		redis_nodes_failed(&cluster->nodes, &cluster->nodes.list[node], flush->outcome,
				   spent_ns);
	}
	for (unsigned i = 0; i < work->count; i++) {
		struct attempt *attempt = &work->attempts[i];

		if (!attempt->open || attempt->node != node)
			continue;
		if (work->replies[attempt->result].reply)
			continue;
		give_up(work, i, work->replies[attempt->result].error, &flush->error);
	}
}

/* Send all open calls, and read their replies. */
static void exchange(struct work *work)
{
	struct redis_cluster *cluster = work->cluster;
	struct redis_flush flushes[CALLS_MAX];
	unsigned nodes[CALLS_MAX], count = 0;
	uint64_t begin_ns = redis_now_ns();

	work->reply_count = 0;
	for (unsigned i = 0; i < work->count; i++) {
		unsigned node = work->attempts[i].node, k = 0;

		while (k < count && nodes[k] != node)
			k++;
		if (!work->attempts[i].open || k < count)
			continue;
		flushes[count] = (struct redis_flush){ .redis = cluster->nodes.list[node].redis,
						       .results = work->replies + work->reply_count };
		flushes[count].count = queue(work, node);
		nodes[count++] = node;
	}
	redis_flush_all(flushes, count, work->deadline_ns);
	for (unsigned k = 0; k < count; k++)
		sort_out_node(work, &flushes[k], nodes[k], redis_now_ns() - begin_ns);
	for (unsigned i = 0; i < work->count; i++)
		if (work->attempts[i].open)
			sort_out(work, i);
}

static bool is_open(const struct work *work)
{
	for (unsigned i = 0; i < work->count; i++)
		if (work->attempts[i].open)
			return true;
	return false;
}

enum redis_error redis_cluster_call(struct redis_cluster *cluster, const struct redis_call *calls,
				    unsigned count, uint64_t send_by_ns,
				    struct redis_result *results, struct weir_error *error)
{
	struct work work = { .cluster = cluster, .calls = calls, .results = results,
			     .count = count, .send_by_ns = send_by_ns, .error = error };

	weir_ok(error);
	for (unsigned i = 0; i < cluster->nodes.count; i++)
		if (cluster->nodes.list[i].redis)
			redis_forget_replies(cluster->nodes.list[i].redis);
	for (unsigned i = 0; i < count; i++) {
		results[i] = (struct redis_result){ REDIS_ERROR_NOT_CONNECTED, NULL };
		work.attempts[i] = (struct attempt){ .node = REDIS_NODE_NONE, .open = true };
	}
	find_places(&work);
	for (unsigned i = 0; is_open(&work) && i <= REDIRECTIONS_MAX; i++) {
		if (work.try_again)
			redis_sleep_ns((struct redis *)cluster->nodes.owner, TRY_AGAIN_NS);
		work.try_again = false;
		connect_nodes(&work);
		if (is_open(&work) && in_time(&work))
			exchange(&work);
	}
	return work.outcome;
}

/* ---- The object -------------------------------------------------------- */

enum redis_error redis_cluster_connect(struct redis_cluster *cluster, struct weir_error *error)
{
	enum redis_error result = refresh(cluster, NULL, error);

	if (result == REDIS_ERROR_NONE)
		weir_ok(error);
	return result;
}

void redis_cluster_disconnect(struct redis_cluster *cluster)
{
	redis_nodes_close(&cluster->nodes);
}

void redis_cluster_leave(struct redis_cluster *cluster, const char *key, size_t length)
{
	struct redis_call call = { .key = key, .key_length = length };
	unsigned node = place_of(cluster, &call)->node;

	if (node != REDIS_NODE_NONE && cluster->nodes.list[node].redis)
		redis_disconnect(cluster->nodes.list[node].redis);
	cluster->old = true;
}

bool redis_cluster_connected(const struct redis_cluster *cluster)
{
	for (unsigned i = 0; i < cluster->nodes.count; i++)
		if (redis_node_connected(&cluster->nodes.list[i]))
			return true;
	return false;
}

int redis_cluster_create(const struct redis_options *options, const struct redis *owner,
			 struct redis_cluster **cluster, struct weir_error *error)
{
	struct redis_cluster *made = calloc(1, sizeof(*made));

	*cluster = NULL;
	if (!made)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a cluster; free some");
	made->connect_ns = options->connect_ms * NS_PER_MS;
	made->command_ns = options->command_ms * NS_PER_MS;
	made->nodes.owner = owner;
	if (getrandom(&made->nodes.random, sizeof(made->nodes.random), 0) !=
	    sizeof(made->nodes.random)) {
		free(made);
		return weir_fail(error, WEIR_ESYSTEM, "no random numbers from the kernel: %s",
				 strerror(errno));
	}
	for (unsigned i = 0; i < options->seed_count; i++) {
		unsigned seed = redis_nodes_find(&made->nodes, &options->seeds[i]);

		made->nodes.list[seed].seed = true;
	}
	*cluster = made;
	return weir_ok(error);
}

void redis_cluster_destroy(struct redis_cluster *cluster)
{
	if (!cluster)
		return;
	redis_nodes_close(&cluster->nodes);
	free(cluster);
}
