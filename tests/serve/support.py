# SPDX-License-Identifier: Apache-2.0
"""What the tests of the service share: a service on a segment of its own, and clients that
others wrote."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

SKIPPED = 77  # as meson reads it

try:
    import grpc
except ImportError:
    print("python3-grpcio is not installed (tools/setup test): skipped")
    sys.exit(SKIPPED)

sys.path.insert(0, os.environ["WEIR_MESSAGES"])

from weir.v1 import limiter_pb2 as limiter  # noqa: E402


def load_messages(name):
    """Messages of gRPC's own services, whose package would be grpcio's."""
    path = os.path.join(os.environ["WEIR_MESSAGES"], "grpc", name + "_pb2.py")
    spec = importlib.util.spec_from_file_location(name + "_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROGRAM = os.environ["WEIR"]
SERVICE = os.environ["WEIR_SERVE"]  # what `weir serve` becomes, perhaps with a sanitizer
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE_S = 60  # nothing takes as long: only a test that fails waits for it


class Service:
    """A service, and what it said: first a line that has FIRST in it, if that is given."""

    def __init__(self, test, *options, segment=None, addresses=("--grpc", "127.0.0.1:0"),
                 first=None):
        self.test = test
        self.process = subprocess.Popen(
            [SERVICE, "--segment", segment or test.segment, *addresses, *options],
            env=test.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.process.stderr.close)
        test.addCleanup(self.process.wait)
        test.addCleanup(self.process.kill)
        if first is not None:
            self.expect(first)
        self.addresses = []
        for _ in addresses[::2]:
            line = self.process.stderr.readline()
            found = re.match(r"weir: serving .* on (\S+)$", line)
            if not found:
                test.fail(line + self.process.stderr.read())
            self.addresses.append(found.group(1))
        self.address = self.addresses[0] if self.addresses else None

    def expect(self, said):
        line = self.process.stderr.readline()
        if said not in line:
            self.test.fail(line)

    def channel(self, address=None, **options):
        channel = grpc.insecure_channel(address or self.address, **options)
        self.test.addCleanup(channel.close)
        return channel

    def limiter(self, address=None):
        return Limiter(self.channel(address))

    def end(self, number=signal.SIGTERM):
        """End it, and return what it said meanwhile."""
        self.process.send_signal(number)
        said = self.process.stderr.read()
        self.test.assertEqual(self.process.wait(PATIENCE_S), 0, said)
        return said


class Limiter:
    """weir.v1.Limiter; each method takes the fields of its request."""

    METHODS = ("Allow", "AllowN", "AllowBatch", "GetStatus", "Reset", "Refund", "SetFailOpen")

    def __init__(self, channel, wait_for_ready=True):
        self.channel = channel
        self.wait_for_ready = wait_for_ready
        for name in self.METHODS:
            setattr(self, name, self.method(name))
        watch = channel.unary_stream("/weir.v1.Limiter/Watch",
                                     limiter.WatchRequest.SerializeToString,
                                     limiter.WatchResponse.FromString)
        self.Watch = lambda **fields: watch(limiter.WatchRequest(**fields), timeout=PATIENCE_S)

    def method(self, name):
        request = getattr(limiter, name + "Request")
        call = self.channel.unary_unary("/weir.v1.Limiter/" + name, request.SerializeToString,
                                        getattr(limiter, name + "Response").FromString)
        return lambda **fields: call(request(**fields), timeout=PATIENCE_S,
                                     wait_for_ready=self.wait_for_ready)


class ServeTest(unittest.TestCase):
    """Each test has a directory, and a segment in it."""

    maxDiff = None
    POLICIES = ()  # (name, limit...)

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="weir-serve-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.segment = os.path.join(self.directory, "segment")
        # No statistics to whoever has statsd's port here.
        self.environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8",
                            "USE_STATSD": "false"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"):
            if name in os.environ:
                self.environment[name] = os.environ[name]
        self.weir("create", "--slots", "1024")
        for policy in self.POLICIES:
            self.weir("policy", "set", *policy)

    def weir(self, *arguments, status=0):
        """Run a command on the segment, and return what it printed."""
        done = subprocess.run([PROGRAM, "--segment", self.segment, *arguments],
                              env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, status, done.stdout)
        return done.stdout

    def assert_fails(self, code, says, call, *arguments, **fields):
        """The call ends with the status CODE and a sentence that has SAYS in it."""
        with self.assertRaises(grpc.RpcError) as caught:
            call(*arguments, **fields)
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        self.assertIn(says, caught.exception.details())


def main():
    unittest.main()
