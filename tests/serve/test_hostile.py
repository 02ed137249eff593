# SPDX-License-Identifier: Apache-2.0
"""Clients without manners: slow, silent, huge, malformed, many.

The service goes on, what they cost has a bound, and others notice nothing."""

import os
import resource

import http2
from http2 import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, LARGEST, PING,
                   RST_STREAM, SETTINGS, WINDOW_UPDATE, Client, frame, message, request_headers,
                   resident_bytes, setting)
from support import Service, ServeTest, limiter, load_messages, main

reflection = load_messages("reflection")

MIB = 1 << 20
REFUSED_STREAM = 7

ALLOW = limiter.AllowRequest(policy="api", key=b"k").SerializeToString()
REFLECT = b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


class Hostile(ServeTest):
    POLICIES = (("api", "1000000/365d"),)
    OPTIONS = ()

    def setUp(self):
        super().setUp()
        self.service = Service(self, "--threads", "1", *self.OPTIONS)
        self.clients = []
        self.others = self.client()
        self.others.call(ALLOW)
        self.before = resident_bytes(self.service.process)

    def client(self, **options):
        client = Client(self.service.address, **options)
        self.clients.append(client)
        return client

    def assert_well(self, grown=16 * MIB):
        """Others are served, and memory has grown by no more."""
        answer = limiter.AllowResponse.FromString(self.others.call(ALLOW))
        self.assertEqual(answer.decision.outcome, limiter.OUTCOME_ALLOWED)
        # A sanitizer keeps what was freed for a while.
        if "SANITIZED" not in os.environ:
            self.assertLess(resident_bytes(self.service.process) - self.before, grown)

    def tearDown(self):
        for client in self.clients:
            client.socket.close()
        self.assertEqual(self.service.end(), "")
        super().tearDown()


class Malformed(Hostile):
    def test_what_is_no_http2(self):
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100, b"\xff" * 10000,
                     http2.PREFACE[:10] + b"x" * 20, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"):
            with self.subTest(data=data[:20]):
                client = self.client(greet=False)
                client.send(data)
                client.closed()
        self.assert_well()

    def test_frames(self):
        for name, data in {
            "larger than announced": frame(DATA, 0, 1, b"x" * (LARGEST + 1)),
            "data of no stream": frame(DATA, 0, 1, b"x"),
            "data of stream 0": frame(DATA, 0, 0, b"x"),
            "an even stream": frame(HEADERS, END_HEADERS, 2, request_headers()),
            "settings of a wrong length": frame(SETTINGS, 0, 0, b"x" * 5),
            "an acknowledgement with a value": frame(SETTINGS, ACK, 0, setting(1, 1)),
            "a ping of a wrong length": frame(PING, 0, 0, b"x"),
            "a window of 0": frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
            "too large a window": 2 * frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
            "a lost continuation": frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, b"12345678"),
            "a stray continuation": frame(CONTINUATION, END_HEADERS, 1, b""),
            "a header block that is none": frame(HEADERS, END_HEADERS, 1, b"\xff" * 50),
            "an index that is not there": frame(HEADERS, END_HEADERS, 1, b"\xfe"),
            "padding beyond the frame": frame(DATA, 8, 1, b"\xff"),
        }.items():
            with self.subTest(name):
                client = self.client()
                client.send(data)
                self.assertNotEqual(client.closed(), 0)
        self.assert_well()

    def test_requests_that_are_reset(self):
        for name, block in {
            "no path": http2.headers((b":method", b"POST"), (b":scheme", b"http")),
            "an upper case name": http2.headers((b":method", b"POST"), (b":scheme", b"http"),
                                                (b":path", b"/"), (b"X", b"y")),
            "two paths": request_headers(b"/", (b":path", b"/")),
            "a newline": request_headers(b"/", (b"x", b"a\nb")),
            "a connection header": request_headers(b"/", (b"connection", b"close")),
            "headers without an end": request_headers(b"/", *[(b"x%d" % i, b"y" * 1000)
                                                              for i in range(16)]),
        }.items():
            with self.subTest(name):
                client = self.client()
                self.assertLess(len(block), LARGEST + 1)
                client.begin(block)
                self.assertEqual(client.until(RST_STREAM)[2], 1)
                # The connection goes on.
                self.assertTrue(client.call(ALLOW))
        self.assert_well()

    def test_any_bytes_as_a_message(self):
        client = self.client()
        for body in (b"", b"\0", b"\0\0\0\0", b"\0\0\0\0\5", b"\0\0\0\0\1\xff", b"\1\0\0\0\0",
                     b"\7\0\0\0\0", b"\0\xff\xff\xff\xff", message(b"\x0a\xff\xff\xff\xff\x0f"),
                     message(ALLOW) + b"\0", message(b"\x12\x80\x80\x80\x80\x80\x80\x80\x80\x01")):
            stream = client.begin()
            client.send(frame(DATA, END_STREAM, stream, body))
            # Headers alone: no answer.
            self.assertEqual(client.until(HEADERS, stream)[1] & END_STREAM, END_STREAM, body)
        self.assert_well()

    def test_a_message_in_pieces(self):
        client = self.client()
        stream = client.begin()
        for i, byte in enumerate(message(ALLOW)):
            client.send(frame(DATA, 0, stream, bytes([byte])))
        client.send(frame(DATA, END_STREAM, stream))
        answer = limiter.AllowResponse.FromString(client.until(DATA, stream)[3][5:])
        self.assertEqual(answer.decision.outcome, limiter.OUTCOME_ALLOWED)


class Floods(Hostile):
    def test_frames_that_cost_an_answer(self):
        for name, data in {
            "ping": frame(PING, 0, 0, b"12345678"),
            "settings": frame(SETTINGS),
            "streams that are reset": None,
            "continuations": None,
            "empty data": None,
        }.items():
            with self.subTest(name):
                client = self.client()
                if name == "streams that are reset":
                    data = b"".join(frame(HEADERS, END_HEADERS, stream, request_headers()) +
                                    frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
                                    for stream in range(1, 20001, 2))
                    self.assertTrue(client.send_until_refused(data, 1))
                elif name == "continuations":
                    client.send(frame(HEADERS, 0, 1, request_headers()))
                    self.assertTrue(client.send_until_refused(frame(CONTINUATION, 0, 1, b""),
                                                              100000))
                elif name == "empty data":
                    stream = client.begin()
                    client.send(frame(DATA, 0, stream) * 20000)
                    client.send(frame(DATA, END_STREAM, stream, message(ALLOW)))
                    self.assertTrue(client.until(DATA, stream))
                else:
                    # Nothing is read, so that the answers have nowhere to go.
                    client.socket.settimeout(5)
                    try:
                        for _ in range(1000):
                            client.send(data * 1000)
                    except (ConnectionError, TimeoutError):
                        pass
        self.assert_well()

    def test_more_streams_than_are_allowed(self):
        client = self.client()
        for _ in range(1000):
            client.begin()
        last = client.begin()
        refused = client.until(RST_STREAM)
        self.assertEqual((refused[2], refused[3][3]), (last, REFUSED_STREAM))
        self.assert_well()

    def test_messages_that_are_never_whole(self):
        """Each announces 4 MB, and stops short of it."""
        clients = []
        ended = 0
        piece = b"\0" + (4000000).to_bytes(4, "big") + b"x" * 60000
        for _ in range(4):
            client = self.client()
            clients.append(client)
            client.send(frame(WINDOW_UPDATE, 0, 0, (1 << 30).to_bytes(4, "big")))
            for _ in range(16):
                for _ in range(16):
                    stream = client.begin()
                    for begin in range(0, len(piece), LARGEST):
                        client.send(frame(DATA, 0, stream, piece[begin:begin + LARGEST]))
                client.send(frame(PING, 0, 0, b"12345678"))
                while True:
                    kind, flags, _, _ = client.frame()
                    if kind == HEADERS:
                        ended += 1
                    elif kind == PING and flags & ACK:
                        break
        # 1,024 x 64 KiB on the heap reach the bound of 64 MiB.
        self.assertGreater(ended, 0)
        self.assert_well(grown=96 * MIB)
        for client in clients:
            client.socket.close()
        self.assert_well(grown=96 * MIB)

    def test_a_message_that_unfolds(self):
        """Empty requests of a batch: two bytes each, and a struct of a hundred."""
        client = self.client()
        stream = client.begin(request_headers(b"/weir.v1.Limiter/AllowBatch"))
        client.upload(stream, message(b"\x0a\0" * (2 * MIB - 8)))
        self.assertEqual(client.until(HEADERS, stream)[1] & END_STREAM, END_STREAM)
        self.assert_well(grown=96 * MIB)


class Slow(Hostile):
    OPTIONS = ("--request-timeout", "1")

    def test_who_does_not_go_on_is_cut_off(self):
        silent = self.client(greet=False)
        half = self.client(greet=False)
        half.send(http2.PREFACE[:12])
        header = self.client()
        header.send(frame(HEADERS, 0, 1, request_headers()))
        body = self.client()
        body.begin()
        dripping = self.client()
        stream = dripping.begin()
        quiet = self.client()
        asking = self.client()
        asked = message(reflection.ServerReflectionRequest(list_services="").SerializeToString())
        questions = asking.begin(request_headers(REFLECT))
        asking.send(frame(DATA, 0, questions, asked))
        self.assertTrue(asking.until(DATA, questions))
        watching = self.client()
        stream = watching.begin(request_headers(b"/weir.v1.Limiter/Watch"))
        watching.send(frame(DATA, END_STREAM, stream, message(b"")))
        try:
            while True:
                dripping.send(frame(DATA, 0, dripping.next_stream - 2))
                dripping.socket.settimeout(0.05)
                try:
                    if not dripping.socket.recv(65536):
                        break
                except TimeoutError:
                    pass
        except ConnectionError:
            pass
        for client in (silent, half, header, body):
            client.closed()
        # Who owes nothing stays.
        self.assertTrue(quiet.call(ALLOW))
        asking.send(frame(DATA, 0, questions, asked))
        self.assertTrue(asking.until(DATA, questions))
        for _ in range(3):
            self.assertTrue(watching.until(DATA, stream))
        self.assert_well()

    def test_who_does_not_read_is_cut_off(self):
        client = self.client(buffer_bytes=4096)
        client.send(frame(SETTINGS, 0, 0, setting(4, 0x7fffffff)) +
                    frame(WINDOW_UPDATE, 0, 0, (0x7ffeffff).to_bytes(4, "big")))
        asked = message(reflection.ServerReflectionRequest(
            file_containing_symbol="weir.v1.Limiter").SerializeToString())
        try:
            while True:
                stream = client.begin(request_headers(REFLECT))
                client.send(frame(DATA, 0, stream, asked * 50))
        except (ConnectionError, TimeoutError):
            pass
        client.closed()
        self.assert_well(grown=64 * MIB)


class Idle(Hostile):
    OPTIONS = ("--idle-timeout", "1")

    def setUp(self):
        super().setUp()
        self.others.socket.close()

    def test_who_is_idle_is_told_to_go(self):
        client = self.client()
        client.call(ALLOW)
        self.assertEqual(client.closed(), 0)
        self.others = self.client()
        self.assert_well()


class Many(Hostile):
    def test_connections(self):
        count = 10000 if "WEIR_SOAK" in os.environ else 1000
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < count + 100:
            if hard < count + 100:
                self.skipTest(f"only {hard} descriptors are permitted (ulimit -n)")
            resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        clients = [self.client() for _ in range(count)]
        for turn in range(2):
            for client in clients:
                stream = client.begin()
                client.send(frame(DATA, END_STREAM, stream, message(ALLOW)))
            for client in clients:
                self.assertTrue(client.until(DATA, 2 * turn + 1))
        # 32 KiB each, of which nghttp2 takes most.
        self.assert_well(grown=count * 32768 + 16 * MIB)
        for client in clients:
            client.socket.close()


class TooMany(Hostile):
    OPTIONS = ("--max-connections", "3")

    def test_the_bound(self):
        clients = [self.client() for _ in range(2)]
        for client in clients:
            self.assertTrue(client.call(ALLOW))
        self.client().closed()
        clients[0].socket.close()
        # Its place is free as soon as the service has seen it go.
        while True:
            with self.client() as client:
                try:
                    if client.call(ALLOW):
                        break
                except ConnectionError:
                    pass
        self.assert_well()


if __name__ == "__main__":
    main()
