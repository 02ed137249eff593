# SPDX-License-Identifier: Apache-2.0
"""The goals, and how each follows from the figures that perf/run has collected.

Every goal is a ratio (or a count) of figures of one run.  A floor must hold; a moonshot is what we
are after.  What could not be measured says why, and has no value.
"""

import dataclasses
import statistics
from typing import Callable, Optional


class Missing(Exception):
    """A figure that is not there, and why."""


@dataclasses.dataclass
class Goal:
    number: str
    text: str
    better: str                     # "<=" or ">="
    floor: Optional[float]
    moonshot: Optional[float]
    measure: Callable
    unit: str = "x"

    def result(self, figures):
        """The value, or None; and the verdict."""
        try:
            value = self.measure(figures)
        except Missing as missing:
            return None, str(missing)
        if self.floor is None:
            return value, ""
        if self.meets(value, self.moonshot):
            return value, "moonshot"
        return value, "floor" if self.meets(value, self.floor) else "missed"

    def meets(self, value, bound):
        if bound is None:
            return False
        return value <= bound if self.better == "<=" else value >= bound


# ---- Figures ---------------------------------------------------------------

def dig(figures, *path):
    """What lies at PATH; missing with the reason that perf/run noted, if it noted one."""
    for name in path:
        if isinstance(figures, dict) and "missing" in figures:
            raise Missing(figures["missing"])
        if not isinstance(figures, dict) or figures.get(name) is None:
            raise Missing("not measured")
        figures = figures[name]
    return figures


def kernel(run, name, what="median_ns", when="not built"):
    kernels = dig(run, "kernels")
    if name not in kernels:
        raise Missing(when)
    return kernels[name][what]


def of_runs(figures, name, value):
    """The median over the runs of a program of VALUE of each."""
    runs = dig(figures, name)
    if isinstance(runs, dict):
        raise Missing(runs["missing"])
    return statistics.median(value(run) for run in runs)


def bench_ratio(name, program="bench", invert=1):
    """Of a kernel to its reference, as the program took it: round by round."""
    return lambda figures: of_runs(
        figures, program, lambda run: kernel(run, name, "ratio")) ** invert


def speed_up(name):
    """How much more two threads do than one."""
    return lambda figures: 2 / bench_ratio(name)(figures)


def kernel_ns(figures, name, program="bench"):
    return of_runs(figures, program, lambda run: kernel(run, name))


def to_peer(peer, theirs, ours, invert=False):
    """Peer / Weir (or the reverse), run by run: they took turns."""
    def measure(figures):
        peers, benches = dig(figures, peer), dig(figures, "bench")
        if isinstance(peers, dict):
            raise Missing(peers["missing"])
        ratios = [kernel(peer_run, theirs) / kernel(bench_run, ours)
                  for peer_run, bench_run in zip(peers, benches)]
        value = statistics.median(ratios)
        return 1 / value if invert else value
    return measure


def to_governor(kind):
    """By the same kind of clock: the processor's counter once Weir can read it."""
    def measure(figures):
        try:
            return to_peer("governor", f"{kind}_tsc", f"{kind}_tsc")(figures)
        except Missing:
            return to_peer("governor", f"{kind}_monotonic", kind)(figures)
    return measure


def to_server(name):
    return lambda figures: (dig(figures, "http", name, "keys", "added_ns")
                            / kernel_ns(figures, "keys_alone"))


def redis(*path, program="redis"):
    return lambda figures: dig(figures, program, *path)


def to_redis(way, what, ours):
    return lambda figures: dig(figures, "redis", "ways", way, what) / kernel_ns(figures, ours)


def worst_phase(program):
    """The p99 while something is wrong with Redis, beside the p99 while nothing is."""
    def measure(figures):
        phases = dig(figures, program, "phases")
        return max(phase["ratio_to_rounds"]["p99"] for name, phase in phases.items()
                   if name not in ("quiet", "rounds"))
    return measure


def bytes_per_key(what, program="bench"):
    return lambda figures: of_runs(figures, program, lambda run: dig(run, what) / run["keys"])


def keys_per_redis_second(figures):
    return 1e9 / redis("ways", "rounds", "redis_ns")(figures)


def to_increments(figures):
    return (redis("ways", "incrby_pipelined", "redis_ns")(figures)
            / redis("ways", "rounds", "redis_ns")(figures))


# ---- The goals -------------------------------------------------------------

GOALS = [
    Goal("1", "hot key / bare", "<=", 1.4, 1.2, bench_ratio("hot")),
    Goal("2", "hot key / bare, both by the TSC", "<=", 1.6, 1.25, bench_ratio("hot_tsc")),
    Goal("3", "denial of a hot key / one clock reading", "<=", 1.4, 1.2, bench_ratio("deny")),
    Goal("3", "denials of a hot key, 2 threads / 1", ">=", 1.7, 1.9, speed_up("two_deny")),
    Goal("4", "1e6 keys, serialised / limit", "<=", 1.5, 1.2, bench_ratio("keys_alone")),
    Goal("4", "1e7 keys, serialised / limit", "<=", 1.5, 1.2,
         bench_ratio("keys_alone", "bench_1e7")),
    Goal("5", "1e6 keys, back to back / limit", "<=", 1.6, 1.3, bench_ratio("keys")),
    Goal("5", "1e7 keys, back to back / limit", "<=", 1.6, 1.3, bench_ratio("keys", "bench_1e7")),
    Goal("6", "1e7 keys, single calls / batch of 16", ">=", 2, 3,
         bench_ratio("batch", "bench_1e7", -1)),
    Goal("7", "hot key / folly::TokenBucket, which has no keys", "<=", 1.0, 0.8,
         to_peer("folly", "direct", "hot", invert=True)),
    Goal("7", "the same, Weir by the TSC", "<=", 1.0, 0.33,
         to_peer("folly", "direct", "hot_tsc", invert=True)),
    Goal("8", "folly::TokenBucket in a map, 1e6 keys / Weir", ">=", 5, 8,
         to_peer("folly", "keys", "keys")),
    Goal("8", "the same, 2 threads", ">=", 5, 8, to_peer("folly", "two_keys", "two_keys")),
    Goal("9", "governor keyed, hot key / Weir", ">=", 1.5, 2.5, to_governor("hot")),
    Goal("9", "the same, 1e6 keys", ">=", 1.5, 2.5, to_governor("keys")),
    Goal("9", "the same, 1e6 keys, 2 threads", ">=", 1.5, 5, to_governor("two_keys")),
    Goal("10", "Go sync.Map + x/time/rate, hot key / Weir", ">=", 2, 3,
         to_peer("limiter", "hot", "hot")),
    Goal("10", "the same, 1e6 keys", ">=", 4, 6, to_peer("limiter", "keys", "keys")),
    Goal("11", "1,024 striped locks, 1e6 keys / Weir", ">=", 1.1, 1.5, bench_ratio("striped_keys")),
    Goal("11", "the same, p99 of 2 processes on one key", ">=", 4, 7,
         lambda figures: dig(figures, "processes_1_key", "systems", "striped", "p99_ratio")),
    Goal("12", "others' p99.99 in the second after a worker is killed / before", "<=", 2, 1.05,
         lambda figures: dig(figures, "kill", "p9999_ratio")),
    Goal("13", "nginx limit_req, added CPU of a request, 1e6 keys / serialised call", ">=", 5, 10,
         to_server("nginx")),
    Goal("14", "HAProxy stick table, the same", ">=", 5, 10, to_server("haproxy")),
    Goal("15", "GCRA in Redis, p50 of one connection / hot key", ">=", 500, 1500,
         to_redis("gcra_1", "p50_ns", "hot")),
    Goal("15", "the same / one of 1e6 keys", ">=", 150, 250, to_redis("gcra_1", "p50_ns", "keys")),
    Goal("16", "saturated Redis, 16 connections, CPU of a decision / hot key", ">=", 200, 350,
         to_redis("gcra_16", "redis_ns", "hot")),
    Goal("16", "the same / one of 1e6 keys", ">=", 50, 90, to_redis("gcra_16", "redis_ns", "keys")),
    Goal("16", "the same / hot key by the TSC", ">=", 200, 1000,
         to_redis("gcra_16", "redis_ns", "hot_tsc")),
    Goal("17", "keys reconciled per Redis CPU second", ">=", 300e3, 500e3, keys_per_redis_second,
         unit=""),
    Goal("17", "pipelined INCRBY + PEXPIRE, Redis CPU / a key reconciled", ">=", 0.6, 0.85,
         to_increments),
    Goal("18", "Redis held by one script, p50", "<=", 0.5, 0.2,
         lambda figures: redis("ways", "rounds", "script_p50_us")(figures) / 1e3, unit="ms"),
    Goal("19", "host CPU for a key reconciled", "<=", 1, 0.3,
         lambda figures: redis("ways", "rounds", "host_ns")(figures) / 1e3, unit="us"),
    Goal("20", "segment bytes for a key, 1e6 keys, 1.3 slots for each", "<=", 128, 80,
         bytes_per_key("dense_bytes"), unit="B"),
    Goal("20", "the same, no keys kept and 1.2 slots for each", "<=", 128, 80,
         bytes_per_key("lean_bytes"), unit="B"),
    Goal("20", "1e6 keys, 1.3 slots for each / 2, serialised", "<=", 1.4, 1.2,
         bench_ratio("keys_dense_alone")),
    Goal("20", "the same, no keys kept and 1.2 slots for each", "<=", 1.4, 1.2,
         bench_ratio("keys_lean_alone")),
    Goal("-", "the same, compact segment, 1e7 keys", "<=", 32, 27,
         bytes_per_key("compact_bytes", "bench_1e7"), unit="B"),
    Goal("-", "1e6 keys, compact segment, serialised / limit", "<=", 1.5, 1.2,
         bench_ratio("keys_compact_alone")),
    Goal("-", "1e7 keys, compact segment, serialised / limit", "<=", 1.5, 1.2,
         bench_ratio("keys_compact_alone", "bench_1e7")),
    Goal("-", "1e7 keys, compact segment, back to back / limit", "<=", 1.6, 1.3,
         bench_ratio("keys_compact", "bench_1e7")),
    Goal("-", "flood of new keys, compact segment / normal miss there", "<=", 2, 1.5,
         bench_ratio("evict_compact")),
    Goal("21", "p99 with rounds / without sync, 1e6 keys, Zipf", "<=", 1.2, 1.05,
         redis("phases", "rounds", "ratio", "p99")),
    Goal("-", "p99 of a call while rounds run", "<=", 1000, None,
         lambda figures: redis("phases", "rounds", "synced", "p99_ns")(figures) / 1e3, unit="us"),
    Goal("-", "worst p99 while Redis is slow, paused, stopped, restarted, killed / p99 while it is "
              "not; fail mode open", "<=", 1.2, 1.05, worst_phase("redis")),
    Goal("-", "the same, fail mode share: a second bucket", "<=", None, None,
         worst_phase("redis_share")),
    Goal("-", "an EVALSHA for each decision, Redis CPU / a key reconciled", ">=", None, None,
         redis("ways", "rounds", "redis_ratio")),
    Goal("-", "the same, CPU of the asking thread", ">=", None, None,
         redis("ways", "rounds", "host_ratio")),
    Goal("-", "full table / normal miss", "<=", 2, 1.5, bench_ratio("full")),
    Goal("-", "flood of new keys, evicting / normal miss", "<=", 2, 1.5, bench_ratio("evict")),
    Goal("-", "new key in place of an expired one / normal miss", "<=", None, None,
         bench_ratio("expire")),
    Goal("-", "new key in a free slot / normal miss", "<=", None, None, bench_ratio("insert")),
    Goal("-", "2 threads on one hot key, leased / 1", ">=", 1.7, 1.9, speed_up("two_hot_leased")),
    Goal("-", "2 threads on one hot key, not leased / 1", ">=", None, None, speed_up("two_hot")),
]


# ---- Peers -----------------------------------------------------------------

def peers_table(figures):
    """Rows of peer, what, its ns, Weir's kernel, Weir's ns; those of peers that are there."""
    rows = []

    def add(peer, what, measure, ours):
        try:
            rows.append((peer, what, measure(), ours, kernel_ns(figures, ours)))
        except Missing as missing:
            rows.append((peer, what, str(missing), ours, None))

    for what, ours in (("hot", "hot"), ("keys", "keys"), ("two_hot", "two_hot"),
                       ("two_keys", "two_keys")):
        for name, peer, theirs in (
                ("folly::TokenBucket in a map", "folly", what),
                ("governor keyed, TSC", "governor", what + "_tsc"),
                ("governor keyed, Instant", "governor", what + "_monotonic"),
                ("Go sync.Map", "limiter", what)):
            add(name, what.replace("_", " "), lambda peer=peer, theirs=theirs:
                kernel_ns(figures, theirs, peer), ours)
    for name, peer, theirs in (("folly::TokenBucket, no keys", "folly", "direct"),
                               ("governor direct, TSC, no keys", "governor", "direct_tsc"),
                               ("governor direct, Instant, no keys", "governor",
                                "direct_monotonic"),
                               ("Go x/time/rate, no keys", "limiter", "direct")):
        add(name, "hot", lambda peer=peer, theirs=theirs: kernel_ns(figures, theirs, peer), "hot")
    for name in ("nginx", "haproxy"):
        for what, ours in (("hot", "hot"), ("keys", "keys_alone")):
            add(f"{name}, added CPU of a request", what, lambda name=name, what=what:
                dig(figures, "http", name, what, "added_ns"), ours)
    for way in ("gcra_1", "gcra_16", "gcra_pipelined"):
        add(f"Redis, {way}, Redis CPU", "keys", lambda way=way:
            dig(figures, "redis", "ways", way, "redis_ns"), "keys")
    for name in ("ratelimit", "gubernator"):
        add(f"{name}, p50 of one caller", "keys", lambda name=name:
            dig(figures, "services", name, "callers_1", "p50_ns"), "keys_alone")
        add(f"{name}, CPU of a decision, 16 callers", "keys", lambda name=name:
            dig(figures, "services", name, "callers_16", "service_ns"), "keys_alone")
    return rows
