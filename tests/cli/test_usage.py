# SPDX-License-Identifier: Apache-2.0
"""Commands, options, help: what is accepted where, and what is said of the rest."""

import os
import re

from support import SOURCE, WeirTest, main

COMMANDS = [
    "create", "remove", "info", "check", "policy set", "policy list", "policy remove",
    "policy load", "fail-mode", "allow", "status", "refund", "force-take", "reset", "acquire",
    "list", "top", "stats", "sync run", "sync status", "sync publish", "sync withdraw",
    "sync pause", "sync resume", "replay", "serve", "version", "help",
]

# A build may leave the service out.
BUILT = [command for command in COMMANDS
         if command != "serve" or "WEIR_SERVICE" in os.environ]


class Usage(WeirTest):
    def test_overview(self):
        text = self.weir("help")
        self.assertEqual(re.findall("^  ([a-z-]+(?: [a-z]+)?)  ", text, re.MULTILINE), COMMANDS)
        self.assertIn("WEIR_SEGMENT", text)
        self.assertEqual(self.weir("--help"), text)
        self.assertEqual(self.weir("-h"), text)
        self.assertEqual(self.weir("help", "help"), text)
        output, errors = self.run_weir(status=2)
        self.assertEqual((output, errors.decode()), (b"", text))

    def test_help_of_each_command(self):
        for command in BUILT[:-1]:
            with self.subTest(command=command):
                text = self.weir("help", *command.split())
                self.assertTrue(text.startswith(f"Usage: weir {command}"), text)
                self.assertIn("--help", text)
                self.assertEqual(self.weir(*command.split(), "--help"), text)
                self.assertEqual(self.weir(*command.split(), "-h"), text)
                # No line is too wide for a terminal.
                self.assertLessEqual(max(map(len, text.splitlines())), 100)

    def test_help_of_families(self):
        for family in ("policy", "sync"):
            with self.subTest(family=family):
                text = self.weir("help", family)
                self.assertTrue(text.startswith(f"Usage: weir {family} COMMAND"), text)
                self.assertEqual(re.findall("^  ([a-z-]+ [a-z]+)  ", text, re.MULTILINE),
                                 [name for name in COMMANDS if name.startswith(family + " ")])
                self.assertEqual(self.weir(family, "--help"), text)
                self.assertEqual(self.weir(family, "-h"), text)
                self.assertIn("unknown command", self.weir_error(family, "--frobnicate"))
                self.assertIn("needs a second word", self.weir_error(family))

    def test_every_command_that_reports_takes_json(self):
        silent = {"remove", "policy remove", "acquire", "sync run", "sync pause", "sync resume",
                  "help", "serve"}
        for command in BUILT[:-1]:
            with self.subTest(command=command):
                text = self.weir("help", *command.split())
                self.assertEqual("--json" in text, command not in silent)

    def test_unknown_commands(self):
        for given, says in (
            (("alow",), 'did you mean "allow"?'),
            (("sttas",), 'did you mean "stats"?'),
            (("policy", "lsit"), 'did you mean "policy list"?'),
            (("polcy", "list"), "unknown command"),
            (("policy",), "`weir policy` needs a second word"),
            (("frobnicate",), "see `weir help`"),
            (("",), "unknown command"),
            (("help", "alow"), 'did you mean "allow"?'),
            (("help", "allow", "more"), 'stray argument "more"'),
        ):
            with self.subTest(given=given):
                self.assertIn(says, self.weir_error(*given))

    def test_unknown_options(self):
        for given, says in (
            (("--jsn", "info"), "--jsn"),
            (("info", "--jsno"), "did you mean --json?"),
            (("info", "--frobnicate=1"), "unknown or ambiguous option --frobnicate=1"),
            (("info", "-x"), "unknown option -x"),
            (("info", "--json=yes"), "option --json=yes takes no value"),
            (("allow", "--cost"), "option --cost needs a value"),
            (("--segment",), "option --segment needs a value"),
            (("refund", "api", "key", "-5"), "behind --"),
        ):
            with self.subTest(given=given):
                self.assertIn(says, self.weir_error(*given))

    def test_stray_and_missing_arguments(self):
        for given, says in (
            (("info", "x"), 'stray argument "x"'),
            (("remove", "x"), 'stray argument "x"'),
            (("create", "x"), 'stray argument "x"'),
            (("policy", "list", "x"), 'stray argument "x"'),
            (("policy", "load", "x", "y"), 'stray argument "y"'),
            (("version", "x"), 'stray argument "x"'),
            (("allow", "api"), "use `weir allow POLICY KEY [--cost N]`"),
            (("allow", "api", "key", "7"), 'stray argument "7"'),
            (("refund", "api", "key"), "arguments are missing"),
            (("policy", "set", "api"), "arguments are missing"),
            (("fail-mode",), "arguments are missing"),
            (("acquire", "api", "key", "--"), "arguments are missing"),
            (("acquire", "api", "key", "true"), 'behind "--"'),
            (("remove", "--json"), "unknown"),
            (("--json", "remove"), "reports nothing"),
            (("version", "--segment", "x"), "unknown"),
            (("--segment", "x", "version"), "uses no segment"),
        ):
            with self.subTest(given=given):
                self.assertIn(says, self.weir_error(*given))

    def test_numbers_are_strict(self):
        self.create()
        self.weir("policy", "set", "api", "3/3s")
        for number in ("", "x", "1x", " 1", "1 ", "+1", "-1", "1.0", "1e3", "0x1", str(2**64),
                       "1" * 100, str(2**47)):
            with self.subTest(number=number):
                error = self.weir_error("allow", "api", "key", *self.at(), f"--cost={number}")
                self.assertIn(f"--cost is {number}" if number.isdigit() else f'"{number}"', error)
                self.weir_error("refund", *self.at(), "--", "api", "key", number)
        self.assertEqual(self.weir_json("status", "api", "key", *self.at())["remaining"], 3)
        self.weir_error("refund", "api", "key", "0", *self.at())
        self.weir_error("allow", "api", "key", "--now", "0")

    def test_version(self):
        version = self.weir_json("version")
        self.assertRegex(version["version"], r"^\d+\.\d+\.\d+$")
        self.assertIn(version["library_version"], self.weir("version"))
        self.assertEqual(self.weir("--version"), f"weir {version['version']}\n")

    def test_messages_are_escaped(self):
        error = self.weir_error("\x1b]0;hostile\x07")
        self.assertIn(r"\x1b]0;hostile\x07", error)
        self.assertIn(r"a\x0ab", self.weir_error("info", "a\nb"))


class Segment(WeirTest):
    def test_before_and_after_the_command(self):
        other = os.path.join(self.directory, "other")
        self.weir("--segment", other, "create", "--slots", "16")
        self.weir("create", "--slots", "32")
        for arguments in (
            ("--segment", other, "info"), (f"--segment={other}", "info"),
            ("info", "--segment", other), ("info", f"--segment={other}"),
            ("--segment", self.segment, "info", "--segment", other),
        ):
            self.assertEqual(self.weir_json(*arguments)["slots"], 16)
        self.assertEqual(self.weir_json("info")["slots"], 32)

    def test_json_before_the_command(self):
        self.create()
        self.assertEqual(self.weir("--json", "info"), self.weir("info", "--json"))

    def test_options_between_operands(self):
        self.create()
        self.weir("policy", "set", "api", "3/3s")
        for environment in ({}, {"POSIXLY_CORRECT": "1"}):
            self.weir("allow", *self.at(), "api", "--cost", "0", "key", environment=environment)

    def test_default_name(self):
        """Whether or not somebody has made it, the message names it."""
        self.environment.pop("WEIR_SEGMENT")
        for environment in ({}, {"WEIR_SEGMENT": ""}):
            error = self.weir_error("fail-mode", "no-such-policy-here", environment=environment)
            self.assertRegex(error, '"weir"|/weir[ .:]')


class Sources(WeirTest):
    def test_the_program_is_an_outsider(self):
        """It includes weir.h and its own headers, no other one of the project."""
        directory = os.path.join(SOURCE, "src", "cli")
        own = set(os.listdir(directory)) | {"weir.h"}
        for name in own - {"weir.h"}:
            if not name.endswith((".c", ".h")):
                continue
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                included = re.findall('^#include "(.*)"', file.read(), re.MULTILINE)
            self.assertEqual([header for header in included if header not in own], [], name)


if __name__ == "__main__":
    main()
