/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h - many hosts, one Redis, one thread, and no time but what a seed says.
 *
 * What.  Hosts are segments of their own and run the real decisions and the real
 * reconciliation; Redis is the model of its script.  Everything else (clocks, the
 * network, the processes that lead, who dies when) is drawn from a seed, so that a
 * seed is a run, for ever: chance.c stands before the machine's clocks, and
 * test_repeat.py compares processes.
 *
 * A leader is a coroutine.  sync/'s files are compiled with WEIR_MODEL, so each of
 * their atomic operations calls weir_model_step() first: there a leader may be held
 * up while others go on, stopped for long, or killed.
 *
 * true_ns is the simulation's own time, from 0; a host's clock and Redis' differ
 * from it by what the seed says.
 */
#ifndef WEIR_TESTS_SIM_H
#define WEIR_TESTS_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/bucket.h"
#include "shm/limit.h"
#include "shm/segment.h"
#include "sync/leader.h"
#include "tests/lease_model.h"
#include "tests/script_model.h"
#include "tests/sim/coroutine.h"

#define MS INT64_C(1000000)
#define SECOND INT64_C(1000000000)
#define REDIS_BASE_NS (INT64_C(1700000000) * SECOND)     /* its clock at true time 0 */

#define SIM_HOSTS 100u
#define SIM_KEYS 3u
#define SIM_PROCESSES 2u        /* of a host: one leads, one stands by */
#define SIM_LIVES 160u          /* makings of segments, of all hosts together */
#define SIM_CALL_ITEMS 16u
#define SIM_HOLDS 512u          /* records of a host */
#define SIM_NODES 4u            /* servers, each with its shards, connection and messages */
#define SIM_ALTERNATIVES 24u
#define SIM_STRIKE_STEPS 300u
#define SIM_WINDOWS 128u        /* of a key, in one run */

/* ---- Scenario ---------------------------------------------------------- */

enum sim_fault {
	FAULT_REQUEST_LOST,
	FAULT_REPLY_LOST,
	FAULT_LATE,             /* a request reaches Redis long after it was given up */
	FAULT_TWICE,
	FAULT_CUT,              /* only some of the calls of a request arrive */
	FAULT_FLUSH,
	FAULT_FAILOVER,
	FAULT_REDIS_CLOCK,
	FAULT_DRIFT,
	FAULT_KILL,
	FAULT_STOP,
	FAULT_CRASH,
	FAULT_PARTITION,
	FAULT_GIVE_BACK,        /* refunds and resets; not a fault, but drawn like one */
	FAULT_HOLD,             /* leaders are held up between two stores */
	FAULT_NODE,             /* of several that share the shards out, one is away */
	FAULT_REFUSED,          /* a call gets an error, whether it was carried out or not */
	FAULT_COUNT,
};

struct scenario {
	uint64_t seed;
	unsigned hosts;
	unsigned keys;
	unsigned nodes;
	uint32_t faults;                /* one bit each; */
	uint32_t always;                /* these whatever the seed says */
	int64_t busy_ns;                /* with requests and faults */
	struct weir_limit limit;
	enum weir_consistency consistency;
	enum weir_fail_mode fail_mode;
	int64_t interval_ns;
	int64_t staleness_ns;
	unsigned overshoot;             /* thousandths */
	double load;                    /* of all hosts, in limits */
	unsigned cost_max;
	int64_t way_ns;                 /* to Redis: this, */
	int64_t jitter_ns;              /* and this, exponentially distributed, */
	int64_t tail_ns;                /* and with one in a thousand this */
	double loss;                    /* of requests: how often, */
	double reply_loss;              /* and of replies */
	unsigned strike_steps;          /* between strikes at a leader, on the average */
	bool cuts;                      /* what is lost goes with its connection: that shows */
	int64_t timeout_ns;             /* of a call */
	bool strict;                    /* leases, and all of their faults */
	bool windows;                   /* fixed or sliding, and hosts whose clocks are wrong */
	bool holds;                     /* a concurrency limit: requests take units and give
					 * them back */
	bool crowds;                    /* all clients are at one host at a time, or at none */
	int64_t idle_ns;                /* before the first request */
	bool measure;                   /* for the table: no history is kept, */
	int64_t disaster_ns;            /* and disasters come when it says: first at this time, */
	int64_t every_ns;               /* then in such distances; 0: only once */
	int64_t clock_step_ns;          /* and Redis' clock steps by that */
};

/* What the seed says.  RESTRICT takes faults, hosts and so on away again. */
struct restriction {
	uint32_t faults;
	uint32_t always;                /* added to those that the seed says */
	unsigned hosts;
	unsigned keys;
	int64_t busy_ns;
	unsigned strike_steps;          /* as in a scenario */
	bool strict;                    /* mode strict, whatever the seed says */
	bool windows;                   /* and so on */
	bool holds;
	bool crowds;
};

void scenario_draw(uint64_t seed, const struct restriction *restriction,
		   struct scenario *scenario);
const char *fault_name(unsigned fault);

/* A host that has nothing to tell calls that often. */
static inline int64_t scenario_heartbeat_ns(const struct scenario *scenario)
{
	return scenario->staleness_ns / 4 < SECOND ? scenario->staleness_ns / 4 : SECOND;
}

/* ---- Random numbers: a stream for each purpose ------------------------- */

enum sim_stream {
	STREAM_SCENARIO,
	STREAM_REQUESTS,
	STREAM_NETWORK,
	STREAM_STEPS,
	STREAM_FAULTS,          /* + fault */
	STREAM_IDENTITY = STREAM_FAULTS + FAULT_COUNT,  /* of processes */
	STREAM_CROWDS,
	STREAM_COUNT,
};

uint64_t sim_random(unsigned stream);
uint64_t sim_below(unsigned stream, uint64_t bound);
bool sim_chance(unsigned stream, double probability);
int64_t sim_exponential_ns(unsigned stream, double mean_ns);

/* ---- The world --------------------------------------------------------- */

/* One admitted request. */
struct charge {
	int64_t true_ns;
	int64_t charge_ns;
	uint64_t used;          /* of its bucket, afterwards */
	unsigned life;
};

/* What is true of a bucket that counts windows, in one making of a segment. */
struct own_window {
	uint64_t index;                 /* which one it counts, in the cluster's time, */
	uint64_t charged_ns;            /* and that time at its last admission there */
	uint64_t unmerged;              /* the most that it had in that one, with a fresh view */
	uint64_t applied_index;         /* which one Redis was told of last, */
	uint64_t applied;               /* and how many tokens since it began to count it, */
	uint64_t earlier;               /* and before, */
	bool back;                      /* in an earlier window than it was, and counts anew */
};

/* What is true of a key's bucket in one making of a segment. */
struct truth {
	int64_t applied_ns;             /* by Redis, as far as this host may know */
	int64_t before_ns;              /* before the last call */
	int64_t or_applied_ns[SIM_ALTERNATIVES];       /* after Redis forgot: also possible */
	unsigned alternatives;
	/* Of before Redis forgot: an old leader, long stopped, may store one of them yet. */
	int64_t stopped_ns[SIM_ALTERNATIVES];
	unsigned stopped;
	uint64_t applied_used;
	uint64_t answered_used;         /* the most that an answer told this host of */
	int64_t own_ns;                 /* the host's own requests' debt, host time */
	int64_t first_unmerged_ns;      /* true time; negative: all is merged */
	uint64_t merged;
	int64_t consumed;               /* tokens taken, less those given back */
	bool unmarked;                  /* by a leader that died so: a scrub marks it again */
	struct own_window window;
};

struct life {
	uint8_t id[SCRIPT_HOST_BYTES];
	struct truth keys[SIM_KEYS];
};

struct process {
	struct host *host;
	struct coroutine coroutine;
	struct leader leader;
	unsigned number;
	uint64_t serial;                /* only the resume event with this number counts */
	int64_t stopped_until_ns;
	int64_t tick_ns;                /* true time when its tick began; negative: idle */
	struct message *message;        /* it waits for the answer to */
	struct message *held;           /* whose replies it may still read */
	uint64_t until_fault;           /* steps */
	bool alive;
	bool leads;                     /* or did, at its last turn */
	bool sleeping;                  /* until its next tick: a bell wakes it */
};

struct host {
	unsigned number;
	struct weir *weir;
	struct segment *segment;
	weir_policy_id policy;
	unsigned life;
	uint64_t base_ns;               /* its clock at true time 0 */
	double drift;
	int64_t cut_until_ns;
	bool unsettled;                 /* a leader died or stopped in the middle */
	uint32_t terms[SYNC_SHARDS];    /* the highest of a call that was sent */
	uint64_t next_id;
	uint64_t bell;                  /* rings that were heard */
	unsigned heard[SYNC_SHARDS];    /* world.forgotten, at its last round that was answered, */
	int64_t told_ns[SYNC_SHARDS];   /* and when the latest one of these was taken, true time */
	struct process processes[SIM_PROCESSES];
	struct fingerprint fingerprints[SIM_KEYS];
};

/* A window of a key, of all hosts. */
struct window {
	uint64_t index;
	uint64_t admitted;              /* with fresh views */
	uint64_t unmerged;              /* the most that each host had so, added up */
	uint64_t cost_max;
	unsigned crashes;               /* before it began */
	unsigned forgotten;
	unsigned forgotten_again;
	unsigned returns;               /* of hosts that had been in a later one */
	uint32_t of_host[SIM_HOSTS];    /* of admitted: whose */
};

struct key {
	int64_t all_ns;                 /* time of the ideal bucket of all hosts, true time */
	int64_t over_ns;                /* its largest excess over the limit */
	uint64_t admitted;              /* tokens */
	int64_t ideal_ns;               /* time of a bucket that all hosts share at once */
	uint64_t ideal;                 /* tokens that it admits */
	uint64_t ideal_window;          /* of windows: the one that it counts, */
	uint64_t ideal_now;             /* what it has in it, */
	uint64_t ideal_before;          /* and had in the one before */
	int64_t over_tokens;            /* of windows: the most beyond the limit, */
	int64_t bound_tokens;           /* and what that may be */
	uint64_t stale_admitted;
	bool inexact;                   /* Redis forgot, or was capped: Lemma 1 is off */
	bool forgiven;                  /* a window of a stale host was capped */
	int64_t bound_ns;               /* of over_ns, at the end */
	int64_t owed_ns;                /* Redis' debt when it was last made to forget, */
	int64_t owed_at_ns;             /* and when that was */
	int64_t missing_ns;             /* of its debt, all times that it forgot added up */
	int64_t window_max_ns;          /* the largest window's charges */
	uint64_t inexact_to;            /* windows that Redis may have forgotten something of */
	unsigned window_count;
	struct window windows[SIM_WINDOWS];
};

struct shard_truth {
	bool known;
	bool was_away;
	int64_t slip_ns;                /* virtual clock - true time, at the last call */
	int64_t gained_ns;
	int64_t lost_ns;
	unsigned forgotten_again;       /* times that a host had not heard of the time before */
};

struct world {
	struct scenario scenario;
	struct limit limit;
	int64_t token_ns;               /* rounded up */
	int64_t tolerance_ns;           /* a burst's time */
	int64_t now_ns;
	bool quiet;                     /* the second phase: no faults any more */
	bool failed;
	char message[512];
	uint64_t trace;                 /* a hash of all that happened */
	uint64_t steps;                 /* of all processes */
	uint64_t admitted_costs_max;
	int64_t crowd_until_ns;         /* till then all clients are at */
	unsigned crowd_host;            /* this one, or at none */
	int64_t delay_max_ns;           /* from snapshot to execution, of calls answered */
	int64_t flight_max_ns;          /* of all calls that Redis executed */
	int64_t unmerged_max_ns;        /* W */
	int64_t arrival_last_ns;        /* until then calls are under way to Redis */
	int64_t round_trip_max_ns;      /* from snapshot to answer, of calls answered */
	unsigned forgotten;             /* times that Redis lost state */
	unsigned crashes;
	uint64_t calls;
	unsigned lives;
	struct life life[SIM_LIVES];    /* of which so many have begun */
	struct host hosts[SIM_HOSTS];
	struct key keys[SIM_KEYS];
	struct shard_truth shards[SYNC_SHARDS];
	struct charge *charges[SIM_KEYS];
	size_t charge_count[SIM_KEYS];
	size_t charge_room[SIM_KEYS];
};

extern struct world world;
extern bool sim_tracing;

/* Something is not as it must be: the run ends. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline bool sim_has(unsigned fault)
{
	return !world.quiet && (world.scenario.faults >> fault & 1);
}

/* Run SCENARIO from beginning to end.  False if a check failed: see world.message. */
bool sim_run(const struct scenario *scenario);
/* Let all go on till then. */
void sim_run_until(int64_t until_ns);

/* ---- host.c ------------------------------------------------------------ */

/* Make and map the segment, once for all runs. */
void host_open(struct host *host, unsigned number);

/* At the beginning of a run; and after a crash, when its segment is a new one. */
void host_begin(struct host *host, unsigned number);
void host_begin_life(struct host *host);

uint64_t host_now(const struct host *host);
struct weir_request request_of(const struct host *host, unsigned key, uint64_t cost);

/* ---- chance.c ---------------------------------------------------------- */

/* From here on, and till the end, nothing but the seed says what happens. */
void chance_begin(void);
void chance_end(void);

/* ---- events.c ---------------------------------------------------------- */

enum event_kind {
	EVENT_RESUME,           /* of a process */
	EVENT_ARRIVE,           /* a message at Redis */
	EVENT_ANSWER,           /* a message at its host */
	EVENT_REQUEST,          /* at a host, by a client */
	EVENT_FAULT,
	EVENT_SNAPSHOT,         /* of Redis, for a failover to go back to */
	EVENT_RELEASE,          /* of a hold, by its client */
	EVENT_RESTORED,         /* Redis should know again what it forgot */
};

struct event {
	int64_t at_ns;
	uint64_t order;
	enum event_kind kind;
	unsigned number;
	uint64_t serial;
	void *subject;
};

void events_clear(void);
void events_add(int64_t at_ns, enum event_kind kind, unsigned number, uint64_t serial,
		void *subject);
bool events_next(struct event *event, int64_t until_ns);

/* ---- process.c --------------------------------------------------------- */

void process_start(struct host *host, struct process *process);
void process_kill(struct process *process);
void process_resume(struct process *process, uint64_t serial);
void process_wake(struct process *process, int64_t after_ns);
void host_bell(struct host *host);

/* ---- network.c --------------------------------------------------------- */

void network_begin(void);
void network_call(void *context, const struct leader_call *calls, struct round_reply *replies,
		  unsigned count);
void network_lease(void *context, struct lease_call *calls, struct lease_reply *replies,
		   unsigned count);
void network_arrive(struct message *message, unsigned node);
void network_answer(struct message *message, unsigned node);
void network_abandon(struct message *message);

/* ---- redis.c ----------------------------------------------------------- */

void redis_begin(void);

/* What the scripts make of a call of SHARD, by Redis' clock.  False if it is malformed. */
bool redis_call(unsigned shard, struct script_call *call, struct script_reply *reply);
void redis_lease_call(unsigned shard, struct lease_model_call *call,
		      struct lease_model_reply *reply);

/* The node that has SHARD; for how long it is still away, negative or 0 if it is there; and
 * are all of them, after a failover? */
unsigned redis_node(unsigned shard);
int64_t redis_away_ns(unsigned node);
bool redis_is_down(void);

void redis_flush(void);
void redis_snapshot(void);
void redis_fail_over(void);
void redis_step_clock(int64_t step_ns);
/* One of the nodes is away for some time. */
void redis_lose_node(void);
/* Of KEY, at Redis: its debt and what hosts may still spend, in mode strict. */
void redis_lease(unsigned key, int64_t *debt_ns, int64_t *left_ns);
/* How far KEY is in debt at Redis now. */
int64_t redis_debt_ns(unsigned key);
/* The tokens of the window of KEY that Redis keeps, and which one it is; -1: none. */
int64_t redis_window(unsigned key, uint64_t *index);
/* The cluster's time for KEY. */
int64_t redis_virtual_ns(unsigned key);
/* When it answers again, at the latest. */
int64_t redis_up_ns(void);

/* ---- table.c ----------------------------------------------------------- */

/* How long each is measured. */
extern int64_t table_seconds;

/* Measure, and print one line for each cell.  False if a bound is broken, or if less is
 * admitted than could be. */
bool table_modes(unsigned hosts);
bool table_faults(void);
bool table_windows(unsigned hosts);

/* ---- check.c ----------------------------------------------------------- */

/* The key's bucket on a host; false if it has none yet. */
bool bucket_of(const struct host *host, unsigned key, struct bucket_ref *ref,
	       struct word_pair *state);
int64_t charge_between(uint64_t from, uint64_t to);

void check_offered(unsigned key, uint64_t cost);
void check_admitted(struct host *host, unsigned key, uint64_t cost, bool stale, uint64_t now_ns,
		    const struct word_pair *before, const struct word_pair *after);
void check_given_back(struct host *host, unsigned key, uint64_t cost);
void check_host(struct host *host);
void check_applied(unsigned life, unsigned key, unsigned shard, const struct script_item *item,
		   const struct script_result *result, uint64_t used, bool late);
/* HOST has an answer to a call that told of KEY's tokens up to USED. */
void check_answered(const struct host *host, unsigned key, uint64_t used);
/* Mode strict, at each call: debt and credit together are within the limit. */
void check_escrow(unsigned key);
/* Redis has of LIVES what it had THEN, and nothing of others. */
void check_forgotten(const struct life *then, unsigned lives);
/* How often so much may be missing as a host did that Redis does not hear of for a while: of
 * FORGOTTEN times, AGAIN were of hosts that had not heard of the time before. */
unsigned check_cut_off(unsigned forgotten, unsigned again);
void check_restored(void);
void check_clock(unsigned shard, int64_t virtual_ns);
/* Where nothing but nodes fails, the shards of those that never did are fresh. */
void check_fresh(const struct host *host, unsigned key);
void check_unmerged(const struct host *host);
void check_busy_end(void);
void check_quiet_end(void);

/* ---- check_queue.c ----------------------------------------------------- */

void check_queued(const struct host *host, unsigned key, const struct bucket_ref *ref,
		  struct word_pair state, uint64_t merged);
/* It is about to die. */
void check_killed(const struct process *process);
/* How long a scrub takes to find what is queued without a mark, if anything is; after that
 * all must be marked. */
int64_t check_scrub_ns(void);

/* ---- check_windows.c --------------------------------------------------- */

/* A host's clock is wrong by that much till it has heard of Redis. */
void windows_set_clock(struct host *host, int64_t error_ns);
void check_window_offered(unsigned key, uint64_t cost);
void check_window_admitted(struct host *host, unsigned key, uint64_t cost, bool stale,
			   uint64_t now_ns, const struct word_pair *after);
void check_window_host(const struct host *host, unsigned key, struct word_pair state);
void check_window_applied(unsigned life, unsigned key, const struct script_window *item,
			  const struct script_window_result *result, uint64_t used, bool late);
void check_windows_forgotten(void);
/* Does KEY's window last for LONG_NS from now on? */
bool window_lasts(unsigned key, int64_t long_ns);
/* Nothing was charged for a while: do all hosts see what Redis has of KEY? */
void check_windows_agree(unsigned key);

/* ---- check_holds.c ----------------------------------------------------- */

/* How long a hold lasts, on average. */
#define HELD_NS (200 * MS)

/* Take COST units of KEY, and give them back later.  Returns why that was decided so. */
enum weir_reason hold_acquire_one(struct host *host, unsigned key, uint64_t cost);
void hold_release_one(void *hold);
/* The end of a run: forget what was never released. */
void holds_begin(void);
/* All hosts ask for a unit of each key, with fresh views; in later turns they get one, if one
 * is free. */
void check_holds_free(unsigned turn);
void check_holds_counted(void);

#endif
