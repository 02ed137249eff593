# SPDX-License-Identifier: Apache-2.0
"""weir.v1.Limiter, asked by gRPC's own client."""

import os
import re
import time
import unittest

import grpc

from support import SOURCE, Service, ServeTest, limiter, main

ALLOWED, DENIED = limiter.OUTCOME_ALLOWED, limiter.OUTCOME_DENIED
NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class Methods(ServeTest):
    POLICIES = (("api", "10/365d"), ("slow", "1/1h"), ("both", "5/365d", "3/365d fixed-window"),
                ("held", "2 concurrency"))

    def setUp(self):
        super().setUp()
        self.service = Service(self)
        self.limiter = self.service.limiter()

    def remaining(self, policy="api", key=b"key"):
        return self.limiter.GetStatus(policy=policy, key=key).decision.remaining

    def test_allow(self):
        for remaining in (9, 8, 7):
            decision = self.limiter.Allow(policy="api", key=b"key").decision
            self.assertEqual((decision.outcome, decision.reason, decision.limit,
                              decision.remaining, decision.retry_after_ns),
                             (ALLOWED, limiter.REASON_LIMIT, 10, remaining, 0))
        self.assertEqual(self.remaining(key=b"another"), 10)
        # The command line asks the same bucket.
        self.weir("allow", "api", "key", "--cost", "7")
        decision = self.limiter.Allow(policy="api", key=b"key").decision
        self.assertEqual((decision.outcome, decision.remaining), (DENIED, 0))
        self.assertGreater(decision.retry_after_ns, 0)
        self.assertGreater(decision.reset_after_ns, decision.retry_after_ns)

    def test_the_limit_that_denied_is_told(self):
        for _ in range(3):
            self.limiter.Allow(policy="both", key=b"key")
        decision = self.limiter.Allow(policy="both", key=b"key").decision
        self.assertEqual((decision.outcome, decision.limit_index, decision.limit), (DENIED, 1, 3))
        self.assertEqual(decision.counted, 3)

    def test_keys_are_any_bytes(self):
        for key in (b"\0", b"\0\0", b"\xff\xfe", b"a" * 65536, "é".encode()):
            for remaining in (9, 8):
                decision = self.limiter.Allow(policy="api", key=key).decision
                self.assertEqual(decision.remaining, remaining, key[:4])

    def test_allow_n(self):
        decision = self.limiter.AllowN(policy="api", key=b"key", cost=7).decision
        self.assertEqual((decision.outcome, decision.remaining), (ALLOWED, 3))
        decision = self.limiter.AllowN(policy="api", key=b"key", cost=4).decision
        self.assertEqual((decision.outcome, decision.remaining), (DENIED, 3))
        decision = self.limiter.AllowN(policy="api", key=b"key", cost=11).decision
        self.assertEqual((decision.outcome, decision.reason), (DENIED, limiter.REASON_COST))
        self.assertEqual(decision.retry_after_ns, 2**64 - 1)
        decision = self.limiter.AllowN(policy="api", key=b"key", cost=5, force=True).decision
        self.assertEqual((decision.outcome, decision.remaining), (ALLOWED, 0))
        # Two in debt: a refund of three leaves one.
        decision = self.limiter.Refund(policy="api", key=b"key", cost=3).decision
        self.assertEqual(decision.remaining, 1)

    def test_batch(self):
        one = limiter.AllowNRequest
        decisions = self.limiter.AllowBatch(requests=[
            one(policy="api", key=b"a", cost=4), one(policy="api", key=b"a", cost=7),
            one(policy="slow", key=b"a", cost=1), one(policy="api", key=b"a", cost=8, force=True),
            one(policy="api", key=b"b", cost=10)]).decisions
        self.assertEqual([decision.outcome for decision in decisions],
                         [ALLOWED, DENIED, ALLOWED, ALLOWED, ALLOWED])
        self.assertEqual([decision.limit for decision in decisions], [10, 10, 1, 10, 10])
        self.assertEqual(len(self.limiter.AllowBatch().decisions), 0)
        many = [one(policy="api", key=b"%d" % i, cost=1) for i in range(4096)]
        self.assertEqual(len(self.limiter.AllowBatch(requests=many).decisions), 4096)
        self.assert_fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "4097 requests; send 4096",
                          self.limiter.AllowBatch, requests=many + many[:1])

    def test_a_batch_with_an_error_charges_nothing(self):
        one = limiter.AllowNRequest
        good = one(policy="api", key=b"a", cost=4)
        for bad, code, says in (
            (one(policy="nope", key=b"a", cost=1), NOT_FOUND, 'no policy "nope"'),
            (one(policy="api", key=b"", cost=1), INVALID, "requests[1]: key has 0 bytes"),
            (one(policy="api", key=b"a"), INVALID, "requests[1]: cost is 0"),
        ):
            self.assert_fails(code, says, self.limiter.AllowBatch, requests=[good, bad])
        self.assertEqual(self.remaining(key=b"a"), 10)

    def test_status_charges_nothing(self):
        for _ in range(3):
            decision = self.limiter.GetStatus(policy="api", key=b"key", cost=11).decision
            self.assertEqual((decision.outcome, decision.remaining), (DENIED, 10))
        self.assertEqual(self.limiter.GetStatus(policy="api", key=b"key", cost=10)
                         .decision.outcome, ALLOWED)
        self.limiter.AllowN(policy="api", key=b"key", cost=10)
        self.assertEqual(self.limiter.GetStatus(policy="api", key=b"key").decision.outcome,
                         ALLOWED)
        self.assertEqual(self.limiter.GetStatus(policy="api", key=b"key", cost=1)
                         .decision.outcome, DENIED)

    def test_reset_and_refund(self):
        self.limiter.AllowN(policy="api", key=b"key", cost=9)
        self.assertEqual(self.limiter.Refund(policy="api", key=b"key", cost=5).decision.remaining,
                         6)
        self.assertEqual(self.limiter.Refund(policy="api", key=b"key", cost=100)
                         .decision.remaining, 10)
        self.limiter.AllowN(policy="api", key=b"key", cost=9)
        self.assertEqual(self.limiter.Reset(policy="api", key=b"key").decision.remaining, 10)

    def test_what_cannot_be_decided_is_an_answer(self):
        decision = self.limiter.Allow(policy="held", key=b"key").decision
        self.assertEqual((decision.outcome, decision.reason),
                         (limiter.OUTCOME_UNAVAILABLE, limiter.REASON_USE_ACQUIRE))

    def test_the_fail_mode(self):
        def switched(mode):
            self.assertEqual(self.limiter.SetFailOpen(policy="api", mode=mode).mode, mode)
            return self.weir("fail-mode", "api").strip()

        before = self.weir("fail-mode", "api").strip()
        self.assertIn("open", switched(limiter.FAIL_MODE_OPEN))
        self.assertIn("closed", switched(limiter.FAIL_MODE_CLOSED))
        self.assertIn("share", switched(limiter.FAIL_MODE_SHARE))
        self.limiter.SetFailOpen(policy="api", mode=limiter.FAIL_MODE_CLOSED)
        self.assertEqual(self.limiter.SetFailOpen(policy="api", mode=limiter.FAIL_MODE_OWN).mode,
                         limiter.FAIL_MODE_SHARE)
        self.assertEqual(self.weir("fail-mode", "api").strip(), before)

    def test_errors_are_sentences(self):
        many = self.limiter
        for call, fields, code, says in (
            (many.Allow, {"policy": "nope", "key": b"k"}, NOT_FOUND,
             'no policy "nope": the segment has api, both, held, slow; define'),
            (many.Allow, {"key": b"k"}, INVALID, "policy is empty"),
            (many.Allow, {"policy": "api"}, INVALID, "key has 0 bytes; give 1 to 65536"),
            (many.Allow, {"policy": "api", "key": b"k" * 65537}, INVALID, "key has 65537 bytes"),
            (many.AllowN, {"policy": "api", "key": b"k"}, INVALID, "cost is 0; give 1 to"),
            (many.AllowN, {"policy": "api", "key": b"k", "cost": 2**44}, INVALID,
             f"cost is {2**44}"),
            (many.Refund, {"policy": "api", "key": b"k"}, INVALID, "cost is 0"),
            (many.GetStatus, {"policy": "api", "key": b"k", "cost": 2**44}, INVALID, "cost is"),
            (many.SetFailOpen, {"policy": "api"}, INVALID, "mode is 0; give FAIL_MODE_OPEN"),
            (many.SetFailOpen, {"policy": "api", "mode": 9}, INVALID, "mode is 9"),
            (many.SetFailOpen, {"policy": "nope", "mode": 1}, NOT_FOUND, 'no policy "nope"'),
        ):
            with self.subTest(says=says):
                self.assert_fails(code, says, call, **fields)

    def test_nobody_chooses_the_time(self):
        """Where the segment has a clock, a later time would bring tokens that are not there
        yet, and an impossible one would end the key for all."""
        self.limiter.AllowN(policy="api", key=b"k", cost=10)
        for name in ("Allow", "AllowN", "GetStatus", "Reset", "Refund"):
            cost = {"cost": 1} if name in ("AllowN", "GetStatus", "Refund") else {}
            for now in (1, time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**15, 2**64 - 1):
                self.assert_fails(INVALID, f"now_ns is {now}",
                                  getattr(self.limiter, name), policy="api", key=b"k", now_ns=now,
                                  **cost)
        batch = [limiter.AllowNRequest(policy="api", key=b"k", cost=1),
                 limiter.AllowNRequest(policy="api", key=b"k", cost=1, now_ns=7)]
        self.assert_fails(INVALID, "requests[1]: now_ns is 7",
                          self.limiter.AllowBatch, requests=batch)
        self.assertEqual(self.limiter.Allow(policy="api", key=b"k").decision.outcome, DENIED)

    def test_a_policy_that_is_made_meanwhile(self):
        self.assert_fails(NOT_FOUND, 'no policy "new"', self.limiter.Allow, policy="new",
                          key=b"k")
        self.weir("policy", "set", "new", "1/1h")
        self.assertEqual(self.limiter.Allow(policy="new", key=b"k").decision.limit, 1)
        self.weir("policy", "remove", "new")
        self.assert_fails(NOT_FOUND, 'no policy "new"', self.limiter.Allow, policy="new",
                          key=b"k")


class Contract(unittest.TestCase):
    """The .proto says what weir.h says."""

    def names(self, *path):
        with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
            text = file.read()
        return {(name, int(number)) for name, number
                in re.findall(r"^\s+(?:WEIR_)?REASON_(\w+) = (\d+)[,;]", text, re.MULTILINE)}

    def test_reasons(self):
        reasons = self.names("include", "weir.h")
        self.assertGreater(len(reasons), 10)
        self.assertEqual(self.names("serve", "proto", "weir", "v1", "limiter.proto"), reasons)


class Watch(ServeTest):
    POLICIES = (("api", "10/365d"), ("log-in", "1/365d"))

    def setUp(self):
        super().setUp()
        self.service = Service(self, "--threads", "1")
        self.limiter = self.service.limiter()

    @staticmethod
    def counted(counters, name):
        return {counter.name: counter.value for counter in counters}[name]

    def test_statistics_follow_the_decisions(self):
        watch = self.limiter.Watch(interval_ns=10**8, policies=["api"])
        first = next(watch)
        self.assertEqual([told.policy for told in first.policies], ["api"])
        self.assertEqual(self.counted(first.policies[0].counters, "allowed"), 0)
        self.assertEqual(first.policies[0].fail_mode, limiter.FAIL_MODE_SHARE)
        self.assertGreaterEqual(first.participants, 1)
        self.assertGreater(first.now_ns, 0)
        for _ in range(12):
            self.limiter.Allow(policy="api", key=b"k")
        self.limiter.SetFailOpen(policy="api", mode=limiter.FAIL_MODE_OPEN)
        # It comes with some answer: the next one may have been on its way.
        later = next(told for told in watch
                     if told.policies[0].fail_mode == limiter.FAIL_MODE_OPEN)
        self.assertEqual(self.counted(later.policies[0].counters, "allowed"), 10)
        self.assertEqual(self.counted(later.policies[0].counters, "denied"), 2)
        self.assertEqual(self.counted(later.counters, "allowed"), 10)
        self.assertGreater(later.now_ns, first.now_ns)
        watch.cancel()

    def test_policies_come_and_go(self):
        watch = self.limiter.Watch(interval_ns=10**8, all_policies=True)
        self.assertEqual([told.policy for told in next(watch).policies], ["api", "log-in"])
        self.weir("policy", "set", "new", "1/1h")
        next(told for told in watch if [one.policy for one in told.policies] ==
             ["api", "log-in", "new"])
        self.weir("policy", "remove", "api")
        next(told for told in watch if [one.policy for one in told.policies] ==
             ["log-in", "new"])
        watch.cancel()

    def test_errors(self):
        for fields, code, says in (
            ({"interval_ns": 1}, INVALID, "interval_ns is 1; give 100000000 to"),
            ({"interval_ns": 3601 * 10**9}, INVALID, "interval_ns is"),
            ({"policies": ["nope"]}, NOT_FOUND, 'no policy "nope"'),
            ({"policies": ["api"] * 257}, INVALID, "257 names"),
        ):
            with self.subTest(says=says):
                self.assert_fails(code, says, lambda fields=fields:
                                  next(self.limiter.Watch(**fields)))

    def test_the_deadline_ends_it(self):
        method = self.service.channel().unary_stream(
            "/weir.v1.Limiter/Watch", limiter.WatchRequest.SerializeToString,
            limiter.WatchResponse.FromString)
        with self.assertRaises(grpc.RpcError) as caught:
            for _ in method(limiter.WatchRequest(), timeout=0.2):
                pass
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_the_end_of_the_service_ends_it(self):
        watch = self.limiter.Watch(interval_ns=3600 * 10**9)
        next(watch)
        self.assertEqual(self.service.end(), "")
        self.assert_fails(grpc.StatusCode.UNAVAILABLE, "about to end", next, watch)


class CallersClock(ServeTest):
    def test_the_time_comes_with_the_request(self):
        self.weir("remove")
        self.weir("create", "--slots", "64", "--clock", "caller")
        self.weir("policy", "set", "api", "1/1s")
        asked = Service(self).limiter()
        second = 10**9
        now = 1_700_000_000 * second
        outcomes = [asked.Allow(policy="api", key=b"k", now_ns=now + i * second // 2)
                    .decision.outcome for i in range(5)]
        self.assertEqual(outcomes, [ALLOWED, DENIED, ALLOWED, DENIED, ALLOWED])
        decision = asked.Allow(policy="api", key=b"k").decision
        self.assertEqual((decision.outcome, decision.reason),
                         (limiter.OUTCOME_UNAVAILABLE, limiter.REASON_CLOCK))


class Addresses(ServeTest):
    POLICIES = (("api", "10/365d"),)

    def test_all_kinds_share_the_buckets(self):
        path = os.path.join(self.directory, "socket")
        service = Service(self, addresses=("--grpc", "127.0.0.1:0", "--grpc", f"unix:{path}",
                                           "--grpc", "localhost:0"))
        asked = [service.limiter(address) for address in service.addresses]
        self.assertEqual([one.Allow(policy="api", key=b"k").decision.remaining for one in asked],
                         [9, 8, 7])
        service.end()
        self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    main()
