# SPDX-License-Identifier: Apache-2.0
"""The README's first screen works: its commands, its example, and CI runs its tests."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from extract import extract  # pylint: disable=wrong-import-position

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.md"
PROGRAM = "build/src/cli/weir"
FIRST_SCREEN = 60


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def commands():
    """The README's commands, each a list of the words of its parts."""
    return [[shlex.split(part) for part in line.split("&&")]
            for line in extract(README, "sh").strip().split("\n")]


def run(*words, **options):
    words = [os.environ["WEIR"] if word == PROGRAM else word for word in words]
    return subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **options)


class Readme(unittest.TestCase):
    maxDiff = None

    def test_two_commands_on_one_line_each(self):
        self.assertEqual(len(commands()), 2)

    def test_the_first_ends_with_the_report(self):
        setup, configure, build, replay = commands()[0]
        self.assertEqual(setup, ["tools/setup", "build"])
        self.assertEqual(configure, ["meson", "setup", "build", "-Dtests=disabled"])
        self.assertEqual(build, ["ninja", "-C", "build"])
        done = run(*replay)
        self.assertEqual(done.returncode, 0, done.stdout)
        for word in ("requests", "allowed", "denied", "decisions", "latency"):
            self.assertRegex(done.stdout, rf"(?m)^{word} ")

    def test_ci_runs_the_second(self):
        script = read(".ci/run")
        for part in commands()[1]:
            line = " ".join(part).replace("build-test", "build-ci")
            first, *rest = line.split(" -D")
            self.assertIn(first, script)
            for option in rest:
                self.assertIn("-D" + option, script)

    def test_setup_knows_its_words(self):
        for parts in commands():
            self.assertEqual(parts[0][0], "tools/setup")
            self.assertIn(f"\n{parts[0][1]}) packages=", read("tools/setup"))

    def test_the_example_is_short_and_limits(self):
        self.assertLessEqual(len(extract(README, "c").strip().split("\n")), 12)
        with tempfile.TemporaryDirectory() as directory:
            segment = os.path.join(directory, "example")
            environment = {**os.environ, "WEIR_SEGMENT": segment}
            for arguments in (["create"], ["policy", "set", "api", "2/365d"]):
                done = run(PROGRAM, *arguments, env=environment)
                self.assertEqual(done.returncode, 0, done.stdout)
            answers = [run(os.environ["WEIR_EXAMPLE"], segment, "192.0.2.7").returncode
                       for _ in range(3)]
            self.assertEqual(answers, [0, 0, 1])
            other = run(os.environ["WEIR_EXAMPLE"], segment, "192.0.2.8")
            self.assertEqual(other.returncode, 0)
            missing = run(os.environ["WEIR_EXAMPLE"], segment + "-missing", "192.0.2.8")
            self.assertEqual(missing.returncode, 2)

    def test_the_manual_has_the_same_example(self):
        def code(text):
            return [line.strip().split("/*")[0].rstrip() for line in text.strip().split("\n")]

        manual = re.search(r"^\.Bd -literal\n(.*?)^\.Ed", read("docs/man/libweir.3"),
                           re.DOTALL | re.MULTILINE).group(1)
        self.assertEqual(code(manual), code(extract(README, "c")))

    def test_policies_of_the_readme_load(self):
        with tempfile.TemporaryDirectory() as directory:
            environment = {**os.environ, "WEIR_SEGMENT": os.path.join(directory, "policies")}
            self.assertEqual(run(PROGRAM, "create", env=environment).returncode, 0)
            done = run(PROGRAM, "policy", "load", "-", env=environment,
                       input=extract(README, "yaml"))
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_first_screen_has_it_all(self):
        screen = "\n".join(read("README.md").split("\n")[:FIRST_SCREEN])
        for part in ("```sh", "```c", "command |", "**Downsides.**", "**liburcu**"):
            self.assertIn(part, screen)
        figures = re.findall(r"^\| \*\*[\d.]+", screen, re.MULTILINE)
        self.assertGreaterEqual(len(figures), 4)


if __name__ == "__main__":
    unittest.main()
