# SPDX-License-Identifier: Apache-2.0
"""Programs that others wrote: grpcurl, ghz and grpc-health-probe.

`tools/setup clients` installs them; what is not there is skipped.
"""

import base64
import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "envoy"))

from support import PATIENCE_S, SKIPPED, ServeTest, Service, main  # noqa: E402
import peer  # noqa: E402

GRPCURL = peer.find_client("grpcurl", "WEIR_GRPCURL")
GHZ = peer.find_client("ghz", "WEIR_GHZ")
PROBE = peer.find_client("grpc-health-probe", "WEIR_GRPC_HEALTH_PROBE")
if not (GRPCURL or GHZ or PROBE):
    print("grpcurl, ghz and grpc-health-probe are not installed (tools/setup clients): skipped")
    sys.exit(SKIPPED)


class Clients(ServeTest):
    POLICIES = (("api", "1000000/365d"),)

    def setUp(self):
        super().setUp()
        rules = os.path.join(self.directory, "rules")
        os.mkdir(rules)
        with open(os.path.join(rules, "edge.yaml"), "w", encoding="utf-8") as file:
            file.write("domain: edge\ndescriptors:\n- key: user\n"
                       "  rate_limit: {unit: year, requests_per_unit: 2}\n")
        self.service = Service(self, "--compat", "envoy", "--rules", rules,
                               first="Successfully loaded new configuration")

    def run_client(self, *command, status=0):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S * 2,
                              check=False)
        self.assertEqual(done.returncode, status, done.stdout)
        return done.stdout

    @unittest.skipUnless(GRPCURL, "grpcurl is not installed")
    def test_grpcurl(self):
        """It knows no .proto: it asks for them by reflection."""
        def ask(*words, status=0):
            return self.run_client(GRPCURL, "-plaintext", *words, status=status)

        services = ask(self.service.address, "list").split()
        for name in ("weir.v1.Limiter", "grpc.health.v1.Health",
                     "envoy.service.ratelimit.v3.RateLimitService"):
            self.assertIn(name, services)
        self.assertIn("rpc AllowBatch", ask(self.service.address, "describe", "weir.v1.Limiter"))
        self.assertIn("hits_addend", ask(self.service.address, "describe",
                                         "envoy.service.ratelimit.v3.RateLimitRequest"))
        key = base64.b64encode(b"k\x00").decode()
        answer = json.loads(ask("-d", json.dumps({"policy": "api", "key": key, "cost": 3}),
                                self.service.address, "weir.v1.Limiter/AllowN"))
        self.assertEqual(answer["decision"]["remaining"], "999997")
        request = json.dumps({"domain": "edge", "descriptors": [
            {"entries": [{"key": "user", "value": "ann"}]}]})
        codes = [json.loads(ask("-d", request, self.service.address,
                                "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"))
                 ["overallCode"] for _ in range(3)]
        self.assertEqual(codes, ["OK", "OK", "OVER_LIMIT"])
        failed = ask("-d", '{"policy": "nobody", "key": "aw=="}', self.service.address,
                     "weir.v1.Limiter/Allow", status=69)
        self.assertIn("NotFound", failed)
        self.assertIn("nobody", failed)

    @unittest.skipUnless(GHZ, "ghz is not installed")
    def test_ghz(self):
        """Twenty thousand calls on ten connections: each is answered, each is counted."""
        report = json.loads(self.run_client(
            GHZ, "--insecure", "--call", "weir.v1.Limiter/Allow", "-d",
            json.dumps({"policy": "api", "key": base64.b64encode(b"ghz").decode()}), "-n", "20000",
            "-c", "50", "--connections", "10", "-O", "json", self.service.address))
        self.assertEqual(report["count"], 20000)
        self.assertEqual(report["statusCodeDistribution"], {"OK": 20000})
        left = json.loads(self.weir("--json", "status", "api", "ghz"))["remaining"]
        # A refill or two: a token each 31 seconds.
        self.assertLess(left - (1000000 - 20000), 10)

    @unittest.skipUnless(PROBE, "grpc-health-probe is not installed")
    def test_health_probe(self):
        def probe(*words, status=0):
            return self.run_client(PROBE, "-addr", self.service.address, "-connect-timeout", "30s",
                                   "-rpc-timeout", "30s", *words, status=status)

        self.assertIn("SERVING", probe())
        self.assertIn("SERVING", probe("-service", "weir.v1.Limiter"))
        self.assertIn("NotFound", probe("-service", "no.such.Service", status=3))
        self.service.process.send_signal(signal.SIGTERM)
        self.service.process.wait(PATIENCE_S)
        self.run_client(PROBE, "-addr", self.service.address, "-connect-timeout", "250ms", status=2)


if __name__ == "__main__":
    main()
