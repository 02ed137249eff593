# SPDX-License-Identifier: Apache-2.0
"""Envoy's rate limit protocol: what reaches a client, and how the service is told what to
do.  tests/envoy compares the answers with those of envoyproxy/ratelimit."""

import os
import pathlib
import subprocess
import sys
import threading
import time

from support import PATIENCE_S, SERVICE, ServeTest, Service, grpc, main

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "envoy"))

import wire  # noqa: E402

RULES = """domain: shop
descriptors:
- key: user
  rate_limit: {unit: year, requests_per_unit: 3, name: few}
- key: free
  rate_limit: {unlimited: true}
"""


class RlsTest(ServeTest):
    def setUp(self):
        super().setUp()
        self.rules = os.path.join(self.directory, "rules")
        os.mkdir(self.rules)
        self.write(RULES)

    def write(self, text, name="shop.yaml"):
        new = os.path.join(self.directory, "new")
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(new, os.path.join(self.rules, name))

    def serve(self, *options, compat="envoy", said="Successfully loaded new configuration",
              **environment):
        """A service with rules, which says SAID first."""
        self.environment.update(environment)
        return Service(self, "--compat", compat, *options, first=said)

    def refused(self, *options, **environment):
        """What it says when it does not start."""
        done = subprocess.run([SERVICE, "--segment", self.segment, *options],
                              env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, 2, done.stdout)
        return done.stdout

    def call(self, service, request=None, raw=None):
        method = service.channel().unary_unary(
            wire.METHOD, request_serializer=None, response_deserializer=wire.decode_response)
        return method(raw if raw is not None else wire.encode_request(request),
                      timeout=PATIENCE_S)

    def ask(self, service, *entries, domain="shop", hits=0):
        return self.call(service, {"domain": domain, "hits": hits, "descriptors": [
            {"entries": [entry]} for entry in entries]})

    def assert_error(self, status, details, function, *arguments, **named):
        with self.assertRaises(grpc.RpcError) as caught:
            function(*arguments, **named)
        self.assertEqual((caught.exception.code(), caught.exception.details()),
                         (status, details))


class Answers(RlsTest):
    def test_counts_and_denies(self):
        service = self.serve("--rules", self.rules)
        answer = self.ask(service, ("user", "ann"), ("free", ""), ("other", "x"), hits=2)
        first, free, other = answer["statuses"]
        self.assertEqual(answer["overall_code"], "OK")
        self.assertEqual(first["current_limit"],
                         {"requests_per_unit": 3, "unit": 6, "name": "few", "more": {}})
        self.assertEqual(first["limit_remaining"], 1)
        self.assertTrue(0 < first["duration_until_reset"] <= 365 * 86400)
        self.assertEqual(free, {"code": "OK", "limit_remaining": 2 ** 32 - 1, "more": {}})
        self.assertEqual(other, {"code": "OK", "limit_remaining": 0, "more": {}})
        self.assertEqual(self.ask(service, ("user", "ann"), hits=2)["overall_code"], "OVER_LIMIT")
        self.assertEqual(self.ask(service, ("user", "bob"))["overall_code"], "OK")

    def test_strict_spends_nothing_on_what_it_denies(self):
        service = self.serve("--rules", self.rules, compat="strict")
        self.assertEqual(self.ask(service, ("user", "ann"), hits=2)["overall_code"], "OK")
        self.assertEqual(self.ask(service, ("user", "ann"), hits=2)["overall_code"], "OVER_LIMIT")
        self.assertEqual(self.ask(service, ("user", "ann"))["overall_code"], "OK")

    def test_errors(self):
        service = self.serve("--rules", self.rules)
        unknown = grpc.StatusCode.UNKNOWN
        self.assert_error(unknown, "rate limit domain must not be empty", self.ask, service,
                          ("user", "ann"), domain="")
        self.assert_error(unknown, "rate limit descriptor list must not be empty", self.ask,
                          service)
        self.assert_error(unknown, "a descriptor's limit has unit 8, which does not exist; send "
                          "1 (SECOND) to 7 (WEEK)", self.call, service,
                          {"domain": "shop", "descriptors": [{"entries": [], "limit": (1, 8)}]})
        self.assert_error(
            grpc.StatusCode.INTERNAL,
            "grpc: error unmarshalling request: string field contains invalid UTF-8",
            self.call, service, raw=wire.bytes_field(1, b"\xff"))
        for malformed in (b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xe2\x82"):
            entry = wire.bytes_field(1, b"k") + wire.bytes_field(2, malformed)
            descriptor = wire.bytes_field(1, entry)
            with self.assertRaises(grpc.RpcError):
                self.call(service, raw=wire.bytes_field(1, b"shop") +
                          wire.bytes_field(2, wire.bytes_field(1, descriptor)))

    def test_bytes_of_any_kind(self):
        """A zero byte does not end a value."""
        service = self.serve("--rules", self.rules)
        self.ask(service, ("user", "a\0b"), hits=3)
        self.assertEqual(self.ask(service, ("user", "a\0c"))["overall_code"], "OK")
        self.assertEqual(self.ask(service, ("user", "a"))["overall_code"], "OK")
        self.assertEqual(self.ask(service, ("user", "a\0b"))["overall_code"], "OVER_LIMIT")
        self.assertEqual(self.ask(service, ("user", "\U0010ffff\u20ac"))["overall_code"], "OK")

    def test_without_rules(self):
        service = Service(self)
        self.assert_error(grpc.StatusCode.FAILED_PRECONDITION,
                          "the service was started without rules; start it with --compat, and a "
                          "directory of them", self.ask, service, ("user", "ann"))

    def test_buckets_outlive_the_service(self):
        service = self.serve("--rules", self.rules)
        self.ask(service, ("user", "ann"), hits=3)
        service.end()
        service = self.serve("--rules", self.rules)
        self.assertEqual(self.ask(service, ("user", "ann"))["overall_code"], "OVER_LIMIT")


class Reloading(RlsTest):
    def wait_until(self, condition):
        until = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), until)

    def limit(self, service):
        status = self.ask(service, ("user", "eve"))["statuses"][0]
        return status.get("current_limit", {}).get("requests_per_unit")

    def test_a_change_is_noticed_and_a_bad_one_left_alone(self):
        service = self.serve("--rules", self.rules)
        self.assertEqual(self.limit(service), 3)
        self.write(RULES.replace(": 3", ": 7"))
        self.wait_until(lambda: self.limit(service) == 7)
        service.expect("Successfully loaded new configuration")
        self.write("domain: shop\ndescriptors: [{}]")
        service.expect("weir: Error loading new configuration: shop.yaml: descriptor has empty "
                       "key\n")
        self.assertEqual(self.limit(service), 7)

    def test_starts_without_a_configuration(self):
        self.write("nonsense: 1")
        service = self.serve("--rules", self.rules, said="Error loading new configuration: "
                             "shop.yaml: config error, unknown key 'nonsense'")
        self.assert_error(grpc.StatusCode.UNKNOWN, "no rate limit configuration loaded", self.ask,
                          service, ("user", "ann"))
        self.write(RULES)
        service.expect("Successfully loaded new configuration")
        self.assertEqual(self.limit(service), 3)

    def test_what_inotify_does_not_tell(self):
        """The target of a symlink, and a directory that comes with those above it."""
        elsewhere = os.path.join(self.directory, "elsewhere.yaml")
        place = os.path.join(self.rules, "shop.yaml")
        os.rename(place, elsewhere)
        os.symlink(elsewhere, place)
        linked = self.serve("--rules", self.rules)
        above = os.path.join(self.directory, "a")
        late = os.path.join(above, "b", "late")
        missing = self.serve("--rules", late, said="cannot read the directory " + late)

        def appear(number):
            os.makedirs(os.path.join(self.directory, "made", "b", "late"))
            self.write(RULES.replace(": 3", f": {number}"), "../made/b/late/shop.yaml")
            os.rename(os.path.join(self.directory, "made"), above)

        self.write(RULES.replace(": 3", ": 7"), elsewhere)
        appear(7)
        for service in (linked, missing):
            service.expect("Successfully loaded new configuration")
            self.assertEqual(self.limit(service), 7)
        os.rename(above, above + ".gone")
        missing.expect("cannot read the directory")
        self.assertEqual(self.limit(missing), 7)
        appear(8)
        missing.expect("Successfully loaded new configuration")
        self.assertEqual(self.limit(missing), 8)

    def test_nobody_sees_half_of_a_reload(self):
        text = "domain: shop\ndescriptors:\n- {{key: a, rate_limit: {{unit: day, " \
               "requests_per_unit: {0}}}}}\n- {{key: b, rate_limit: {{unit: day, " \
               "requests_per_unit: {0}}}}}\n"
        self.write(text.format(1000))
        service = self.serve("--rules", self.rules)
        over = threading.Event()
        seen = set()

        def look():
            while not over.is_set():
                answer = self.ask(service, ("a", "x"), ("b", "x"))
                seen.add(tuple(status["current_limit"]["requests_per_unit"]
                               for status in answer["statuses"]))

        thread = threading.Thread(target=look)
        thread.start()
        for number in range(1001, 1006):
            self.write(text.format(number))
            self.wait_until(lambda: (number, number) in seen)
        over.set()
        thread.join()
        self.assertEqual({pair for pair in seen if pair[0] != pair[1]}, set())


class Checking(RlsTest):
    """--check-rules: as the service would read them, without one."""

    def check(self, *options, status=0, **environment):
        options = options or ("--compat", "envoy", "--rules", self.rules)
        segment = self.segment + "-none"
        done = subprocess.run([SERVICE, "--check-rules", "--segment", segment, "--create",
                               *options],
                              env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, status, done)
        self.assertFalse([name for name in os.listdir(self.directory) if "-none" in name])
        return done.stderr if status else done.stdout

    def test_good_and_bad(self):
        self.assertEqual(self.check(), "The rules of 1 domain are good.\n")
        self.write(RULES, "twice.yaml")
        self.assertEqual(self.check(status=2),
                         "weir: twice.yaml: duplicate domain 'shop' in config file\n")
        self.assertIn("twice.yaml: duplicate descriptor composite key 'shop.user'",
                      self.check(status=2, MERGE_DOMAIN_CONFIG="true"))
        self.write("domain: other\ndescriptors: [{key: a, value: x*y, metadata: {a: 1}}]",
                   "twice.yaml")
        self.assertEqual(self.check(), "The rules of 2 domains are good.\n")
        self.assertIn("unknown key 'metadata'", self.check(
            "--compat", "envoy-2026-01", "--rules", self.rules, status=2))

    def test_where_they_are(self):
        here = {"RUNTIME_ROOT": self.directory, "RUNTIME_APPDIRECTORY": "rules"}
        self.assertIn("1 domain", self.check("--compat", "strict", **here))
        self.write("domain: [", "bad.yaml")
        self.assertIn("weir: rules.bad.yaml: error loading config file", self.check(
            "--compat", "strict", status=2, **here))
        self.assertIn("cannot read the directory", self.check(
            "--compat", "envoy", "--rules", self.rules + "/none", status=2))
        self.assertIn("only with --compat", self.check("--rules", self.rules, status=2))


class Environment(RlsTest):
    def test_says_what_it_says_to_envoyproxy_ratelimit(self):
        os.makedirs(os.path.join(self.directory, "root", "sub"))
        os.rename(self.rules, os.path.join(self.directory, "root", "sub", "limits"))
        service = self.serve(
            RUNTIME_ROOT=os.path.join(self.directory, "root"), RUNTIME_SUBDIRECTORY="sub",
            RUNTIME_APPDIRECTORY="limits", LIMIT_RESPONSE_HEADERS_ENABLED="true",
            LIMIT_REMAINING_HEADER="X-Left", RESPONSE_DYNAMIC_METADATA="T", SHADOW_MODE="1")
        answer = self.ask(service, ("user", "ann"), hits=5)
        self.assertEqual((answer["overall_code"], answer["statuses"][0]["code"]),
                         ("OK", "OVER_LIMIT"))
        self.assertEqual([header[:2] for header in answer["response_headers_to_add"]][:2],
                         [("RateLimit-Limit", "3"), ("X-Left", "0")])
        self.assertEqual(answer["dynamic_metadata"], {
            "domain": "shop", "descriptors": [{"entries": ["user=ann"]}], "hitsAddend": 5})

    def test_listens_where_it_would(self):
        socket = os.path.join(self.directory, "grpc")
        self.environment.update(GRPC_UDS=socket, HOST="127.0.0.1", PORT="0")
        service = Service(self, "--compat", "envoy", "--rules", self.rules, addresses=(),
                          first="Successfully loaded new configuration")
        service.expect("serving HTTP on 127.0.0.1:")
        service.expect("serving gRPC on unix:" + socket)
        service.address = "unix:" + socket
        self.assertEqual(self.ask(service, ("user", "ann"))["overall_code"], "OK")

    def test_names_files_by_their_directory(self):
        os.makedirs(os.path.join(self.directory, "root", "sub"))
        self.write("nonsense: 1")
        os.rename(self.rules, os.path.join(self.directory, "root", "sub", "config"))
        self.serve(said="config.shop.yaml: config error, unknown key 'nonsense'",
                   RUNTIME_ROOT=os.path.join(self.directory, "root"),
                   RUNTIME_SUBDIRECTORY="sub")

    def test_mistakes_are_told(self):
        for name, value, sentence in (
                ("SHADOW_MODE", "yes", 'SHADOW_MODE is "yes"; write true or false'),
                ("NEAR_LIMIT_RATIO", "2", 'NEAR_LIMIT_RATIO is "2"; write a number from 0 to 1, '
                 "such as 0.8"),
                ("CONFIG_TYPE", "GRPC_XDS_SOTW", 'CONFIG_TYPE is "GRPC_XDS_SOTW"; write FILE, and '
                 "give the rules as files (RUNTIME_ROOT or --rules)"),
                ("BACKEND_TYPE", "memcache", 'BACKEND_TYPE is "memcache"; write redis: '),
                ("REDIS_TYPE", "CHAIN", 'REDIS_TYPE is "CHAIN"; write SINGLE, SENTINEL or CLUSTER'),
                ("REDIS_TYPE", "sentinel", "write MASTER,HOST:PORT,HOST:PORT"),
                ("REDIS_TLS", "maybe", 'REDIS_TLS is "maybe"; write true or false'),
                # What is put together is a URL of Redis: the segment has no room for sync.
                ("REDIS_TYPE", "CLUSTER", "no room for sync"),
                ("REDIS_AUTH", "user:password", "no room for sync"),
        ):
            with self.subTest(name=name, value=value):
                environment = {"REDIS_SOCKET_TYPE": "tcp", "REDIS_URL": "127.0.0.1:1", name: value}
                said = self.refused("--compat", "envoy", "--rules", self.rules, **environment)
                self.assertIn(sentence, said)
        for url, kind, more in (
                ("mymaster,127.0.0.1:1,127.0.0.1:2", "SENTINEL", {"REDIS_SENTINEL_AUTH": "a&b=c#"}),
                ("mymaster,127.0.0.1:1", "SENTINEL", {"REDIS_TLS": "true", "REDIS_TLS_CACERT":
                                                      "/ca", "REDIS_AUTH": "user:p@ss:w/rd#1?%"}),
                ("127.0.0.1:1,127.0.0.1:2", "CLUSTER", {"REDIS_TLS": "true"}),
                ("127.0.0.1:1", "", {"REDIS_TLS": "true", "REDIS_TLS_CLIENT_CERT": "/c",
                                     "REDIS_TLS_CLIENT_KEY": "/k"}),
                ("/run/nowhere.sock", "", {"REDIS_AUTH": "p@ss:"}),
                ("redis://127.0.0.1:1", "", {})):
            with self.subTest(url):
                said = self.refused("--compat", "envoy", "--rules", self.rules, REDIS_URL=url,
                                    REDIS_TYPE=kind or "SINGLE", **more)
                self.assertIn("no room for sync", said)
        self.assertIn("give --compat", self.refused("--rules", self.rules))


if __name__ == "__main__":
    main()
