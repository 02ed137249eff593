# SPDX-License-Identifier: Apache-2.0
"""A real Redis for the tests of the command line."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

PATIENCE_S = 60
SKIPPED = 77

PR_SET_PDEATHSIG = 1


def die_with_the_test():
    """In a child: be killed when the test is, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Redis:
    """A redis-server on a socket of its own, empty whenever it starts."""

    def __init__(self, directory):
        self.directory = directory
        self.socket = os.path.join(directory, "redis")
        self.url = f"unix://{self.socket}?command_ms=2000"
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "",
             "--appendonly", "no", "--dir", self.directory],
            stdout=subprocess.DEVNULL, preexec_fn=die_with_the_test)
        until = time.monotonic() + PATIENCE_S
        while not self.answers():
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError("redis-server does not answer")
            time.sleep(0.005)

    def answers(self):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(self.socket)
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()


def require_redis():
    """Leave, as skipped, if there is none."""
    if shutil.which("redis-server") is None:
        print("redis-server is not installed", file=sys.stderr)
        sys.exit(SKIPPED)
