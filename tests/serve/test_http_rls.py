# SPDX-License-Identifier: Apache-2.0
"""Envoy's rate limit protocol as JSON, and what is told of its rules over HTTP."""

import http.client
import json
import os
import re
import threading

from support import PATIENCE_S, ServeTest, Service, main

RULES = """domain: shop
descriptors:
- key: user
  rate_limit: {unit: year, requests_per_unit: 3, name: few}
- key: free
  rate_limit: {unlimited: true}
- key: path
  descriptors:
  - key: method
    value: "GET"
    rate_limit: {unit: day, requests_per_unit: 4294967295}
    descriptors:
    - key: deep
      rate_limit: {unit: week, requests_per_unit: 0}
      metadata: {team: "a", list: [1, 2.5, true, null], tree: {x: y}}
- {key: where, detailed_metric: true, rate_limit: {unit: day, requests_per_unit: 100}}
"""


class HttpRls(ServeTest):
    def setUp(self):
        super().setUp()
        rules = os.path.join(self.directory, "rules")
        os.mkdir(rules)
        with open(os.path.join(rules, "shop.yaml"), "w", encoding="utf-8") as file:
            file.write(RULES)
        self.environment.update(LIMIT_RESPONSE_HEADERS_ENABLED="true", RESPONSE_DYNAMIC_METADATA="true")
        self.service = Service(self, "--compat", "envoy", "--rules", rules,
                               addresses=("--http", "127.0.0.1:0"),
                               first="Successfully loaded new configuration")
        host, port = self.service.address.rsplit(":", 1)
        self.client = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
        self.addCleanup(self.client.close)

    def ask(self, method, path, body=None):
        self.client.request(method, path, body=body if isinstance(body, (bytes, type(None)))
                            else json.dumps(body))
        answer = self.client.getresponse()
        answer.text = answer.read().decode()
        return answer

    def limit(self, *entries, status=200, **more):
        answer = self.ask("POST", "/json", {"domain": "shop", "descriptors": [
            {"entries": [{"key": key, "value": value} for key, value in descriptor]}
            for descriptor in entries], **more})
        self.assertEqual(answer.status, status, answer.text)
        answer.value = json.loads(answer.text)
        return answer

    def test_counts_and_denies(self):
        answer = self.limit([("user", "ann")], [("free", "")], [("other", "x")], hitsAddend=2)
        value = answer.value
        self.assertEqual(value["overallCode"], "OK")
        first, free, other = value["statuses"]
        self.assertEqual(first["currentLimit"],
                         {"requestsPerUnit": 3, "unit": "YEAR", "name": "few"})
        self.assertEqual(first["limitRemaining"], 1)
        self.assertRegex(first["durationUntilReset"], "^[0-9]+s$")
        self.assertEqual(free, {"code": "OK", "limitRemaining": 4294967295})
        self.assertEqual(other, {"code": "OK"})
        self.assertEqual([header["key"] for header in value["responseHeadersToAdd"]],
                         ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"])
        self.assertEqual(answer.headers["RateLimit-Remaining"], "1")
        denied = self.limit([("user", "ann")], hits_addend="2", status=429).value
        self.assertEqual(denied["overallCode"], "OVER_LIMIT")
        self.assertNotIn("limitRemaining", denied["statuses"][0])
        self.limit([("user", "bob")])

    def test_overrides_and_hits_of_descriptors(self):
        def ask(**descriptor):
            answer = self.ask("POST", "/json", {"domain": "shop", "descriptors": [
                {"entries": [{"key": "own", "value": "k"}], **descriptor}]})
            return json.loads(answer.text)["statuses"][0]

        self.assertEqual(ask(limit={"requestsPerUnit": 5, "unit": "MONTH"}, hitsAddend="3")
                         ["limitRemaining"], 2)
        self.assertEqual(ask(limit={"requests_per_unit": 5, "unit": 5}, hits_addend=0)
                         ["limitRemaining"], 2)
        self.assertEqual(ask(limit={"requestsPerUnit": "5", "unit": "MONTH"}, hitsAddend=None)
                         ["limitRemaining"], 1)
        limit = {"requestsPerUnit": "1e2", "unit": "YEAR"}
        for number, remaining in (("5.0", 95), (1.0, 94), ("-0", 94), ("0.2e1", 92),
                                  (str(2**64 - 1), 0)):
            self.assertEqual(ask(limit=limit, hitsAddend=number).get("limitRemaining", 0),
                             remaining, number)

    def test_metadata(self):
        value = self.limit([("path", "/"), ("method", "GET"), ("deep", "x")], status=429).value
        status = value["statuses"][0]
        # A limit of 0 is a default, and left out.
        self.assertEqual(status["currentLimit"], {"unit": "WEEK"})
        self.assertEqual(value["dynamicMetadata"]["domain"], "shop")
        self.assertEqual(value["dynamicMetadata"]["descriptors"][0]["entries"],
                         ["path=/", "method=GET", "deep=x"])

    def test_a_request_of_many_values(self):
        answer = self.ask("POST", "/json", b'{"descriptors":[' + b"{}," * 40000 + b"{}]}")
        self.assertEqual(answer.status, 413)
        self.assertIn("send 65536 at most", json.loads(answer.text)["detail"])

    def test_mistakes(self):
        for body, says in (
                (b"", "not JSON"), (b"{", "not JSON"), (b"[]", "no object"), ({"domain": 1}, "domain"),
                ({"domian": "d"}, '"domian"'), ({"descriptors": {}}, "descriptors"),
                ({"descriptors": [1]}, "descriptor"), ({"descriptors": [{"entries": 1}]}, "entries"),
                ({"descriptors": [{"entries": [{"key": "k", "v": ""}]}]}, '"v"'),
                ({"hitsAddend": -1}, "hitsAddend"), ({"hitsAddend": 2**32}, "4294967296"),
                ({"hitsAddend": 1.5}, "hitsAddend"), ({"hitsAddend": "x"}, "hitsAddend"),
                *(({"hitsAddend": text}, "whole number") for text in (
                    "", "05", " 5", "5 ", "0x5", "5.5", "-1", "1e400", "5\0", "[5]", str(2**64))),
                ({"hitsAddend": 1, "hits_addend": 1}, "hitsAddend and hits_addend are one field"),
                ({"descriptors": [{"hitsAddend": 1, "hits_addend": 1}]}, "one field"),
                ({"descriptors": [{"limit": {"requestsPerUnit": 1, "requests_per_unit": 1}}]},
                 "one field"),
                ({"descriptors": [{"limit": {"unit": "EON"}}]}, "EON"),
                ({}, "rate limit domain must not be empty"),
                ({"domain": "shop"}, "rate limit descriptor list must not be empty")):
            answer = self.ask("POST", "/json", body)
            self.assertEqual(answer.status, 400, (body, answer.text))
            self.assertIn(says, json.loads(answer.text)["detail"])
        self.assertEqual(self.ask("GET", "/json").status, 405)

    def test_what_is_told(self):
        self.assertEqual(self.ask("GET", "/healthcheck").text, "OK")
        shown = self.ask("GET", "/rlconfig").text
        self.assertIn("shop.user: unit=YEAR requests_per_unit=3", shown)
        for _ in range(3):
            self.limit([("user", "ann")])
        self.limit([("user", "ann")], status=429)
        self.limit([("path", "/"), ("method", "GET"), ("deep", 'q"')], status=429)
        wanted = (
            'ratelimit_service_rate_limit_total_hits{domain="shop",key1="user"} 4\n',
            'ratelimit_service_rate_limit_over_limit{domain="shop",key1="user"} 1\n',
            'ratelimit_service_rate_limit_total_hits{domain="shop",key1="path",'
            'key2="method_GET",key3="deep"} 1\n',
            "ratelimit_service_config_load_success 1\n",
        )
        for _ in range(PATIENCE_S * 100):
            text = self.ask("GET", "/metrics").text
            if all(line in text for line in wanted):
                for line in text.splitlines():
                    self.assertRegex(line, r"^(# (HELP|TYPE) )?[a-zA-Z_:][a-zA-Z0-9_:]*[ {]")
                return
            threading.Event().wait(0.01)
        self.fail(text)

    def test_keys_that_look_alike(self):
        """What is cleaned or cut away of a metric key may have told it from another."""
        for value in ("a:b", "a|b", "a_b", "x", "x.", "x..", "x...", "10.0.0.1", "10_0_0_1", "z",
                      "z\0"):
            self.limit([("where", value)])
        wanted = {'where_a_b"': 3, 'where_x"': 3, 'where_x",key2="",key3="."': 1,
                  'where_10_0_0_1"': 2, 'where_z"': 1, 'where_z\\\\x00"': 1}
        for _ in range(PATIENCE_S * 100):
            text = self.ask("GET", "/metrics").text
            told = re.findall(r'^ratelimit_service_rate_limit_total_hits{domain="shop",key1="(.*)} '
                              r"(\d+)$", text, re.M)
            if sum(int(count) for _, count in told) == sum(wanted.values()):
                break
            threading.Event().wait(0.01)
        self.assertEqual(sorted(told), sorted((key, str(count)) for key, count in wanted.items()))


class WithoutRules(ServeTest):
    def test_it_says_so(self):
        service = Service(self, addresses=("--http", "127.0.0.1:0"))
        host, port = service.address.rsplit(":", 1)
        client = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
        self.addCleanup(client.close)
        for method, path in (("POST", "/json"), ("GET", "/rlconfig")):
            client.request(method, path, body="{}" if method == "POST" else None)
            answer = client.getresponse()
            self.assertEqual(answer.status, 404)
            self.assertIn("--compat", json.loads(answer.read())["detail"])


if __name__ == "__main__":
    main()
