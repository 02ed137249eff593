# SPDX-License-Identifier: Apache-2.0
"""sync run, status, pause, resume: segments as hosts, and a real Redis between them.

Nothing here waits for time to pass: what has to come is looked for until it is
there.  Where a view must stay fresh, it does for longer than any test lasts;
where it must grow stale, nothing depends on when.
"""

import json
import os
import signal
import subprocess
import time

from redis_server import PATIENCE_S, Redis, die_with_the_test, require_redis
from support import PROGRAM, WeirTest, main

FOREVER_MS = "3600000"  # a view that stays fresh


class Host:
    """A segment, as if it were another machine's, and who syncs it."""

    def __init__(self, test, name, secret):
        self.test = test
        self.segment = os.path.join(test.directory, name)
        self.errors = self.segment + ".errors"
        self.runners = []
        test.weir("create", "--sync", "--slots", "64", "--secret-file", secret, *self.at)

    @property
    def at(self):
        return ("--segment", self.segment)

    def policy(self, limit, consistency="eventual", fail_mode="closed"):
        self.test.weir("policy", "set", "api", limit, "--consistency", consistency,
                       "--fail-mode", fail_mode, *self.at)

    def run(self, *options, staleness_ms=FOREVER_MS):
        """Start `weir sync run`; what it says goes to a file."""
        with open(self.errors, "ab") as errors:
            runner = subprocess.Popen(
                [PROGRAM, "sync", "run", "--redis", self.test.redis.url, "--interval-ms", "10",
                 "--max-staleness-ms", staleness_ms, *options, *self.at],
                env=self.test.environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                preexec_fn=die_with_the_test)
        self.test.addCleanup(runner.wait)
        self.test.addCleanup(runner.kill)
        self.runners.append(runner)
        return runner

    def said(self):
        with open(self.errors, encoding="utf-8") as errors:
            return errors.read()

    def status(self):
        return self.test.weir_json("sync", "status", *self.at)

    def is_sent(self):
        """Does the cluster know of all that was admitted here?"""
        return self.status()["unmerged_tokens"] == 0

    def is_merged(self, hosts):
        status = self.status()
        return status["staleness_ns"] is not None and status["hosts"] == hosts

    def decide(self, *words, command="allow", key="key"):
        """A decision as (exit status, JSON)."""
        done = subprocess.run([PROGRAM, command, "api", key, *words, "--json", *self.at],
                              env=self.test.environment, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60, check=False)
        self.test.assertIn(done.returncode, (0, 1, 3), done.stderr)
        return done.returncode, json.loads(done.stdout)

    def denied(self):
        answer = self.decide()
        return answer if answer[0] == 1 else None

    def force_take(self, cost):
        self.test.weir("force-take", "api", "key", str(cost), *self.at)

    def remaining(self, key="key"):
        return self.decide(command="status", key=key)[1]["remaining"]


class Sync(WeirTest):
    def setUp(self):
        super().setUp()
        self.secret = os.path.join(self.directory, "secret")
        with open(self.secret, "w", encoding="utf-8") as file:
            file.write("sixteen bytes...")
        self.redis = Redis(self.directory)
        self.addCleanup(self.redis.end)

    def wait(self, condition, *arguments):
        """Look until CONDITION is true of the ARGUMENTS, and return what it was."""
        until = time.monotonic() + PATIENCE_S
        while True:
            found = condition(*arguments)
            if found:
                return found
            self.assertLess(time.monotonic(), until, "it never came")
            time.sleep(0.005)

    def hosts(self, count, limit, *options, **policy):
        """COUNT hosts with one policy, each of which has seen all others."""
        hosts = [Host(self, f"host{i}", self.secret) for i in range(count)]
        for host in hosts:
            host.policy(limit, **policy)
            host.run("--expected-hosts", str(count), *options)
        for host in hosts:
            self.wait(host.is_merged, count)
        return hosts


class Agreement(Sync):
    def setUp(self):
        super().setUp()
        self.redis.start()

    def test_hosts_share_a_limit(self):
        one, other = self.hosts(2, "10/365d")
        for _ in range(7):
            self.assertEqual(one.decide()[0], 0)
        self.wait(one.is_sent)
        # A host learns of a key with its own first request.
        self.assertEqual(other.decide()[0], 0)
        self.wait(lambda: other.remaining() == 2)
        self.assertEqual(other.decide("--cost", "3")[0], 1)
        self.assertEqual(other.decide("--cost", "2")[0], 0)
        self.wait(other.is_sent)
        status, decision = self.wait(one.denied)
        self.assertEqual((status, decision["reason"], decision["remaining"]), (1, "limit", 0))
        self.assertEqual(one.remaining("another key"), 10)

    def test_refunds_and_resets_reach_the_other_host(self):
        one, other = self.hosts(2, "1000/365d")
        one.force_take(1000)
        self.wait(one.is_sent)
        other.force_take(500)
        self.wait(other.is_sent)
        self.weir("refund", "api", "key", "500", *other.at)
        self.weir("refund", "api", "key", "400", *one.at)
        # Each token that a host takes brings it the view.
        self.wait(lambda: one.force_take(1) or one.remaining() > 0)
        self.weir("reset", "api", "key", *one.at)
        self.assertEqual(one.remaining(), 1000)
        self.wait(lambda: other.force_take(1) or other.remaining() > 500)

    def test_a_local_policy_is_the_hosts_own(self):
        one, other = self.hosts(2, "10/365d", consistency="local")
        self.assertEqual(one.decide("--cost", "10")[0], 0)
        rounds = [host.status()["rounds"] for host in (one, other)]
        self.wait(lambda: all(host.status()["rounds"] > before + 8
                              for host, before in zip((one, other), rounds)))
        self.assertEqual(other.decide("--cost", "10")[0], 0)

    def test_the_cap(self):
        """A host that is cut off goes no further than its cap while its view is fresh."""
        one, _ = self.hosts(2, "1000/365d", "--overshoot", "50", consistency="bounded")
        self.wait(lambda: one.status()["largest_cap"] == 50)
        self.weir("sync", "pause", *one.at)
        # A round that was under way may still cover the first of them.
        answers = [one.decide("--cost", "30") for _ in range(4)]
        status, decision = answers[-1]
        self.assertEqual((status, decision["outcome"], decision["reason"]), (1, "denied", "cap"))
        self.assertGreaterEqual(decision["remaining"], 1000 - 2 * 30)
        self.assertGreater(decision["retry_after_ns"], 0)
        self.assertEqual(answers[0][0], 0)
        self.assertEqual(one.status()["unmerged_tokens"], 30)
        self.weir("sync", "resume", *one.at)
        self.wait(lambda: one.decide("--cost", "30")[0] == 0)

    def test_pause_and_resume(self):
        one, other = self.hosts(2, "10/365d")
        self.weir("sync", "pause", *one.at)
        status = one.status()
        self.assertTrue(status["paused"])
        self.assertEqual(status["state"], "paused")
        before = other.status()["rounds"]
        self.assertEqual(other.decide("--cost", "6")[0], 0)
        self.wait(other.is_sent)
        self.assertGreater(other.status()["rounds"], before)
        self.assertEqual(one.remaining("key"), 10)
        self.weir("sync", "resume", *one.at)
        # It has no bucket of the key before its own first request.
        self.assertEqual(one.decide()[0], 0)
        self.wait(lambda: one.remaining() == 3)
        self.assertEqual(one.status()["state"], "connected")

    def test_another_secret_is_refused(self):
        one, = self.hosts(1, "10/365d")
        with open(self.secret, "w", encoding="utf-8") as file:
            file.write("another secret..")
        stranger = Host(self, "stranger", self.secret)
        stranger.policy("10/365d")
        stranger.run()
        said = self.wait(stranger.said)
        self.assertIn("another hash secret", said)
        self.assertIn("--secret-file", said)
        self.assertIsNone(stranger.status()["staleness_ns"])
        self.assertEqual(stranger.status()["rounds"], 0)
        self.assertEqual(stranger.decide()[0], 3)
        # With a prefix of its own it is a cluster of its own.
        other = Host(self, "other", self.secret)
        other.policy("10/365d")
        other.run("--prefix", "other")
        self.wait(other.is_merged, 1)
        self.assertEqual(one.said(), "")

    def test_one_leads_and_another_takes_over(self):
        host, = self.hosts(1, "10/365d")
        first = host.runners[0]
        self.assertEqual(host.status()["leader_pid"], first.pid)
        term = host.status()["term"]
        second = host.run()
        self.wait(lambda: self.weir_json("info", *host.at)["participants"] == 3)
        self.assertEqual(host.status()["leader_pid"], first.pid)
        first.kill()
        first.wait()
        self.wait(lambda: host.status()["leader_pid"] == second.pid)
        self.assertGreater(host.status()["term"], term)
        self.assertEqual(host.decide()[0], 0)
        self.wait(host.is_sent)

    def test_hosts_that_disagree(self):
        one, other = self.hosts(2, "10/365d")
        self.wait(lambda: one.status()["disagreements"] == [])
        self.weir("policy", "set", "api", "20/365d", "5/1s", "--consistency", "bounded", *other.at)
        found, = self.wait(lambda: one.status()["disagreements"])
        incarnation = self.weir_json("info", *other.at)["incarnation"]
        self.assertEqual(found, {"policy": "api", "host": incarnation, "hosts": 1,
                                 "ours": "10/365d eventual",
                                 "theirs": "20/365d, 5/1s bounded"})
        self.assertEqual(one.status()["disagreeing"], 1)
        done = subprocess.run([PROGRAM, "sync", "status", *one.at], env=self.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60, check=True)
        self.assertIn("disagreements    1 policies\n", done.stdout)
        for says in ('policy "api"', "10/365d eventual", "20/365d, 5/1s bounded", incarnation,
                     "set it alike everywhere", "weir sync publish"):
            self.assertIn(says, done.stderr)
        self.weir("policy", "set", "api", "20/365d", "5/1s", "--fail-mode", "open", *one.at)
        self.wait(lambda: one.status()["disagreeing"] == 0 and other.status()["disagreeing"] == 0)
        self.assertEqual(one.status()["disagreements"], [])

    def test_publish_and_withdraw(self):
        one, other = self.hosts(2, "10/365d", "--follow-policies")
        at_redis = ("--redis", self.redis.url)
        self.weir("policy", "set", "web", "5/1s", "--fail-mode", "open", *one.at)
        self.assertEqual(self.weir("sync", "publish", "web", *at_redis, *one.at),
                         "publication 1\n")
        self.wait(lambda: other.status()["applied"] == 1)
        listed = {policy["name"]: policy
                  for policy in self.weir_json("policy", "list", *other.at)["policies"]}
        self.assertEqual(listed["web"]["limits"][0]["text"], "5/1s")
        self.assertEqual(listed["web"]["fail_mode"], "open")
        self.assertEqual(listed["api"]["limits"][0]["text"], "10/365d")
        self.assertEqual(self.weir_json("sync", "publish", "--all", *at_redis, *other.at),
                         {"version": 2})
        self.wait(lambda: one.status()["applied"] == 2)
        status = one.status()
        self.assertEqual((status["follows"], status["published"]), (True, 2))
        self.assertIn("publication      2, applied 2, followed\n",
                      self.weir("sync", "status", *one.at))
        self.weir("sync", "withdraw", "web", *at_redis, *one.at)
        self.wait(lambda: "web" not in self.weir("policy", "list", *other.at))

        for words, says in ((("publish",), "--all"), (("withdraw",), "name one"),
                            (("publish", "--all", "api"), "not both"),
                            (("withdraw", "--all"), "--all"),
                            (("publish", "nobody"), "nobody"),
                            (("withdraw", "nobody"), "neither published")):
            with self.subTest(words=words):
                self.assertIn(says, self.weir_error("sync", *words, *at_redis, *one.at))
        self.redis.end()
        self.assertIn(self.redis.socket,
                      self.weir_error("sync", "publish", "api", *at_redis, *one.at))

    def test_a_signal_ends_it(self):
        host, = self.hosts(1, "10/365d")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            runner = host.runners[-1]
            self.wait(lambda pid=runner.pid: host.status()["leader_pid"] == pid)
            runner.send_signal(number)
            self.assertEqual(runner.wait(60), 0)
            status = host.status()
            self.assertEqual((status["state"], status["leader_pid"]), ("no leader", 0))
            host.run()
        self.assertEqual(host.said(), "")


class WithoutRedis(Sync):
    def test_fail_modes(self):
        """Redis goes: each fail mode answers in its way, and again as usual when it is back."""
        self.redis.start()
        host = Host(self, "host", self.secret)
        host.policy("10/365d", fail_mode="closed")
        host.run("--expected-hosts", "2", staleness_ms="200")
        self.wait(host.is_merged, 1)
        self.wait(lambda: host.decide()[0] == 0)
        self.redis.end()
        self.wait(lambda: host.decide(key="closed")[0] == 3)
        error = self.weir_error("allow", "api", "closed", *host.at, status=3)
        self.assertIn("rate limiter unavailable", error)
        self.assertIn("weir sync status", error)
        status, decision = host.decide(key="closed")
        self.assertEqual((status, decision["outcome"], decision["reason"]),
                         (3, "unavailable", "stale"))

        self.weir("fail-mode", "api", "open", *host.at)
        answers = [host.decide(key="open") for _ in range(11)]
        self.assertEqual([status for status, _ in answers], [0] * 10 + [1])
        self.assertEqual(answers[0][1]["reason"], "stale")

        # One host was seen, so that its share is the whole limit.
        self.weir("fail-mode", "api", "share", *host.at)
        answers = [host.decide(key="share") for _ in range(11)]
        self.assertEqual([status for status, _ in answers], [0] * 10 + [1])

        self.wait(lambda: "cannot connect" in host.said() or "closed" in host.said())
        self.assertIn(self.redis.socket, host.said())
        self.assertNotEqual(host.status()["state"], "connected")
        self.redis.start()
        self.weir("fail-mode", "api", "closed", *host.at)
        self.wait(lambda: host.decide("--cost", "0", key="closed")[0] == 0)
        self.wait(lambda: "in touch with Redis again" in host.said())
        # What was admitted meanwhile is the cluster's now.
        self.wait(host.is_sent)

    def test_share_of_a_host_that_never_saw_another(self):
        host = Host(self, "host", self.secret)
        host.policy("10/365d", fail_mode="share")
        host.run("--expected-hosts", "2")
        self.wait(lambda: host.status()["enabled"])
        answers = [host.decide() for _ in range(6)]
        self.assertEqual([status for status, _ in answers], [0] * 5 + [1])
        self.assertEqual({decision["reason"] for _, decision in answers}, {"stale"})
        stats = {line.split()[0]: line.split()[1]
                 for line in self.weir("stats", *host.at).splitlines() if len(line.split()) > 1}
        self.assertEqual(stats["stale_share"], "6")

    def test_status_of_strict_policies(self):
        """Mode strict: the bound, which is 0, and what this host holds."""
        self.redis.start()
        host = Host(self, "host", self.secret)
        host.policy("1000/1s", consistency="strict")
        host.run("--expected-hosts", "2")
        self.wait(lambda: host.status()["strict"]["leased_shards"] == 8)
        self.wait(lambda: host.decide()[0] == 0)
        strict = host.status()["strict"]
        self.assertEqual((strict["bound"], strict["quarantined_shards"]), (0, 0))
        self.assertRegex(strict["epoch"], "^[0-9a-f]{16}$")
        self.assertGreater(strict["unleased"], 0)
        self.assertGreater(strict["tenure_ns"], 0)
        self.assertEqual([policy["policy"] for policy in strict["policies"]], ["api"])
        text = self.weir("sync", "status", *host.at)
        for line in ("strict           1 policies: at most 0 tokens beyond a limit\n",
                     "leased           8 of 8 shards, 0 in quarantine\n", "\ncredit  ", "\n  api  ",
                     "\nunleased  ", "epoch            " + strict["epoch"]):
            self.assertIn(line, text)

    def test_status_before_anything(self):
        host = Host(self, "host", self.secret)
        host.policy("10/365d")
        status = host.status()
        self.assertEqual(status["state"], "never started")
        self.assertEqual((status["enabled"], status["paused"], status["connected"]),
                         (False, False, False))
        self.assertIsNone(status["staleness_ns"])
        text = self.weir("sync", "status", *host.at)
        for line in ("state            never started\n", "oldest view      never\n"):
            self.assertIn(line, text)
        # Without a sync thread there is one host.
        self.assertEqual(host.decide("--cost", "10")[0], 0)

    def test_wrong_usage(self):
        host = Host(self, "host", self.secret)
        for options, says in (
            (("--redis", "http://user:pass-word@host"), "redis://"),
            (("--redis", ""), "redis://"),
            (("--redis", "unix://relative"), "unix://"),
            (("--interval-ms", "0"), "--interval-ms"),
            (("--interval-ms", "60001"), "60001"),
            (("--interval-ms", "100", "--max-staleness-ms", "199"),
             "--max-staleness-ms is 199, which is less than two intervals (--interval-ms is 100): "
             "give a number from 200 to 3600000"),
            (("--interval-ms", "60000"), "give a number from 120000 to 3600000"),
            (("--expected-hosts", "0"), "--expected-hosts"),
            (("--overshoot", "1001"), "1001"),
            (("--prefix", ""), "prefix"),
            (("--prefix", "a{b}"), "braces"),
            (("--prefix", "x" * 129), "129"),
            (("--json",), "--json"),
        ):
            with self.subTest(options=options):
                error = self.weir_error("sync", "run", *options, *host.at)
                self.assertIn(says, error)
                self.assertNotIn("pass-word", error)
        self.assertFalse(host.status()["enabled"])
        self.assertIn("`weir sync` needs a second word", self.weir_error("sync"))

    def test_a_segment_that_does_not_sync(self):
        self.weir("create", "--slots", "64")
        for command in ("run", "status", "pause", "resume"):
            with self.subTest(command=command):
                self.assertIn("weir create --sync", self.weir_error("sync", command))
        path = os.path.join(self.directory, "caller")
        self.weir("create", "--sync", "--clock", "caller", "--segment", path)
        self.assertIn("clock", self.weir_error("sync", "run", "--segment", path))


if __name__ == "__main__":
    require_redis()
    main()
