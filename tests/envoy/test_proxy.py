# SPDX-License-Identifier: Apache-2.0
"""Envoy itself, with its rate limit filter in front of an upstream, asks the service.

`tools/setup clients` installs it; WEIR_ENVOY names the program, if it is elsewhere.
"""

import base64
import http.client
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "serve"), str(HERE)]

from support import PATIENCE_S, SKIPPED, ServeTest, Service, main  # noqa: E402
import peer  # noqa: E402

ENVOY = peer.find_client("envoy", "WEIR_ENVOY")
if not ENVOY:
    print("Envoy is not installed (tools/setup clients): skipped")
    sys.exit(SKIPPED)

RULES = """domain: edge
descriptors:
- key: user
  rate_limit: {unit: year, requests_per_unit: 3, name: few}
- key: shadow
  shadow_mode: true
  rate_limit: {unit: year, requests_per_unit: 1}
- key: path
  rate_limit: {unit: year, requests_per_unit: 10}
  descriptors:
  - key: user
    rate_limit: {unit: year, requests_per_unit: 2}
- key: tokens
  rate_limit: {unit: year, requests_per_unit: 10}
"""


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments):
        pass


def header(name, key):
    return {"request_headers": {"header_name": name, "descriptor_key": key}}


def value_with_limit(requests, unit):
    """A google.protobuf.Value with a struct of the two, for header_to_metadata."""
    def field(number, payload):
        return bytes([number << 3 | 2, len(payload)]) + payload

    def entry(name, value):
        return field(1, field(1, name) + field(2, value))

    import struct
    number = bytes([2 << 3 | 1]) + struct.pack("<d", requests)
    fields = entry(b"requests_per_unit", number) + entry(b"unit", field(3, unit.encode()))
    return base64.b64encode(field(5, fields)).decode()


def configuration(upstream_port, socket_path, deny_when_away):
    """Envoy with one listener.  Each action of the route makes a descriptor of its own."""
    limits = [
        {"actions": [header("x-user", "user")]},
        {"actions": [header("x-shadow", "shadow")]},
        {"actions": [header("x-path", "path"), header("x-user", "user")]},
        {"actions": [header("x-own", "own")],
         "limit": {"dynamic_metadata": {"metadata_key": {
             "key": "limits", "path": [{"key": "own"}]}}}},
    ]
    # Envoy takes hits of descriptors here alone, and here they stand instead of the others.
    costly = [{"actions": [header("x-tokens", "tokens")],
               "hits_addend": {"format": "%REQ(x-cost)%"}}]
    to_metadata = {
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [{"header": "x-limit", "on_header_present": {
                "metadata_namespace": "limits", "key": "own", "type": "PROTOBUF_VALUE",
                "encode": "BASE64"}}]}}
    rate_limit = {
        "name": "envoy.filters.http.ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
            "domain": "edge", "timeout": "30s", "failure_mode_deny": deny_when_away,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "rate_limit_service": {"transport_api_version": "V3", "grpc_service": {
                "envoy_grpc": {"cluster_name": "weir"}, "timeout": "30s"}}}}
    router = {"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
                 ".HttpConnectionManager",
        "stat_prefix": "edge", "http_filters": [to_metadata, rate_limit, router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/costly"}, "route": {"cluster": "upstream"},
             "typed_per_filter_config": {"envoy.filters.http.ratelimit": {
                 "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3"
                          ".RateLimitPerRoute", "rate_limits": costly}}},
            {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "rate_limits": limits}}]}]}}

    def cluster(name, address, **more):
        return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
            "cluster_name": name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address}}]}]}, **more}

    def local(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    h2c = {"typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}}}
    return {
        "admin": {"address": local(0)},
        "static_resources": {
            "listeners": [{"name": "edge", "address": local(0), "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager",
                 "typed_config": manager}]}]}],
            "clusters": [cluster("upstream", local(upstream_port)),
                         cluster("weir", {"pipe": {"path": socket_path}}, **h2c)]}}


class Proxy(ServeTest):
    def setUp(self):
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)        # paths of unix sockets are short
        self.rules = os.path.join(self.directory, "rules")
        os.mkdir(self.rules)
        self.write_rules(RULES)
        self.upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        self.upstream.daemon_threads = True
        threading.Thread(target=self.upstream.serve_forever, daemon=True).start()
        self.addCleanup(self.upstream.server_close)
        self.addCleanup(self.upstream.shutdown)
        self.start_service()
        self.start_envoy()

    def write_rules(self, text):
        with open("new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename("new", os.path.join(self.rules, "edge.yaml"))

    def start_service(self, *options):
        self.service = Service(self, "--compat", "envoy", "--rules", self.rules, *options,
                               addresses=("--grpc", "unix:socket"),
                               first="Successfully loaded new configuration")

    def start_envoy(self, deny_when_away=False):
        with open("envoy.json", "w", encoding="utf-8") as file:
            json.dump(configuration(self.upstream.server_address[1],
                                    os.path.join(self.directory, "socket"), deny_when_away), file)
        if os.path.exists("admin"):
            os.unlink("admin")
        log = open("envoy.log", "wb")   # pylint: disable=consider-using-with
        self.addCleanup(log.close)
        self.envoy = subprocess.Popen(
            [ENVOY, "-c", "envoy.json", "--admin-address-path", "admin", "--concurrency", "1",
             "--disable-hot-restart", "--log-level", "warning"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=peer.die_with_the_test)
        self.addCleanup(self.envoy.wait)
        self.addCleanup(self.envoy.kill)
        self.port = int(self.admin("/listeners").rsplit(":", 1)[1])

    def stop_envoy(self):
        self.envoy.kill()
        self.envoy.wait()

    def admin(self, path):
        """What Envoy says of itself, once it does."""
        for _ in range(PATIENCE_S * 100):
            if self.envoy.poll() is not None:
                break
            try:
                with open("admin", encoding="ascii") as file:
                    host, port = file.read().strip().rsplit(":", 1)
                client = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
                client.request("GET", path)
                answer = client.getresponse()
                text = answer.read().decode().strip()
                client.close()
                if answer.status == 200 and ":" in text and not text.endswith(":0"):
                    return text
            except (OSError, ValueError):
                pass
            threading.Event().wait(0.01)
        with open("envoy.log", encoding="utf-8", errors="replace") as file:
            return self.fail(file.read()[-4000:])

    def get(self, **headers):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        client.request("GET", "/costly" if "cost" in headers else "/", headers={"x-" + name: value for name, value in headers.items()})
        answer = client.getresponse()
        answer.text = answer.read()
        client.close()
        return answer

    def statuses(self, count, **headers):
        return [self.get(**headers).status for _ in range(count)]

    def test_allowed_and_limited(self):
        self.assertEqual(self.statuses(4, user="ann"), [200, 200, 200, 429])
        limited = self.get(user="ann")
        self.assertEqual(limited.headers["x-envoy-ratelimited"], "true")
        self.assertEqual(limited.text, b"")
        self.assertEqual(self.statuses(2, user="bob"), [200, 200])
        # What makes no descriptor is not asked.
        self.assertEqual(self.statuses(5), [200] * 5)

    def test_headers_of_envoy(self):
        answer = self.get(user="ann")
        year = 365 * 86400
        self.assertEqual(answer.headers["x-ratelimit-limit"], f'3, 3;w={year};name="few"')
        self.assertEqual(answer.headers["x-ratelimit-remaining"], "2")
        self.assertTrue(0 < int(answer.headers["x-ratelimit-reset"]) <= year)

    def test_several_descriptors(self):
        self.assertEqual(self.statuses(3, user="ann", path="/a"), [200, 200, 429])
        # The rule of the user alone has counted these, too.
        self.assertEqual(self.statuses(2, user="ann"), [429, 429])
        self.assertEqual(self.statuses(1, user="bob", path="/a"), [200])

    def test_shadow_mode(self):
        self.assertEqual(self.statuses(3, shadow="s"), [200] * 3)

    def test_limits_of_requests(self):
        limit = value_with_limit(2, "HOUR")
        self.assertEqual(self.statuses(3, own="k", limit=limit), [200, 200, 429])
        # The same counter, by another limit.
        self.assertEqual(self.statuses(1, own="k", limit=value_with_limit(5, "HOUR")), [200])
        self.assertEqual(self.statuses(3, own="other"), [200] * 3)

    def test_hits(self):
        self.assertEqual(self.statuses(3, tokens="t", cost="4"), [200, 200, 429])

    def test_reload(self):
        self.assertEqual(self.statuses(4, user="ann"), [200, 200, 200, 429])
        self.write_rules("domain: edge\ndescriptors: [{key: user, rate_limit: {unit: eon}}]\n")
        self.service.expect("eon")
        self.assertEqual(self.statuses(1, user="ann"), [429])
        # The counter goes on by the new limit: five were counted.
        self.write_rules(RULES.replace("requests_per_unit: 3", "requests_per_unit: 7"))
        self.service.expect("Successfully loaded new configuration")
        self.assertEqual(self.statuses(3, user="ann"), [200, 200, 429])

    def test_service_away(self):
        self.assertEqual(self.statuses(3, user="ann"), [200] * 3)
        self.service.process.kill()
        self.service.process.wait()
        # Envoy's failure mode says what happens: by default, allow.
        self.assertEqual(self.statuses(2, user="ann"), [200] * 2)
        self.stop_envoy()
        self.start_envoy(deny_when_away=True)
        self.assertEqual(self.statuses(2, user="ann"), [500] * 2)
        # It is back, and its buckets were never away.
        self.start_service()
        while self.get(user="bob").status == 500:
            pass
        self.assertEqual(self.statuses(1, user="ann"), [429])

    def test_restart_without_a_failure(self):
        """A new service takes over while requests go on: none fails, none is lost."""
        self.stop_envoy()
        self.start_envoy(deny_when_away=True)
        old, ended, seen = self.service, threading.Event(), []

        def ask():
            while not ended.is_set():
                seen.append(self.get(tokens="t", cost="0").status)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            self.assertEqual(self.statuses(2, tokens="t", cost="5"), [200, 200])
            self.start_service("--takeover")
            old.process.send_signal(signal.SIGTERM)
            self.assertEqual(old.process.wait(PATIENCE_S), 0)
            self.assertEqual(self.statuses(1, tokens="t", cost="1"), [429])
        finally:
            ended.set()
            asking.join()
        self.assertLessEqual(set(seen), {200, 429})


if __name__ == "__main__":
    main()
