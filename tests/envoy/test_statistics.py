# SPDX-License-Identifier: Apache-2.0
"""envoyproxy/ratelimit and `weir serve --compat envoy` count the same under the same keys.

    test_statistics.py [--runs N] [--seed N]

As test_differential.py, but with windows that do not end meanwhile and without limits of
requests, so that nothing need be left out; then all counters are compared: those that the one
sends to statsd, those that the other sends there, and those of its /metrics.
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


def metrics(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {".".join(LABEL.findall(labels)) + "." + counter: int(count)
            for counter, labels, count in METRIC.findall(text) if int(count)}


def draw_requests(generator, files):
    for _ in range(REQUESTS):
        request = draw.request(generator, files, odd=False)
        for descriptor in request["descriptors"]:
            descriptor.pop("limit", None)
        yield request


def compare(program, seed):
    """Both count the same; a list of what differs."""
    statsd, ours_statsd = Statsd(), Statsd()
    settings = {**draw.settings(random.Random(seed)), "USE_STATSD": "true",
                "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(statsd.port),
                "STATSD_PROTOCOL": "tcp", "STATS_FLUSH_INTERVAL": "100ms"}
    with tempfile.TemporaryDirectory() as directory:
        run = differential.Run(program, directory, settings, collections.Counter(),
                               STATSD_PORT=str(ours_statsd.port))
        try:
            for i in range(CONFIGS):
                generator = random.Random(seed * CONFIGS + i)
                files = draw.Config(generator, run.release, settings).files
                difference = run.first_difference(files, list(draw_requests(generator, files)))
                if difference:
                    return [difference]
            until = time.monotonic() + PATIENCE_S
            ours = metrics(run.weir.http_port)
            while (ours != statsd.counters or ours != ours_statsd.counters) and \
                    time.monotonic() < until:
                time.sleep(0.05)
                ours = metrics(run.weir.http_port)
        finally:
            run.close()
    if not ours:
        return ["nothing was counted"]
    print(f"seed {seed}: {len(ours)} counters")
    all_three = [dict(statsd.counters), ours, dict(ours_statsd.counters)]
    return [(key, *(counters.get(key) for counters in all_three))
            for key in sorted({*all_three[0], *all_three[1], *all_three[2]})
            if len({counters.get(key) for counters in all_three}) > 1]


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
        different += compare(program, options.seed + i)
    for each in different:
        print("key, envoyproxy/ratelimit, weir's metrics, what it sends:", each)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
