# SPDX-License-Identifier: Apache-2.0
"""Two services on two segments with one Redis hold one limit, and find Redis by the variables
of envoyproxy/ratelimit."""

import os
import pathlib
import shutil
import subprocess
import sys
import time

from support import PATIENCE_S, SKIPPED, ServeTest, Service, main

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "envoy"))

import peer  # noqa: E402
import wire  # noqa: E402

if shutil.which("redis-server") is None:
    print("redis-server is not installed (tools/setup test): skipped")
    sys.exit(SKIPPED)

RULES = """domain: shop
descriptors:
- key: user
  rate_limit: {unit: year, requests_per_unit: 100}
"""


class Hosts(ServeTest):
    def setUp(self):
        super().setUp()
        self.rules = self.path("rules")
        os.mkdir(self.rules)
        with open(os.path.join(self.rules, "shop.yaml"), "w", encoding="utf-8") as file:
            file.write(RULES)
        with open(self.path("secret"), "w", encoding="utf-8") as file:
            file.write("0123456789abcdef" * 2)

    def path(self, name):
        return os.path.join(self.directory, name)

    def start_redis(self, *options):
        process = subprocess.Popen(
            ["redis-server", "--save", "", "--dir", self.directory, *options],
            stdout=subprocess.DEVNULL, preexec_fn=peer.die_with_the_test)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def host(self, name, **environment):
        segment = self.path(name)
        self.environment.update(environment)
        service = Service(self, "--compat", "envoy", "--rules", self.rules, "--interval-ms", "10",
                          "--create", "--slots", "1024", "--secret-file", self.path("secret"),
                          segment=segment, first="Successfully loaded new configuration")
        return service.channel().unary_unary(
            wire.METHOD, request_serializer=wire.encode_request,
            response_deserializer=wire.decode_response)

    def ask(self, host, hits):
        return host({"domain": "shop", "descriptors": [
            {"entries": [("user", "ann")], "hits": hits}]}, timeout=PATIENCE_S)

    def wait_for_remaining(self, host, remaining):
        until = time.monotonic() + PATIENCE_S
        while self.ask(host, 0)["statuses"][0]["limit_remaining"] != remaining:
            self.assertLess(time.monotonic(), until)
            time.sleep(0.005)

    def share_a_limit(self, **environment):
        one, other = self.host("one", **environment), self.host("other", **environment)
        self.assertEqual(self.ask(one, 58)["overall_code"], "OK")
        # A host asks about a key from when it has counted it itself.
        self.assertEqual(self.ask(other, 2)["overall_code"], "OK")
        self.wait_for_remaining(one, 40)
        self.wait_for_remaining(other, 40)
        self.assertEqual(self.ask(other, 41)["overall_code"], "OVER_LIMIT")
        # What is denied is counted, there as well.
        self.wait_for_remaining(one, 0)
        self.assertEqual(self.ask(one, 1)["overall_code"], "OVER_LIMIT")

    def test_over_a_unix_socket(self):
        self.start_redis("--port", "0", "--unixsocket", self.path("redis"))
        self.share_a_limit(REDIS_SOCKET_TYPE="unix", REDIS_URL=self.path("redis"))

    def test_over_tcp_with_a_password(self):
        port = peer.free_port()
        peer.wait_for_port(port, self.start_redis("--port", str(port), "--requirepass", "s3cret"))
        self.share_a_limit(REDIS_SOCKET_TYPE="tcp", REDIS_URL=f"127.0.0.1:{port}",
                           REDIS_AUTH="s3cret")


if __name__ == "__main__":
    main()
