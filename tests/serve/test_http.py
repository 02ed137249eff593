# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1: decisions as JSON, their headers, and what the service tells of itself."""

import base64
import http.client
import json
import os
import re
import select
import signal
import socket
import threading
import urllib.parse

from support import PATIENCE_S, Service, ServeTest, main


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.path)


class HttpTest(ServeTest):
    ADDRESS = ("--http", "127.0.0.1:0")
    OPTIONS = ()

    def setUp(self):
        super().setUp()
        self.service = Service(self, *self.OPTIONS, addresses=self.ADDRESS)
        self.client = self.connect()

    def connect(self):
        host, port = self.service.address.rsplit(":", 1)
        client = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
        self.addCleanup(client.close)
        return client

    def socket(self):
        host, port = self.service.address.rsplit(":", 1)
        client = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self.addCleanup(client.close)
        return client

    def ask(self, method, path, body=None, client=None):
        """The answer, with its JSON as .value."""
        client = client or self.client
        client.request(method, path, body=body if body is None or isinstance(body, bytes)
                       else json.dumps(body))
        answer = client.getresponse()
        answer.text = answer.read()
        kind = answer.headers.get("Content-Type") or ""
        answer.value = json.loads(answer.text) if "json" in kind and method != "HEAD" else None
        return answer

    def allow(self, **fields):
        return self.ask("POST", "/v1/allow", fields)

    def refused(self, status, says, *asked, **more):
        answer = self.ask(*asked, **more)
        self.assertEqual(answer.status, status, answer.text)
        self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
        self.assertEqual(answer.value["status"], status)
        self.assertIn(says, answer.value["detail"])

    def wait_for(self, path, condition):
        """What is told is a second old: ask until it is there."""
        for _ in range(PATIENCE_S * 100):
            answer = self.ask("GET", path)
            self.assertEqual(answer.status, 200)
            if condition(answer):
                return answer
            threading.Event().wait(0.01)
        self.fail(answer.text)

    def deny(self, key, count):
        for _ in range(2 + count):
            self.allow(policy="api", key=key)


class Decisions(HttpTest):
    POLICIES = (("api", "5/1h"), ("two", "5/1d fixed-window", "3/1h burst 3"),
                ("held", "2 concurrency"), ("fast", "10/500ms"))

    def test_until_it_is_denied(self):
        first = self.allow(policy="api", key="k", cost=4)
        self.assertEqual(first.status, 200)
        self.assertEqual(first.headers["Content-Type"], "application/json")
        self.assertEqual((first.value["outcome"], first.value["remaining"]), ("allowed", 1))
        denied = self.allow(policy="api", key="k", cost=2)
        self.assertEqual(denied.status, 429)
        self.assertEqual(denied.headers["Content-Type"], "application/problem+json")
        self.assertTrue(denied.value["type"].endswith("#quota-exceeded"))
        self.assertEqual(denied.value["violated-policies"], ["api"])
        self.assertEqual((denied.value["outcome"], denied.value["remaining"]), ("denied", 1))
        # A token each 720 seconds, and some part of them has gone.
        wait = denied.value["retry_after_ns"] / 1e9
        self.assertLessEqual(wait, 720)
        self.assertEqual(int(denied.headers["Retry-After"]), -(-denied.value["retry_after_ns"] // 10**9))
        self.assertEqual(denied.value["detail"], "5/1h has 1 left; ask again in "
                         f"{denied.headers['Retry-After']} s")
        # What is denied spends nothing.
        self.assertEqual(self.allow(policy="api", key="k").status, 200)

    def test_one_bucket_for_all(self):
        """The library's, the command line's and this are the same buckets."""
        self.weir("allow", "api", "k", "--cost", "3")
        self.assertEqual(self.allow(policy="api", key="k").value["remaining"], 1)
        # In the query, too.
        answer = self.ask("POST", "/v1/allow?policy=api&key=k&cost=1")
        self.assertEqual(answer.value["remaining"], 0)

    def test_a_body_of_many_values(self):
        """Others wait while a body is read: small values are bounded, a long key is not one."""
        body = {"policy": "api", "key": '[{,"\\' * 13000}
        self.assertEqual(self.ask("POST", "/v1/allow", body).status, 200)
        for body in (b"[" + b"[]," * 32769 + b"1]", b'{"a":' * 65537, b"1," * 100000):
            self.refused(413, "send 65536 at most", "POST", "/v1/allow", body)
        self.refused(400, "policy is not a string", "POST", "/v1/allow",
                     b'{"policy":[' + b"1," * 65000 + b"1]}")

    def test_keys_of_any_bytes(self):
        key = b"\x00\xff k\n"
        self.allow(policy="api", key_base64=base64.b64encode(key).decode(), cost=2)
        answer = self.ask("GET", "/v1/status?policy=api&key=" + urllib.parse.quote(key))
        self.assertEqual(answer.value["remaining"], 3)
        self.allow(policy="api", key="z\u0000e\u00e9", cost=2)
        answer = self.ask("GET", "/v1/status?policy=api&key=z%00e%C3%A9")
        self.assertEqual(answer.value["remaining"], 3)
        self.assertEqual(self.ask("GET", "/v1/status?policy=api&key=z").value["remaining"], 5)

    def test_status_charges_nothing(self):
        for _ in range(3):
            answer = self.ask("GET", "/v1/status?policy=api&key=k&cost=5")
            self.assertEqual((answer.status, answer.value["outcome"]), (200, "allowed"))
        answer = self.ask("POST", "/v1/status", {"policy": "api", "key": "k", "cost": 6})
        self.assertEqual((answer.status, answer.value["outcome"]), (200, "denied"))
        self.assertEqual(answer.value["reason"], "cost")
        self.assertNotIn("Retry-After", answer.headers)
        self.assertIsNone(answer.value["retry_after_ns"])

    def test_force(self):
        self.allow(policy="api", key="k", cost=5)
        answer = self.allow(policy="api", key="k", cost=5, force=True)
        self.assertEqual((answer.status, answer.value["remaining"]), (200, 0))
        self.assertGreater(answer.value["reset_after_ns"], 3600 * 10**9)
        # The next token comes when the debt is paid.
        self.assertEqual(answer.headers["RateLimit"], '"api";r=0;t=4320')

    def test_headers(self):
        answer = self.allow(policy="api", key="k", cost=2)
        self.assertEqual(answer.headers["RateLimit-Policy"], '"api";q=5;w=3600')
        self.assertEqual(answer.headers["RateLimit"], '"api";r=3;t=720')
        self.assertNotIn("Retry-After", answer.headers)
        # A bucket that is full has nothing to come.
        answer = self.ask("GET", "/v1/status?policy=api&key=new&cost=0")
        self.assertEqual(answer.headers["RateLimit"], '"api";r=5')

    def test_headers_of_the_limit_that_denied(self):
        self.assertEqual(self.allow(policy="two", key="k", cost=2).status, 200)
        answer = self.allow(policy="two", key="k", cost=2)
        self.assertEqual(answer.status, 429)
        self.assertEqual(answer.headers["RateLimit-Policy"], '"two";q=5;w=86400, "two/1";q=3;w=3600')
        self.assertTrue(answer.headers["RateLimit"].startswith('"two/1";r=1;t='))
        self.assertEqual(answer.value["limit_index"], 1)

    def test_period_below_a_second(self):
        answer = self.allow(policy="fast", key="k")
        self.assertEqual(answer.headers["RateLimit-Policy"], '"fast";q=10')
        self.assertRegex(answer.headers["RateLimit"], '^"fast";r=9;t=1$')

    def test_fail_mode_closed(self):
        """A view that was never merged, and closed: unavailable, and no numbers."""
        synced = os.path.join(self.directory, "synced")
        self.weir("--segment", synced, "create", "--slots", "1024", "--sync")
        self.weir("--segment", synced, "policy", "set", "closed", "5/1h", "--fail-mode", "closed")
        service = Service(self, "--redis", "unix://" + self.directory + "/nobody", segment=synced,
                          addresses=self.ADDRESS)
        host, port = service.address.rsplit(":", 1)
        client = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
        self.addCleanup(client.close)
        answer = self.ask("POST", "/v1/allow", {"policy": "closed", "key": "k"}, client)
        self.assertEqual(answer.status, 503)
        self.assertTrue(answer.value["type"].endswith("#temporary-reduced-capacity"))
        self.assertEqual(answer.value["title"], "rate limiter unavailable")
        self.assertEqual((answer.value["outcome"], answer.value["reason"]), ("unavailable", "stale"))
        self.assertNotIn("RateLimit", answer.headers)
        self.assertNotIn("violated-policies", answer.value)

    def test_mistakes(self):
        for body, says in (
                (b"{", "not JSON"), (b"[]", "no object"), (b'{"policy":"api","policy":"api"}', "JSON"),
                (b"\xff", "not JSON"),
                ({"key": "k"}, "no policy"), ({"policy": "api"}, "no key"),
                ({"policy": "api", "key": ""}, "no key"), ({"policy": "api", "key": 1}, "key is not"),
                ({"policy": 1, "key": "k"}, "policy is not"),
                ({"policy": "a\u0000", "key": "k"}, "zero byte"),
                ({"policy": "api", "key": "k" * 65537}, "65536"),
                ({"policy": "api", "key_base64": "?"}, "base64"),
                ({"policy": "api", "key_base64": "===="}, "base64"),
                ({"policy": "api", "key_base64": "AA=A"}, "base64"),
                ({"policy": "api", "key_base64": "    YQ=="}, "base64"),
                ({"policy": "api", "key_base64": "YQ==", "key": "a"}, "both there"),
                ({"policy": "api", "key": "a", "key_base64": "YQ=="}, "both there"),
                ({"policy": "api", "key": "k", "cost": 0}, "cost is 0"),
                ({"policy": "api", "key": "k", "cost": -1}, "cost is not a whole number of 0 or more, but -1"),
                ({"policy": "api", "key": "k", "cost": [1]}, "but [1]"),
                ({"policy": "api", "key": "k", "cost": 2**44}, "17592186044416"),
                ({"policy": "api", "key": "k", "force": 1}, "force"),
                ({"policy": "api", "key": "k", "kost": 1}, '"kost"'),
                ({"policy": "api", "key": "k", "now_ns": 7}, "now_ns is 7"),
                ({"policy": "held", "key": "k"}, "concurrency")):
            self.refused(400, says, "POST", "/v1/allow", body)
        for query, says in (
                ("", "no policy"), ("policy=api", "no key"), ("policy=api&key=k&cost=x", '"x"'),
                ("policy=api&key=k&cost=-1", '"-1"'), ("policy=api&key=k&cost=99999999999999999999", "cost"),
                ("policy=api&key=k&kost=2", '"kost" is not known'),
                ("policy=api&key=k&key=l", "key stands twice"),
                ("policy=api&key=k&key_base64=YQ==", "both there"), ("policy=api&key", "no key"),
                ("policy=api&key=k&now_ns=18446744073709551615", "now_ns is 18446744073709551615"),
                ("policy=api&key=k&force=maybe", "force")):
            self.refused(400, says, "POST", "/v1/allow?" + query)
        self.refused(404, '"nobody"', "POST", "/v1/allow", {"policy": "nobody", "key": "k"})
        self.refused(404, "/v1/allow", "GET", "/v2/allow")
        self.refused(405, "use POST", "GET", "/v1/allow?policy=api&key=k")
        self.refused(405, "use", "PUT", "/v1/status?policy=api&key=k")
        # And nothing was charged.
        self.assertEqual(self.ask("GET", "/v1/status?policy=api&key=k").value["remaining"], 5)


class Styles(HttpTest):
    POLICIES = (("api", "5/1h", "100/1d fixed-window"),)
    OPTIONS = ("--headers", "draft-03")

    def test_draft_03(self):
        answer = self.allow(policy="api", key="k")
        self.assertEqual(answer.headers["X-RateLimit-Limit"],
                         '5, 5;w=3600;name="api", 100;w=86400;name="api/1"')
        self.assertEqual(answer.headers["X-RateLimit-Remaining"], "4")
        self.assertEqual(answer.headers["X-RateLimit-Reset"], "720")
        self.assertNotIn("RateLimit", answer.headers)


class Legacy(HttpTest):
    POLICIES = Styles.POLICIES
    OPTIONS = ("--headers", "legacy")

    def test_legacy(self):
        answer = self.allow(policy="api", key="k")
        self.assertEqual(answer.headers["X-RateLimit-Limit"], "5")
        self.assertEqual(answer.headers["X-RateLimit-Remaining"], "4")


class Itself(HttpTest):
    POLICIES = (("api", "2/300d"),)
    OPTIONS = ("--top-keys", "3")

    def test_health(self):
        for path in ("/healthz", "/readyz"):
            self.assertEqual((self.ask("GET", path).status, self.ask("HEAD", path).text), (200, b""))

    def test_metrics(self):
        for i in range(9):
            self.deny(f"key {i}", 100 * (i + 1))
        hostile = 'q"\\\n\x1b'
        self.deny(hostile, 2000)
        total = sum(100 * (i + 1) for i in range(9)) + 2000
        text = self.wait_for("/metrics", lambda answer: (
            f'weir_denied_requests_total{{policy="api"}} {total}\n'.encode() in answer.text
            and answer.text.count(b"weir_top_denied_requests{") == 3)).text.decode()
        self.assertIn('weir_allowed_requests_total{policy="api"} 20\n', text)
        self.assertIn(r'key="q\"\\\\\\x0a\\x1b"', text)
        # Each sample follows the type of its family, which stands once.
        families = re.findall(r"^# TYPE (\S+) (counter|gauge)$", text, re.M)
        self.assertEqual(len(families), len(set(name for name, _ in families)))
        for line in text.splitlines():
            if not line.startswith("#"):
                sample = re.fullmatch(r'(\w+)(\{(?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*\})? [0-9.e+-]+', line)
                self.assertTrue(sample, line)
                kind = dict(families)[sample[1]]
                self.assertEqual(kind == "counter", sample[1].endswith("_total"), line)

    def test_top(self):
        self.deny("<b>&", 500)
        told = self.wait_for("/top.json", lambda answer: (
            answer.value["policies"][0]["counters"]["denied"] == 500
            and answer.value["limited"])).value
        self.assertEqual(told["limited"][0]["key"], "<b>&")
        self.assertEqual(told["policies"][0]["name"], "api")
        self.assertIsNone(told["sync"])
        page = self.ask("GET", "/top")
        self.assertIn("default-src 'none'", page.headers["Content-Security-Policy"])
        # What its script reads is there.
        script = page.text.decode()
        for name in set(re.findall(r"\bnow\.(\w+)", script)):
            self.assertIn(name, told)
        for name in set(re.findall(r"\bbucket\.(\w+)", script)) - {"key_base16"}:
            self.assertIn(name, told["limited"][0])
        for name in set(re.findall(r"\bpolicy\.(\w+)", script)):
            self.assertIn(name, told["policies"][0])


class Names(HttpTest):
    POLICIES = (("api", "2/300d"),)

    def test_keys_that_look_alike(self):
        """No two keys have one name: Prometheus would take one sample for both."""
        begin = "k" * 100
        for key in (begin + "1", begin + "2", "\\n", "\n", "\\x0a"):
            self.deny(key, 500)
        text = self.wait_for("/metrics", lambda answer: (
            answer.text.count(b"weir_top_denied_requests{") == 5)).text.decode()
        keys = re.findall(r'^weir_top_denied_requests.*,key="(.*)"} ', text, re.M)
        self.assertEqual(len(set(keys)), 5, keys)
        for key in (r"\\\\n", r"\\x0a", r"\\\\x0a"):
            self.assertIn(key, keys)


class Bounds(HttpTest):
    POLICIES = (("api", "100000/1d"),)
    OPTIONS = ("--threads", "1", "--max-message", "1024", "--request-timeout", "1",
               "--max-connections", "20")

    def test_a_body_too_large(self):
        self.refused(413, "1024", "POST", "/v1/allow", b"x" * 1025)
        # Not announced: it is cut off.
        client = self.socket()
        client.sendall(b"POST /v1/allow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(100):
                client.sendall(b"100\r\n" + b"x" * 256 + b"\r\n")
            answer = client.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        self.assertNotIn(b" 200 ", answer)
        self.assertEqual(self.ask("GET", "/healthz", client=self.connect()).status, 200)

    def test_slow_clients(self):
        """Byte by byte, and not at all: both are cut off."""
        silent, slow = self.socket(), self.socket()
        silent.sendall(b"GET /heal")
        slow.sendall(b"GET /heal")
        ended = threading.Event()

        def drip():
            try:
                while not ended.wait(0.05):
                    slow.sendall(b"t")
            except OSError:
                pass

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            self.assertEqual(silent.recv(4096), b"")
            try:
                while slow.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        finally:
            ended.set()
            dripping.join()
        self.assertEqual(self.ask("GET", "/healthz", client=self.connect()).status, 200)

    def test_who_does_not_read(self):
        """Answers to many requests have nowhere to go: it is cut off."""
        host, port = self.service.address.rsplit(":", 1)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            client.setblocking(False)
            asked = b"GET /top HTTP/1.1\r\nHost: x\r\n\r\n" * 100
            end = select.poll()
            end.register(client, 0)
            while not end.poll(50):
                try:
                    client.send(asked)
                except BlockingIOError:
                    pass
                except ConnectionError:
                    break
        self.assertEqual(self.ask("GET", "/healthz", client=self.connect()).status, 200)

    def test_nonsense(self):
        for bytes_sent in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                           b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
                           b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                           b"POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                           b"POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999"
                           b"\r\n\r\n"):
            client = self.socket()
            answer = b""
            try:
                client.sendall(bytes_sent)
                client.shutdown(socket.SHUT_WR)
                while True:
                    more = client.recv(4096)
                    if not more:
                        break
                    answer += more
            except OSError:
                pass            # it was cut off in the middle
            self.assertNotIn(b" 200 ", answer)
        self.assertEqual(self.ask("GET", "/healthz", client=self.connect()).status, 200)

    def test_too_many_connections(self):
        clients = [self.socket() for _ in range(40)]
        answered = 0
        for client in clients:
            try:
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                answered += client.recv(4096).startswith(b"HTTP/1.1 200")
            except (BrokenPipeError, ConnectionResetError):
                pass
        self.assertGreater(answered, 10)
        self.assertLessEqual(answered, 20)


class Framing(HttpTest):
    """What a proxy in front might read otherwise."""

    POLICIES = (("api", "5/1d"),)

    def answers(self, *lines, body=b""):
        client = self.socket()
        client.sendall("".join(line + "\r\n" for line in lines).encode() + b"\r\n" + body)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, answer.read().decode(), client

    def test_the_absolute_form(self):
        for begin in ("http://", "HTTP://", "https://"):
            status, text, _ = self.answers(f"GET {begin}weir.example:80/v1/status?policy=api&key=k "
                                           "HTTP/1.1", "Host: weir.example")
            self.assertEqual((status, json.loads(text)["remaining"]), (200, 5))
        for target in ("http://weir.example", "http:/healthz", "weir.example/healthz"):
            self.assertEqual(self.answers(f"GET {target} HTTP/1.1", "Host: x")[0], 404)

    def test_where_the_body_ends(self):
        inner = b"POST /v1/allow?policy=api&key=k HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        chunked = "Transfer-Encoding: chunked"
        for status, says, *headers in (
                (400, "told 2 times", "Content-Length: 5", chunked),
                (400, "told 2 times", "Content-Length: 5", f"Content-Length: {5 + len(inner)}"),
                (400, "told 2 times", chunked, "Transfer-Encoding: identity"),
                (400, "blank", "Content-Length : 5"), (400, "blank", "Transfer-Encoding\t: chunked"),
                (400, "2 Host", "Host: y", "Content-Length: 5"),
                (501, "chunked", "Transfer-Encoding: gzip, chunked"),
                (501, "chunked", "Transfer-Encoding: xchunked")):
            got, text, client = self.answers("POST /v1/allow HTTP/1.1", "Host: x", *headers,
                                             body=b"0\r\n\r\n" + inner)
            self.assertEqual(got, status, (headers, text))
            self.assertIn(says, json.loads(text)["detail"])
            try:
                self.assertEqual(client.recv(1), b"", headers)
            except ConnectionResetError:
                pass                    # as much of an end: what was left was not read
        # What followed was no request of its own.
        self.assertEqual(self.ask("GET", "/v1/status?policy=api&key=k").value["remaining"], 5)
        got, text, _ = self.answers("POST /v1/status HTTP/1.1", "Host: x",
                                    "Transfer-Encoding: Chunked", body=b"20\r\n"
                                    b'{"policy": "api", "key": "k"}   \r\n0\r\n\r\n')
        self.assertEqual((got, json.loads(text)["remaining"]), (200, 5))


class Ending(HttpTest):
    POLICIES = (("api", "1000/1d"),)
    ADDRESS = ("--http", "127.0.0.1:0", "--http", "unix:socket")
    OPTIONS = ("--threads", "1")

    def setUp(self):
        # Paths of unix sockets are short: a test's directory is entered.
        self.addCleanup(os.chdir, os.getcwd())
        super().setUp()

    def weir(self, *arguments, **fields):
        os.chdir(self.directory)
        return super().weir(*arguments, **fields)

    def test_unix_socket(self):
        client = UnixConnection("socket")
        self.addCleanup(client.close)
        self.assertEqual(self.ask("POST", "/v1/allow", {"policy": "api", "key": "k"}, client).status, 200)

    def test_drain(self):
        """A request under way is answered; an idle connection does not hold it up."""
        idle, slow = self.connect(), self.socket()
        self.assertEqual(self.ask("GET", "/readyz", client=idle).status, 200)
        body = b'{"policy":"api","key":"k"}'
        slow.sendall(b"POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        # The same loop: this one's answer comes after that one's headers.
        self.ask("GET", "/healthz", client=self.connect())
        self.service.process.send_signal(signal.SIGTERM)
        host, port = self.service.address.rsplit(":", 1)
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
            except ConnectionRefusedError:
                break
            except ConnectionResetError:
                pass            # it waited in the listener that was closed
        self.assertEqual(idle.sock.recv(1), b"")
        slow.sendall(body)
        answer = slow.recv(65536)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer)
        self.assertIn(b"Connection: close", answer)
        self.assertEqual(self.service.process.wait(PATIENCE_S), 0)
        self.assertFalse(os.path.exists("socket"))


del HttpTest

if __name__ == "__main__":
    main()
