# SPDX-License-Identifier: Apache-2.0
"""Clients of which nothing is heard, or that take nothing: each is given up in bounded time, and
its place and its memory are free again.

It runs in a network of its own, where that is permitted, so that a peer can be gone without a
word: what a host that lost its power, or a firewall that forgot, looks like."""

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import unittest

from http2 import (ACK, DATA, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS,
                   WINDOW_UPDATE, Client, frame, message, request_headers, resident_bytes, setting)
from support import PATIENCE_S, Service, ServeTest, limiter, load_messages, main

reflection = load_messages("reflection")

MIB = 1 << 20
CANCEL = 8
INITIAL_WINDOW, LARGEST_WINDOW = 4, 0x7fffffff

ALLOW = limiter.AllowRequest(policy="api", key=b"k").SerializeToString()
WATCH = message(limiter.WatchRequest(interval_ns=100000000).SerializeToString())
ASKED = message(reflection.ServerReflectionRequest(
    file_containing_symbol="weir.v1.Limiter").SerializeToString())
REFLECT = b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

OWN_NETWORK = "WEIR_TEST_NETWORK" in os.environ
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1  # netdevice(7)


def set_loopback(up):
    """Bring the network up, or take it away: what is sent then reaches nobody."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        flags = flags | IFF_UP if up else flags & ~IFF_UP
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags))


def is_closed(client, most=65536):
    """Read what there is, and say nothing.  Has the service closed the connection?"""
    try:
        return client.socket.recv(most) == b""
    except ConnectionError:
        return True


def answer_pings(client):
    """Read what there is, as a client of good manners does.  Is the connection still there?"""
    while True:
        found = client.frame()
        if not found:
            return False
        if found[0] == PING and not found[1] & ACK:
            client.send(frame(PING, ACK, 0, found[3]))
        if not client.input:
            return True


class Silence(ServeTest):
    POLICIES = (("api", "1000000/365d"),)
    ADDRESSES = ("--grpc", "127.0.0.1:0")
    OPTIONS = ("--keepalive", "1", "--request-timeout", "1")

    def setUp(self):
        super().setUp()
        self.service = Service(self, "--threads", "1", *self.OPTIONS, addresses=self.ADDRESSES)
        self.before = resident_bytes(self.service.process)

    def client(self, **options):
        client = Client(self.service.address, **options)
        self.addCleanup(client.socket.close)
        return client

    def await_closed(self, clients, polite=()):
        """Until the service has closed all CLIENTS, while those that are polite answer."""
        waits = {client.socket: client for client in (*clients, *polite)}
        left = set(clients)
        while left:
            ready, _, _ = select.select(waits, [], [], PATIENCE_S)
            self.assertTrue(ready)
            for one in ready:
                client = waits[one]
                if client not in left:
                    self.assertTrue(answer_pings(client))
                elif is_closed(client):
                    left.remove(client)
                    del waits[one]

    def assert_well(self, client=None, grown=16 * MIB):
        answer = limiter.AllowResponse.FromString((client or self.client()).call(ALLOW))
        self.assertEqual(answer.decision.outcome, limiter.OUTCOME_ALLOWED)
        if "SANITIZED" not in os.environ:
            self.assertLess(resident_bytes(self.service.process) - self.before, grown)


class Silent(Silence):
    """Of three that hold all places two are there no more, though their hosts are."""

    # Patient: who is there must be able to answer in time, also where much else runs.
    OPTIONS = ("--keepalive", "1", "--request-timeout", "3", "--max-connections", "3")

    def test_who_does_not_answer(self):
        silent, there, watching = (self.client() for _ in range(3))
        self.assertTrue(silent.call(ALLOW))
        self.assertTrue(there.call(ALLOW))
        # What is sent to a client proves nothing of it.
        watching.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW, LARGEST_WINDOW)) +
                      frame(WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - 65535).to_bytes(4, "big")))
        stream = watching.begin(request_headers(b"/weir.v1.Limiter/Watch"))
        watching.send(frame(DATA, END_STREAM, stream, WATCH))
        self.assertTrue(watching.until(DATA, stream))
        self.assertIsNone(self.client().closed())
        self.await_closed([silent, watching], polite=[there])
        self.assert_well(there)
        self.assert_well()


class Stalled(Silence):
    """Clients that answer, but take what they asked for too slowly, or never."""

    OPTIONS = ("--request-timeout", "2")

    def stalled(self, calls, path=b"/weir.v1.Limiter/Allow", body=message(ALLOW)):
        """A client with as many calls, whose answers it gives no room."""
        client = self.client()
        client.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW, 0)))
        for _ in range(calls):
            stream = client.begin(request_headers(path))
            client.send(frame(DATA, END_STREAM, stream, body))
        return client

    def test_a_window_that_never_opens(self):
        """Large answers reach what a loop may hold, 64 MiB; then none of it is left."""
        clients = [self.stalled(100), self.stalled(100, b"/weir.v1.Limiter/Watch", WATCH)]
        clients += [self.stalled(100, REFLECT, ASKED * 50) for _ in range(4)]
        # What is small has room, also now.
        self.assert_well(grown=96 * MIB)
        self.await_closed(clients)
        again = self.client()
        stream = again.begin(request_headers(REFLECT))
        again.send(frame(DATA, END_STREAM, stream, ASKED))
        self.assertTrue(again.until(DATA, stream))
        self.assert_well(grown=96 * MIB)

    def test_a_socket_that_is_read_byte_by_byte(self):
        client = self.client(buffer_bytes=4096)
        client.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW, LARGEST_WINDOW)) +
                    frame(WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - 65535).to_bytes(4, "big")))
        client.socket.settimeout(0.1)
        try:
            # Until the service reads no more, because what it has to say does not leave.
            while True:
                client.begin(request_headers(REFLECT))
                client.send(frame(DATA, END_STREAM, client.next_stream - 2, ASKED * 50))
        except (ConnectionError, TimeoutError):
            pass
        client.socket.settimeout(PATIENCE_S)
        while not is_closed(client, 100):
            select.select([], [], [], 0.02)
        self.assert_well(grown=64 * MIB)

    def test_a_call_beside_others_that_go_on(self):
        """Such a call is reset, and the connection stays: others may share it."""
        client = self.client()
        client.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW, 0)))
        closed, half = client.begin(), client.begin()
        client.send(frame(DATA, END_STREAM, closed, message(ALLOW)) +
                    frame(DATA, 0, half, message(ALLOW)[:3]))
        ended = {}
        while len(ended) < 2:
            ended.update(self.go_on(client))
            select.select([], [], [], 0.02)
        self.assertEqual(ended, {closed: CANCEL, half: CANCEL})
        self.go_on(client)

    def go_on(self, client):
        """A call whose answer has room.  Returns the streams that are reset meanwhile."""
        stream = client.begin()
        client.send(frame(WINDOW_UPDATE, 0, stream, (65535).to_bytes(4, "big")) +
                    frame(DATA, END_STREAM, stream, message(ALLOW)))
        ended = {}
        while True:
            kind, flags, number, payload = client.frame()
            if kind == RST_STREAM:
                ended[number] = int.from_bytes(payload, "big")
            if kind == HEADERS and flags & END_STREAM and number == stream:
                return ended


class Gone(Silence):
    ADDRESSES = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")

    @unittest.skipUnless(OWN_NETWORK, "a network of our own is not permitted (unshare)")
    def test_without_a_word(self):
        self.addCleanup(set_loopback, True)
        before = self.sockets()
        idle, watching, half = (self.client() for _ in range(3))
        self.assertTrue(idle.call(ALLOW))
        stream = watching.begin(request_headers(b"/weir.v1.Limiter/Watch"))
        watching.send(frame(DATA, END_STREAM, stream, WATCH))
        self.assertTrue(watching.until(DATA, stream))
        half.begin()
        host, port = self.service.addresses[1].rsplit(":", 1)
        web = socket.create_connection((host, int(port)), PATIENCE_S)
        self.addCleanup(web.close)
        web.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(web.recv(4096))
        set_loopback(False)
        while self.sockets() > before:
            select.select([], [], [], 0.05)
        set_loopback(True)
        self.assert_well()

    def sockets(self):
        """How many the service has open."""
        directory = f"/proc/{self.service.process.pid}/fd"
        count = 0
        for name in os.listdir(directory):
            try:
                count += os.readlink(os.path.join(directory, name)).startswith("socket:")
            except FileNotFoundError:
                pass
        return count


def enter_own_network():
    """Begin again, in a network of our own, if that is permitted."""
    enter = ["unshare", "--net", "--map-root-user"]
    try:
        permitted = subprocess.run([*enter, "true"], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return
    if permitted:
        os.environ["WEIR_TEST_NETWORK"] = "own"
        os.execvp(enter[0], [*enter, sys.executable, *sys.argv])


def run_side_by_side(*cases):
    """Each in a process of its own: they only wait."""
    children = [subprocess.Popen([sys.executable, __file__, case.__name__]) for case in cases]
    sys.exit(max(abs(child.wait()) for child in children))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        run_side_by_side(Silent, Stalled, Gone)
    if OWN_NETWORK:
        set_loopback(True)
    else:
        enter_own_network()
    main()
