# SPDX-License-Identifier: Apache-2.0
"""The tables and plots of what perf/run has measured."""

import statistics

import goals
import plot

BEGIN, END = "<!-- perf/run --markdown: begin -->", "<!-- perf/run --markdown: end -->"
CURVES = {"keys": "allow", "keys_alone": "allow, serialised", "batch": "allow, batch of 16",
          "miss": "limit", "miss_alone": "limit, serialised", "striped_keys": "1,024 locks"}
SYSTEMS = (("weir", "Weir"), ("striped", "1,024 locks"), ("mutex", "one lock"))
QUANTILES = ("p50", "p99", "p99.9", "p99.99")
PROCESSES = (("processes_1_key", "2 processes, 1 key"),
             ("processes_1000_keys", "2 processes, 1,000 keys"),
             ("processes_8", "8 processes, 1,000 keys"))


# ---- Cells -----------------------------------------------------------------

def shown(value, unit=""):
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}" + (f" {unit}" if unit and unit != "x" else unit)


def bound(goal, value):
    return "" if value is None else f"{goal.better} {shown(value, goal.unit)}"


def spread(values, unit):
    """The median, and between what the turns were."""
    if not values:
        return "-"
    text = shown(statistics.median(values), unit)
    if len(values) > 1:
        text += f" ({shown(min(values))} to {shown(max(values))})"
    return text


# ---- Tables ----------------------------------------------------------------

def goals_rows(figures):
    yield ("#", "goal", "floor", "moonshot", "measured", "verdict", "what stands in the way")
    for goal in goals.GOALS:
        values, verdict = goal.result(figures)
        yield (goal.number, goal.text, bound(goal, goal.floor), bound(goal, goal.moonshot),
               spread(values, goal.unit), verdict,
               obstacles(goal, figures) if verdict in ("floor", "missed", "not reached") else "")


def obstacles(goal, figures):
    limit = goal.limit_of(figures)
    known = [] if limit is None else [f"the limit has {shown(limit, goal.unit)}"]
    return "; ".join(known + [goal.obstacle] * bool(goal.obstacle))


def peers_rows(figures):
    """ns, and how many times as long as Weir's that is."""
    yield ("", *(title for _, title in goals.LOADS))
    for peer in goals.PEERS:
        cells = []
        for load, _ in goals.LOADS:
            if load not in peer.theirs:
                cells.append("")
                continue
            try:
                ns, ratio = peer.result(figures, load)
                cells.append(shown(ns) + ("" if ratio is None else f" ({shown(ratio, 'x')})"))
            except goals.Missing as missing:
                cells.append(str(missing))
        yield (peer.name, *cells)


def latency_rows(figures):
    yield (f"ns of a call: {', '.join(QUANTILES)}", *(name for _, name in SYSTEMS))
    for program, title in PROCESSES:
        yield (title, *(latency(figures, program, system) for system, _ in SYSTEMS))


def latency(figures, program, system):
    def quantile(name):
        return shown(statistics.median(goals.over_turns(figures, lambda turn: goals.dig(
            turn, program, "systems", system, f"{name}_ns"))))
    try:
        return " / ".join(map(quantile, QUANTILES))
    except goals.Missing as missing:
        return str(missing)


TABLES = (goals_rows, peers_rows, latency_rows)


def print_all(figures):
    for table in TABLES:
        rows = list(table(figures))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        print()


def markdown(rows):
    rows = list(rows)
    rows.insert(1, ("---",) * len(rows[0]))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def write_readme(figures, path):
    text = path.read_text(encoding="utf-8")
    machine = figures["machine"]
    turns = len(figures["turns"])
    tables = (
        f"{machine['date']}, {machine['processors']} processors, {machine['model']}, Linux "
        f"{machine['kernel']};\nmedians of {turns} {'turn' if turns == 1 else 'turns'}, least and "
        f"most; other jobs took {100 * machine['others']:.0f} % of the processors.\n\n"
        f"{markdown(goals_rows(figures))}\n"
        "ns of a decision, and how many times as long as Weir's that is, by the same kind of "
        "clock;\nof two threads, a call of one:\n\n"
        f"{markdown(peers_rows(figures))}\n"
        f"{markdown(latency_rows(figures))}")
    before, rest = text.split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{tables}{END}{rest.split(END)[1]}", encoding="utf-8")


# ---- Plots -----------------------------------------------------------------

def plot_sizes(figures):
    def points_of(name):
        points = [(run["keys"], run["kernels"][name]["median_ns"]) for run in figures["sizes"]
                  if "kernels" in run]
        for program in ("bench", "bench_1e7"):
            points.append(tuple(map(statistics.median, (
                goals.over_turns(figures, lambda turn: goals.dig(turn, program, "keys")),
                goals.over_turns(figures, lambda turn: goals.kernel(turn, program, name))))))
        return points
    series = [(title, points_of(name)) for name, title in CURVES.items()]
    return plot.lines("A decision, by the number of keys", "keys", "ns (median)", series)


def plot_latency(figures):
    """How many of the calls of all turns took longer."""
    series = []
    for system, title in SYSTEMS:
        cells = {}
        for histogram in goals.over_turns(figures, lambda turn, system=system: goals.dig(
                turn, "processes_1_key", "systems", system, "histogram")):
            for least, count in histogram:
                cells[least] = cells.get(least, 0) + count
        total, above, points = sum(cells.values()), 0, []
        for least in sorted(cells, reverse=True):
            above += cells[least]
            points.append((least, above / total))
        series.append((title, points[::-1]))
    return plot.lines("Two processes on one key", "ns of a call",
                      "share of calls as long or longer", series)


ACTIVE_KEYS, RATE, INTERVAL_S = 1000, 10000, 0.1


def plot_hosts(figures):
    """What Redis spends, from the measured cost of a key and of a decision."""
    def redis_s(way):
        return statistics.median(goals.over_turns(figures, goals.way(way, "redis_ns", 1e9)))
    hosts = (1, 2, 5, 10, 20, 50, 100)
    series = [("Weir, 100 ms rounds",
               [(n, n * ACTIVE_KEYS / INTERVAL_S * redis_s("rounds")) for n in hosts])]
    for way, title in (("gcra_16", "EVALSHA a decision"), ("gcra_pipelined", "the same, pipelined")):
        series.append((title, [(n, n * RATE * redis_s(way)) for n in hosts]))
    return plot.lines(f"Redis, if each host has {ACTIVE_KEYS:,} busy keys and {RATE:,} decisions/s",
                      "hosts", "processors of Redis", series)


def write_plots(figures, directory):
    """Yields the path of each, and why it was not written."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, draw in (("decision-by-keys", plot_sizes), ("latency", plot_latency),
                       ("redis-by-hosts", plot_hosts)):
        path = directory / f"{name}.svg"
        try:
            path.write_text(draw(figures), encoding="utf-8")
            yield path, None
        except goals.Missing as missing:
            yield path, str(missing)
