# SPDX-License-Identifier: Apache-2.0
"""The goals, and how each follows from the figures that perf/run has collected.

The programs take turns, and a turn has the figures of each by its name, or why there are none.
Every goal is a ratio (or a count) within a turn; the median over the turns is shown.  A floor must
hold; a moonshot is what we are after.  What could not be measured says why, and has no value.
"""

import dataclasses
import statistics
from typing import Callable, Optional


class Missing(Exception):
    """A figure that is not there, and why."""


def over_turns(figures, measure):
    """What MEASURE finds in each turn; missing with a reason if there is nothing in any."""
    values, why = [], "not measured"
    for turn in figures["turns"]:
        try:
            values.append(measure(turn))
        except Missing as missing:
            why = str(missing)
    if not values:
        raise Missing(why)
    return values


@dataclasses.dataclass
class Goal:
    number: str
    text: str
    better: str                     # "<=" or ">="
    floor: Optional[float]
    moonshot: Optional[float]
    measure: Callable               # in a turn
    unit: str = "x"
    limit: Optional[Callable] = None        # what MEASURE would be of the limit of the machine
    obstacle: str = ""              # what else keeps it from its moonshot, where that is known

    def result(self, figures):
        """The values of the turns, or none; and the verdict on their median."""
        try:
            values = over_turns(figures, self.measure)
        except Missing as missing:
            return [], str(missing)
        value = statistics.median(values)
        if self.meets(value, self.moonshot):
            return values, "moonshot"
        if self.floor is None:
            return values, "not reached" if self.moonshot is not None else ""
        if not self.meets(value, self.floor):
            return values, "missed"
        return values, "met" if self.moonshot is None else "floor"

    def limit_of(self, figures):
        """What the limit would reach, or None."""
        try:
            return self.limit and statistics.median(over_turns(figures, self.limit))
        except Missing:
            return None

    def meets(self, value, bound):
        if bound is None:
            return False
        return value <= bound if self.better == "<=" else value >= bound


# ---- Figures of a turn -----------------------------------------------------

def dig(turn, *path):
    """What lies at PATH; missing with the reason that perf/run noted, if it noted one."""
    for name in path:
        if "missing" in turn:
            break
        if turn.get(name) is None:
            raise Missing("not measured")
        turn = turn[name]
    if isinstance(turn, dict) and "missing" in turn:
        raise Missing(turn["missing"])
    return turn


def kernel(turn, program, name, what=None):
    """Of one thread the least of all rounds: what a neighbour takes from the processor is not in
    it.  Of two, which no round disturbs the same, the median."""
    kernels = dig(turn, program, "kernels")
    if name not in kernels:
        raise Missing("no such kernel")
    return kernels[name][what or ("median_ns" if name.startswith("two_") else "min_ns")]


def bench_ratio(name, program="bench", invert=1):
    """Of a kernel to its reference, as the program took it."""
    return lambda turn: kernel(turn, program, name, "ratio") ** invert


def speed_up(name, alone=None):
    """How much more two threads do than one of the kernel's reference, or of ALONE."""
    def measure(turn):
        if alone is None:
            return 2 / kernel(turn, "bench", name, "ratio")
        return 2 * kernel(turn, "bench", alone, "median_ns") / kernel(turn, "bench", name)
    return measure


def to_peer(peer, theirs, ours, invert=False):
    """Peer / Weir, or the reverse."""
    def measure(turn):
        value = kernel(turn, peer, theirs) / kernel(turn, "bench", ours)
        return 1 / value if invert else value
    return measure


def to_server(name, ours):
    return lambda turn: dig(turn, name, "keys", "added_ns") / kernel(turn, "bench", ours, "median_ns")


def to_redis(way, what, ours):
    return lambda turn: dig(turn, "redis", "ways", way, what) / kernel(turn, "bench", ours)


def way(name, what, scale=1):
    return lambda turn: dig(turn, "redis", "ways", name, what) / scale


def worst_phase(program):
    """The p99 while something is wrong with Redis, beside the p99 while nothing is."""
    def measure(turn):
        phases = dig(turn, program, "phases")
        return max(phase["ratio_to_rounds"]["p99"] for name, phase in phases.items()
                   if name not in ("quiet", "rounds"))
    return measure


def bytes_per_key(what, program="bench"):
    return lambda turn: dig(turn, program, what) / dig(turn, program, "keys")


def to_increments(turn):
    return (way("incrby_pipelined", "redis_ns")(turn) / way("rounds", "redis_ns")(turn))


LIMITS = {"hot": "bare", "hot_tsc": "bare_tsc", "keys": "miss", "keys_alone": "miss_alone",
          "keys_tsc": "miss_tsc", "two_keys": "two_miss", "two_keys_tsc": "two_miss_tsc"}


def against(build, *arguments, **options):
    """A ratio to a kernel of Weir's, the last of ARGUMENTS, and the same to its limit."""
    *others, ours = arguments
    return {"measure": build(*others, ours, **options),
            "limit": build(*others, LIMITS[ours], **options)}


# ---- The goals -------------------------------------------------------------

HOT = "instructions: a hot key, below"
NEW = "a new key, below"
SECOND = "27 % of the keys are not in their first slot: kernels, below"
LEASED = "a leased decision is 1.07x a plain one: below"
WINDOW = to_peer("bench", "miss_window", "keys")
MERGE = "a key is read, merged and written in Lua, an increment is one command"

GOALS = [
    Goal("1", "hot key / bare", "<=", 1.4, 1.2, bench_ratio("hot"), obstacle=HOT),
    Goal("2", "hot key / bare, both by the TSC", "<=", 1.6, 1.25, bench_ratio("hot_tsc"),
         obstacle=HOT),
    Goal("-", "hot key by the TSC", "<=", None, 10, lambda turn: kernel(turn, "bench", "hot_tsc"),
         limit=lambda turn: kernel(turn, "bench", "bare_tsc"), unit="ns", obstacle=HOT),
    Goal("-", "hot key, with a weir_decision / bare", "<=", None, None,
         bench_ratio("hot_decision")),
    Goal("-", "hot key at the caller's time / bare", "<=", None, None, bench_ratio("hot_now")),
    Goal("3", "denial of a hot key / one clock reading", "<=", 1.4, 1.2, bench_ratio("deny"),
         obstacle="a denial, below"),
    Goal("3", "denials of a hot key, 2 threads / 1", ">=", 1.7, 1.9, speed_up("two_deny")),
    Goal("4", "1e6 keys, serialised / limit", "<=", 1.5, 1.2, bench_ratio("keys_alone"),
         obstacle=SECOND),
    Goal("4", "1e7 keys, serialised / limit", "<=", 1.5, 1.2,
         bench_ratio("keys_alone", "bench_1e7")),
    Goal("5", "1e6 keys, back to back / limit", "<=", 1.6, 1.3, bench_ratio("keys"),
         obstacle=SECOND),
    Goal("5", "1e7 keys, back to back / limit", "<=", 1.6, 1.3, bench_ratio("keys", "bench_1e7")),
    Goal("6", "1e7 keys, single calls / batch of 16", ">=", 2, 3,
         bench_ratio("batch", "bench_1e7", -1), limit=bench_ratio("miss_batch", "bench_1e7", -1),
         obstacle="a batch, below"),
    Goal("7", "hot key / folly::TokenBucket, which has no keys", "<=", 1.0, 0.8,
         **against(to_peer, "folly", "direct", "hot", invert=True), obstacle=HOT),
    Goal("7", "the same, Weir by the TSC", "<=", 1.0, 0.33,
         **against(to_peer, "folly", "direct", "hot_tsc", invert=True), obstacle=HOT),
    Goal("8", "folly::TokenBucket in a map, 1e6 keys / Weir", ">=", 5, 8,
         **against(to_peer, "folly", "keys", "keys")),
    Goal("8", "the same, 2 threads", ">=", 5, 8, **against(to_peer, "folly", "two_keys", "two_keys")),
    Goal("-", "the same, malloc in huge pages, 1 thread", ">=", None, None,
         **against(to_peer, "folly_huge", "keys", "keys")),
    Goal("-", "the same, 2 threads", ">=", None, None,
         **against(to_peer, "folly_huge", "two_keys", "two_keys")),
    Goal("9", "governor keyed, hot key / Weir, both by the TSC", ">=", 1.5, 2.5,
         **against(to_peer, "governor", "hot_tsc", "hot_tsc"), obstacle=HOT),
    Goal("9", "the same, 1e6 keys", ">=", 1.5, 2.5,
         **against(to_peer, "governor", "keys_tsc", "keys_tsc")),
    Goal("9", "the same, 1e6 keys, 2 threads", ">=", 1.5, 5,
         **against(to_peer, "governor", "two_keys_tsc", "two_keys_tsc")),
    Goal("-", "the same, malloc in huge pages, 1 thread", ">=", None, None,
         **against(to_peer, "governor_huge", "keys_tsc", "keys_tsc")),
    Goal("-", "the same, 2 threads", ">=", None, None,
         **against(to_peer, "governor_huge", "two_keys_tsc", "two_keys_tsc")),
    Goal("10", "Go sync.Map + x/time/rate, hot key / Weir", ">=", 2, 3,
         **against(to_peer, "limiter", "hot", "hot"), obstacle=HOT),
    Goal("10", "the same, 1e6 keys", ">=", 4, 6, **against(to_peer, "limiter", "keys", "keys")),
    Goal("11", "1,024 striped locks, 1e6 keys / Weir", ">=", 1.1, 1.5, bench_ratio("striped_keys"),
         limit=to_peer("bench", "striped_keys", "miss")),
    Goal("11", "the same, p99 of 2 processes on one key", ">=", 4, 7,
         lambda turn: dig(turn, "processes_1_key", "systems", "striped", "p99_ratio"),
         obstacle="a hot key has two regimes: `processes`, below"),
    Goal("12", "others' p99.99 in the second after a worker is killed / before", "<=", 2, 1.05,
         lambda turn: dig(turn, "kill", "p9999_ratio")),
    Goal("13", "nginx limit_req, added CPU of a request, 1e6 keys / serialised call", ">=", 5, 10,
         **against(to_server, "nginx", "keys_alone")),
    Goal("14", "HAProxy stick table, the same", ">=", 5, 10,
         **against(to_server, "haproxy", "keys_alone")),
    Goal("15", "GCRA in Redis, p50 of one connection / hot key", ">=", 500, 1500,
         **against(to_redis, "gcra_1", "p50_ns", "hot")),
    Goal("15", "the same / one of 1e6 keys", ">=", 150, 250,
         **against(to_redis, "gcra_1", "p50_ns", "keys")),
    Goal("16", "saturated Redis, 16 connections, CPU of a decision / hot key", ">=", 200, 350,
         **against(to_redis, "gcra_16", "redis_min_ns", "hot")),
    Goal("16", "the same / one of 1e6 keys", ">=", 50, 90,
         **against(to_redis, "gcra_16", "redis_min_ns", "keys")),
    Goal("16", "the same / hot key by the TSC", ">=", 200, 1000,
         **against(to_redis, "gcra_16", "redis_min_ns", "hot_tsc"), obstacle=HOT),
    Goal("17", "keys reconciled per Redis CPU second", ">=", 300e3, 500e3,
         lambda turn: 1e9 / way("rounds", "redis_ns")(turn), unit="", obstacle=MERGE),
    Goal("17", "pipelined INCRBY + PEXPIRE, Redis CPU / a key reconciled", ">=", 0.6, 0.85,
         to_increments, obstacle=MERGE),
    Goal("18", "Redis held by one script, p50", "<=", 0.5, 0.2,
         way("rounds", "script_p50_us", 1e3), unit="ms", obstacle=MERGE),
    Goal("19", "host CPU for a key reconciled", "<=", 1, 0.3,
         way("rounds", "host_ns", 1e3), unit="us"),
    Goal("20", "segment bytes for a key, 1e6 keys, 1.3 slots for each", "<=", 128, 80,
         bytes_per_key("dense_bytes"), unit="B"),
    Goal("20", "the same, no keys kept and 1.2 slots for each", "<=", 128, 80,
         bytes_per_key("lean_bytes"), unit="B"),
    Goal("20", "1e6 keys, 1.3 slots for each / 2, serialised", "<=", 1.4, 1.2,
         bench_ratio("keys_dense_alone")),
    Goal("20", "the same, no keys kept and 1.2 slots for each", "<=", 1.4, 1.2,
         bench_ratio("keys_lean_alone")),
    Goal("-", "segment bytes for a key, compact, 1e7 keys", "<=", 32, 27,
         bytes_per_key("compact_bytes", "bench_1e7"), unit="B"),
    Goal("-", "1e6 keys, compact segment, serialised / limit", "<=", 1.5, 1.2,
         bench_ratio("keys_compact_alone")),
    Goal("-", "1e7 keys, compact segment, serialised / limit", "<=", 1.5, 1.2,
         bench_ratio("keys_compact_alone", "bench_1e7")),
    Goal("-", "1e7 keys, compact segment, back to back / limit", "<=", 1.6, 1.3,
         bench_ratio("keys_compact", "bench_1e7")),
    Goal("-", "flood of new keys, compact segment / normal miss there", "<=", 2, 1.5,
         bench_ratio("evict_compact"), obstacle=NEW),
    Goal("21", "p99 with rounds / without sync, 1e6 keys, Zipf", "<=", 1.2, 1.05,
         lambda turn: dig(turn, "latency", "phases", "rounds", "ratio", "p99")),
    Goal("-", "p99 of a call while rounds run", "<=", 1000, None,
         lambda turn: dig(turn, "latency", "phases", "rounds", "synced", "p99_ns") / 1e3,
         unit="us"),
    Goal("-", "worst p99 while Redis is slow, paused, stopped, restarted, killed / p99 while it is "
              "not; fail mode open", "<=", 1.2, 1.05, worst_phase("latency")),
    Goal("-", "the same, fail mode share: a second bucket", "<=", None, None,
         worst_phase("latency_share")),
    Goal("-", "an EVALSHA for each decision, Redis CPU / a key reconciled", ">=", None, None,
         way("rounds", "redis_ratio")),
    Goal("-", "full table / normal miss, serialised", "<=", 2, 1.5, bench_ratio("full_alone"),
         obstacle=NEW),
    Goal("-", "the same, back to back", "<=", None, None, bench_ratio("full"), limit=WINDOW),
    Goal("-", "flood of new keys, evicting / normal miss, serialised", "<=", 2, 1.5,
         bench_ratio("evict_alone"), obstacle=NEW),
    Goal("-", "the same, back to back", "<=", None, None, bench_ratio("evict"), limit=WINDOW),
    Goal("-", "new key in place of an expired one / normal miss", "<=", None, None,
         bench_ratio("expire")),
    Goal("-", "new key in a free slot / normal miss", "<=", None, None, bench_ratio("insert")),
    Goal("-", "2 threads on one hot key, leased / 1 that is not", ">=", None, 1.9,
         speed_up("two_hot_leased"), obstacle=LEASED),
    Goal("-", "the same / 1 leased", ">=", None, 1.9, speed_up("two_hot_leased", "hot_leased"),
         obstacle=LEASED),
]


# ---- Peers -----------------------------------------------------------------

LOADS = (("hot", "hot key"), ("keys", "1e6 keys"), ("two_hot", "hot key, 2 threads"),
         ("two_keys", "1e6 keys, 2 threads"))


@dataclasses.dataclass
class Peer:
    """Where the ns of a decision are in a turn, by the load; and what they are held against."""
    name: str
    theirs: dict
    ours: dict

    def result(self, figures, load):
        """Its ns, and how many times as long as Weir's they are; medians over the turns."""
        ns = statistics.median(over_turns(figures, self.theirs[load]))
        if load not in self.ours:
            return ns, None
        return ns, statistics.median(over_turns(
            figures, lambda turn: self.theirs[load](turn) / self.ours[load](turn)))


def kernels(program, **names):
    return {load: lambda turn, name=name: kernel(turn, program, name)
            for load, name in names.items()}


def all_loads(program, suffix=""):
    return kernels(program, **{load: load + suffix for load, _ in LOADS})


def served(name, *path):
    return {"keys": lambda turn: dig(turn, name, *path)}


def server(name):
    return {load: lambda turn, load=load: dig(turn, name, load, "added_ns")
            for load in ("hot", "keys")}


WEIR, WEIR_TSC = all_loads("bench"), all_loads("bench", "_tsc")
WEIR_ALONE = kernels("bench", hot="hot", keys="keys_alone")
WEIR_ALONE_MEDIAN = {load: lambda turn, name=name: kernel(turn, "bench", name, "median_ns")
                     for load, name in (("hot", "hot"), ("keys", "keys_alone"))}
PEERS = [
    Peer("the limit: clock, a line, compare-and-swap", kernels(
        "bench", hot="bare", keys="miss", two_hot="two_bare", two_keys="two_miss"), WEIR),
    Peer("the limit by the TSC", kernels(
        "bench", hot="bare_tsc", keys="miss_tsc", two_keys="two_miss_tsc"), WEIR_TSC),
    Peer("Weir", WEIR, {}),
    Peer("Weir by the TSC", WEIR_TSC, {}),
    Peer("Weir, each call waiting for the one before it", kernels("bench", keys="keys_alone"), {}),
    Peer("folly::TokenBucket, no keys", kernels("folly", hot="direct"), WEIR),
    Peer("folly::TokenBucket in a map", all_loads("folly"), WEIR),
    Peer("the same, malloc in huge pages", all_loads("folly_huge"), WEIR),
    Peer("governor by the TSC, no keys", kernels("governor", hot="direct_tsc"), WEIR_TSC),
    Peer("governor by the TSC, DashMap", all_loads("governor", "_tsc"), WEIR_TSC),
    Peer("the same, malloc in huge pages", all_loads("governor_huge", "_tsc"), WEIR_TSC),
    Peer("governor by `Instant`, no keys", kernels("governor", hot="direct_monotonic"), WEIR),
    Peer("governor by `Instant`, DashMap", all_loads("governor", "_monotonic"), WEIR),
    Peer("Go x/time/rate, no keys", kernels("limiter", hot="direct"), WEIR),
    Peer("Go x/time/rate in a sync.Map", all_loads("limiter"), WEIR),
    Peer("1,024 locks in shared memory", kernels(
        "bench", hot="striped_hot", keys="striped_keys", two_keys="two_striped"), WEIR),
    Peer("one lock in shared memory", kernels(
        "bench", keys="mutex_keys", two_keys="two_mutex"), WEIR),
    Peer("nginx limit_req, CPU it adds to a request", server("nginx"), WEIR_ALONE_MEDIAN),
    Peer("HAProxy stick table, CPU it adds to a request", server("haproxy"), WEIR_ALONE_MEDIAN),
    Peer("GCRA in Redis, p50 of 1 connection", served("redis", "ways", "gcra_1", "p50_ns"), WEIR),
    Peer("GCRA in Redis, CPU of Redis, 16 connections",
         served("redis", "ways", "gcra_16", "redis_min_ns"), WEIR),
    Peer("GCRA in Redis, CPU of Redis, pipelined",
         served("redis", "ways", "gcra_pipelined", "redis_min_ns"), WEIR),
    Peer("envoyproxy/ratelimit, p50 of 1 caller",
         served("ratelimit", "callers_1", "p50_ns"), WEIR_ALONE),
    Peer("envoyproxy/ratelimit, its CPU, 16 callers",
         served("ratelimit", "callers_16", "service_ns"), WEIR_ALONE),
    Peer("gubernator, p50 of 1 caller", served("gubernator", "callers_1", "p50_ns"), WEIR_ALONE),
    Peer("gubernator, its CPU, 16 callers",
         served("gubernator", "callers_16", "service_ns"), WEIR_ALONE),
]
