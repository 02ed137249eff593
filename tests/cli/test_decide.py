# SPDX-License-Identifier: Apache-2.0
"""allow, status, refund, force-take, reset."""

import json

from support import S, WeirTest, main


class Decide(WeirTest):
    def setUp(self):
        super().setUp()
        self.create()
        self.weir("policy", "set", "api", "3/3s")

    def test_allows_the_burst_and_denies_the_next(self):
        for remaining in (2, 1, 0):
            decision = self.weir_json("allow", "api", "key", *self.at())
            self.assertEqual(decision["outcome"], "allowed")
            self.assertEqual(decision["remaining"], remaining)
        decision = self.weir_json("allow", "api", "key", *self.at(), status=1)
        self.assertEqual(
            decision,
            {
                "policy": "api",
                "key": "key",
                "cost": 1,
                "outcome": "denied",
                "reason": "limit",
                "limit_index": 0,
                "limit": 3,
                "remaining": 0,
                "counted": 0,
                "retry_after_ns": S,
                "reset_after_ns": 3 * S,
                "flagged": False,
            },
        )
        self.weir("allow", "api", "key", *self.at(1))
        self.weir("allow", "api", "key", *self.at(1), status=1)
        self.weir("allow", "api", "other", *self.at(1))

    def test_text_of_a_decision(self):
        self.assertEqual(
            self.weir("allow", "api", "key", *self.at()),
            "allowed by 3/3s: 2 of 3 remaining, full in 1s\n",
        )
        self.weir("allow", "api", "key", "--cost", "2", *self.at())
        self.assertEqual(
            self.weir("allow", "api", "key", *self.at(0.25), status=1),
            "denied by 3/3s: 0 of 3 remaining, retry after 750ms, full in 2.75s\n",
        )

    def test_cost(self):
        self.assertEqual(
            self.weir_json("allow", "api", "key", "--cost", "3", *self.at())["remaining"], 0
        )
        self.assertEqual(
            self.weir_json("allow", "api", "key", "--cost=0", *self.at())["outcome"], "allowed"
        )

    def test_a_cost_that_can_never_pass_is_its_own_result(self):
        decision = self.weir_json("allow", "api", "key", "--cost", "4", *self.at(), status=1)
        self.assertEqual(decision["reason"], "cost")
        self.assertIsNone(decision["retry_after_ns"])
        text = self.weir("allow", "api", "key", "--cost", "4", *self.at(), status=1)
        self.assertIn("the cost is above what the limit can ever allow", text)
        self.assertNotIn("retry", text)

    def test_status_takes_nothing(self):
        for _ in range(5):
            self.assertEqual(self.weir_json("status", "api", "key", *self.at())["remaining"], 3)
        self.weir("allow", "api", "key", "--cost", "3", *self.at())
        status = self.weir_json("status", "api", "key", *self.at(), status=1)
        self.assertEqual(status["outcome"], "denied")
        self.assertEqual(status["retry_after_ns"], S)

    def test_refund(self):
        self.weir("allow", "api", "key", "--cost", "3", *self.at())
        self.assertEqual(self.weir_json("refund", "api", "key", "2", *self.at())["remaining"], 2)
        # Never above the burst.
        self.assertEqual(
            self.weir("refund", "api", "key", "100", *self.at()),
            "refunded: 3 of 3 remaining\n",
        )

    def test_force_take_goes_into_debt(self):
        decision = self.weir_json("force-take", "api", "key", "5", *self.at())
        self.assertEqual(decision["remaining"], 0)
        self.assertEqual(decision["reset_after_ns"], 5 * S)
        self.weir("allow", "api", "key", *self.at(2), status=1)
        self.weir("allow", "api", "key", *self.at(3))

    def test_force_take_beyond_the_largest_debt_is_denied(self):
        decision = self.weir_json(
            "force-take", "api", "key", str(2**44 - 1), *self.at(), status=1
        )
        self.assertEqual(decision["reason"], "debt")

    def test_reset(self):
        self.weir("allow", "api", "key", "--cost", "3", *self.at())
        self.assertEqual(
            self.weir("reset", "api", "key", *self.at()), "reset: 3 of 3 remaining\n"
        )
        self.weir("allow", "api", "key", "--cost", "3", *self.at())

    def test_all_limits_must_pass(self):
        self.weir("policy", "set", "two", "10/1s", "2/10s")
        self.weir("allow", "two", "key", *self.at())
        self.weir("allow", "two", "key", *self.at())
        decision = self.weir_json("allow", "two", "key", *self.at(), status=1)
        self.assertEqual(decision["limit_index"], 1)
        self.assertEqual(decision["limit"], 2)
        self.assertTrue(
            self.weir("allow", "two", "key", *self.at(), status=1).startswith("denied by 2/10s: ")
        )

    def test_shadow_allows(self):
        self.weir("policy", "set", "shadowed", "1/1s", "--shadow")
        self.weir("allow", "shadowed", "key", *self.at())
        decision = self.weir_json("allow", "shadowed", "key", *self.at())
        self.assertEqual((decision["outcome"], decision["reason"]), ("allowed", "shadow"))

    def test_flag(self):
        self.weir("policy", "set", "flagging", "1/1s sliding-window flag")
        self.assertFalse(self.weir_json("allow", "flagging", "key", *self.at())["flagged"])
        self.assertTrue(self.weir_json("allow", "flagging", "key", *self.at())["flagged"])
        self.assertTrue(
            self.weir("allow", "flagging", "key", *self.at()).endswith(", flagged\n")
        )


class Unavailable(WeirTest):
    def check(self, *arguments, says, reason):
        output, errors = self.run_weir(*arguments, "--json", status=3)
        decision = json.loads(output)
        self.assertEqual((decision["outcome"], decision["reason"]), ("unavailable", reason))
        self.assertTrue(errors.startswith(b"weir: rate limiter unavailable: "), errors)
        self.assertIn(says, errors)
        self.assertEqual(self.weir_error(*arguments, status=3), errors.decode().rstrip())

    def test_no_time(self):
        self.create()
        self.weir("policy", "set", "api", "3/3s")
        self.check("allow", "api", "key", says=b"give --now NS", reason="clock")

    def test_concurrency_wants_acquire(self):
        self.create()
        self.weir("policy", "set", "jobs", "1 concurrency")
        self.check("allow", "jobs", "key", *self.at(), says=b"weir acquire", reason="use-acquire")

    def test_empty_key(self):
        self.create()
        self.weir("policy", "set", "api", "3/3s")
        self.check("allow", "api", "", *self.at(), says=b"1 to 65536 bytes", reason="key")

    def test_full_table(self):
        self.weir("create", "--slots", "16", "--clock", "caller")
        self.weir("policy", "set", "heavy", "3/365d")
        self.weir("policy", "set", "closed", "3/1s", "--fail-mode", "closed")
        for i in range(40):
            self.weir("allow", "heavy", f"key {i}", "--cost", "3", *self.at())
        self.check("allow", "closed", "key", *self.at(), says=b"more slots", reason="table-full")
        self.weir("fail-mode", "closed", "open")
        decision = self.weir_json("allow", "closed", "key", *self.at())
        self.assertEqual((decision["outcome"], decision["reason"]), ("allowed", "table-full"))
        self.assertEqual(
            self.weir("allow", "closed", "key", *self.at()),
            "allowed by the fail mode: the table has no slot for the key\n",
        )


class RealClock(WeirTest):
    def test_now_is_refused(self):
        self.weir("create", "--slots", "64")
        self.weir("policy", "set", "api", "1/365d")
        self.assertIn("leave out --now", self.weir_error("allow", "api", "key", *self.at()))
        self.weir("allow", "api", "key")
        self.weir("allow", "api", "key", status=1)


if __name__ == "__main__":
    main()
