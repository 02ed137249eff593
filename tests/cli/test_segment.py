# SPDX-License-Identifier: Apache-2.0
"""create, remove, info, check, and an output that cannot be written."""

import os
import stat
import subprocess

from support import PROGRAM, WeirTest, main


class Segment(WeirTest):
    def info(self):
        return self.weir_json("info")

    def test_create_rounds_up_and_says_so(self):
        text = self.weir("create", "--slots", "100")
        self.assertIn("104 slots", text)
        info = self.info()
        self.assertEqual((info["slots"], info["slot_bytes"]), (104, 64 + 32))
        self.assertEqual(info["segment"], self.segment)
        self.assertEqual(info["clock"], "boottime")
        self.assertEqual(info["participants"], 1)
        self.assertRegex(info["incarnation"], "^[0-9a-f]{16}$")
        self.assertEqual(os.stat(info["path"]).st_size, info["size_bytes"])
        self.assertEqual(stat.S_IMODE(os.stat(info["path"]).st_mode), 0o600)

    def test_create_prints_json(self):
        created = self.weir_json("create", "--slots", "16")
        self.assertEqual(created, self.info())

    def test_options(self):
        self.weir(
            "create", "--slots=32", "--key-bytes=12", "--policies=3", "--holds=5", "--purses=6",
            "--mode=0660", "--group", str(os.getgid()), "--huge-pages", "--clock=caller",
        )
        info = self.info()
        self.assertEqual(info["slots"], 32)
        self.assertEqual((info["key_bytes"], info["slot_bytes"]), (16, 64 + 16))
        self.assertGreaterEqual(info["policies"], 3)
        self.assertGreaterEqual(info["holds"], 5)
        self.assertEqual(info["purses"], 8)
        self.assertEqual(info["clock"], "caller")
        status = os.stat(info["path"])
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o660)
        self.assertEqual(status.st_gid, os.getgid())

    def test_compact(self):
        self.weir("create", "--slots", "100", "--compact")
        info = self.info()
        self.assertTrue(info["compact"])
        self.assertEqual((info["slots"], info["key_bytes"], info["holds"]), (104, 0, 0))
        self.assertEqual(info["slot_bytes"], 16)
        self.assertIn("compact         yes\n", self.weir("info"))
        self.weir("policy", "set", "p", "3/10s")
        for remaining in (2, 1, 0):
            self.assertEqual(self.weir_json("allow", "p", "k")["remaining"], remaining)
        self.assertEqual(self.weir_json("status", "p", "k", "--cost=0")["remaining"], 0)
        self.weir("reset", "p", "k")
        self.assertEqual(self.weir_json("status", "p", "k")["remaining"], 3)
        self.assertIn("is sound", self.weir("check"))
        for command in (("list",), ("top", "--once"), ("list", "--json")):
            error = self.weir_error(*command)
            self.assertIn("compact", error)
            self.assertIn("weir status", error)
        for limit in ("5 concurrency", "3/10s sliding-window", "3/10s fixed-window"):
            self.assertIn("compact", self.weir_error("policy", "set", "q", limit))
        self.assertIn("sync", self.weir_error("sync", "status"))

    def test_not_with_compact(self):
        for option in ("--sync", "--holds=1", "--key-bytes=8"):
            with self.subTest(option=option):
                self.assertIn("compact", self.weir_error("create", "--compact", option))
        self.weir("create", "--compact", "--holds=0", "--key-bytes=0")

    def test_info_as_text(self):
        self.create()
        text = self.weir("info")
        self.assertIn(self.info()["path"], text)
        for line in ("slots           64\n", "clock           caller\n"):
            self.assertIn(line, text)

    def test_create_refuses_an_existing_segment(self):
        self.create()
        before = self.info()
        error = self.weir_error("create", "--slots", "64")
        self.assertIn(self.segment, error)
        self.assertIn("remove", error)
        self.assertEqual(self.info(), before)
        self.assertIn("--force", self.weir_error("create", "--force"))

    def test_bad_options(self):
        for options, says in (
            (("--slots", "many"), '"many"'),
            (("--slots", "0"), "out of range"),
            (("--slots", "-1"), '"-1"'),
            (("--slots", "18446744073709551616"), "18446744073709551616"),
            (("--slots", "1 "), '"1 "'),
            (("--slots", ""), '""'),
            (("--slots", "0x10"), '"0x10"'),
            (("--slots", str(2**40)), str(2**40)),
            (("--key-bytes", "100000"), "100000"),
            (("--mode", "0900"), '"0900"'),
            (("--mode", "rw"), '"rw"'),
            (("--group", "no-such-group"), '"no-such-group"'),
            (("--clock", "sundial"), "boottime, caller or tsc"),
            (("--secret-file", os.path.join(self.directory, "none")), "none"),
        ):
            with self.subTest(options=options):
                self.assertIn(says, self.weir_error("create", *options))
                self.assertEqual(os.listdir(self.directory), [])

    def test_secret_file(self):
        """Segments with the same secret give a key the same fingerprint."""
        secret = os.path.join(self.directory, "secret")
        fingerprints = []
        for content in (
            bytes(range(16)), bytes(range(16)).hex().encode() + b"\n",
            bytes(range(16)).hex().upper().encode(), b"x" * 16,
        ):
            with open(secret, "wb") as file:
                file.write(content)
            self.create("--secret-file", secret)
            self.weir("policy", "set", "api", "1/1d")
            self.weir("allow", "api", "key", *self.at())
            (bucket,) = self.weir_json("list", *self.at())["buckets"]
            fingerprints.append(bucket["fingerprint"])
            self.weir("remove")
        self.assertEqual(len(set(fingerprints[:3])), 1)
        self.assertNotEqual(fingerprints[0], fingerprints[3])

    def test_bad_secret_files(self):
        secret = os.path.join(self.directory, "secret")
        for content in (b"", b"x" * 15, b"x" * 17, b"g" * 32, b"0" * 31, b"0" * 34, b"0" * 1000):
            with open(secret, "wb") as file:
                file.write(content)
            error = self.weir_error("create", "--secret-file", secret)
            self.assertIn(secret, error)
            self.assertIn("16 bytes", error)

    def test_remove(self):
        self.create()
        path = self.info()["path"]
        self.assertEqual(self.weir("remove"), "")
        self.assertFalse(os.path.exists(path))
        self.assertIn(self.segment, self.weir_error("remove"))
        self.assertIn(self.segment, self.weir_error("info"))

    def test_no_segment(self):
        for command in (
            ("info",), ("check",), ("allow", "p", "k"), ("list",), ("stats",), ("top", "--once"),
            ("policy", "list"), ("policy", "set", "p", "1/s"), ("fail-mode", "p"),
            ("acquire", "p", "k", "--", "true"),
        ):
            with self.subTest(command=command):
                error = self.weir_error(*command)
                self.assertIn(self.segment, error)
                self.assertIn("weir create", error)


class Check(WeirTest):
    def test_sound(self):
        self.create()
        self.assertEqual(self.weir("check"), f'segment "{self.segment}" is sound\n')
        self.assertEqual(self.weir_json("check"), {"sound": True, "findings": []})

    def test_damaged(self):
        self.create()
        path = self.weir_json("info")["path"]
        with open(path, "r+b") as file:
            file.write(b"\xff" * 64)
        output, _ = self.run_weir("check", "--json", status=2)
        self.assertIn(b'"sound": false', output)
        self.assertGreater(len(self.run_weir("check", status=2)[0]), 1)
        # Nobody else takes it for a segment.
        self.assertIn(self.segment, self.weir_error("info"))


class Output(WeirTest):
    """What could not be printed is an error, not a success."""

    COMMANDS = (
        ("info",), ("info", "--json"), ("policy", "list"), ("list", *("--now", "1")),
        ("list", "--now", "1", "--json"), ("stats",), ("stats", "--json"), ("check",),
        ("top", "--once", "--now", "1"), ("version",), ("help",), ("allow", "--help"),
        ("--help",), ("--version",), ("allow", "api", "key", "--now", "1"),
        ("help", "allow"),
    )

    def setUp(self):
        super().setUp()
        self.create()
        self.weir("policy", "set", "api", "100/1s")

    def test_full_device(self):
        for command in self.COMMANDS:
            if command[0] == "list" and "--json" not in command:
                continue  # prints nothing yet
            with self.subTest(command=command), open("/dev/full", "wb") as full:
                _, errors = self.run_weir(*command, status=2, stdout=full)
                self.assertIn(b"cannot write to standard output: No space", errors)

    def test_closed_descriptor(self):
        """The segment must not be opened as descriptor 1 and printed into."""
        command = " ".join([PROGRAM, "info", ">&-"])
        process = subprocess.run(
            ["sh", "-c", command], env=self.environment, stderr=subprocess.PIPE, timeout=60
        )
        self.assertEqual(process.returncode, 2)
        self.assertIn(b"cannot write to standard output", process.stderr)
        subprocess.run(
            ["sh", "-c", command + " 2>&- <&-"], env=self.environment, timeout=60, check=False
        )
        self.assertEqual(self.weir_json("check"), {"sound": True, "findings": []})


if __name__ == "__main__":
    main()
