# SPDX-License-Identifier: Apache-2.0
"""What else envoyproxy/ratelimit is told by its environment: health, statistics, where people
look, how old connections become, what lines of a log look like; and what is told of variables
that have no use."""

import collections
import datetime
import fnmatch
import glob
import http.client
import json
import os
import re
import socket
import threading
import time

import http2
from support import PATIENCE_S, SOURCE, Service, grpc, load_messages, main
from test_rls import RULES, RlsTest, wire

health = load_messages("health")
SERVING = health.HealthCheckResponse.SERVING
NOT_SERVING = health.HealthCheckResponse.NOT_SERVING
RLS = "envoy.service.ratelimit.v3.RateLimitService"
PACKET_BYTES = 1432


class EnvironmentTest(RlsTest):
    HTTP = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")

    def serve_both(self, *options, said="Successfully loaded new configuration", **environment):
        """A service with gRPC and HTTP."""
        self.environment.update(environment)
        return Service(self, "--compat", "envoy", "--rules", self.rules, *options, first=said,
                       addresses=self.HTTP)

    def get(self, address, path):
        connection = http.client.HTTPConnection(*address.rsplit(":", 1), timeout=PATIENCE_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def wait_until(self, condition):
        until = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)


class Health(EnvironmentTest):
    def check(self, service, name):
        call = service.channel().unary_unary(
            "/grpc.health.v1.Health/Check", health.HealthCheckRequest.SerializeToString,
            health.HealthCheckResponse.FromString)
        return call(health.HealthCheckRequest(service=name), timeout=PATIENCE_S).status

    def watch(self, service, name):
        call = service.channel().unary_stream(
            "/grpc.health.v1.Health/Watch", health.HealthCheckRequest.SerializeToString,
            health.HealthCheckResponse.FromString)
        return call(health.HealthCheckRequest(service=name), timeout=PATIENCE_S)

    def pages(self, service):
        return [self.get(service.addresses[1], path)[0]
                for path in ("/healthcheck", "/readyz", "/healthz")]

    def test_waits_for_rules(self):
        """Not healthy before a configuration with a domain was loaded, nor when none is left."""
        self.write("nonsense: 1")
        service = self.serve_both(said="Error loading new configuration",
                                  HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED="true")
        for name, status in (("", NOT_SERVING), ("ratelimit", NOT_SERVING), (RLS, NOT_SERVING),
                             ("weir.v1.Limiter", SERVING)):
            self.assertEqual(self.check(service, name), status, name)
        self.assertEqual(self.pages(service), [500, 503, 200])
        watches = {name: self.watch(service, name)
                   for name in ("ratelimit", "weir.v1.Limiter", "nope")}
        self.assertEqual(next(watches["ratelimit"]).status, NOT_SERVING)
        self.assertEqual(next(watches["weir.v1.Limiter"]).status, SERVING)
        next(watches["nope"])

        self.write(RULES)
        self.assertEqual(next(watches["ratelimit"]).status, SERVING)
        self.assertEqual(self.check(service, ""), SERVING)
        self.assertEqual(self.pages(service), [200, 200, 200])

        # A bad one changes nothing, and one without a domain does.
        self.write("nonsense: 1")
        self.wait_until(lambda: 'config_load_error 2' in self.metrics(service))
        self.assertEqual(self.check(service, "ratelimit"), SERVING)
        os.unlink(os.path.join(self.rules, "shop.yaml"))
        self.assertEqual(next(watches["ratelimit"]).status, NOT_SERVING)
        self.assertEqual(self.pages(service), [500, 503, 200])
        # Those whose health was the same all along were told nothing meanwhile.
        service.process.terminate()
        self.assertEqual([answer.status for answer in self.rest(watches["weir.v1.Limiter"])],
                         [NOT_SERVING])
        self.assertEqual(self.rest(watches["nope"]), [])

    @staticmethod
    def rest(watch):
        """What is told until the service ends."""
        answers = []
        try:
            answers.extend(watch)
        except grpc.RpcError:
            pass
        return answers

    def metrics(self, service):
        return self.get(service.addresses[1], "/metrics")[1]

    def test_without_the_variable(self):
        self.write("nonsense: 1")
        service = self.serve_both(said="Error loading new configuration")
        self.assertEqual(self.check(service, "ratelimit"), SERVING)
        self.assertEqual(self.pages(service), [200, 200, 200])

    def test_that_program_has_no_health_without_rules(self):
        service = Service(self)
        self.assert_fails(grpc.StatusCode.NOT_FOUND, 'no service "ratelimit"', self.check, service,
                          "ratelimit")
        self.assertEqual(self.check(service, ""), SERVING)


class Statsd:
    """What arrives at a port: packets, and counters by name."""

    LINE = re.compile(r"(.*):(\d+)\|c(\|#.*)?")

    def __init__(self, kind, port=0):
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.lock = threading.Lock()
        self.packets = []
        self.counters = collections.Counter()
        self.tags = set()
        self.malformed = []
        if kind == socket.SOCK_DGRAM:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            target = self.receive
        else:
            self.socket.listen()
            target = self.accept
        threading.Thread(target=target, daemon=True).start()

    def receive(self):
        while True:
            packet = self.socket.recv(65536)
            self.packets.append(len(packet))
            for line in packet.decode().splitlines():
                self.take(line)

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            with connection, connection.makefile() as file:
                for line in file:
                    self.take(line.rstrip("\n"))

    def take(self, line):
        found = self.LINE.fullmatch(line)
        with self.lock:
            if not found:
                self.malformed.append(line)
                return
            self.counters[found[1]] += int(found[2])
            self.tags.add(found[3])

    def seen(self):
        with self.lock:
            return dict(self.counters)


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Statistics(EnvironmentTest):
    SENT = {"USE_STATSD": "true", "STATSD_HOST": "127.0.0.1", "STATS_FLUSH_INTERVAL": "20ms"}
    PREFIX = "ratelimit.service.rate_limit."

    def expected(self, service):
        """By the names of statsd, what /metrics tells."""
        text = self.get(service.addresses[1], "/metrics")[1]
        counters = {}
        for counter, labels, count in re.findall(
                r"^ratelimit_service_rate_limit_(\w+)\{(.*)\} (\d+)$", text, re.MULTILINE):
            key = ".".join(re.findall(r'\w+="((?:[^"\\]|\\.)*)"', labels))
            counters[f"{self.PREFIX}{key}.{counter}"] = int(count)
        for name in ("config_load_success", "config_load_error", "global_shadow_mode"):
            counters["ratelimit.service." + name] = int(
                re.search(rf"^ratelimit_service_{name} (\d+)$", text, re.MULTILINE)[1])
        return {name: count for name, count in counters.items() if count}

    def assert_told(self, statsd, service):
        """Everything arrives, once; /metrics may be a second old."""
        self.wait_until(lambda: statsd.seen() == self.expected(service))
        self.assertEqual(statsd.malformed, [])

    def test_udp(self):
        statsd = Statsd(socket.SOCK_DGRAM)
        self.write(RULES + "".join(
            f"- key: {'long' * 20}{i}\n  rate_limit: {{unit: year, requests_per_unit: 1}}\n"
            for i in range(100)))
        service = self.serve_both(STATSD_PORT=str(statsd.port), STATSD_PROTOCOL="udp", **self.SENT)
        for hits in (1, 4):
            for i in range(100):
                self.ask(service, ("user", f"u{i}"), ("long" * 20 + str(i), ""), hits=hits)
            self.assert_told(statsd, service)
        self.assertEqual(statsd.seen()[self.PREFIX + "shop.user.over_limit"], 200)
        self.assertLessEqual(max(statsd.packets), PACKET_BYTES)
        self.assertGreater(len(statsd.packets), 1)
        self.assertEqual(service.end(), "")

    def test_what_is_left_in_the_end(self):
        for kind, protocol in ((socket.SOCK_DGRAM, "udp"), (socket.SOCK_STREAM, "tcp")):
            with self.subTest(protocol):
                statsd = Statsd(kind)
                service = self.serve_both(**{
                    **self.SENT, "STATSD_PORT": str(statsd.port), "STATSD_PROTOCOL": protocol,
                    "STATS_FLUSH_INTERVAL": "1h", "EXTRA_TAGS": "region:eu.1,az:b,none:"})
                self.ask(service, ("user", protocol), hits=2)
                self.assertEqual(statsd.seen(), {})
                self.assertEqual(service.end(), "")
                tags = ".__az=b.__region=eu_1"
                self.wait_until(lambda: statsd.seen() == {
                    "ratelimit.service.config_load_success" + tags: 1,
                    self.PREFIX + "shop.user.total_hits" + tags: 2,
                    self.PREFIX + "shop.user.within_limit" + tags: 2})

    def test_dogstatsd(self):
        statsd = Statsd(socket.SOCK_DGRAM)
        service = self.serve_both(USE_DOG_STATSD="true", STATSD_PORT=str(statsd.port),
                                  EXTRA_TAGS="region:eu,az:b",
                                  **{**self.SENT, "USE_STATSD": "false"})
        self.ask(service, ("user", "ann"))
        self.assert_told(statsd, service)
        self.assertEqual(statsd.tags, {"|#az:b,region:eu"})

    def errors(self, service):
        return int(re.search(r"^weir_statsd_errors_total (\d+)$",
                             self.get(service.addresses[1], "/metrics")[1], re.MULTILINE)[1])

    def test_nothing_is_lost_while_nobody_listens(self):
        port = free_port(socket.SOCK_STREAM)
        service = self.serve_both(STATSD_PORT=str(port), **self.SENT)
        self.ask(service, ("user", "ann"), hits=2)
        service.expect(f"cannot send statistics to statsd at 127.0.0.1:{port}: Connection refused")
        self.ask(service, ("user", "bob"), hits=3)
        self.wait_until(lambda: self.errors(service) > 0)
        statsd = Statsd(socket.SOCK_STREAM, port)
        service.expect(f"statistics are sent to statsd at 127.0.0.1:{port} again")
        self.assert_told(statsd, service)
        self.assertEqual(statsd.seen()[self.PREFIX + "shop.user.total_hits"], 5)

    def test_a_host_that_is_not_there(self):
        # Longer than a name in DNS can be, so that nobody needs to be asked.
        host = "x" * 64
        service = self.serve_both(**{**self.SENT, "STATSD_HOST": host})
        self.ask(service, ("user", "ann"))
        service.expect(f"cannot send statistics to statsd at {host}:8125: Name or service not "
                       "known; what was counted is kept")
        service.end()

    def test_udp_to_nobody(self):
        """The first packet is lost, which the next one is told."""
        port = free_port(socket.SOCK_DGRAM)
        service = self.serve_both(STATSD_PORT=str(port), STATSD_PROTOCOL="udp", **self.SENT)
        self.wait_until(lambda: self.ask(service, ("user", "ann")) and self.errors(service) > 0)
        service.expect(f"cannot send statistics to statsd at 127.0.0.1:{port}: Connection refused")
        service.end()

    def test_bytes_that_would_end_a_line(self):
        self.write("domain: shop\ndescriptors:\n- key: user\n  detailed_metric: true\n"
                   "  rate_limit: {unit: year, requests_per_unit: 3}\n")
        statsd = Statsd(socket.SOCK_DGRAM)
        service = self.serve_both(STATSD_PORT=str(statsd.port), STATSD_PROTOCOL="udp", **self.SENT)
        self.ask(service, ("user", "a\nb:7|c\0d"))
        self.ask(service, ("user", "x" * 900))
        self.wait_until(lambda: statsd.seen().get(
            self.PREFIX + "shop.user_a_b_7_c_d.total_hits") == 1)
        self.assertEqual(statsd.malformed, [])

    def test_none_are_sent(self):
        statsd = Statsd(socket.SOCK_DGRAM)
        for settings in ({"DISABLE_STATS": "true"}, {"USE_STATSD": "false"},
                         {"USE_PROMETHEUS": "true", "USE_STATSD": ""}):
            environment = {**self.SENT, "STATSD_PORT": str(statsd.port),
                           "STATSD_PROTOCOL": "udp", "DISABLE_STATS": "false", **settings}
            service = self.serve_both(**environment)
            self.ask(service, ("user", "ann"))
            service.end()   # which would send them
        self.assertEqual(statsd.seen(), {})


class Addresses(EnvironmentTest):
    def test_where_prometheus_and_people_look(self):
        self.environment.update(
            GRPC_PORT="0", GRPC_HOST="127.0.0.1", HOST="127.0.0.1", PORT="0",
            USE_PROMETHEUS="true", PROMETHEUS_ADDR="127.0.0.1:0", PROMETHEUS_PATH="/stats/prom",
            DEBUG_HOST="127.0.0.1", DEBUG_PORT="0")
        service = Service(self, "--compat", "envoy", "--rules", self.rules, addresses=(),
                          first="Successfully loaded new configuration")
        addresses = []
        for kind in ("HTTP", "gRPC", "HTTP", "HTTP"):
            line = service.process.stderr.readline()
            addresses.append(re.match(rf"weir: serving {kind} on (\S+)$", line)[1])
        for address in (addresses[0], *addresses[2:]):
            self.assertIn("user", self.get(address, "/rlconfig")[1])
            for path in ("/stats/prom", "/metrics"):
                status, text = self.get(address, path)
                self.assertEqual(status, 200)
                self.assertIn("ratelimit_service_config_load_success 1\n", text)

    def test_log_levels(self):
        for level, lines in (("error", []), ("WARN", ["serving gRPC"]),
                             ("info", ["Successfully loaded", "serving gRPC"])):
            with self.subTest(level):
                self.write(RULES)
                self.environment["LOG_LEVEL"] = level
                path = os.path.join(self.directory, level)
                service = Service(self, "--compat", "envoy", "--rules", self.rules, "--grpc",
                                  "unix:" + path, addresses=())
                for line in lines:
                    service.expect(line)
                self.wait_until(lambda: os.path.exists(path))
                self.write("nonsense: 1")
                service.expect("Error loading new configuration")
                service.end()


class Logs(EnvironmentTest):
    """LOG_FORMAT=json: lines as envoyproxy/ratelimit writes them."""

    def told(self, line):
        """(level, message, time zone) of a line."""
        fields = json.loads(line, object_pairs_hook=list)
        self.assertEqual([name for name, _ in fields], ["@message", "@timestamp", "level"])
        (_, message), (_, timestamp), (_, level) = fields
        # Python knows microseconds.
        found = re.fullmatch(r"(.{19}\.\d{6})\d{3}(Z|[+-]\d\d:\d\d)", timestamp)
        self.assertIsNotNone(found, timestamp)
        when = datetime.datetime.fromisoformat(found[1] + found[2].replace("Z", "+00:00"))
        age = datetime.datetime.now(datetime.timezone.utc) - when
        self.assertLess(abs(age.total_seconds()), 2 * PATIENCE_S)
        return level, message, found[2]

    def serve_silently(self, **environment):
        self.environment.update(environment)
        return Service(self, "--compat", "envoy", "--rules", self.rules, addresses=())

    def test_all_lines(self):
        for zone, offset in (("UTC", "Z"), ("XST-5:30", "+05:30"), ("YST3", "-03:00")):
            with self.subTest(zone):
                self.write(RULES)
                service = self.serve_silently(LOG_FORMAT="JSON", TZ=zone, REDIS_POOL_SIZE="10",
                                              HOST="127.0.0.1", PORT="0", GRPC_HOST="127.0.0.1",
                                              GRPC_PORT="0")
                lines = [self.told(service.process.stderr.readline()) for _ in range(4)]
                self.assertEqual([level for level, _, _ in lines],
                                 ["warning", "info", "warning", "warning"])
                self.assertEqual({zone for _, _, zone in lines}, {offset})
                self.assertIn("REDIS_POOL_SIZE has no use here", lines[0][1])
                self.assertEqual(lines[1][1], "Successfully loaded new configuration")
                self.assertRegex(lines[2][1], r"^serving HTTP on 127\.0\.0\.1:\d+$")
                self.write('domain: d\ndescriptors: [{key: k, rate_limit: {unit: "ä\\\\\\""}}]')
                self.assertEqual(self.told(service.process.stderr.readline())[:2], (
                    "error", "Error loading new configuration: "
                    "shop.yaml: invalid rate limit unit 'ä\\\"'"))
                self.assertEqual(service.end(), "")

    def test_what_ends_it(self):
        for options in (("--compat", "envoy", "--rules", self.rules), ("--nonsense",)):
            line = self.refused(*options, LOG_FORMAT="json", SHADOW_MODE="yes")
            self.assertEqual(self.told(line)[0], "fatal")

    def test_text(self):
        service = self.serve_silently(LOG_FORMAT="xml")
        service.expect('weir: LOG_FORMAT is "xml", and lines are text; write json or text')
        service.expect("weir: Successfully loaded new configuration")


class Ages(EnvironmentTest):
    def test_an_old_connection_is_told_to_go(self):
        service = self.serve("--rules", self.rules, GRPC_MAX_CONNECTION_AGE="100ms")
        with http2.Client(service.address) as client:
            ping = client.until(http2.PING)
            self.assertEqual(client.until(http2.GOAWAY)[3][:4], b"\x7f\xff\xff\xff")
            # A call that was begun meanwhile is answered.
            client.send(http2.frame(http2.HEADERS, http2.END_HEADERS, 1,
                                    http2.request_headers(wire.METHOD.encode())))
            client.send(http2.frame(http2.DATA, http2.END_STREAM, 1, http2.message(b"")))
            client.send(http2.frame(http2.PING, http2.ACK, 0, ping[3]))
            kinds = {(kind, stream) for kind, _, stream, _ in iter(client.frame, None)}
            self.assertEqual(kinds, {(http2.GOAWAY, 0), (http2.HEADERS, 1)})

    def test_and_cut_off_after_its_grace(self):
        """Not the one whose client goes, but the one that stays."""
        service = self.serve("--rules", self.rules, "--max-connection-age", "0",
                             GRPC_MAX_CONNECTION_AGE="1ms")
        channel = service.channel()
        self.assertEqual(self.ask(service, ("user", "ann"))["overall_code"], "OK")
        watch = self.watch(channel)
        next(watch)     # it is as old as it wants: the option goes before the variable
        service.end()
        service = self.serve("--rules", self.rules, GRPC_MAX_CONNECTION_AGE="50ms",
                             GRPC_MAX_CONNECTION_AGE_GRACE="50ms")
        watch = self.watch(service.channel())
        with self.assertRaises(grpc.RpcError) as caught:
            list(watch)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(self.ask(service, ("user", "ann"))["overall_code"], "OK")

    @staticmethod
    def watch(channel):
        return channel.unary_stream(
            "/grpc.health.v1.Health/Watch", health.HealthCheckRequest.SerializeToString,
            health.HealthCheckResponse.FromString)(health.HealthCheckRequest(), timeout=PATIENCE_S)


class Words(EnvironmentTest):
    def test_what_has_no_use_is_told(self):
        for name, value, says in (
                ("LOCAL_CACHE_SIZE_IN_BYTES", "9999", "each answer comes from memory"),
                ("EXPIRATION_JITTER_MAX_SECONDS", "300", "no keys expire in Redis"),
                ("REDIS_POOL_SIZE", "10", "a connection or two are enough"),
                ("REDIS_PERSECOND", "true", "limits per second are exchanged"),
                ("TRACING_ENABLED", "T", "no traces are sent")):
            with self.subTest(name):
                self.environment[name] = value
                Service(self, "--compat", "envoy", "--rules", self.rules, addresses=(),
                        first=f"{name} has no use here: {says}").process.kill()
                del self.environment[name]
        service = self.serve("--rules", self.rules, LOCAL_CACHE_SIZE_IN_BYTES="0",
                             TRACING_ENABLED="false", LOG_FORMAT="text",
                             FORCE_START_WITHOUT_INITIAL_CONFIG="true")
        self.assertEqual(service.end(), "")

    def test_the_document_names_all(self):
        with open(os.path.join(SOURCE, "docs", "envoy.md"), encoding="utf-8") as file:
            documented = set(re.findall(r"`([A-Z][A-Z_*]+)(?:=\w+)?`", file.read()))
        read = set()
        for path in glob.glob(os.path.join(SOURCE, "serve", "environment*.c")):
            with open(path, encoding="utf-8") as file:
                read.update(re.findall(r'"([A-Z]+(?:_[A-Z]+)+|HOST|PORT)"', file.read()))
        self.assertGreater(len(read), 60)
        self.assertEqual({name for name in read if not any(
            fnmatch.fnmatch(name, each) for each in documented)}, set())

    def test_mistakes(self):
        for name, value, says in (
                ("GRPC_MAX_CONNECTION_AGE", "1 day", 'is "1 day", which is no duration; write one'),
                ("GRPC_MAX_CONNECTION_AGE", "10", "no duration"),
                ("GRPC_MAX_CONNECTION_AGE_GRACE", "-1s", "no duration"),
                ("GRPC_MAX_CONNECTION_AGE_GRACE", "1.2.3s", "no duration"),
                ("GRPC_MAX_CONNECTION_AGE_GRACE", "999999999h", "no duration"),
                ("STATS_FLUSH_INTERVAL", "0", "write 1ms or more"),
                ("STATS_FLUSH_INTERVAL", "s", "no duration"),
                ("STATSD_PORT", "65536", "STATSD_PORT"),
                ("STATSD_PROTOCOL", "sctp", "write tcp or udp"),
                ("EXTRA_TAGS", "region", "as key:value,key:value"),
                ("USE_DOG_STATSD", "true", "USE_STATSD and USE_DOG_STATSD are both true"),
                ("PROMETHEUS_PATH", "metrics", "write a path, such as /metrics"),
                ("LOG_LEVEL", "loud", "write error, warn, info or debug"),
                ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "yes", "write true or false"),
                ("FORCE_START_WITHOUT_INITIAL_CONFIG", "no", "write true or false"),
                ("REDIS_SOCKET_TYPE", "pipe", "write tcp or unix")):
            with self.subTest(name=name, value=value):
                self.assertIn(says, self.refused("--compat", "envoy", "--rules", self.rules,
                                                 **{"USE_STATSD": "true", name: value}))
        for name in ("LIMIT_LIMIT_HEADER", "LIMIT_REMAINING_HEADER", "LIMIT_RESET_HEADER"):
            self.assertIn(f"{name} has 0 bytes; write the name of a header", self.refused(
                "--compat", "envoy", "--rules", self.rules, LIMIT_RESPONSE_HEADERS_ENABLED="true",
                **{name: ""}))
            for value in ("a b", "a:", "a\r\nb", "\u00e9"):
                self.assertIn("which is no name of a header", self.refused(
                    "--compat", "envoy", "--rules", self.rules,
                    LIMIT_RESPONSE_HEADERS_ENABLED="true", **{name: value}))
        tls = {"GRPC_SERVER_USE_TLS": "true", "GRPC_CLIENT_TLS_SAN": "envoy"}
        for says, name in (("no certificate; set GRPC_SERVER_TLS_CERT", "GRPC_SERVER_TLS_CERT"),
                           ("no key; set GRPC_SERVER_TLS_CERT", "GRPC_SERVER_TLS_KEY"),
                           ("nothing says who may sign", "")):
            self.assertIn(says, self.refused("--compat", "envoy", "--rules", self.rules, **tls))
            tls[name or "unused"] = "file"


if __name__ == "__main__":
    main()
