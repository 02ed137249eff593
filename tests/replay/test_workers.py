# SPDX-License-Identifier: Apache-2.0
"""`weir replay`: what becomes of its processes, whoever is killed or stopped.

A worker that is stopped holds the replay at a barrier, so that nothing here
depends on how fast anything runs.
"""

import glob
import os
import pty
import select
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))

from support import PROGRAM, WeirTest, main

# Enough barriers that the test sees the workers before they are done.
LINES = 70_000
TRIES = 20
WORKERS = 3


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"     # gone


def exists(pid):
    return state_of(pid) != "X"


class Workers(WeirTest):
    def setUp(self):
        super().setUp()
        self.log = os.path.join(self.directory, "access.log")
        with open(self.log, "w", encoding="ascii") as file:
            for second in range(LINES):
                hour, rest = divmod(second, 3600)
                day, hour = divmod(hour, 24)
                clock = f"{day + 1:02}/Jun/2024:{hour:02}:{rest // 60:02}:{rest % 60:02}"
                file.write(f'192.0.2.{second % 7} - - [{clock} +0000] "GET / HTTP/1.1" 200 1\n')

    def start(self, **options):
        process = subprocess.Popen(
            [PROGRAM, "replay", self.log, "--limit", "1/10s", "--workers", str(WORKERS)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            **{"stderr": subprocess.PIPE, **options},
        )
        self.addCleanup(process.stdout.close)
        if process.stderr:
            self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def start_and_stop_one(self, **options):
        """A replay with all its workers, the first of which is stopped."""
        for _ in range(TRIES):
            process = self.start(**options)
            workers = []
            while process.poll() is None and len(workers) < WORKERS:
                workers = children_of(process.pid)
            if len(workers) == WORKERS:
                try:
                    os.kill(workers[0], signal.SIGSTOP)
                except ProcessLookupError:
                    continue
                while exists(workers[0]) and state_of(workers[0]) != "T" and process.poll() is None:
                    pass
                if state_of(workers[0]) == "T":
                    return process, workers
            process.kill()
            process.wait()
        self.fail(f"{TRIES} replays were over before a worker could be stopped")

    def assert_nothing_left(self, process, workers):
        for worker in workers:
            self.assertFalse(exists(worker), worker)
        self.assertEqual(glob.glob(f"/dev/shm/*weir-replay-{process.pid}-*"), [])

    def test_a_dead_worker_ends_the_replay(self):
        process, workers = self.start_and_stop_one()
        self.assertEqual(glob.glob(f"/dev/shm/*weir-replay-{process.pid}-*"), [])
        os.kill(workers[0], signal.SIGKILL)
        output, errors = process.communicate()
        self.assertEqual((process.returncode, output), (2, b""))
        self.assertRegex(
            errors.decode(),
            r"^weir: worker \d of 3 was killed by signal 9 \(Killed\) after \d+ of its requests, "
            r"and the totals would be wrong: start the replay again\n$",
        )
        self.assert_nothing_left(process, workers)

    def test_signals_end_workers_and_parent(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number):
                process, workers = self.start_and_stop_one()
                process.send_signal(number)
                output, _ = process.communicate()
                self.assertEqual((process.returncode, output), (-number, b""))
                self.assert_nothing_left(process, workers)

    def test_workers_do_not_outlive_a_killed_parent(self):
        process, workers = self.start_and_stop_one()
        process.kill()
        process.wait()
        # The one that is stopped may have been so before it asked to be killed with its
        # parent: then it finds out when it goes on.
        try:
            os.kill(workers[0], signal.SIGCONT)
        except ProcessLookupError:
            pass
        # Whoever adopts them reaps them: until then they are zombies.
        for worker in workers:
            while state_of(worker) not in "ZX":
                pass
        self.assertEqual(glob.glob(f"/dev/shm/*weir-replay-{process.pid}-*"), [])

    def test_an_ignored_hangup_stays_ignored(self):
        process, workers = self.start_and_stop_one(
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        )
        process.send_signal(signal.SIGHUP)
        os.kill(workers[0], signal.SIGCONT)
        output, errors = process.communicate()
        self.assertEqual((process.returncode, errors), (0, b""))
        self.assertIn(b"requests", output)
        self.assert_nothing_left(process, workers)

    def test_an_ignored_sigchld_does_not_hide_the_end(self):
        process, workers = self.start_and_stop_one(
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        )
        os.kill(workers[0], signal.SIGCONT)
        self.assertIn(b"requests", process.communicate()[0])
        self.assertEqual(process.returncode, 0)

    def test_progress_on_a_terminal_only(self):
        ours, theirs = pty.openpty()
        process, workers = self.start_and_stop_one(stderr=theirs)
        os.close(theirs)
        seen = b""
        while not seen.endswith(b"%)"):
            self.assertTrue(select.select([ours], [], [], 60)[0], seen)
            seen += os.read(ours, 4096)
        self.assertIn(b"weir: read 65536 lines\r\x1b[K", seen)
        self.assertRegex(seen, rb"weir: replayed \d+ of 70000 requests \(\d+ %\)$")
        os.kill(workers[0], signal.SIGCONT)
        while True:
            try:
                more = os.read(ours, 4096)
            except OSError:     # the other end is closed
                break
            if not more:
                break
            seen += more
        os.close(ours)
        self.assertTrue(seen.endswith(b"\r\x1b[K"), seen[-100:])
        self.assertIn(b"requests", process.communicate()[0])
        self.assertEqual(process.returncode, 0)


if __name__ == "__main__":
    main()
