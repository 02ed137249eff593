/* SPDX-License-Identifier: Apache-2.0 */
/* What the script does, with other means: nanoseconds in one word, tables in memory.  An entry that
 * the script's collection may remove counts as absent there, so nothing is collected here but when
 * a table would grow. */
#include "tests/script_holds.h"
#include "tests/script_windows.h"

#include <stdlib.h>
#include <string.h>

#define GIGA INT64_C(1000000000)
#define EXACT (UINT64_C(1) << 53)
#define MAX_KEEP (UINT64_C(1) << 30)
#define FAR_SECONDS INT64_C(2147483647)
#define LAST_SECOND INT64_C(4294967295)
#define ALIVE_SECONDS 30
#define HOST_KEPT_SECONDS 86400
#define GENERATION_KEPT_SECONDS 600
#define MAX_HOSTS 4000

struct entry {
	uint8_t name[SCRIPT_NAME_BYTES];
	int64_t tat_ns;
	uint32_t generation;
	bool used;
};

struct host {
	uint8_t id[SCRIPT_HOST_BYTES];
	uint64_t term;
	uint64_t seq;
	uint64_t applied_term;
	uint64_t applied_seq;
	int64_t seen_seconds;
	bool listed;
};

struct script_model {
	struct entry *entries;
	size_t entry_slots;                     /* a power of two, or 0 */
	size_t entry_count;
	struct kept_windows windows;
	struct kept_holds holds;
	struct host *hosts;
	size_t host_slots;
	size_t host_count;
	bool ticked;                            /* last_ns and what follows are known */
	int64_t last_ns;
	int64_t offset_ns;
	uint64_t live;
	int64_t counted_seconds;
};

/* What all items of a call share. */
struct context {
	struct script_model *model;
	int64_t now_ns;
	int64_t floor_ns;
};

/* ---- Times ------------------------------------------------------------- */

static int64_t seconds_of(int64_t ns)
{
	return ns / GIGA - (ns % GIGA < 0);
}

struct script_duration script_duration(int64_t ns)
{
	int64_t seconds = seconds_of(ns);

	return (struct script_duration){ (int32_t)seconds, (uint32_t)(ns - seconds * GIGA) };
}

int64_t script_ns(struct script_duration duration)
{
	return duration.seconds * GIGA + duration.nanoseconds;
}

struct script_answer script_answer(struct script_result result, int64_t now_ns)
{
	int64_t tat_ns = now_ns + script_ns(result.debt);

	return (struct script_answer){
		.seconds = (uint32_t)(tat_ns / GIGA),
		.nanoseconds = (uint32_t)(tat_ns % GIGA) | result.error << 30,
		.generation = result.generation,
	};
}

struct script_result script_result(struct script_answer answer, int64_t now_ns)
{
	int64_t tat_ns = answer.seconds * GIGA + answer.nanoseconds % (1u << 30);

	return (struct script_result){
		.debt = script_duration(tat_ns - now_ns),
		.generation = answer.generation,
		.error = answer.nanoseconds >> 30,
	};
}

static int64_t later(int64_t a_ns, int64_t b_ns)
{
	return a_ns > b_ns ? a_ns : b_ns;
}

static int64_t earlier(int64_t a_ns, int64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

/* ---- Memory ------------------------------------------------------------ */

/* A failed allocation ends the simulation: there is nobody to tell. */
static void *grown(void *old, size_t count, size_t size)
{
	void *bigger = reallocarray(old, count, size);

	if (!bigger)
		abort();
	return bigger;
}

struct script_model *script_model_new(void)
{
	return calloc(1, sizeof(struct script_model));
}

void script_model_flush(struct script_model *model)
{
	free(model->entries);
	free(model->hosts);
	windows_free(&model->windows);
	holds_free(&model->holds);
	memset(model, 0, sizeof(*model));
}

void script_model_free(struct script_model *model)
{
	if (model)
		script_model_flush(model);
	free(model);
}

struct script_model *script_model_copy(const struct script_model *model)
{
	struct script_model *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *model;
	copy->entries = NULL;
	copy->hosts = NULL;
	windows_copy(&copy->windows, &model->windows);
	holds_copy(&copy->holds, &model->holds);
	if (model->entry_slots) {
		copy->entries = grown(NULL, model->entry_slots, sizeof(*model->entries));
		memcpy(copy->entries, model->entries,
		       model->entry_slots * sizeof(*model->entries));
	}
	if (model->host_slots) {
		copy->hosts = grown(NULL, model->host_slots, sizeof(*model->hosts));
		memcpy(copy->hosts, model->hosts, model->host_count * sizeof(*model->hosts));
	}
	return copy;
}

/* ---- Entries ----------------------------------------------------------- */

static bool entry_kept(const struct entry *entry, int64_t floor_ns)
{
	int64_t more = entry->generation > 0 ? GENERATION_KEPT_SECONDS : 0;

	return seconds_of(entry->tat_ns) >= seconds_of(floor_ns) - more;
}

static struct entry *entry_probe(struct entry *entries, size_t slots, const uint8_t *name)
{
	uint64_t hash = 0xcbf29ce484222325;
	size_t slot;

	for (int i = 0; i < SCRIPT_NAME_BYTES; i++)
		hash = (hash ^ name[i]) * 0x100000001b3;
	for (slot = (hash ^ hash >> 32) & (slots - 1); entries[slot].used;
	     slot = (slot + 1) & (slots - 1))
		if (memcmp(entries[slot].name, name, SCRIPT_NAME_BYTES) == 0)
			break;
	return &entries[slot];
}

static struct entry *entry_find(const struct script_model *model, const uint8_t *name)
{
	struct entry *entry;

	if (model->entry_slots == 0)
		return NULL;
	entry = entry_probe(model->entries, model->entry_slots, name);
	return entry->used ? entry : NULL;
}

/* Double the table, without what may be collected. */
static void entries_grow(const struct context *context)
{
	struct script_model *model = context->model;
	size_t slots = model->entry_slots ? 2 * model->entry_slots : 64;
	struct entry *entries = grown(NULL, slots, sizeof(*entries));

	memset(entries, 0, slots * sizeof(*entries));
	model->entry_count = 0;
	for (size_t i = 0; i < model->entry_slots; i++) {
		const struct entry *entry = &model->entries[i];

		if (!entry->used || !entry_kept(entry, context->floor_ns))
			continue;
		*entry_probe(entries, slots, entry->name) = *entry;
		model->entry_count++;
	}
	free(model->entries);
	model->entries = entries;
	model->entry_slots = slots;
}

static void entry_store(const struct context *context, const uint8_t *name, int64_t tat_ns,
			uint32_t generation)
{
	struct script_model *model = context->model;
	struct entry *entry = entry_find(model, name);

	if (!entry) {
		if (2 * (model->entry_count + 1) > model->entry_slots)
			entries_grow(context);
		entry = entry_probe(model->entries, model->entry_slots, name);
		memcpy(entry->name, name, SCRIPT_NAME_BYTES);
		entry->used = true;
		model->entry_count++;
	}
	entry->tat_ns = tat_ns;
	entry->generation = generation;
}

int64_t script_model_tat_ns(const struct script_model *model, const uint8_t *name)
{
	const struct entry *entry = entry_find(model, name);

	return entry ? entry->tat_ns : -1;
}

int64_t script_model_window(const struct script_model *model, const uint8_t *name, int64_t *end_ns)
{
	const struct kept_window *window = windows_find(&model->windows, name);

	if (window)
		*end_ns = window->end_ns;
	return window ? window->total : -1;
}

uint64_t script_model_held(const struct script_model *model, const uint8_t *name)
{
	return holds_sum(&model->holds, seconds_of(model->last_ns), name);
}

/* ---- One item ---------------------------------------------------------- */

static bool item_valid(const struct script_item *item)
{
	return item->charge.nanoseconds < GIGA && item->empty.nanoseconds < GIGA &&
	       item->view.nanoseconds < GIGA && item->cap.nanoseconds < GIGA &&
	       item->cap.seconds >= 0 && item->flags <= (SCRIPT_RESTORE | SCRIPT_RESET);
}

#define RESET 4096u      /* a reset begins a generation that is a multiple of it */

/* Redis was rolled back to before a refund or reset. */
static bool item_replaces(const struct script_item *item, uint32_t generation)
{
	return (item->flags & SCRIPT_RESTORE) && item->generation > generation;
}

/* A view of before a refund may have what a Redis that lost state does not; not so one of
 * before a reset. */
static bool item_may_raise(const struct script_item *item, uint32_t generation)
{
	return item->generation > generation ||
	       (item->generation / RESET == generation / RESET && (item->flags & SCRIPT_RESTORE));
}

static uint32_t next_generation(uint32_t generation, bool reset)
{
	uint64_t next = reset ? ((uint64_t)generation / RESET + 1) * RESET : generation + 1ull;

	return next < UINT32_MAX ? (uint32_t)next : UINT32_MAX;
}

/* What the charges, the cap and the collection make of a tat. */
static int64_t item_compose(const struct context *context, const struct script_item *item,
			    int64_t tat_ns, int64_t charge_ns)
{
	int64_t cap_ns = script_ns(item->cap);
	int64_t to_ns = later(tat_ns + charge_ns, context->now_ns + script_ns(item->empty));

	if (cap_ns > 0)
		to_ns = earlier(to_ns, later(tat_ns, context->now_ns + cap_ns));
	return later(to_ns, context->floor_ns);
}

static enum script_error item_apply(const struct context *context, const struct script_item *item,
				    bool known, int64_t *tat_ns, uint32_t *generation)
{
	int64_t view_ns = context->now_ns + script_ns(item->view);
	int64_t charge_ns = script_ns(item->charge);
	int64_t from_ns = *tat_ns;
	uint32_t to_generation = *generation;
	bool write = false;
	int64_t to_ns;

	if (!item_valid(item))
		return SCRIPT_ITEM_MALFORMED;

	if (item_replaces(item, *generation))
		from_ns = context->floor_ns;
	if ((!known || item_may_raise(item, *generation)) && view_ns > from_ns) {
		from_ns = view_ns;
		write = true;
	}
	if (item->generation > to_generation) {
		to_generation = item->generation;
		write = true;
	}
	if (item->flags & SCRIPT_RESET) {
		from_ns = context->now_ns;
		charge_ns = 0;
	}
	if ((item->flags & SCRIPT_RESET) || charge_ns < 0) {
		to_generation = next_generation(to_generation, item->flags & SCRIPT_RESET);
		write = true;
	}

	to_ns = item_compose(context, item, from_ns, charge_ns);
	if (seconds_of(to_ns) - seconds_of(context->now_ns) >= FAR_SECONDS ||
	    seconds_of(to_ns) > LAST_SECOND)
		return SCRIPT_ITEM_RANGE;
	if (write || to_ns != from_ns)
		entry_store(context, item->name, to_ns, to_generation);
	*tat_ns = to_ns;
	*generation = to_generation;
	return SCRIPT_ITEM_DONE;
}

static struct script_result item_run(const struct context *context, const struct script_item *item)
{
	const struct entry *entry = entry_find(context->model, item->name);
	bool known = entry && entry_kept(entry, context->floor_ns);
	int64_t tat_ns = known ? later(entry->tat_ns, context->floor_ns) : context->floor_ns;
	uint32_t generation = known ? entry->generation : 0;
	enum script_error error = item_apply(context, item, known, &tat_ns, &generation);

	return (struct script_result){ script_duration(tat_ns - context->now_ns), generation,
				       error };
}

/* ---- Hosts ------------------------------------------------------------- */

static struct host *host_find(struct script_model *model, const uint8_t *id)
{
	for (size_t i = 0; i < model->host_count; i++)
		if (memcmp(model->hosts[i].id, id, SCRIPT_HOST_BYTES) == 0)
			return &model->hosts[i];
	return NULL;
}

static struct host *host_add(struct script_model *model, const uint8_t *id)
{
	struct host *host;

	if (model->host_count == model->host_slots) {
		model->host_slots = model->host_slots ? 2 * model->host_slots : 16;
		model->hosts = grown(model->hosts, model->host_slots, sizeof(*model->hosts));
	}
	host = &model->hosts[model->host_count++];
	memset(host, 0, sizeof(*host));
	memcpy(host->id, id, SCRIPT_HOST_BYTES);
	return host;
}

/* CALLER counts in any case. */
static uint64_t hosts_count(struct script_model *model, struct host *caller, int64_t now_seconds)
{
	uint64_t live = 0;

	for (size_t i = 0; i < model->host_count; i++) {
		struct host *host = &model->hosts[i];

		host->listed = host->listed &&
			       (host == caller || now_seconds - host->seen_seconds < ALIVE_SECONDS);
		live += host->listed;
	}
	if (!caller->listed && live < MAX_HOSTS) {
		caller->listed = true;
		live++;
	}
	return live;
}

/* ---- The call ---------------------------------------------------------- */

static bool call_valid(const struct script_call *call)
{
	return call->term >= 1 && call->term < EXACT && call->seq < EXACT &&
	       call->tolerance_ns < EXACT && call->keep_seconds >= 1 &&
	       call->keep_seconds < MAX_KEEP && call->count <= SCRIPT_MAX_ITEMS &&
	       call->window_count <= SCRIPT_MAX_ITEMS && call->hold_count <= SCRIPT_MAX_ITEMS &&
	       (call->seq > 0 || call->count + call->window_count + call->hold_count == 0);
}

static int64_t virtual_now(const struct script_model *model, const struct script_call *call)
{
	int64_t now_ns = (int64_t)call->clock_us * 1000 + model->offset_ns;
	int64_t low_ns = call->low_ns;

	if (model->ticked && model->last_ns > now_ns)
		return model->last_ns;
	if (low_ns < 0)
		return now_ns;
	if (model->ticked)
		low_ns = later(low_ns, model->last_ns);
	return now_ns > low_ns + (int64_t)call->tolerance_ns ? low_ns : now_ns;
}

static void call_commit(struct script_model *model, const struct script_call *call,
			struct host *host, const struct script_reply *reply)
{
	int64_t now_seconds = seconds_of(reply->now_ns);
	bool back;

	if (!host) {
		host = host_add(model, call->host);
		host->seen_seconds = -ALIVE_SECONDS;
	}
	back = now_seconds - host->seen_seconds >= ALIVE_SECONDS;
	if (!model->ticked || model->counted_seconds != now_seconds || back) {
		model->live = hosts_count(model, host, now_seconds);
		model->counted_seconds = now_seconds;
	}
	host->term = call->term;
	host->seq = call->seq;
	host->applied_term = reply->term;
	host->applied_seq = reply->seq;
	host->seen_seconds = now_seconds;
	model->offset_ns = reply->now_ns - (int64_t)call->clock_us * 1000;
	model->last_ns = reply->now_ns;
	model->ticked = true;
}

bool script_model_call(struct script_model *model, const struct script_call *call,
		       struct script_reply *reply)
{
	struct host *host = host_find(model, call->host);
	struct context context = { .model = model };
	struct host known = { .term = 0 };

	if (!call_valid(call))
		return false;

	context.now_ns = virtual_now(model, call);
	context.floor_ns = later(context.now_ns - (int64_t)call->keep_seconds * GIGA, 0);
	if (host && host->seen_seconds >= seconds_of(context.now_ns) - HOST_KEPT_SECONDS)
		known = *host;

	reply->now_ns = context.now_ns;
	reply->live = model->live;
	reply->term = known.term;
	reply->seq = known.seq;
	reply->count = reply->window_count = reply->hold_count = 0;
	if (call->term < known.term || (call->term == known.term && call->seq == 0)) {
		reply->code = SCRIPT_STALE;
		return true;
	}
	if (call->seq > 0 && (call->term > known.term || call->seq != known.seq + 1)) {
		reply->code = SCRIPT_FENCE_FIRST;
		return true;
	}
	if (windows_are_ahead(call->windows, call->window_count, context.now_ns)) {
		reply->code = SCRIPT_FENCE_FIRST;
		return true;
	}

	reply->code = SCRIPT_DONE;
	reply->term = call->seq > 0 ? call->term : known.applied_term;
	reply->seq = call->seq > 0 ? call->seq : known.applied_seq;
	for (size_t i = 0; i < call->count; i++)
		reply->results[reply->count++] = item_run(&context, &call->items[i]);
	for (size_t i = 0; i < call->window_count; i++)
		reply->windows[reply->window_count++] =
			windows_run(&model->windows, context.now_ns, context.floor_ns,
				    &call->windows[i]);
	for (size_t i = 0; i < call->hold_count; i++)
		reply->holds[reply->hold_count++] =
			holds_run(&model->holds, seconds_of(context.now_ns), call->host,
				  &call->holds[i]);
	call_commit(model, call, host, reply);
	reply->live = model->live;
	return true;
}
