# SPDX-License-Identifier: Apache-2.0
"""Completion in bash, asked as bash asks it."""

import os
import shutil
import subprocess
import unittest

from support import PROGRAM, SOURCE, WeirTest, main

SCRIPT = r"""
compopt() { :; }        # may be called by a real completion only
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_weir
printf '%s\n' "${COMPREPLY[@]}"
"""


@unittest.skipUnless(shutil.which("bash"), "needs bash")
class Completion(WeirTest):
    def complete(self, *words):
        """What bash would offer for the last of the words."""
        path = os.path.dirname(os.path.abspath(PROGRAM))
        process = subprocess.run(
            ["bash", "-c", SCRIPT, "bash", os.path.join(SOURCE, "src", "cli", "weir.bash"),
             "weir", *words],
            env={**self.environment, "PATH": path + ":" + self.environment["PATH"]},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, cwd=self.directory,
        )
        self.assertEqual(process.stderr, b"")
        return sorted(process.stdout.decode().split())

    def test_commands(self):
        self.assertEqual(self.complete("st"), ["stats", "status"])
        self.assertEqual(self.complete("se"), ["serve"])
        self.assertEqual(self.complete("--segment", "x", "rep"), ["replay"])
        self.assertEqual(self.complete("policy", ""), ["list", "load", "remove", "set"])
        self.assertEqual(self.complete("help", "re"), ["refund", "remove", "replay", "reset"])
        self.assertEqual(self.complete("help", "policy", "l"), ["list", "load"])
        self.assertEqual(self.complete("sy"), ["sync"])
        self.assertEqual(self.complete("sync", ""), ["pause", "publish", "resume", "run", "status", "withdraw"])
        self.assertEqual(self.complete("help", "sync", "r"), ["resume", "run"])
        self.assertEqual(self.complete("--s"), ["--segment"])

    def test_options(self):
        self.assertEqual(self.complete("allow", "api", "key", "--c"), ["--cost"])
        self.assertEqual(
            self.complete("policy", "set", "api", "1/s", "--"),
            ["--buckets", "--consistency", "--fail-mode", "--help", "--json", "--lease", "--segment",
             "--shadow"],
        )
        self.assertEqual(self.complete("top", "--by", ""), ["consumed", "denied"])
        self.assertEqual(
            self.complete("sync", "run", "--redis", "unix:///x", "--"),
            ["--expected-hosts", "--follow-policies", "--help", "--interval-ms",
             "--max-staleness-ms", "--overshoot", "--prefix", "--redis", "--segment"],
        )
        self.assertEqual(self.complete("create", "--sy"), ["--sync"])
        self.assertEqual(self.complete("sync", "run", "--redis", ""),
                         ["redis://", "rediss://", "unix:///"])
        self.assertEqual(self.complete("sync", "run", "--redis", "un"), ["unix:///"])
        self.assertEqual(self.complete("sync", "status", "--j"), ["--json"])
        if "WEIR_SERVICE" in os.environ:
            self.assertEqual(self.complete("serve", "--max-m"), ["--max-message"])
            self.assertEqual(self.complete("serve", "--compat", "s"), ["strict"])
            self.assertEqual(self.complete("serve", "--compat", "strict", "--rul"), ["--rules"])
            self.assertEqual(self.complete("serve", "--threads", "2", "--take"), ["--takeover"])
        self.assertEqual(
            self.complete("policy", "set", "x", "1/s", "--fail-mode", ""),
            ["closed", "open", "share"],
        )

    def test_policies(self):
        self.assertEqual(self.complete("allow", ""), [])
        self.create()
        self.weir("policy", "set", "api", "1/s")
        self.weir("policy", "set", "login", "1/s")
        for command in ("allow", "status", "refund", "reset", "force-take", "acquire", "stats",
                        "fail-mode"):
            self.assertEqual(self.complete(command, ""), ["api", "login"], command)
        self.assertEqual(self.complete("allow", "--cost", "2", "l"), ["login"])
        self.assertEqual(self.complete("policy", "remove", "a"), ["api"])
        self.assertEqual(self.complete("sync", "publish", "api", ""), ["api", "login"])
        self.assertEqual(self.complete("sync", "withdraw", "l"), ["login"])
        self.assertEqual(self.complete("list", "--policy", "a"), ["api"])
        self.assertEqual(self.complete("fail-mode", "api", "d"), ["default"])
        self.environment["WEIR_SEGMENT"] = "no-such-segment"
        self.assertEqual(self.complete("allow", "--segment", self.segment, "a"), ["api"])

    def test_files(self):
        for name in ("access.log", "other"):
            with open(os.path.join(self.directory, name), "w", encoding="utf-8"):
                pass
        self.assertEqual(self.complete("replay", "a"), ["access.log"])
        self.assertEqual(self.complete("policy", "load", "o"), ["other"])


if __name__ == "__main__":
    main()
