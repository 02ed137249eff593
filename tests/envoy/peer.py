# SPDX-License-Identifier: Apache-2.0
"""envoyproxy/ratelimit with a Redis of its own, for comparison.

`tools/setup clients` installs it; WEIR_RATELIMIT names the program, if it is elsewhere.
"""

import ctypes
import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time


PR_SET_PDEATHSIG = 1


def die_with_the_test():
    """In a child: be killed when the test is, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def find_client(name, variable):
    """A program of others, or None: where VARIABLE says, or where it is installed."""
    named = os.environ.get(variable)
    if named:
        return named
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    for directory in ("weir-clients", "weir-peers"):
        program = cache / directory / "bin" / name
        if program.exists():
            return str(program)
    return None


def find():
    """envoyproxy/ratelimit, or None."""
    return find_client("ratelimit", "WEIR_RATELIMIT")


def free_port():
    """A TCP port that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port, process, seconds=30):
    deadline = time.monotonic() + seconds
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class Redis:
    def __init__(self, directory):
        self.path = str(pathlib.Path(directory) / "redis.sock")
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "",
             "--dir", str(directory)], stdout=subprocess.DEVNULL,
            preexec_fn=die_with_the_test)
        deadline = time.monotonic() + 30
        while self.command("PING") != b"+PONG\r\n":
            if time.monotonic() > deadline:
                raise RuntimeError("redis-server does not answer")
            time.sleep(0.01)

    def command(self, line):
        """The reply's first bytes, or b"" while there is no server."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self.path)
                connection.sendall(line.encode() + b"\r\n")
                return connection.recv(1024)
        except OSError:
            return b""

    def close(self):
        self.process.terminate()
        self.process.wait()


class Rules:
    """Where a service has its configuration, and how that is replaced: with RUNTIME_WATCH_ROOT
    by a link to another directory, else one file by another."""

    def __init__(self, directory, by_link):
        self.directory = pathlib.Path(directory) / "rules"
        self.link = self.directory / "current"
        self.by_link = by_link
        self.versions = 0
        self.put_directory({"test.yaml": b"domain: none\n"})

    def variables(self):
        return {"RUNTIME_ROOT": str(self.link), "RUNTIME_SUBDIRECTORY": "runtime",
                "RUNTIME_WATCH_ROOT": str(self.by_link).lower()}

    def put_directory(self, texts):
        self.versions += 1
        version = self.directory / f"version-{self.versions}"
        for name, text in texts.items():
            path = version / "runtime" / "config" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        new = self.directory / "new"
        new.symlink_to(version.name)
        os.rename(new, self.link)

    def put(self, texts):
        """{name: bytes}; just one, if it is no link that is replaced."""
        if self.by_link:
            self.put_directory(texts)
            return
        (name, text), = texts.items()
        new = self.directory / "new"
        new.write_bytes(text)
        os.rename(new, self.link / "runtime" / "config" / name)


class Ratelimit:
    """The service."""

    def __init__(self, program, directory, **environment):
        self.directory = pathlib.Path(directory)
        self.rules = Rules(directory, environment.get("RUNTIME_WATCH_ROOT") == "true")
        self.redis = Redis(directory)
        self.port = free_port()
        self.http_port = free_port()
        self.events = queue.Queue()
        settings = {
            "HOST": "127.0.0.1",
            "PORT": str(self.http_port),
            "DEBUG_HOST": "127.0.0.1",
            "DEBUG_PORT": str(free_port()),
            "GRPC_HOST": "127.0.0.1",
            "GRPC_PORT": str(self.port),
            "USE_STATSD": "false",
            "LOG_LEVEL": "info",
            "LOG_FORMAT": "json",
            "REDIS_SOCKET_TYPE": "unix",
            "REDIS_URL": self.redis.path,
            "REDIS_POOL_SIZE": "1",
        }
        settings.update(environment)
        settings.update(self.rules.variables())
        self.process = subprocess.Popen(
            [program], env={**os.environ, **settings}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, preexec_fn=die_with_the_test)
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()
        self.wait_for_load()
        wait_for_port(self.port, self.process)
        wait_for_port(self.http_port, self.process)

    def read_log(self):
        last = []
        for line in self.process.stderr:
            try:
                message = json.loads(line)["@message"]
            except (ValueError, KeyError, TypeError):
                last = (last + [line.decode(errors="replace")])[-20:]
                continue
            if message.startswith("Error loading new configuration: "):
                self.events.put(message.partition(": ")[2])
            elif message == "Successfully loaded new configuration":
                self.events.put("")
        self.events.put("the program ended: " + "".join(last))

    def wait_for_load(self):
        """Until a configuration was loaded, "", or refused: why."""
        return self.events.get(timeout=30)

    def load(self, texts):
        """Replace the configuration; "" or the error."""
        self.rules.put(texts)
        return self.wait_for_load()

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()
        self.redis.close()
        shutil.rmtree(self.directory, ignore_errors=True)
