#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Over-admission of real processes, beside the simulator's table.

    perf/hosts.py [--weir build/src/cli/weir] [--seconds 20] [--modes eventual,bounded,strict]
        [--page docs/sync-results.md]

Three of the points of `sim --table` (hosts, interval), at two demands, with
`weir replay --hosts`: each host has a segment, a worker and a sync thread, and all of
them a redis-server on a socket, which this starts.  A row's cells are over-admission in
percent of the burst, the bound in the same, and admitted by ideal.  Status 1 if a bound
is broken.  With --page the table is written into that page, between its marks, beside
what the page's table of the simulator says.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

BURST = 1000
LIMIT = f"{BURST}/1s"
POINTS = [(3, 10), (3, 100), (10, 100)]     # hosts, ms between rounds
DEMANDS = [2, 5]                            # of the limit
PATIENCE_S = 10


def start_redis(directory):
    path = os.path.join(directory, "redis")
    process = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no",
         "--dir", directory], stdout=subprocess.DEVNULL)
    until = time.monotonic() + PATIENCE_S
    while not os.path.exists(path):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            sys.exit("redis-server does not start")
        time.sleep(0.01)
    return process, "unix://" + path


def cell(mode):
    policy, = mode["policies"]
    limit, = policy["limits"]
    if limit["within"] is None:
        return "left to the fail mode"
    return (f"{100 * limit['over_admission'] / BURST:.1f} % of "
            f"{100 * limit['bound'] / BURST:.1f} % / {policy['admitted_to_ideal']:.3f}")


def measure(arguments, url, hosts, interval_ms, demand):
    """The modes of one point, by name, and whether all are within their bounds."""
    done = subprocess.run(
        [arguments.weir, "replay", "--hosts", str(hosts), "--redis", url, "--limit", LIMIT,
         "--demand", str(demand), "--seconds", str(arguments.seconds), "--deal", "random",
         "--interval-ms", str(interval_ms), "--max-staleness-ms", "20000",
         "--consistency", arguments.modes, "--json"],
        stdout=subprocess.PIPE, check=False)
    if not done.stdout:
        sys.exit(f"weir replay ended with status {done.returncode}")
    modes = {mode["mode"]: mode for mode in json.loads(done.stdout)["modes"]}
    return modes, all(mode["policies"][0]["limits"][0]["within"] is not False
                      for mode in modes.values())


def simulated(text, hosts, interval_ms, demand):
    """What the simulator's table in TEXT says, a cell for each mode as cell() writes it."""
    start = f"| {hosts} | {interval_ms} ms | {demand} | "
    lines = [line for line in text.splitlines() if line.startswith(start)]
    if not lines:
        sys.exit(f"the page has no line of the simulator that begins with {start}")
    words = [word.strip() for word in lines[0].strip("|").split("|")][3:]
    heads = [line for line in text.splitlines() if line.startswith("| hosts | interval | load |")]
    names = [word.split(":")[0].strip() for word in heads[0].strip("|").split("|")][3::2]
    return {name: f"{over.replace(' of ', ' % of ')} % / {admitted}"
            for name, over, admitted in zip(names, words[::2], words[1::2])}


def write_page(path, names, rows):
    """ROWS are (hosts, ms, load, cells) as print_table() has them."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    begin, end = "<!-- hosts -->\n", "\n<!-- end of hosts -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        sys.exit(f"{path} has no place for hosts: {begin}...{end}")
    columns = " | ".join(f"{name}: simulated | real" for name in names)
    lines = [f"| hosts | interval | load | {columns} |", "|---|---|---|" + "---|---|" * len(names)]
    for hosts, interval_ms, demand, cells in rows:
        said = simulated(text, hosts, interval_ms, demand)
        both = " | ".join(f"{said[name]} | {cell}" for name, cell in zip(names, cells))
        lines.append(f"| {hosts} | {interval_ms} ms | {demand} | {both} |")
    text = text[:text.index(begin) + len(begin)] + "\n".join(lines) + text[text.index(end):]
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def print_table(arguments, url):
    good, rows = True, []
    names = arguments.modes.split(",")
    print(f"| hosts | interval ms | load | {' | '.join(names)} |")
    print("|---|---|---|" + "---|" * len(names))
    for hosts, interval_ms in POINTS:
        for demand in DEMANDS:
            modes, within = measure(arguments, url, hosts, interval_ms, demand)
            good &= within
            cells = [cell(modes[name]) for name in names]
            print(f"| {hosts} | {interval_ms} | {demand} | {' | '.join(cells)} |", flush=True)
            rows.append((hosts, interval_ms, demand, cells))
    if arguments.page:
        write_page(arguments.page, names, rows)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weir", default="build/src/cli/weir")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--modes", default="eventual,bounded,strict")
    parser.add_argument("--page")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="weir-hosts-")
    redis, url = start_redis(directory)
    try:
        good = print_table(arguments, url)
    finally:
        redis.kill()
        redis.wait()
        shutil.rmtree(directory)
    print("all within the bounds" if good else "a bound is broken")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
