# SPDX-License-Identifier: Apache-2.0
"""HTTP over TLS, with certificates of clients, and with new ones on SIGHUP."""

import http.client
import signal
import ssl
import threading

from certificates import Certificates
from support import PATIENCE_S, Service, main


class HttpTls(Certificates):
    POLICIES = (("api", "1000/365d"),)

    def serve(self, *options):
        return Service(self, "--tls-certificate", self.path("server.pem"), "--tls-key",
                       self.path("server.key"), *options, addresses=("--http-tls", "127.0.0.1:0"))

    def ask(self, service, authority="ca", client=None, version=None):
        """The status of an answer over a connection of its own."""
        context = ssl.create_default_context(cafile=self.path(authority + ".pem"))
        if client:
            context.load_cert_chain(self.path(client + ".pem"), self.path(client + ".key"))
        if version:
            context.minimum_version = context.maximum_version = version
        host, port = service.address.rsplit(":", 1)
        connection = http.client.HTTPSConnection(host, int(port), timeout=PATIENCE_S,
                                                 context=context)
        try:
            connection.request("POST", "/v1/allow?policy=api&key=k")
            return connection.getresponse().status
        finally:
            connection.close()

    def test_versions(self):
        service = self.serve()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.assertEqual(self.ask(service, version=version), 200)
        with self.assertRaises(OSError):
            self.ask(service, version=ssl.TLSVersion.TLSv1_1)

    def test_clients_must_show_theirs(self):
        self.issue("client", "ca")
        self.authority("stranger")
        self.issue("other", "stranger")
        service = self.serve("--tls-client-ca", self.path("ca.pem"))
        self.assertEqual(self.ask(service, client="client"), 200)
        self.assertEqual(self.ask(service), 403)
        self.assertEqual(self.ask(service, client="other"), 403)
        # What a certificate is for, if it says so.
        self.issue("server-only", "ca", purpose="serverAuth")
        self.issue("client-only", "ca", purpose="clientAuth")
        self.assertEqual(self.ask(service, client="server-only"), 403)
        self.assertEqual(self.ask(service, client="client-only"), 200)

    def test_names_of_clients(self):
        self.issue("client", "ca", "DNS:other,DNS:envoy.example")
        self.issue("envoy.example", "ca", "DNS:other.example")
        service = self.serve("--tls-client-ca", self.path("ca.pem"), "--tls-client-name",
                             "envoy.example")
        self.assertEqual(self.ask(service, client="client"), 200)
        self.assertEqual(self.ask(service, client="envoy.example"), 403)

    def test_new_certificates(self):
        service = self.serve()
        self.assertEqual(self.ask(service), 200)
        self.authority("new")
        self.issue("server", "new")
        service.process.send_signal(signal.SIGHUP)
        for _ in range(PATIENCE_S * 100):
            try:
                self.assertEqual(self.ask(service, "new"), 200)
                break
            except ssl.SSLError:
                threading.Event().wait(0.01)
        else:
            self.fail("the new certificate never came")
        # One that cannot be used changes nothing.
        with open(self.path("server.pem"), "w", encoding="utf-8") as file:
            file.write("no certificate")
        service.process.send_signal(signal.SIGHUP)
        self.assertIn("the certificates stay as they were", service.process.stderr.readline())
        self.assertEqual(self.ask(service, "new"), 200)


if __name__ == "__main__":
    main()
