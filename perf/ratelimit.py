#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What Envoy's ShouldRateLimit costs of `weir serve --compat envoy`, and of envoyproxy/ratelimit
with a Redis of its own, over HTTP/2 without TLS, by the same rules.

The service has the first processor for itself, with one thread; what asks has the last one, and so
has Redis, on a unix socket, so that envoyproxy/ratelimit shares its processor with nobody.  That is
asked as it comes, and with its cache of keys that are over their limit.  (Its window to gather
commands, REDIS_PIPELINE_WINDOW, does nothing without Redis Cluster, and the size of its pool hardly
changes what a call costs.)  The programs take turns, a round at a time.

Saturated are 16 connections with 10 calls in flight on each, by perf/calls, and for one key by
h2load, too.  At half load calls are due at random times, half as often as the program could answer
before, and are timed from then; what is due within 50 us leaves at once, as a proxy writes once a
turn of its event loop.  For one key also by itself, beside 16 callers that wait.  Processor time is
the kernel's count.  No answer may be wrong.

    perf/ratelimit.py BUILD [--rounds N] [--seconds S] [--json FILE] [--from FILE]
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

import serve  # noqa: E402
import support  # noqa: E402

RULES = """
domain: perf
descriptors:
  - key: open
    rate_limit: { unit: hour, requests_per_unit: 1000000000 }
  - key: closed
    rate_limit: { unit: hour, requests_per_unit: 1 }
"""

# name: descriptor, how many keys
KEYS = {"one key": ("open", 1), "100,000 keys": ("open", 100000),
        "one key, over its limit": ("closed", 1)}

WEIR = "Weir"
PEERS = {"ratelimit": {},
         "ratelimit, local cache": {"LOCAL_CACHE_SIZE_IN_BYTES": "10000000"}}

SATURATED = ("--connections=16", "--calls=10")
HALF_LOAD = ("--connections=16", "--gather=50")
CALLERS = ("--connections=16", "--calls=1")
BY_ITSELF = ("--connections=16",)
SEQUENTIAL = ("--count=10000",)


def find_ratelimit():
    """envoyproxy/ratelimit as tools/setup or perf/setup-peers installs it, or None."""
    if os.environ.get("WEIR_RATELIMIT"):
        return os.environ["WEIR_RATELIMIT"]
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    for directory in ("weir-clients", "weir-peers"):
        program = cache / directory / "bin" / "ratelimit"
        if program.exists():
            return str(program)
    return None


# ---- Servers ---------------------------------------------------------------

def start(stack, command, log, family, address, processors, environment=None):
    process = stack.enter_context(support.server(command, log, processors, environment))
    support.await_listener(family, address, process, log)
    return process.pid


def start_weir(stack, build, directory):
    directory.mkdir()
    rules = directory / "rules"
    rules.mkdir()
    (rules / "perf.yaml").write_text(RULES, encoding="ascii")
    port = support.free_port()
    service = start(stack, [
        str(build / "serve" / "weir-serve"), "--segment", str(directory / "segment"), "--create",
        "--slots", "262144", "--compat", "envoy", "--threads", "1", "--rules", str(rules),
        "--grpc", f"127.0.0.1:{port}"], directory / "log", socket.AF_INET, ("127.0.0.1", port), {0})
    return {"service": service, "port": port}


def start_ratelimit(stack, program, directory, environment):
    config = directory / "runtime" / "config"
    config.mkdir(parents=True)
    (config / "perf.yaml").write_text(RULES, encoding="ascii")
    redis_socket, port = directory / "redis.sock", support.free_port()
    redis = start(stack, ["redis-server", "--port", "0", "--unixsocket", str(redis_socket),
                          "--save", "", "--appendonly", "no", "--dir", str(directory)],
                  directory / "redis.log", socket.AF_UNIX, str(redis_socket),
                  support.asking_processors())
    service = start(stack, [program], directory / "log", socket.AF_INET, ("127.0.0.1", port), {0}, {
        "RUNTIME_ROOT": str(directory), "RUNTIME_SUBDIRECTORY": "runtime",
        "RUNTIME_WATCH_ROOT": "false", "USE_STATSD": "false", "LOG_LEVEL": "error",
        "REDIS_SOCKET_TYPE": "unix", "REDIS_URL": str(redis_socket),
        "HOST": "127.0.0.1", "PORT": str(support.free_port()),
        "GRPC_HOST": "127.0.0.1", "GRPC_PORT": str(port),
        "DEBUG_HOST": "127.0.0.1", "DEBUG_PORT": str(support.free_port()), **environment})
    return {"service": service, "redis": redis, "port": port}


def start_all(stack, arguments, directory):
    servers = {WEIR: start_weir(stack, arguments.build, directory / "weir")}
    program = find_ratelimit()
    if program and shutil.which("redis-server"):
        for number, (name, environment) in enumerate(PEERS.items()):
            servers[name] = start_ratelimit(stack, program, directory / f"ratelimit-{number}",
                                            environment)
    else:
        print("envoyproxy/ratelimit or redis-server is not installed (perf/setup-peers)",
              file=sys.stderr)
    return servers


# ---- Asking ----------------------------------------------------------------

def spent_ns(server):
    return {part: support.processor_ns(server[part]) for part in ("service", "redis")
            if part in server}


def pinned():
    os.sched_setaffinity(0, support.asking_processors())


def ask(arguments, server, keys, *options):
    """Run perf/calls: what it prints, with the processor time of a call and how busy the service
    was."""
    descriptor, count = KEYS[keys]
    command = [str(arguments.build / "perf" / "calls"), f"--port={server['port']}",
               f"--descriptor={descriptor}", f"--keys={count}", *options]
    before = spent_ns(server)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          check=True, preexec_fn=pinned)
    answers = json.loads(done.stdout)
    wrong = answers["over_limit"] if descriptor == "open" else max(0, answers["ok"] - 1)
    if answers["failed"] or wrong:
        raise RuntimeError(f"wrong answers: {done.stdout}")
    for part, since in before.items():
        answers[f"{part}_ns"] = (support.processor_ns(server[part]) - since) / answers["all"]
    answers["busy"] = answers["service_ns"] * answers["per_second"] / 1e9
    return answers


def ask_with_h2load(server, directory, requests):
    (directory / "envoy").write_bytes(serve.message(
        serve.field(1, b"perf") + serve.field(2, serve.field(
            1, serve.field(1, b"open") + serve.field(2, b"user0000000")))))
    answers = serve.load(directory, {"pid": server["service"], "port": server["port"],
                                     "call": "envoy"}, 16, 10, requests)
    return {**answers, "service_ns": answers["processor_ns"]}


def medians(rounds):
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def take_turns(arguments, servers, measure):
    rounds = {name: [] for name in servers}
    for _ in range(arguments.rounds):
        for name, server in servers.items():
            rounds[name].append(measure(name, server))
    return {name: medians(some) for name, some in rounds.items()}


def measure_half(found, arguments, servers, keys, whole, half):
    """A load as fast as it goes, and half of that; each is (name, options)."""
    time = f"--time={int(arguments.seconds * 1000)}"
    name, options = whole
    most = take_turns(arguments, servers, lambda _, server: ask(
        arguments, server, keys, time, *options))
    found[f"{keys}, {name}"] = most
    name, options = half
    found[f"{keys}, {name}"] = take_turns(arguments, servers, lambda program, server: ask(
        arguments, server, keys, time, *options,
        f"--rate={int(most[program]['per_second'] / 2)}"))
    return most


def measure_all(arguments, directory, servers):
    found = {}
    for keys in KEYS:
        saturated = measure_half(found, arguments, servers, keys, ("saturated", SATURATED),
                                 ("half load", HALF_LOAD))
        if keys == "one key":
            measure_half(found, arguments, servers, keys, ("16 callers that wait", CALLERS),
                         ("half of that", BY_ITSELF))
        if keys == "one key" and shutil.which("h2load"):
            found[f"{keys}, saturated by h2load"] = take_turns(
                arguments, servers, lambda name, server: ask_with_h2load(
                    server, directory, int(saturated[name]["per_second"] * arguments.seconds)))
        found[f"{keys}, 10,000 calls, one after another"] = take_turns(
            arguments, servers, lambda name, server, keys=keys: ask(
                arguments, server, keys, *SEQUENTIAL))
    return found


# ---- Tables ----------------------------------------------------------------

def of_a_processor(one):
    """Calls a second of a processor that does nothing else, Redis left out."""
    return 1e9 / one["service_ns"]


def percent(one, part):
    return f"{one[part] * 100:.0f} %" if part in one else ""


def print_table(found):
    print("| load | program | calls/s | p50, us | p99, us | busy | who asks | processor a call, us "
          "| its Redis, us | calls/s of a processor | Weir's |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for load, programs in found.items():
        weir = of_a_processor(programs[WEIR])
        for name, one in programs.items():
            redis = f"{one['redis_ns'] / 1e3:.1f}" if "redis_ns" in one else ""
            ratio = "" if name == WEIR else f"{weir / of_a_processor(one):.1f} ×"
            print(f"| {load} | {name} | {one['per_second']:,.0f} | {one['p50_us']:,.0f} | "
                  f"{one['p99_us']:,.0f} | {percent(one, 'busy')} | {percent(one, 'client_busy')} | "
                  f"{one['service_ns'] / 1e3:.2f} | {redis} | {of_a_processor(one):,.0f} | {ratio} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--json", type=pathlib.Path, help="write all figures")
    parser.add_argument("--from", dest="source", type=pathlib.Path, help="print those of a file")
    arguments = parser.parse_args()
    if arguments.source:
        print_table(json.loads(arguments.source.read_text(encoding="ascii")))
        return
    if not (arguments.build / "perf" / "calls").exists():
        sys.exit(f"{arguments.build}/perf/calls is not built: ninja -C {arguments.build} perf/calls")
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix="weir-perf-")))
        found = measure_all(arguments, directory, start_all(stack, arguments, directory))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="ascii")
    print_table(found)


if __name__ == "__main__":
    main()
