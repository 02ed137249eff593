# SPDX-License-Identifier: Apache-2.0
"""`weir replay --hosts`: several hosts with processes of their own, and a real Redis.

Totals and bounds must hold however fast anything runs; nothing else is asserted of
what was admitted.  Views stay fresh for longer than any test lasts.
"""

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))

from redis_server import PATIENCE_S, Redis, require_redis
from support import PROGRAM, SOURCE, WeirTest, main

SMALL = os.path.join(SOURCE, "tests", "data", "access-small.log")
FRESH = ("--max-staleness-ms", "3600000")
SVG = "{http://www.w3.org/2000/svg}"
POLICIES = """
policies:
  - name: one
    limits: [20/1m]
    consistency: local
  - name: two
    limits: [10/1m burst 5, 100/1h]
    shadow: true
"""


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


class Hosts(WeirTest):
    def setUp(self):
        super().setUp()
        self.redis = Redis(self.directory)
        self.addCleanup(self.redis.end)
        self.redis.start()

    def redis_keys(self):
        command = ["redis-cli", "-s", self.redis.socket, "--scan"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
        return done.stdout.split()

    def eventually(self, condition):
        until = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), until, "it never came")
            time.sleep(0.005)

    def hosts(self, *options, count=3, **more):
        return self.weir_json("replay", *options, "--hosts", str(count), "--redis", self.redis.url,
                              *FRESH, **more)

    def assert_sound(self, report):
        """Totals add up, and no bound is broken, in each mode of each policy."""
        for mode in report["modes"]:
            for policy in mode["policies"]:
                where = (mode["mode"], policy)
                sum_of_all = policy["allowed"] + policy["denied"] + policy["unavailable"]
                self.assertEqual(sum_of_all, report["requests"], where)
                self.assertLessEqual(policy["denied_by_mode"], policy["denied"], where)
                self.assertGreater(policy["ideal_allowed"], 0, where)
                self.assertAlmostEqual(policy["admitted_to_ideal"],
                                       policy["allowed"] / policy["ideal_allowed"])
                for limit in policy["limits"]:
                    if policy["by_fail_mode"] == 0:
                        self.assertIs(limit["within"], True, where)
                        self.assertLessEqual(limit["over_admission"], limit["bound"], where)
        self.assertEqual(self.redis_keys(), [])

    def test_a_log_in_every_mode(self):
        report = self.hosts(SMALL, "--limit", "10/1m", "--speed", "500", "--interval-ms", "10")
        self.assertEqual(
            set(report) - {"lines", "malformed", "malformed_first", "time_steps_back",
                           "requests_held", "first_time", "last_time", "keys", "key_fields"},
            {"requests", "hosts", "workers", "deal", "speed", "slots", "interval_ns",
             "interval_in_log_ns", "overshoot_permille", "concurrency_limits_left_out", "modes"})
        self.assertEqual((report["requests"], report["hosts"], report["workers"]), (299, 3, 1))
        self.assertEqual((report["deal"], report["speed"]), ("round-robin", 500))
        self.assertEqual(report["interval_in_log_ns"], 500 * 10_000_000)
        modes = {mode["mode"]: mode for mode in report["modes"]}
        self.assertEqual(set(modes), {"local", "eventual", "bounded", "strict"})
        self.assert_sound(report)
        for mode in modes.values():
            self.assertEqual(
                set(mode), {"mode", "policies", "rounds", "longest_round_ns",
                            "longest_unmerged_ns", "slowest_decision_ns", "latest_ns",
                            "elapsed_ns"})
            self.assertGreater(mode["rounds"], 0)
            limit, = mode["policies"][0]["limits"]
            self.assertEqual(
                set(limit), {"limit", "limit_here", "over_admission", "over_admission_of_burst",
                             "bound", "within"})
            self.assertEqual((limit["limit"], limit["limit_here"]), ("10/1m", "10/120ms"))
        for name in ("local", "eventual", "bounded"):
            self.assertEqual(modes[name]["policies"][0]["by_fail_mode"], 0)
        # Each host of three has the whole limit, and a third of the requests.
        local = modes["local"]["policies"][0]
        self.assertGreater(local["limits"][0]["over_admission"], 0)
        self.assertGreater(local["allowed"], local["ideal_allowed"])

    def test_a_key_to_one_host_is_exact(self):
        report = self.hosts(SMALL, "--limit", "10/1m", "--speed", "2000", "--deal", "key",
                            "--workers", "2", "--consistency", "local,eventual")
        self.assert_sound(report)
        self.assertEqual([mode["mode"] for mode in report["modes"]], ["local", "eventual"])
        for mode in report["modes"]:
            policy, = mode["policies"]
            # Two workers may read the clock in another order than they decide in, which
            # admits less.
            self.assertEqual(policy["limits"][0]["over_admission"], 0)
            self.assertLessEqual(policy["allowed"], policy["ideal_allowed"])

    def test_demand(self):
        report = self.hosts("--demand", "3", "--seconds", "1", "--limit", "500/1s", "--deal",
                            "random", "--consistency", "bounded,eventual", "--interval-ms", "10",
                            count=4)
        self.assertEqual(report["demand"], 3)
        self.assertGreater(report["requests"], 1300)
        self.assertNotIn("lines", report)
        self.assert_sound(report)
        bounded = report["modes"][0]["policies"][0]
        # Q = 5 % of 500 in three other hosts.
        self.assertGreaterEqual(bounded["limits"][0]["bound"], 3 * 8)

    def test_strict_mode_waits_for_its_leases(self):
        # As long as half of the time in which a new Redis grants none.
        report = self.hosts("--demand", "3", "--seconds", "1", "--limit", "500/1s burst 250",
                            "--deal", "random", "--consistency", "strict", "--interval-ms", "10")
        self.assert_sound(report)
        policy = report["modes"][0]["policies"][0]
        self.assertLess(policy["by_fail_mode"], report["requests"])
        self.assertGreater(policy["allowed"], 0)

    def test_a_file_of_policies(self):
        path = os.path.join(self.directory, "policies.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(POLICIES)
        report = self.hosts(SMALL, "--policies", path, "--speed", "2000", "--consistency",
                            "bounded", count=2)
        self.assert_sound(report)
        policies = report["modes"][0]["policies"]
        self.assertEqual({policy["name"]: len(policy["limits"]) for policy in policies},
                         {"one": 1, "two": 2})

    def test_text_and_plot(self):
        plot = os.path.join(self.directory, "plot.svg")
        text = self.weir("replay", SMALL, "--limit", "10/1m", "--speed", "2000", "--hosts", "2",
                         "--redis", self.redis.url, *FRESH, "--consistency", "bounded,local",
                         "--plot", plot)
        self.assertIn("dealt to 2 hosts by turns, 1 worker each; a round every 100ms,\n"
                      "at 2000 times the log's speed: as rounds every 3m20s in its time\n", text)
        self.assertRegex(text, r"(?m)^bounded +\d+ +\d+ .* within$")
        self.assertRegex(text, r"(?m)^local +\d+ +\d+ .* within$")
        root = ElementTree.parse(plot).getroot()
        self.assertEqual(root.tag, SVG + "svg")
        self.assertEqual(len(root.findall(f"{SVG}g")), 2)

    def test_a_policy_that_cannot_be_so_fast_or_is_no_bucket(self):
        for limit, speed, words in (("10/1s", "5000", "5000 times as fast"),
                                    ("10/1m sliding-window", "1", "no token bucket")):
            error = self.weir_error("replay", SMALL, "--limit", limit, "--speed", speed,
                                    "--hosts", "2", "--redis", self.redis.url)
            self.assertIn(words, error)

    def test_arguments(self):
        redis = ("--redis", self.redis.url)
        for words, message in (
            ((SMALL, "--hosts", "2"), "give --redis URL"),
            ((SMALL, *redis), "give --hosts N"),
            ((SMALL, "--hosts", "1", *redis), "from 2 to 64"),
            ((SMALL, "--hosts", "65", *redis), "from 2 to 64"),
            ((SMALL, "--hosts", "64", "--workers", "5", *redis), "more than 256 processes"),
            ((SMALL, "--hosts", "2", "--consistency", "none", *redis), "none"),
            ((SMALL, "--hosts", "2", "--deal", "badly", *redis), "badly"),
            ((SMALL, "--hosts", "2", "--speed", "max", *redis), "max"),
            ((SMALL, "--speed", "7"), "a number with --hosts"),
            ((SMALL, "--hosts", "2", "--demand", "2", *redis), "leave out"),
            (("--hosts", "2", "--demand", "none", *redis), "from 0.01 to 1000"),
            (("--hosts", "2", *redis), "no log given"),
            (("--demand", "2"), "give --hosts N"),
            ((SMALL, "--hosts", "2", "--redis", "http://a"), "http"),
        ):
            with self.subTest(words=words):
                self.assertIn(message, self.weir_error("replay", "--limit", "10/1m", *words))

    def test_segments_that_do_not_fit(self):
        # As many slots as can be: no file system in memory has room for the first.
        error = self.weir_error("replay", SMALL, "--limit", "10/1m", "--hosts", "2", "--slots",
                                str(1 << 32), "--redis", self.redis.url)
        self.assertRegex(error, r"segment 1 of 2 hosts: no room for \d+ bytes")

    def test_no_redis(self):
        self.redis.end()
        error = self.weir_error("replay", SMALL, "--limit", "10/1m", "--hosts", "2", "--redis",
                                self.redis.url)
        self.assertRegex(error, r"host [12] of 2 cannot sync: .*check that Redis runs")

    def test_nothing_is_left_however_it_ends(self):
        for number in (signal.SIGKILL, signal.SIGTERM):
            with self.subTest(signal=number):
                process = subprocess.Popen(
                    [PROGRAM, "replay", "--demand", "1", "--seconds", "3600", "--limit", "100/1s",
                     "--hosts", "2", "--redis", self.redis.url],
                    env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE)
                self.addCleanup(process.stderr.close)
                self.addCleanup(process.kill)
                self.eventually(lambda: len(self.redis_keys()) > 8)
                workers = children_of(process.pid)
                self.assertEqual(len(workers), 3)
                process.send_signal(number)
                process.wait(timeout=60)
                self.eventually(lambda: self.redis_keys() == [])
                self.eventually(lambda: not any(os.path.exists(f"/proc/{worker}")
                                                for worker in workers))
                self.assertEqual(process.returncode, -number)


if __name__ == "__main__":
    require_redis()
    main()
