# SPDX-License-Identifier: Apache-2.0
"""Certificates of servers and clients, made by openssl here and now."""

import os
import shutil
import subprocess
import unittest

from support import PATIENCE_S, ServeTest


@unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
class Certificates(ServeTest):
    """An authority "ca", which has issued "server"."""

    def setUp(self):
        super().setUp()
        self.authority("ca")
        self.issue("server", "ca")

    def path(self, name):
        return os.path.join(self.directory, name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=PATIENCE_S)

    def authority(self, name):
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                     "-out", f"{name}.pem")

    def issue(self, name, authority, names="IP:127.0.0.1", purpose=None):
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}",
                     "-keyout", f"{name}.key", "-out", f"{name}.csr")
        with open(self.path("extensions"), "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={names}\n")
            if purpose:
                file.write(f"extendedKeyUsage={purpose}\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey",
                     f"{authority}.key", "-CAcreateserial", "-days", "2", "-extfile",
                     "extensions", "-out", f"{name}.pem")
