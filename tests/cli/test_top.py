# SPDX-License-Identifier: Apache-2.0
"""The live view of top, in a terminal of its own."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios

from support import PROGRAM, WeirTest, main

TIMEOUT_S = 60


class Terminal(WeirTest):
    def setUp(self):
        super().setUp()
        self.create()
        self.weir("policy", "set", "api", "50/1h")
        for number in range(1, 9):
            self.weir("allow", "api", f"key {number}", "--cost", str(number), *self.at())

    def start(self, rows=24):
        self.master, slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [PROGRAM, "top", *self.at()], stdin=slave, stdout=slave, stderr=slave,
            env=self.environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        self.slave = slave
        self.addCleanup(os.close, slave)
        self.output = b""

    def read_until(self, text):
        """Read on until TEXT appears; what was read before counts no more."""
        self.output = b""
        while text not in self.output:
            ready, _, _ = select.select([self.master], [], [], TIMEOUT_S)
            self.assertTrue(ready, self.output)
            self.output += os.read(self.master, 4096)

    def check_left(self):
        self.read_until(b"\x1b[?1049l")
        self.assertEqual(self.process.wait(TIMEOUT_S), 0)
        self.assertEqual(termios.tcgetattr(self.slave), self.before)

    def test_q_leaves(self):
        self.start()
        self.read_until(b"key 1\x1b[K")
        self.assertIn(b"\x1b[?1049h", self.output)
        self.assertLess(self.output.index(b"key 8"), self.output.index(b"key 7"))
        self.assertFalse(termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO))
        os.write(self.master, b"q")
        self.check_left()

    def test_interrupt_leaves(self):
        self.start()
        self.read_until(b"key 1\x1b[K")
        os.write(self.master, b"\x03")
        self.check_left()

    def test_termination_leaves(self):
        self.start()
        self.read_until(b"key 1\x1b[K")
        self.process.send_signal(signal.SIGTERM)
        self.check_left()

    def test_order_is_switched(self):
        self.start()
        self.read_until(b"by consumed")
        os.write(self.master, b"d")
        self.read_until(b"by denied")
        os.write(self.master, b"c")
        self.read_until(b"by consumed")
        os.write(self.master, b"q")
        self.check_left()

    def test_refreshes(self):
        self.start()
        self.read_until(b"key 1\x1b[K")
        self.weir("allow", "api", "late key", *self.at())
        self.read_until(b"late key\x1b[K")
        self.assertIn(b"/s", self.output)
        os.write(self.master, b"q")
        self.check_left()

    def test_small_terminal(self):
        self.start(rows=7)
        self.read_until(b"\x1b[J")
        self.read_until(b"\x1b[J")
        self.assertIn(b"key 8", self.output)
        self.assertIn(b"key 7", self.output)
        self.assertNotIn(b"key 6", self.output)
        os.write(self.master, b"q")
        self.check_left()

    def test_stop_gives_the_terminal_back(self):
        self.start()
        self.read_until(b"key 1\x1b[K")
        os.write(self.master, b"\x1a")
        self.read_until(b"\x1b[?1049l")
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        self.assertTrue(os.WIFSTOPPED(status))
        self.assertEqual(termios.tcgetattr(self.slave), self.before)
        self.process.send_signal(signal.SIGCONT)
        self.read_until(b"\x1b[?1049h")
        self.read_until(b"key 1\x1b[K")
        os.write(self.master, b"q")
        self.check_left()


if __name__ == "__main__":
    main()
