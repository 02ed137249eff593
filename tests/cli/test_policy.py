# SPDX-License-Identifier: Apache-2.0
"""policy set, list, remove, load, and fail-mode."""

import os

from support import S, WeirTest, main


class Policy(WeirTest):
    def setUp(self):
        super().setUp()
        self.create()

    def names(self):
        return [policy["name"] for policy in self.weir_json("policy", "list")["policies"]]

    def test_set_and_list(self):
        self.assertEqual(
            self.weir("policy", "set", "api", "100/1m burst 20", "1000/1h fixed-window"),
            "policy api: 100/1m burst 20, 1000/1h fixed-window\n",
        )
        self.assertEqual(
            self.weir_json("policy", "list"),
            {
                "policies": [
                    {
                        "name": "api",
                        "limits": [
                            {
                                "text": "100/1m burst 20",
                                "limit": 100,
                                "period_ns": 60 * S,
                                "burst": 20,
                                "algorithm": "token-bucket",
                                "action": "deny",
                            },
                            {
                                "text": "1000/1h fixed-window",
                                "limit": 1000,
                                "period_ns": 3600 * S,
                                "burst": 1000,
                                "algorithm": "fixed-window",
                                "action": "deny",
                            },
                        ],
                        "fail_mode": "share",
                        "consistency": "bounded",
                        "shadow": False,
                        "lease": False,
                        "buckets": "api",
                        "fail_mode_in_force": "share",
                    }
                ]
            },
        )

    def test_options(self):
        policy = self.weir_json(
            "policy", "set", "api", "1/s burst 7",
            "--fail-mode", "closed", "--consistency=strict", "--shadow",
        )["policies"][0]
        self.assertEqual(policy["fail_mode"], "closed")
        self.assertEqual(policy["consistency"], "strict")
        self.assertTrue(policy["shadow"])
        self.assertEqual(policy["limits"][0]["burst"], 7)
        text = self.weir("policy", "list")
        for word in ("api", "closed", "strict", "shadow"):
            self.assertIn(word, text)

    def test_lease(self):
        policy = self.weir_json(
            "policy", "set", "hot", "1000/s", "--consistency=local", "--lease"
        )["policies"][0]
        self.assertTrue(policy["lease"])
        self.assertIn("consistency local, lease", self.weir("policy", "list"))
        for arguments, why in (
            (["1/s", "--lease"], "consistency local"),
            (["1/s", "--lease", "--consistency=local", "--shadow"], "not in shadow"),
            (["1/s", "2/m", "--lease", "--consistency=local"], "one limit, a token bucket"),
            (["1/s fixed-window", "--lease", "--consistency=local"], "one limit, a token bucket"),
        ):
            error = self.weir_error("policy", "set", "hot", *arguments)
            self.assertIn('policy "hot" cannot lease: it takes', error)
            self.assertIn(why, error)
    def test_shared_buckets(self):
        self.weir("policy", "set", "free", "10/1h fixed-window")
        policy = self.weir_json("policy", "set", "pro", "100/1h fixed-window", "--buckets", "free")["policies"][0]
        self.assertEqual(policy["buckets"], "free")
        self.assertIn("buckets free", self.weir("policy", "list"))
        self.weir("allow", "free", "key", "--cost", "5", *self.at())
        self.assertEqual(self.weir_json("status", "pro", "key", *self.at())["remaining"], 95)
        self.assertIn("47", self.weir_error("policy", "set", "x", "1/s", "--buckets", "b" * 48))
        self.assertIn("a b", self.weir_error("policy", "set", "x", "1/s", "--buckets", "a b"))
        self.assertIn("token", self.weir_error("policy", "set", "x", "1/s", "--buckets", "free"))
        self.assertEqual(self.names(), ["free", "pro"])

    def test_a_replaced_policy_keeps_its_buckets(self):
        self.weir("policy", "set", "api", "2/2s")
        self.weir("allow", "api", "key", "--cost", "2", *self.at())
        self.weir("policy", "set", "api", "4/4s")
        self.assertEqual(self.weir_json("status", "api", "key", *self.at())["remaining"], 2)

    def test_bad_limits(self):
        for limit in ("", "100", "100/", "0/1s", "1/1y", "-1/1s", "100/1m burst", "1/400d"):
            error = self.weir_error("policy", "set", "api", limit)
            self.assertGreater(len(error), len("weir: "))
        self.assertEqual(self.names(), [])

    def test_bad_names(self):
        self.assertIn("x" * 64, self.weir_error("policy", "set", "x" * 64, "1/s"))
        self.assertIn("a b", self.weir_error("policy", "set", "a b", "1/s"))
        self.weir("policy", "set", "x" * 63, "1/s")
        self.assertEqual(self.names(), ["x" * 63])

    def test_too_many_limits(self):
        self.weir("policy", "set", "api", *["1/s"] * 4)
        self.assertIn("stray argument", self.weir_error("policy", "set", "api", *["1/s"] * 5))

    def test_unknown_choices(self):
        error = self.weir_error("policy", "set", "api", "1/s", "--fail-mode", "shut")
        self.assertIn('"shut"', error)
        self.assertIn("share, open or closed", error)
        self.assertIn(
            "bounded, local, eventual or strict",
            self.weir_error("policy", "set", "api", "1/s", "--consistency", "none"),
        )

    def test_remove(self):
        self.weir("policy", "set", "api", "1/s")
        self.weir("policy", "set", "web", "1/s")
        self.assertEqual(self.weir("policy", "remove", "api"), "")
        self.assertEqual(self.names(), ["web"])
        self.assertIn("api", self.weir_error("policy", "remove", "api"))
        self.weir_error("allow", "api", "key", *self.at())

    def test_unknown_policy(self):
        self.assertIn("weir policy set", self.weir_error("allow", "api", "key", *self.at()))
        self.weir("policy", "set", "login", "1/s")
        self.weir("policy", "set", "search", "1/s")
        self.assertIn('did you mean "login"?', self.weir_error("status", "logni", "k", *self.at()))
        error = self.weir_error("status", "zzzzzz", "key", *self.at())
        self.assertIn("login, search", error)
        self.assertIn("weir policy set", error)

    def test_many_policies_are_not_all_named(self):
        for i in range(10):
            self.weir("policy", "set", f"policy-{i}", "1/s")
        error = self.weir_error("allow", "q", "key", *self.at())
        self.assertIn("policy-7, ...", error)
        self.assertNotIn("policy-8", error)


class Load(WeirTest):
    YAML = """\
policies:
  - name: login
    limits:
      - 5/1m
      - {limit: 50, period: 1h, burst: 10}
    fail_mode: closed
  - name: search
    limits: [100/1s fixed-window]
    shadow: true
    buckets: searches
"""

    def setUp(self):
        super().setUp()
        self.create()
        self.path = os.path.join(self.directory, "policies.yaml")

    def write(self, text):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)

    def check_loaded(self):
        login, search = self.weir_json("policy", "list")["policies"]
        self.assertEqual([limit["text"] for limit in login["limits"]], ["5/1m", "50/1h burst 10"])
        self.assertEqual(login["fail_mode"], "closed")
        self.assertFalse(login["shadow"])
        self.assertEqual(search["name"], "search")
        self.assertTrue(search["shadow"])
        self.assertEqual((login["buckets"], search["buckets"]), ("login", "searches"))

    def test_file(self):
        self.write(self.YAML)
        self.assertEqual(
            self.weir("policy", "load", self.path),
            "policy login: 5/1m, 50/1h burst 10\npolicy search: 100/1s fixed-window\n",
        )
        self.check_loaded()

    def test_standard_input(self):
        loaded = self.weir_json("policy", "load", "-", input=self.YAML.encode())
        self.assertEqual([policy["name"] for policy in loaded["policies"]], ["login", "search"])
        self.check_loaded()

    def test_all_or_none(self):
        self.write(self.YAML.replace("100/1s", "100/1y"))
        error = self.weir_error("policy", "load", self.path)
        self.assertIn(self.path, error)
        self.assertIn("1y", error)
        self.assertEqual(self.weir_json("policy", "list"), {"policies": []})
        self.assertIn(
            "standard input",
            self.weir_error("policy", "load", "-", input=b"policies: [\n"),
        )

    def test_other_policies_stay(self):
        self.weir("policy", "set", "other", "1/s")
        self.write(self.YAML)
        self.weir("policy", "load", self.path)
        self.assertIn("other", self.weir("policy", "list"))

    def test_no_file(self):
        missing = os.path.join(self.directory, "missing.yaml")
        self.assertIn(missing, self.weir_error("policy", "load", missing))


class FailMode(WeirTest):
    def setUp(self):
        super().setUp()
        self.create()
        self.weir("policy", "set", "api", "1/s")

    def test_switch_and_give_back(self):
        self.assertEqual(self.weir("fail-mode", "api"), "share\n")
        self.assertEqual(self.weir("fail-mode", "api", "closed"), "closed\n")
        self.assertEqual(
            self.weir_json("fail-mode", "api"), {"policy": "api", "fail_mode": "closed"}
        )
        policy = self.weir_json("policy", "list")["policies"][0]
        self.assertEqual(policy["fail_mode"], "share")
        self.assertEqual(policy["fail_mode_in_force"], "closed")
        self.assertIn("(now closed)", self.weir("policy", "list"))
        self.assertEqual(self.weir("fail-mode", "api", "open"), "open\n")
        self.assertEqual(self.weir("fail-mode", "api", "default"), "share\n")

    def test_errors(self):
        self.assertIn("share, open, closed or default",
                      self.weir_error("fail-mode", "api", "shut"))
        self.assertIn('did you mean "api"', self.weir_error("fail-mode", "apj"))
        self.assertIn('did you mean "api"', self.weir_error("fail-mode", "apj", "default"))
        self.assertIn('did you mean "api"', self.weir_error("fail-mode", "apj", "open"))


if __name__ == "__main__":
    main()
