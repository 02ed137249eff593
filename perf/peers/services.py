#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a decision costs that a service is asked for over gRPC: envoyproxy/ratelimit with a Redis of
its own, and gubernator, one node.

Each is asked by one caller that waits, and by sixteen; every answer must be "allowed".  Latency is
the caller's, over loopback; processor time is the kernel's count for the service, and for its Redis.
Prints JSON.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

import support

RATELIMIT = """
domain: perf
descriptors:
  - key: key
    rate_limit: { unit: hour, requests_per_unit: 1000000000 }
"""


def start(stack, command, log, family, address, environment=None):
    process = stack.enter_context(support.server(command, log, environment=environment))
    support.await_listener(family, address, process, log)
    return process.pid


def start_ratelimit(stack, program, directory):
    """It and its Redis: their pids, and the address of the service."""
    redis_socket, port = directory / "redis.sock", support.free_port()
    redis = start(stack, ["redis-server", "--port", "0", "--unixsocket", str(redis_socket),
                          "--save", "", "--appendonly", "no", "--dir", str(directory)],
                  directory / "redis.log", socket.AF_UNIX, str(redis_socket))
    config = directory / "data" / "ratelimit" / "config"
    config.mkdir(parents=True)
    (config / "perf.yaml").write_text(RATELIMIT, encoding="ascii")
    service = start(stack, [str(program)], directory / "ratelimit.log", socket.AF_INET,
                    ("127.0.0.1", port), {
                        "RUNTIME_ROOT": str(directory / "data"), "RUNTIME_SUBDIRECTORY": "ratelimit",
                        "RUNTIME_WATCH_ROOT": "false", "USE_STATSD": "false", "LOG_LEVEL": "error",
                        "REDIS_SOCKET_TYPE": "unix", "REDIS_URL": str(redis_socket),
                        "HOST": "127.0.0.1", "PORT": str(support.free_port()),
                        "GRPC_HOST": "127.0.0.1", "GRPC_PORT": str(port),
                        "DEBUG_HOST": "127.0.0.1", "DEBUG_PORT": str(support.free_port())})
    return service, redis, port


def start_gubernator(stack, program, directory):
    port = support.free_port()
    address, members = f"127.0.0.1:{port}", f"127.0.0.1:{support.free_port()}"
    service = start(stack, [str(program)], directory / "gubernator.log", socket.AF_INET,
                    ("127.0.0.1", port), {
                        "GUBER_GRPC_ADDRESS": address, "GUBER_ADVERTISE_ADDRESS": address,
                        "GUBER_HTTP_ADDRESS": f"127.0.0.1:{support.free_port()}",
                        "GUBER_CACHE_SIZE": "2000000", "GUBER_LOG_LEVEL": "error",
                        # A cluster of itself alone: it decides nothing without a peer.
                        "GUBER_PEER_DISCOVERY_TYPE": "member-list",
                        "GUBER_MEMBERLIST_ADDRESS": members,
                        "GUBER_MEMBERLIST_BIND_ADDRESS": members,
                        "GUBER_MEMBERLIST_KNOWN_NODES": members})
    return service, None, port


STARTS = {"ratelimit": start_ratelimit, "gubernator": start_gubernator}


def ask(asker, name, port, keys, callers, seconds):
    os.sched_setaffinity(0, support.asking_processors())    # the child's, too
    done = subprocess.run([str(asker), "-service", name, "-address", f"127.0.0.1:{port}", "-keys",
                           str(keys), "-callers", str(callers), "-duration", f"{seconds}s"],
                          check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def measure(name, peers, keys, seconds):
    program, asker = peers / "bin" / name, peers / "bin" / "services"
    if not program.exists() or not asker.exists():
        return None
    if name == "ratelimit" and not shutil.which("redis-server"):
        return None
    with tempfile.TemporaryDirectory(prefix="weir-perf-") as directory, \
            contextlib.ExitStack() as stack:
        service, redis, port = STARTS[name](stack, program, pathlib.Path(directory))
        result = {}
        ask(asker, name, port, keys, 16, 1)
        for callers in (1, 16):
            before = [support.processor_ns(pid) if pid else 0 for pid in (service, redis)]
            answers = ask(asker, name, port, keys, callers, seconds)
            for part, pid, since in zip(("service", "redis"), (service, redis), before):
                if pid:
                    answers[f"{part}_ns"] = ((support.processor_ns(pid) - since)
                                             / answers["decisions"])
            result[f"callers_{callers}"] = answers
        return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("peers", type=pathlib.Path, help="the directory that setup-peers filled")
    parser.add_argument("--keys", type=int, default=1000000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", choices=list(STARTS))
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(STARTS)
    print(json.dumps({name: measure(name, arguments.peers.resolve(), arguments.keys,
                                    arguments.seconds) for name in names}, indent=1))


if __name__ == "__main__":
    main()
