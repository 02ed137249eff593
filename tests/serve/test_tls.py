# SPDX-License-Identifier: Apache-2.0
"""TLS: certificates of servers and clients, made by openssl here and now."""

import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import unittest

import grpc

from certificates import Certificates
from support import PATIENCE_S, Service, Limiter, main


# A ClientHello that announces 512 bytes, and the first 200 of them: zeros are no error yet.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(194)


class Tls(Certificates):
    POLICIES = (("api", "1000/365d"),)

    def serve(self, *options):
        return Service(self, "--tls-certificate", self.path("server.pem"), "--tls-key",
                       self.path("server.key"), *options,
                       addresses=("--grpc-tls", "127.0.0.1:0", "--grpc", "127.0.0.1:0"))

    def asked(self, service, authority="ca", client=None):
        pair = (self.read(client + ".key"), self.read(client + ".pem")) if client else (None, None)
        channel = grpc.secure_channel(
            service.address, grpc.ssl_channel_credentials(self.read(authority + ".pem"), *pair))
        self.addCleanup(channel.close)
        return Limiter(channel, wait_for_ready=False)

    def allow(self, limiter):
        return limiter.Allow(policy="api", key=b"k").decision.remaining

    def assert_no_connection(self, limiter):
        with self.assertRaises(grpc.RpcError) as caught:
            self.allow(limiter)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def shown(self, service, protocols=("h2",), version=None):
        """The certificate that a client is shown, and the protocol that was chosen."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path("ca.pem"))
        context.set_alpn_protocols(protocols)
        if version:
            context.minimum_version = context.maximum_version = version
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        host, port = service.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as plain:
            with context.wrap_socket(plain, server_hostname=host) as client:
                return client.getpeercert(True), client.selected_alpn_protocol()

    def test_slow_handshakes(self):
        """Silent, half of a hello, and byte by byte: each is cut off, over gRPC and HTTP."""
        service = Service(self, "--tls-certificate", self.path("server.pem"), "--tls-key",
                          self.path("server.key"), "--request-timeout", "1", "--threads", "1",
                          addresses=("--grpc-tls", "127.0.0.1:0", "--http-tls", "127.0.0.1:0"))
        clients = []
        for address in service.addresses:
            host, port = address.rsplit(":", 1)
            for sent in (b"", HELLO, b""):
                client = socket.create_connection((host, int(port)), PATIENCE_S)
                self.addCleanup(client.close)
                client.sendall(sent)
                clients.append(client)
        dripping = {client: iter(HELLO) for client in clients[2::3]}
        while clients:
            for client in select.select(clients, [], [], 0.05)[0]:
                try:
                    # An alert may come first.
                    if client.recv(4096):
                        continue
                except ConnectionError:
                    pass
                clients.remove(client)
                dripping.pop(client, None)
            for client, rest in dripping.items():
                try:
                    client.sendall(bytes([next(rest)]))
                except ConnectionError:
                    pass
        self.assertEqual(self.allow(self.asked(service)), 999)

    def test_tls_beside_plain(self):
        service = self.serve()
        self.assertEqual(self.allow(self.asked(service)), 999)
        self.assertEqual(self.allow(service.limiter(service.addresses[1])), 998)
        # Large messages are many records.
        answer = self.asked(service).Allow(policy="api", key=b"k" * 65536)
        self.assertEqual(answer.decision.remaining, 999)
        self.assert_no_connection(Limiter(service.channel(service.address), wait_for_ready=False))
        self.assertEqual(service.end(), "")

    def test_a_stranger_is_not_trusted(self):
        self.authority("other")
        self.assert_no_connection(self.asked(self.serve(), "other"))

    def test_protocols(self):
        service = self.serve()
        self.assertEqual(self.shown(service)[1], "h2")
        self.assertEqual(self.shown(service, ("http/1.1", "h2"))[1], "h2")
        with self.assertRaises(ssl.SSLError):
            self.shown(service, ("http/1.1",))
        self.shown(service, version=ssl.TLSVersion.TLSv1_2)
        with self.assertRaises((ssl.SSLError, ConnectionResetError)):
            self.shown(service, version=ssl.TLSVersion.TLSv1_1)

    def test_certificates_of_clients(self):
        self.authority("other")
        self.issue("friend", "ca")
        self.issue("foe", "other")
        service = self.serve("--tls-client-ca", self.path("ca.pem"))
        self.assertEqual(self.allow(self.asked(service, client="friend")), 999)
        self.assert_no_connection(self.asked(service, client="foe"))
        self.issue("server-only", "ca", purpose="serverAuth")
        self.assert_no_connection(self.asked(service, client="server-only"))
        self.assert_no_connection(self.asked(service))
        self.assertEqual(self.allow(self.asked(service, client="friend")), 998)

    def test_names_of_clients(self):
        """The name is one of those that the certificate is for, and not its subject."""
        self.issue("friend", "ca", "DNS:other,DNS:envoy.example")
        self.issue("envoy.example", "ca", "DNS:other.example")
        service = self.serve("--tls-client-ca", self.path("ca.pem"), "--tls-client-name",
                             "envoy.example")
        self.assertEqual(self.allow(self.asked(service, client="friend")), 999)
        self.assert_no_connection(self.asked(service, client="envoy.example"))
        self.assert_no_connection(self.asked(service))

    def test_certificates_are_read_again(self):
        service = self.serve()
        asked = self.asked(service)
        self.assertEqual(self.allow(asked), 999)
        first = self.shown(service)[0]

        with open(self.path("server.pem"), "w", encoding="utf-8") as file:
            file.write("no certificate")
        service.process.send_signal(signal.SIGHUP)
        self.assertIn("the certificates stay as they were", service.process.stderr.readline())
        self.assertEqual(self.shown(service)[0], first)

        os.unlink(self.path("server.pem"))
        os.mkfifo(self.path("server.pem"))
        service.process.send_signal(signal.SIGHUP)
        self.assertIn("is no regular file", service.process.stderr.readline())

        os.unlink(self.path("server.pem"))
        self.issue("server", "ca")
        service.process.send_signal(signal.SIGHUP)
        while self.shown(service)[0] == first:
            pass
        # Who is connected stays so.
        self.assertEqual(self.allow(asked), 998)
        self.assertEqual(service.end(), "")

    def refused(self, says, **files):
        files = {"certificate": "server.pem", "key": "server.key", **files}
        options = [part for name, file in files.items()
                   for part in ("--tls-" + name.replace("_", "-"), self.path(file))]
        with self.assertRaisesRegex(AssertionError, says):
            Service(self, *options, addresses=("--grpc-tls", "127.0.0.1:0"))

    def test_files_that_are_none(self):
        self.issue("other", "ca")
        self.openssl("pkey", "-in", "server.key", "-aes256", "-passout", "pass:x", "-out",
                     "secret.key")
        self.refused("does not belong to the certificate", key="other.key")
        # Without a question at the terminal, that is.
        self.refused("^weir: the key .* has a pass phrase", key="secret.key")
        for file in ("certificate", "key", "client_ca"):
            option = "--tls-" + file.replace("_", "-")
            self.refused(f'{option} ".*/gone": No such file', **{file: "gone"})
            self.refused(f"{option} .*: (no start line|unsupported); give a PEM file",
                         **{file: "server.csr"})


if __name__ == "__main__":
    main()
