# SPDX-License-Identifier: Apache-2.0
"""envoyproxy/ratelimit and `weir serve --compat envoy` count the same under the same keys.

    test_statistics.py [--runs N] [--seed N]

As test_differential.py, but with windows that do not end meanwhile and without limits of
requests, so that nothing need be left out; then all counters are compared: those that the one
sends to statsd, those that the other sends there, and those of /metrics, of both.
"""

import argparse
import collections
import http.client
import random
import re
import shutil
import socket
import sys
import tempfile
import threading
import time

import test_differential as differential
import draw
import peer

CONFIGS = 6
REQUESTS = 60
PATIENCE_S = 60
STATSD = re.compile(rb"ratelimit\.service\.rate_limit\.(.*):(\d+)\|c")
SERIES = re.compile(r"^ratelimit_service_rate_limit_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
METRIC = re.compile(r"^ratelimit_service_rate_limit_(\w+)\{(.*)\} (\d+)$", re.MULTILINE)
LABEL = re.compile(r'\w+="((?:[^"\\]|\\.)*)"')


class Statsd:
    """What is sent to a port, by key and counter."""

    def __init__(self):
        self.counters = collections.Counter()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.read, args=(connection,), daemon=True).start()

    def read(self, connection):
        with connection, connection.makefile("rb") as file:
            for line in file:
                found = STATSD.match(line)
                if found and int(found[2]):
                    self.counters[found[1].decode()] += int(found[2])


def get_metrics(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def metrics(port):
    return {".".join(LABEL.findall(labels)) + "." + counter: int(count)
            for counter, labels, count in METRIC.findall(get_metrics(port)) if int(count)}


def by_label(port):
    """By domain, key1 and key2: there the levels below count with those.  A domain that is
    unknown has a name of its own there, and no label."""
    counters = collections.Counter()
    for counter, labels, count in SERIES.findall(get_metrics(port)):
        if counter != "domain_not_found":
            counters[counter, *LABEL.findall(labels)[:3]] += int(float(count))
    return dict(+counters)


def draw_requests(generator, files):
    for _ in range(REQUESTS):
        request = draw.request(generator, files, odd=False)
        for descriptor in request["descriptors"]:
            descriptor.pop("limit", None)
        yield request


def ask_both(run, seed, settings):
    """What they answer differently, or None."""
    for i in range(CONFIGS):
        generator = random.Random(seed * CONFIGS + i)
        files = draw.Config(generator, run.release, settings).files
        difference = run.first_difference(files, list(draw_requests(generator, files)))
        if difference:
            return difference
    return None


def compare(program, seed, variables, of_ours, count):
    """Both count the same, as COUNT has it of a run: several counters.  What differs."""
    settings = {**draw.settings(random.Random(seed)), **variables,
                "STATS_FLUSH_INTERVAL": "100ms"}
    with tempfile.TemporaryDirectory() as directory:
        run = differential.Run(program, directory, settings, collections.Counter(), **of_ours)
        try:
            difference = ask_both(run, seed, settings)
            if difference:
                return [difference]
            until = time.monotonic() + PATIENCE_S
            counted = count(run)
            while any(each != counted[0] for each in counted) and time.monotonic() < until:
                time.sleep(0.05)
                counted = count(run)
        finally:
            run.close()
    if not counted[0]:
        return ["nothing was counted"]
    print(f"seed {seed}: {len(counted[0])} counters")
    keys = sorted(set().union(*counted))
    return [(key, *(each.get(key) for each in counted)) for key in keys
            if len({each.get(key) for each in counted}) > 1]


def compare_statsd(program, seed):
    """What they send, and /metrics, by the metric key."""
    theirs, ours = Statsd(), Statsd()
    return compare(program, seed, {
        "USE_STATSD": "true", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(theirs.port),
        "STATSD_PROTOCOL": "tcp"}, {"STATSD_PORT": str(ours.port)},
        lambda run: [dict(theirs.counters), metrics(run.weir.http_port), dict(ours.counters)])


def compare_prometheus(program, seed):
    """/metrics of both, as far as labels go there."""
    port = peer.free_port()
    return compare(program, seed, {
        "USE_STATSD": "false", "USE_PROMETHEUS": "true", "PROMETHEUS_ADDR": f"127.0.0.1:{port}"},
        {}, lambda run: [by_label(port), by_label(run.weir.http_port)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    program = peer.find()
    if not program or not shutil.which("redis-server"):
        print("envoyproxy/ratelimit or redis-server is not installed (tools/setup clients; "
              "WEIR_RATELIMIT names the program): skipped")
        sys.exit(differential.SKIPPED)
    draw.UNITS[:] = ["year", "month"]
    different = []
    for i in range(options.runs):
        different += compare_statsd(program, options.seed + i)
        different += compare_prometheus(program, options.seed + i)
    for each in different:
        print("key, envoyproxy/ratelimit, weir's metrics, what it sends:", each)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
