#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a rate limit adds to a request in nginx (limit_req) and HAProxy (a stick table).

One server process has two ways in, alike but for the limit: both read the key from the query.  They
take turns, a slice of requests each, pipelined over a unix socket so that the one worker is never
without work.  The difference in the worker's processor time (schedstat) is taken slice by slice; the
median of these is the result.  Every key is in the table before anything is measured, and nothing is
ever denied.  Prints JSON.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import socket
import tempfile

import support

DEPTH = 64                      # requests in flight
SLICE = 12800                   # requests, some 60 ms
NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
    client_header_timeout 1h;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    limit_req_zone $arg_k zone=keys:{zone_mib}m rate=60000r/m;
    server {{
        listen unix:{directory}/base;
        location / {{ set $key $arg_k; try_files /none @done; }}
        location @done {{ return 204; }}
    }}
    server {{
        listen unix:{directory}/limit;
        location / {{
            set $key $arg_k; limit_req zone=keys burst=1000000 nodelay;
            try_files /none @done;
        }}
        location @done {{ return 204; }}
    }}
}}
"""
HAPROXY = """
global
    nbthread 1
    maxconn 64
defaults
    mode http
    timeout client 1h
    timeout http-keep-alive 1h
    timeout http-request 1h
backend keys
    stick-table type string len 17 size {size} expire 1h store http_req_rate(10s)
frontend base
    bind unix@{directory}/base
    http-request set-var(txn.key) url_param(k)
    http-request return status 200
frontend limit
    bind unix@{directory}/limit
    http-request set-var(txn.key) url_param(k)
    http-request track-sc0 var(txn.key) table keys
    http-request deny deny_status 429 if {{ sc0_http_req_rate gt 1000000 }}
    http-request return status 200
"""


class Client:
    """One connection, DEPTH requests at a time, each of which must be allowed."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))

    def ask(self, keys):
        request = "GET /?k=%016d HTTP/1.1\r\nHost: x\r\n\r\n"
        for first in range(0, len(keys), DEPTH):
            some = keys[first:first + DEPTH]
            self.socket.sendall("".join([request % key for key in some]).encode())
            self.await_answers(len(some))

    def await_answers(self, count):
        got = b""
        while got.count(b"\r\n\r\n") < count:
            received = self.socket.recv(1 << 16)
            if not received:
                raise RuntimeError("the server closed the connection")
            got += received
        if got.count(b"HTTP/1.1 20") != count:
            raise RuntimeError("not allowed: " + got[:200].decode("utf-8", "replace"))


def measure(pid, directory, keys, rounds):
    """Added nanoseconds of the worker for a request with one key, and with KEYS."""
    clients = {way: Client(directory / way) for way in ("base", "limit")}
    empty = support.resident_bytes(pid)
    for first in range(0, keys, SLICE):
        clients["limit"].ask(range(first, min(keys, first + SLICE)))
    result = {"key_count": keys, "resident_bytes_per_key": (support.resident_bytes(pid) - empty) / keys}
    # Many keys first: nginx forgets the ones that were idle for a minute.
    for name, population in (("keys", keys), ("hot", 1)):
        times = {"base": [], "limit": []}
        for number in range(rounds):
            some = [random.randrange(population) for _ in range(SLICE)]
            # In turn first and second: neither profits from what the other left in the caches.
            for way in ("base", "limit") if number % 2 else ("limit", "base"):
                before = support.processor_ns(pid)
                clients[way].ask(some)
                times[way].append((support.processor_ns(pid) - before) / SLICE)
        added = [limit - plain for plain, limit in zip(times["base"], times["limit"])]
        result[name] = {"base_ns": support.median(times["base"]), "added_ns": support.median(added),
                        "added_min_ns": min(times["limit"]) - min(times["base"])}
    return result


def find(name, directory):
    """The program NAME: of setup-peers, or of the system."""
    own = directory / "debian" / "usr" / "sbin" / name
    return str(own) if own.exists() else shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")


def nginx_command(program, directory, keys):
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, zone_mib=keys * 160 // 2**20 + 8),
                      encoding="ascii")
    return [program, "-p", str(directory), "-e", str(directory / "log"), "-c", str(config)]


def haproxy_command(program, directory, keys):
    config = directory / "haproxy.cfg"
    config.write_text(HAPROXY.format(directory=directory, size=keys + keys // 4), encoding="ascii")
    return [program, "-db", "-f", str(config)]


COMMANDS = {"nginx": nginx_command, "haproxy": haproxy_command}


def run(name, peers, keys, rounds):
    program = find(name, peers)
    if not program:
        return None
    libraries = {"LD_LIBRARY_PATH": ":".join(map(str, (peers / "debian/usr/lib").glob("*-linux-*")))}
    with tempfile.TemporaryDirectory(prefix="weir-perf-") as text, contextlib.ExitStack() as stack:
        directory = pathlib.Path(text)
        log = directory / "output"
        command = COMMANDS[name](program, directory, keys)
        process = stack.enter_context(support.server(command, log, environment=libraries))
        support.await_listener(socket.AF_UNIX, str(directory / "limit"), process, log)
        os.sched_setaffinity(0, support.asking_processors())
        return measure(process.pid, directory, keys, rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("peers", type=pathlib.Path, help="the directory that setup-peers filled")
    parser.add_argument("--keys", type=int, default=1000000)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--only", choices=list(COMMANDS))
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(COMMANDS)
    print(json.dumps({name: run(name, arguments.peers.resolve(), arguments.keys, arguments.rounds)
                      for name in names}, indent=1))


if __name__ == "__main__":
    main()
