#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a decision costs that `weir serve` is asked for over HTTP/2 without TLS, by h2load, with one
thread that answers: weir.v1.Limiter/Allow, and Envoy's ShouldRateLimit of one descriptor; beside
Allow of gRPC's own library, if perf/setup-peers could build it, which answers without deciding.

The two take turns, a shape and a round at a time.  The service has one processor and h2load
another one.  Processor time is the kernel's count for the service: on a machine with other jobs it
says more than the rate.  Latency is h2load's.  At half load each client asks at a steady pace, half
as fast in all as the shape before it could.

    perf/serve.py BUILD [--rounds N] [--requests N] [--peers DIRECTORY] [--json FILE]
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "peers"))

import support  # noqa: E402

# name, connections, calls at a time on each
SHAPES = (("one caller that waits", 1, 1), ("16 callers that wait", 16, 1),
          ("16 connections x 10 calls", 16, 10), ("one connection x 100 calls", 1, 100))
HALF_LOAD = "16 connections x 10 calls"
LIMIT = "100000000/1s"


RULES = """
domain: perf
descriptors:
  - key: key
    rate_limit: { unit: hour, requests_per_unit: 1000000000 }
"""


def field(number, value):
    """A field of bytes, as protobuf writes it."""
    return bytes([number << 3 | 2, len(value)]) + value


# AllowRequest{policy, key}; RateLimitRequest{domain, descriptors{entries{key, value}}}
CALLS = {
    "allow": ("/weir.v1.Limiter/Allow", field(1, b"api") + field(2, b"192.0.2.123")),
    "envoy": ("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
              field(1, b"perf") + field(2, field(1, field(1, b"key") +
                                                 field(2, b"192.0.2.123")))),
}


def message(body):
    """One message of gRPC, as it is."""
    return b"\0" + struct.pack(">I", len(body)) + body


def percentile(values, part):
    return values[min(len(values) - 1, int(len(values) * part))]


def load(directory, server, clients, calls, requests, rate=None):
    """Run h2load.  Requests per second, processor time a request, p50 and p99."""
    log = directory / "h2load.log"
    command = ["h2load", "--threads=1", f"--clients={clients}", f"--max-concurrent-streams={calls}",
               f"--requests={requests}", f"--data={directory / server['call']}",
               f"--log-file={log}", "--header=content-type: application/grpc",
               "--header=te: trailers",
               f"http://127.0.0.1:{server['port']}{CALLS[server['call']][0]}"]
    if rate:
        command.insert(1, f"--rps={rate / clients}")
    log.unlink(missing_ok=True)
    before = support.processor_ns(server["pid"])
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, support.asking_processors()))
    spent = support.processor_ns(server["pid"]) - before
    if f"{requests} succeeded" not in done.stdout:
        raise RuntimeError(done.stdout)
    rows = [line.split() for line in log.read_text(encoding="ascii").splitlines()]
    begins = [int(row[0]) for row in rows]
    latencies = sorted(int(row[2]) for row in rows)
    seconds = (max(int(row[0]) + int(row[2]) for row in rows) - min(begins)) / 1e6
    return {"per_second": requests / seconds, "processor_ns": spent / requests,
            "p50_us": percentile(latencies, 0.5), "p99_us": percentile(latencies, 0.99)}


def start(stack, name, directory, command, port):
    log = directory / f"{name}.log"
    process = stack.enter_context(support.server(command, log, processors={0}))
    support.await_listener(socket.AF_INET, ("127.0.0.1", port), process, log)
    return {"pid": process.pid, "port": port, "call": "allow"}


def start_all(stack, arguments, directory):
    weir = arguments.build / "src" / "cli" / "weir"
    segment = str(directory / "segment")
    for words in (("create",), ("policy", "set", "api", LIMIT)):
        subprocess.run([weir, "--segment", segment, *words], check=True,
                       stdout=subprocess.DEVNULL)
    rules = directory / "rules"
    rules.mkdir()
    (rules / "perf.yaml").write_text(RULES, encoding="ascii")
    port = support.free_port()
    servers = {"weir": start(stack, "weir", directory, [
        str(arguments.build / "serve" / "weir-serve"), "--segment", segment, "--threads", "1",
        "--grpc", f"127.0.0.1:{port}", "--compat", "envoy", "--rules", str(rules)], port)}
    servers["weir, Envoy's protocol"] = {**servers["weir"], "call": "envoy"}
    core = arguments.peers / "bin" / "grpc_core"
    if core.exists():
        port = support.free_port()
        servers["grpc_core"] = start(stack, "grpc_core", directory,
                                     [str(core), f"127.0.0.1:{port}"], port)
    return servers


def medians(rounds):
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def measure(arguments, directory, servers):
    found = {name: {} for name in servers}
    for shape, clients, calls in SHAPES:
        requests = arguments.requests if calls > 1 else arguments.requests // 5
        rounds = {name: [] for name in servers}
        for _ in range(arguments.rounds):
            for name, server in servers.items():
                rounds[name].append(load(directory, server, clients, calls, requests))
        for name in servers:
            found[name][shape] = medians(rounds[name])
        if shape != HALF_LOAD:
            continue
        rounds = {name: [] for name in servers}
        for _ in range(arguments.rounds):
            for name, server in servers.items():
                rate = found[name][shape]["per_second"] / 2
                rounds[name].append(load(directory, server, clients, calls,
                                         arguments.requests // 2, rate))
        for name in servers:
            found[name]["the same, at half load"] = medians(rounds[name])
    return found


def print_table(found):
    print("| shape | program | requests/s | processor a request | p50 | p99 |")
    print("|---|---|---|---|---|---|")
    for shape in next(iter(found.values())):
        for name, shapes in found.items():
            one = shapes[shape]
            print(f"| {shape} | {name} | {one['per_second']:,.0f} | "
                  f"{one['processor_ns'] / 1000:.2f} us | {one['p50_us']:.0f} us | "
                  f"{one['p99_us']:.0f} us |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200000)
    parser.add_argument("--peers", type=pathlib.Path, default=pathlib.Path(
        os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "weir-peers")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    if not shutil.which("h2load"):
        sys.exit("h2load is not installed: apt-get install nghttp2-client")
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix="weir-perf-")))
        for name, (_, body) in CALLS.items():
            (directory / name).write_bytes(message(body))
        found = measure(arguments, directory, start_all(stack, arguments, directory))
    print_table(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="ascii")


if __name__ == "__main__":
    main()
