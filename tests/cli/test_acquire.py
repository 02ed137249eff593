# SPDX-License-Identifier: Apache-2.0
"""acquire: a command runs while a unit of a concurrency limit is held."""

import os
import signal
import subprocess

from support import PROGRAM, WeirTest, main


class Acquire(WeirTest):
    def setUp(self):
        super().setUp()
        self.weir("create", "--slots", "64")
        self.weir("policy", "set", "jobs", "2 concurrency")

    def held(self):
        buckets = self.weir_json("list")["buckets"]
        return buckets[0]["consumed"] if buckets else 0

    def start(self, *command):
        """A command that waits until its standard input ends; it has begun."""
        process = subprocess.Popen(
            [PROGRAM, "acquire", "jobs", "host", "--", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self.environment,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), b"begun\n")
        return process

    def test_output_and_status_pass(self):
        self.assertEqual(
            self.weir("acquire", "jobs", "host", "--", "sh", "-c", "echo done; exit 7", status=7),
            "done\n",
        )
        self.assertEqual(self.weir("acquire", "jobs", "host", "--", "cat", input=b"in"), "in")
        self.assertEqual(self.held(), 0)

    def test_a_killed_command(self):
        self.weir("acquire", "jobs", "host", "--", "sh", "-c", "kill -KILL $$", status=128 + 9)
        self.assertEqual(self.held(), 0)

    def test_a_command_that_cannot_run(self):
        error = self.weir_error("acquire", "jobs", "host", "--", "no-such-command", status=127)
        self.assertIn('"no-such-command"', error)
        self.weir_error("acquire", "jobs", "host", "--", self.directory, status=126)
        self.assertEqual(self.held(), 0)

    def test_the_limit_holds(self):
        first = self.start("sh", "-c", "echo begun; cat")
        second = self.start("sh", "-c", "echo begun; cat")
        self.assertEqual(self.held(), 2)
        error = self.weir_error("acquire", "jobs", "host", "--", "true", status=1)
        self.assertIn("denied: 0 of 2 remaining", error)
        self.weir("acquire", "jobs", "another", "--", "true")
        first.communicate()
        self.assertEqual(first.returncode, 0)
        self.weir("acquire", "jobs", "host", "--", "true")
        second.communicate()

    def test_cost(self):
        self.weir("acquire", "jobs", "host", "--cost", "2", "--", "true")
        first = self.start("sh", "-c", "echo begun; cat")
        self.weir_error("acquire", "jobs", "host", "--cost", "2", "--", "true", status=1)
        first.communicate()
        self.weir_error("acquire", "jobs", "host", "--cost", "3", "--", "true", status=1)

    def test_signals_are_passed_on(self):
        process = self.start("sh", "-c", 'trap "exit 9" TERM; echo begun; while :; do read x; done')
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        self.assertEqual(process.returncode, 9)
        self.assertEqual(self.held(), 0)

    def test_death_frees_the_hold_and_ends_the_command(self):
        process = self.start("sh", "-c", "echo begun; exec cat")
        self.start("sh", "-c", "echo begun; cat")
        process.kill()
        process.wait(60)
        # The command has its end of the pipe until it dies, too.
        self.assertEqual(process.stdout.read(), b"")
        self.weir("acquire", "jobs", "host", "--", "true")

    def test_ignored_children(self):
        """A parent that ignores SIGCHLD does not take the status away."""
        process = subprocess.run(
            [PROGRAM, "acquire", "jobs", "host", "--", "sh", "-c", "exit 5"],
            env=self.environment, timeout=60,
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        )
        self.assertEqual(process.returncode, 5)

    def test_dashes(self):
        self.weir("acquire", "--", "jobs", "-key", "--", "true")
        self.assertEqual(
            self.weir("acquire", "jobs", "host", "--", "echo", "--", "--json"), "-- --json\n"
        )
        self.weir_error("acquire", "--", "jobs", "-key", "true")

    def test_other_policies_work_too(self):
        self.weir("policy", "set", "rate", "1/365d")
        self.assertEqual(self.weir("acquire", "rate", "key", "--", "echo", "ran"), "ran\n")
        self.weir_error("acquire", "rate", "key", "--", "echo", "ran", status=1)

    def test_unavailable(self):
        self.weir("remove")
        self.create("--holds", "0")
        self.weir("policy", "set", "jobs", "2 concurrency", "--fail-mode", "closed")
        error = self.weir_error("acquire", "jobs", "host", *self.at(), "--", "true", status=3)
        self.assertIn("rate limiter unavailable", error)
        self.assertIn("--holds", error)
        error = self.weir_error("acquire", "jobs", "host", "--", "true", status=3)
        self.assertIn("--now", error)

    def test_the_environment_and_directory_stay(self):
        output = self.weir(
            "acquire", "jobs", "host", "--", "sh", "-c", "pwd; echo $WEIR_SEGMENT",
            cwd=self.directory,
        )
        self.assertEqual(output, f"{os.path.realpath(self.directory)}\n{self.segment}\n")


if __name__ == "__main__":
    main()
