# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share: the program, on a segment of their own."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

PROGRAM = os.environ["WEIR"]
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

S = 10**9
NOW = 1_700_000_000 * S  # of the caller's clock


class WeirTest(unittest.TestCase):
    """Each test has a directory; self.segment is a path in it where none is yet."""

    maxDiff = None

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="weir-test-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.segment = os.path.join(self.directory, "segment")
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "LC_ALL": "C.UTF-8",
            "WEIR_SEGMENT": self.segment,
        }
        # Sanitizers of the build, if any, keep their options.
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                self.environment[name] = os.environ[name]

    def run_weir(self, *arguments, status=0, environment=None, **options):
        """Run weir, check its status, return (standard output, standard error) as bytes."""
        process = subprocess.run(
            [PROGRAM, *arguments],
            env={**self.environment, **(environment or {})},
            stdin=options.pop("stdin", None if "input" in options else subprocess.DEVNULL),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            timeout=60,
            **options,
        )
        self.assertEqual(
            process.returncode, status, f"weir {arguments}: {process.stdout} {process.stderr}"
        )
        return process.stdout, process.stderr

    def weir(self, *arguments, status=0, **options):
        """Standard output as text; nothing may stand on standard error."""
        output, errors = self.run_weir(*arguments, status=status, **options)
        self.assertEqual(errors, b"")
        return output.decode()

    def weir_json(self, *arguments, status=0, **options):
        """Standard output as JSON; nothing may stand on standard error."""
        return json.loads(self.weir(*arguments, "--json", status=status, **options))

    def weir_error(self, *arguments, status=2, **options):
        """The one line on standard error; nothing may stand on standard output."""
        output, errors = self.run_weir(*arguments, status=status, **options)
        self.assertEqual(output, b"")
        lines = errors.decode().splitlines()
        self.assertEqual(len(lines), 1, errors)
        self.assertTrue(lines[0].startswith("weir: "), errors)
        return lines[0]

    def create(self, *options):
        """A small segment whose time comes with each request."""
        self.weir("create", "--slots", "64", "--clock", "caller", *options)

    def at(self, seconds=0):
        """The option for a time, SECONDS after the first one."""
        return ("--now", str(NOW + int(seconds * S)))


def main():
    unittest.main()
