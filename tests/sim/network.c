/* SPDX-License-Identifier: Apache-2.0 */
/* network.c - calls on their way to Redis, and answers on their way back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define CLOCK_TOLERANCE_NS SECOND

struct sent_call {
	struct script_call script;
	struct script_item items[SIM_CALL_ITEMS];
	struct script_answer answers[SIM_CALL_ITEMS];
	uint64_t used[SIM_CALL_ITEMS];
	unsigned keys[SIM_CALL_ITEMS];
	struct script_window windows[SIM_CALL_ITEMS];
	struct script_window_result window_results[SIM_CALL_ITEMS];
	uint64_t window_used[SIM_CALL_ITEMS];
	unsigned window_keys[SIM_CALL_ITEMS];
	struct script_hold holds[SIM_CALL_ITEMS];
	struct script_hold_result hold_results[SIM_CALL_ITEMS];
	unsigned shard;
	unsigned place;                 /* among those of its node */
	bool refused;
	struct script_reply_head {
		enum script_code code;
		int64_t now_ns;
		uint64_t live;
		uint64_t term;
		uint64_t seq;
	} head;
};

struct sent_lease {
	struct lease_model_call call;
	struct lease_model_reply reply;
	unsigned char items[SIM_CALL_ITEMS * LEASE_ITEM];
	unsigned shard;
	unsigned place;
};

/* What becomes of those of its calls that go to one node, over one connection. */
struct part {
	unsigned count;
	unsigned reach;                 /* that arrive, */
	unsigned got;                   /* and whose replies do */
	unsigned forgotten;             /* by Redis, before they were carried out */
	int64_t executed_ns;
	bool executed;
	bool over;                      /* nothing more comes */
};

/* The calls of one tick. */
struct message {
	struct message *next;           /* in the list of free ones */
	struct message *made_before;
	struct process *process;
	uint64_t serial;
	unsigned references;            /* events, and who waits */
	unsigned host;
	unsigned life;
	unsigned count;
	int64_t taken_ns;               /* true time of the snapshot */
	bool abandoned;
	bool leases;                    /* calls of the other script */
	struct part parts[SIM_NODES];
	struct sent_call calls[SYNC_SHARDS];
	struct sent_lease lease_calls[SYNC_SHARDS];
};

static struct message *free_messages, *made_last;

/* ---- Messages ---------------------------------------------------------- */

static struct message *message_new(void)
{
	struct message *message = free_messages;

	if (message) {
		free_messages = message->next;
	} else {
		message = malloc(sizeof(*message));
		if (!message)
			abort();
		message->made_before = made_last;
		made_last = message;
	}
	message->references = 0;
	message->abandoned = message->leases = false;
	memset(message->parts, 0, sizeof(message->parts));
	return message;
}

static void message_put(struct message *message)
{
	if (--message->references > 0)
		return;
	message->next = free_messages;
	free_messages = message;
}

/* Whatever the last run left under way, and with processes that died, is taken back. */
void network_begin(void)
{
	free_messages = NULL;
	for (struct message *message = made_last; message; message = message->made_before) {
		message->next = free_messages;
		free_messages = message;
	}
}

static void message_event(struct message *message, unsigned node, int64_t after_ns,
			  enum event_kind kind)
{
	message->references++;
	if (kind == EVENT_ARRIVE && world.now_ns + after_ns > world.arrival_last_ns)
		world.arrival_last_ns = world.now_ns + after_ns;
	events_add(world.now_ns + after_ns, kind, node, 0, message);
}

void network_abandon(struct message *message)
{
	message->abandoned = true;
	message_put(message);
}

static int64_t way_ns(void)
{
	const struct scenario *scenario = &world.scenario;
	int64_t ns = scenario->way_ns;

	ns += sim_exponential_ns(STREAM_NETWORK, (double)scenario->jitter_ns);
	return sim_chance(STREAM_NETWORK, 0.001) ? ns + scenario->tail_ns : ns;
}

static void lose(struct message *message, unsigned node)
{
	message->parts[node].got = 0;
	if (world.scenario.cuts)
		message_event(message, node, way_ns(), EVENT_ANSWER);
}

static bool is_cut_off(unsigned host)
{
	return !world.quiet && world.now_ns < world.hosts[host].cut_until_ns;
}

/* ---- Sending ----------------------------------------------------------- */

/* As thread.c tells it to the script. */
static int64_t virtual_low_ns(const struct host *host, unsigned shard)
{
	const struct shard_record *record = &host->segment->shards[shard];
	uint64_t now = host_now(host);

	if (record->virtual_at_ns == 0 || record->virtual_at_ns > now)
		return -1;
	return (int64_t)(record->virtual_seconds * (uint64_t)SECOND + record->virtual_part_ns +
			 (now - record->virtual_at_ns));
}

static unsigned key_of(const struct host *host, uint64_t slot)
{
	const struct slot *place = &host->segment->table.slots[slot];

	for (unsigned key = 0; key < world.scenario.keys; key++) {
		if (place->identity.first == host->fingerprints[key].low)
			return key;
	}
	sim_fail("host %u sends slot %llu, which is no key's", host->number,
		 (unsigned long long)slot);
	return 0;
}

static void pack_windows(struct sent_call *sent, const struct host *host, const struct round *round)
{
	sent->script.windows = sent->windows;
	sent->script.window_count = round ? round->window_count : 0;
	if (sent->script.window_count > SIM_CALL_ITEMS) {
		sim_fail("a round of %zu windows", sent->script.window_count);
		sent->script.window_count = 0;
	}
	for (unsigned i = 0; i < sent->script.window_count; i++) {
		memcpy(&sent->windows[i], round->window_blob + i * WIRE_WINDOW, WIRE_WINDOW);
		sent->window_used[i] = round->windows[i].used;
		sent->window_keys[i] = key_of(host, round->windows[i].slot);
	}
}

static void pack_holds(struct sent_call *sent, const struct round *round)
{
	sent->script.holds = sent->holds;
	sent->script.hold_count = round ? round->hold_count : 0;
	if (sent->script.hold_count > SIM_CALL_ITEMS) {
		sim_fail("a round of %zu holds", sent->script.hold_count);
		sent->script.hold_count = 0;
	}
	if (sent->script.hold_count > 0)
		memcpy(sent->holds, round->hold_blob, sent->script.hold_count * WIRE_HOLD);
}

static void pack(struct sent_call *sent, const struct host *host, const struct leader_call *call)
{
	const struct round *round = call->round;

	memset(&sent->script, 0, sizeof(sent->script));
	memcpy(sent->script.host, world.life[host->life].id, SCRIPT_HOST_BYTES);
	sent->script.term = call->term;
	sent->script.seq = call->sequence;
	sent->script.low_ns = virtual_low_ns(host, call->shard);
	sent->script.tolerance_ns = (uint64_t)CLOCK_TOLERANCE_NS;
	sent->script.keep_seconds =
		5 + (uint64_t)((world.scenario.interval_ns + world.scenario.staleness_ns) / SECOND);
	sent->script.items = sent->items;
	sent->script.count = round ? round->count : 0;
	sent->shard = call->shard;
	if (sent->script.count > SIM_CALL_ITEMS) {
		sim_fail("a round of %zu items", sent->script.count);
		sent->script.count = 0;
	}
	for (unsigned i = 0; i < sent->script.count; i++) {
		memcpy(&sent->items[i], round->blob + i * WIRE_ITEM, WIRE_ITEM);
		sent->used[i] = round->items[i].used;
		sent->keys[i] = key_of(host, round->items[i].slot);
	}
	pack_windows(sent, host, round);
	pack_holds(sent, round);
}

/* What the network does with what is for NODE. */
static void transmit(struct message *message, unsigned node)
{
	struct part *part = &message->parts[node];
	int64_t way = way_ns();

	part->reach = part->count;
	if (is_cut_off(message->host))
		return;
	if (sim_has(FAULT_CUT) && sim_chance(STREAM_NETWORK, 0.02))
		part->reach = (unsigned)sim_below(STREAM_NETWORK, part->count + 1);
	if (sim_has(FAULT_LATE) && sim_chance(STREAM_NETWORK, 0.02))
		way += sim_exponential_ns(STREAM_NETWORK, 600e6);
	if (sim_has(FAULT_TWICE) && sim_chance(STREAM_NETWORK, 0.02))
		message_event(message, node, way + sim_exponential_ns(STREAM_NETWORK, 50e6),
			      EVENT_ARRIVE);
	if (sim_has(FAULT_REQUEST_LOST) && sim_chance(STREAM_NETWORK, world.scenario.loss))
		lose(message, node);
	else
		message_event(message, node, way, EVENT_ARRIVE);
}

static bool is_answered(const struct message *message, unsigned shard, unsigned place)
{
	const struct part *part = &message->parts[redis_node(shard)];

	return part->over && place < part->got;
}

static void read_replies(const struct message *message, struct round_reply *replies)
{
	for (unsigned i = 0; i < message->count; i++) {
		const struct sent_call *sent = &message->calls[i];

		replies[i] = (struct round_reply){ .code = ROUND_UNANSWERED };
		if (!is_answered(message, sent->shard, sent->place) || sent->refused)
			continue;
		replies[i] = (struct round_reply){
			.code = sent->head.code,
			.virtual_seconds = (uint64_t)(sent->head.now_ns / SECOND),
			.virtual_part_ns = (uint64_t)(sent->head.now_ns % SECOND),
			.hosts = sent->head.live,
			.last_tag = sent->head.term << 32 | sent->head.seq,
			.items = (const unsigned char *)sent->answers,
			.count = sent->head.code == SCRIPT_DONE ? (unsigned)sent->script.count : 0,
			.windows = (const unsigned char *)sent->window_results,
			.window_count =
				sent->head.code == SCRIPT_DONE ? (unsigned)sent->script.window_count : 0,
			.holds = (const unsigned char *)sent->hold_results,
			.hold_count =
				sent->head.code == SCRIPT_DONE ? (unsigned)sent->script.hold_count : 0,
			.received_ns = host_now(message->process->host),
		};
	}
}

/* Send, and wait.  The message is the process's own till its next call. */
static void exchange(struct process *process, struct message *message, unsigned count)
{
	message->process = process;
	message->host = process->host->number;
	message->life = process->host->life;
	message->count = count;
	message->taken_ns = process->tick_ns;
	message->references = 1;
	process->message = message;
	for (unsigned node = 0; node < world.scenario.nodes; node++) {
		message->parts[node].over = message->parts[node].count == 0;
		if (message->parts[node].count > 0)
			transmit(message, node);
	}
	process_wake(process, world.scenario.timeout_ns);
	message->serial = process->serial;
	coroutine_yield();
	process->message = NULL;
	/* Its replies are good until the next call: nothing runs that could use the
	 * place for another message before that, but other hosts may. */
	message->references++;
	message_put(message);
	if (process->held)
		message_put(process->held);
	process->held = message;
}

static void note_heard(struct host *host, const struct message *message)
{
	for (unsigned i = 0; i < message->count; i++) {
		const struct sent_call *sent = &message->calls[i];

		if (!is_answered(message, sent->shard, sent->place) || sent->refused ||
		    sent->script.seq == 0 || sent->head.code != SCRIPT_DONE)
			continue;
		host->heard[sent->shard] = message->parts[redis_node(sent->shard)].forgotten;
		if (message->taken_ns > host->told_ns[sent->shard])
			host->told_ns[sent->shard] = message->taken_ns;
		for (unsigned item = 0; item < sent->script.count; item++)
			check_answered(host, sent->keys[item], sent->used[item]);
	}
}

void network_call(void *context, const struct leader_call *calls, struct round_reply *replies,
		  unsigned count)
{
	struct process *process = context;
	struct message *message = message_new();

	for (unsigned i = 0; i < count; i++) {
		struct sent_call *sent = &message->calls[i];

		pack(sent, process->host, &calls[i]);
		if (process->host->terms[sent->shard] < calls[i].term)
			process->host->terms[sent->shard] = calls[i].term;
		sent->refused = false;
		sent->place = message->parts[redis_node(sent->shard)].count++;
	}
	exchange(process, message, count);
	read_replies(message, replies);
	note_heard(process->host, message);
	for (unsigned node = 0; node < world.scenario.nodes; node++) {
		const struct part *part = &message->parts[node];

		if (!part->over || part->got == 0)
			continue;
		if (part->executed_ns - message->taken_ns > world.delay_max_ns)
			world.delay_max_ns = part->executed_ns - message->taken_ns;
		if (world.now_ns - message->taken_ns > world.round_trip_max_ns)
			world.round_trip_max_ns = world.now_ns - message->taken_ns;
	}
}

static void pack_lease(struct sent_lease *sent, const struct host *host, struct lease_call *call)
{
	const unsigned char *id = world.life[host->life].id;

	memset(&sent->call, 0, sizeof(sent->call));
	call->sent_ns = host_now(host);
	memcpy(sent->call.host, id, sizeof(sent->call.host));
	memcpy(sent->call.epoch, call->epoch, sizeof(sent->call.epoch));
	memcpy(sent->call.tenure, call->tenure, sizeof(sent->call.tenure));
	sent->call.has_epoch = call->has_epoch;
	sent->call.has_tenure = call->has_tenure;
	sent->call.has_low = lease_low(call, call->sent_ns, sent->call.low) > 0;
	memcpy(sent->call.name, id, 8);
	wire_put32(wire_put32(sent->call.name + 8, call->term), call->number);
	sent->call.items = sent->items;
	sent->call.count = call->count;
	sent->shard = call->shard;
	if (call->count > SIM_CALL_ITEMS) {
		sim_fail("a call of %u leases", call->count);
		sent->call.count = 0;
	}
	memcpy(sent->items, call->items, sent->call.count * LEASE_ITEM);
}

void network_lease(void *context, struct lease_call *calls, struct lease_reply *replies,
		   unsigned count)
{
	struct process *process = context;
	struct message *message = message_new();

	message->leases = true;
	for (unsigned i = 0; i < count; i++) {
		struct sent_lease *sent = &message->lease_calls[i];

		pack_lease(sent, process->host, &calls[i]);
		sent->place = message->parts[redis_node(sent->shard)].count++;
	}
	exchange(process, message, count);
	for (unsigned i = 0; i < count; i++) {
		const struct lease_model_reply *reply = &message->lease_calls[i].reply;

		replies[i] = (struct lease_reply){ .code = LEASE_UNANSWERED };
		if (!is_answered(message, calls[i].shard, message->lease_calls[i].place))
			continue;
		replies[i] = (struct lease_reply){
			.code = reply->code,
			.got_ns = host_now(process->host),
			.has_tenure = reply->has_tenure,
			.virtual_ns = (uint64_t)reply->now_ns,
			.items = reply->items,
			.count = reply->count,
		};
		memcpy(replies[i].epoch, reply->epoch, sizeof(reply->epoch));
		memcpy(replies[i].tenure, reply->tenure, sizeof(reply->tenure));
	}
}

/* ---- At Redis ---------------------------------------------------------- */

/* Was a call of a later term sent of its shard, or is its host another one by now? */
static bool is_late(const struct message *message, const struct sent_call *sent)
{
	const struct host *host = &world.hosts[message->host];

	return host->life != message->life || host->terms[sent->shard] > sent->script.term;
}

static void execute(struct message *message, struct sent_call *sent, bool first)
{
	static struct script_reply reply;

	sent->script.items = sent->items;
	sent->script.holds = sent->holds;
	if (!redis_call(sent->shard, &sent->script, &reply)) {
		sim_fail("host %u makes a malformed call", message->host);
		return;
	}
	world.calls++;
	sim_trace("redis: host %u life %u shard %u term %llu seq %llu items %zu -> %d%s",
		  message->host, message->life, sent->shard, (unsigned long long)sent->script.term,
		  (unsigned long long)sent->script.seq, sent->script.count, reply.code,
		  first ? "" : " (again)");
	if (reply.code == SCRIPT_DONE) {
		check_clock(sent->shard, reply.now_ns - REDIS_BASE_NS);
		if (world.now_ns - message->taken_ns > world.flight_max_ns)
			world.flight_max_ns = world.now_ns - message->taken_ns;
		for (unsigned i = 0; i < sent->script.count; i++)
			check_applied(message->life, sent->keys[i], sent->shard, &sent->items[i],
				      &reply.results[i], sent->used[i],
				      !first || is_late(message, sent));
		for (unsigned i = 0; i < sent->script.window_count; i++)
			check_window_applied(message->life, sent->window_keys[i], &sent->windows[i],
					     &reply.windows[i], sent->window_used[i],
					     !first || is_late(message, sent));
	}
	if (!first)
		return;
	sent->head = (struct script_reply_head){ reply.code, reply.now_ns, reply.live, reply.term,
						 reply.seq };
	for (size_t i = 0; i < reply.count; i++)
		sent->answers[i] = script_answer(reply.results[i], reply.now_ns);
	memcpy(sent->window_results, reply.windows, reply.window_count * sizeof(reply.windows[0]));
	memcpy(sent->hold_results, reply.holds, reply.hold_count * sizeof(reply.holds[0]));
}

static void execute_lease(const struct message *message, struct sent_lease *sent, bool first)
{
	static struct lease_model_reply reply;

	sent->call.items = sent->items;
	redis_lease_call(sent->shard, &sent->call, &reply);
	world.calls++;
	sim_trace("redis: host %u life %u shard %u leases %u -> %u%s", message->host,
		  message->life, sent->shard, sent->call.count, reply.code, first ? "" : " (again)");
	for (unsigned i = 0; reply.code == LEASE_DONE && i < sent->call.count; i++) {
		const unsigned char *item = sent->items + i * LEASE_ITEM;
		const unsigned char *answer = reply.items + i * LEASE_REPLY;

		sim_trace("  name %08x session %u.%u spent %lld back %lld target %lld least %lld "
			  "flags %x -> granted %lld debt %lld err %u",
			  wire_get32(item), wire_get32(item + 16), wire_get32(item + 20),
			  (long long)wire_get_ns(item + 24), (long long)wire_get_ns(item + 40),
			  (long long)wire_get_ns(item + 48), (long long)wire_get_ns(item + 56),
			  wire_get32(item + 72), (long long)wire_get_ns(answer),
			  (long long)wire_get_ns(answer + 8), wire_get32(answer + 20));
	}
	for (unsigned key = 0; key < world.scenario.keys; key++)
		check_escrow(key);
	if (first)
		sent->reply = reply;
}

static void answer(struct message *message, unsigned node)
{
	struct part *part = &message->parts[node];

	/* The connection was cut: replies to the first calls may be there. */
	if (part->reach < part->count) {
		part->got = (unsigned)sim_below(STREAM_NETWORK, part->reach + 1);
		if (part->got > 0)
			message_event(message, node, way_ns(), EVENT_ANSWER);
		return;
	}
	part->got = part->count;
	if (sim_has(FAULT_REPLY_LOST) &&
	    sim_chance(STREAM_NETWORK, world.scenario.reply_loss))
		lose(message, node);
	else
		message_event(message, node, way_ns(), EVENT_ANSWER);
}

/* Carry out what has come to NODE. */
static void carry_out(struct message *message, unsigned node)
{
	struct part *part = &message->parts[node];
	bool first = !part->executed;

	for (unsigned i = 0; i < message->count && !world.failed; i++) {
		struct sent_call *sent = &message->calls[i];
		struct sent_lease *lease = &message->lease_calls[i];

		if (message->leases && redis_node(lease->shard) == node && lease->place < part->reach)
			execute_lease(message, lease, first);
		if (message->leases || redis_node(sent->shard) != node || sent->place >= part->reach)
			continue;
		if (first && sim_has(FAULT_REFUSED))
			sent->refused = sim_chance(STREAM_FAULTS + FAULT_REFUSED, 0.02);
		if (!sent->refused || sim_chance(STREAM_FAULTS + FAULT_REFUSED, 0.5))
			execute(message, sent, first);
	}
	part->executed = true;
	if (first) {
		part->executed_ns = world.now_ns;
		part->forgotten = world.forgotten;
		answer(message, node);
	}
}

void network_arrive(struct message *message, unsigned node)
{
	int64_t away_ns = world.quiet ? 0 : redis_away_ns(node);

	if (away_ns > 0 && sim_chance(STREAM_FAULTS + FAULT_NODE, 0.5))
		/* It was stopped: it takes what has come when it goes on. */
		message_event(message, node, away_ns + way_ns(), EVENT_ARRIVE);
	else if (away_ns <= 0 && !redis_is_down() &&
		 (world.quiet || !is_cut_off(message->host)))
		carry_out(message, node);
	message_put(message);
}

void network_answer(struct message *message, unsigned node)
{
	struct process *process = message->process;

	if (!message->abandoned && process->alive && process->message == message &&
	    process->serial == message->serial && !is_cut_off(message->host)) {
		bool over = true;

		message->parts[node].over = true;
		for (unsigned i = 0; i < world.scenario.nodes; i++)
			over &= message->parts[i].over;
		if (over)
			process_wake(process, 0);
	}
	message_put(message);
}
