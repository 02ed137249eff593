# SPDX-License-Identifier: Apache-2.0
"""`weir replay` against exact rational arithmetic.

On a small log always; on the log named by WEIR_ACCESS_LOG as well, if it is set.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))

from oracle import Log, Result
from support import SOURCE, WeirTest, main

SMALL = os.path.join(SOURCE, "tests", "data", "access-small.log")

LIMITS = [
    "3/10s",
    "7/3s burst 2",
    "60/1m burst 10",
    "1/1s",
    "30000000/1s burst 1",
    "30000000/1s",
    "11/7s",
    "13/1m burst 1",
    "7/1m burst 3",
    "100/1m",
    "1000/1h",
    "1/7s burst 5",
    "999/1000ms burst 1",
    "17/13m burst 2",
    "5/10s fixed-window",
    "7/1m fixed-window",
    "5/10s sliding-window",
    "11/7s sliding-window",
    "7/1m sliding-window",
]

FIELDS = ["addr", "path", "user-agent", "method", "user", "addr+path", "user-agent+addr+method"]


def log_paths():
    return [SMALL] + ([os.environ["WEIR_ACCESS_LOG"]] if os.environ.get("WEIR_ACCESS_LOG") else [])


def key_of(entry):
    """The key of an entry of "top_keys", as the oracle has it (for keys of ASCII text)."""
    key = entry["key"]
    return tuple(part.encode() for part in (key.values() if isinstance(key, dict) else [key]))


class Oracle(WeirTest):
    @classmethod
    def setUpClass(cls):
        cls.logs = {}
        for path in log_paths():
            with open(path, "rb") as file:
                cls.logs[path] = Log(file.read())

    def replay(self, path, *options):
        return self.weir_json("replay", path, *options)

    def assert_same(self, report, log, expected):
        self.assertEqual(report["requests"], len(log.requests))
        self.assertEqual(report["malformed"], log.malformed)
        self.assertEqual(report["time_steps_back"], log.steps_back)
        self.assertEqual(report["denied"], expected.total)
        self.assertEqual(report["allowed"], len(log.requests) - expected.total)
        self.assertEqual(report["unavailable"], 0)
        self.assertEqual(report["evicted_live"], 0)
        self.assertEqual(report["keys"], len(set(expected.keys)))
        top = [(key_of(each), each["requests"], each["denied"]) for each in report["top_keys"]]
        self.assertEqual(top, expected.top())

    def test_one_limit_is_exact_with_one_worker_and_with_eight(self):
        for path, log in self.logs.items():
            for limit in LIMITS:
                expected = Result(log, log.keys("addr"), limit)
                for workers in ("1", "8"):
                    with self.subTest(path=path, limit=limit, workers=workers):
                        report = self.replay(path, "--limit", limit, "--workers", workers)
                        self.assert_same(report, log, expected)
                        (policy,) = report["policies"]
                        self.assertEqual(policy["name"], "replay")
                        self.assertEqual(policy["denied"], expected.total)
                        self.assertEqual(policy["limits"][0]["denied_alone"], expected.total)

    def test_limits_differ(self):
        """The oracle would agree with a program that denies nothing, were these alike."""
        log = self.logs[SMALL]
        totals = {Result(log, log.keys("addr"), limit).total for limit in LIMITS}
        self.assertGreaterEqual(len(totals), 12)

    def test_every_field_as_the_key(self):
        for path, log in self.logs.items():
            for field in FIELDS:
                expected = Result(log, log.keys(*field.split("+")), "11/7s")
                with self.subTest(path=path, field=field):
                    report = self.replay(
                        path, "--limit", "11/7s", "--key", field, "--workers", "8"
                    )
                    self.assertEqual(report["key_fields"], field.split("+"))
                    self.assert_same(report, log, expected)

    def test_several_limits_in_order(self):
        """All pass or none is charged; each alone as if the others were not there."""
        limits = ["3/10s", "7/1m burst 4", "5/10s fixed-window", "20/1m sliding-window"]
        options = [option for limit in limits for option in ("--limit", limit)]
        for path, log in self.logs.items():
            keys = log.keys("addr")
            expected = Result(log, keys, *limits)
            alone = [Result(log, keys, limit).total for limit in limits]
            with self.subTest(path=path):
                report = self.replay(path, *options, "--workers", "1")
                self.assert_same(report, log, expected)
                (policy,) = report["policies"]
                self.assertEqual([each["denied_alone"] for each in policy["limits"]], alone)

                # Together they may deny a request in vain, alone they are exact.
                report = self.replay(path, *options, "--workers", "8")
                (policy,) = report["policies"]
                self.assertEqual([each["denied_alone"] for each in policy["limits"]], alone)
                self.assertEqual(report["allowed"] + report["denied"], len(log.requests))

    def test_several_policies(self):
        """Each decides every request; one that any denies counts as denied."""
        text = (
            "policies:\n"
            "  - {name: fast, limits: [3/10s]}\n"
            "  - {name: slow, limits: [7/1m burst 4, 60/1m]}\n"
        )
        path_policies = os.path.join(self.directory, "policies.yaml")
        with open(path_policies, "w", encoding="utf-8") as file:
            file.write(text)
        for path, log in self.logs.items():
            keys = log.keys("addr")
            fast = Result(log, keys, "3/10s")
            slow = Result(log, keys, "7/1m burst 4", "60/1m")
            either = sum(a or b for a, b in zip(fast.denied, slow.denied))
            with self.subTest(path=path):
                report = self.replay(path, "--policies", path_policies, "--workers", "1")
                denied = {each["name"]: each["denied"] for each in report["policies"]}
                self.assertEqual(denied, {"fast": fast.total, "slow": slow.total})
                self.assertEqual(report["denied"], either)
                self.assertEqual(report["allowed"], len(log.requests) - either)
                self.assertEqual(report["decisions"], 2 * len(log.requests))

                report = self.replay(path, "--policies", path_policies, "--workers", "8")
                denied = {each["name"]: each["denied"] for each in report["policies"]}
                self.assertEqual(denied["fast"], fast.total)


if __name__ == "__main__":
    main()
