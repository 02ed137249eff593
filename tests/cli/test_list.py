# SPDX-License-Identifier: Apache-2.0
"""list, stats, top --once; and keys that would harm a terminal."""


from support import WeirTest, main

HOSTILE = (
    # key, as text
    (b"plain", "plain"),
    (b"two words", "two words"),
    (b"back\\slash", r"back\\slash"),
    (b"\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
    (b"line\nfeed\r\t", r"line\x0afeed\x0d\x09"),
    (b"delete\x7f", r"delete\x7f"),
    ("K\u00f6ln \u6771\u4eac \U0001f600".encode(), "K\u00f6ln \u6771\u4eac \U0001f600"),
    ("csi \u009b2J".encode(), r"csi \xc2\x9b2J"),
    ("rtl \u202e".encode(), r"rtl \xe2\x80\xae"),
    ("line \u2028".encode(), r"line \xe2\x80\xa8"),
    (b"\xff\xfe", r"\xff\xfe"),
    (b"short \xe6\x9d", r"short \xe6\x9d"),
    (b"overlong \xc0\xaf", r"overlong \xc0\xaf"),
    (b"surrogate \xed\xa0\x80", r"surrogate \xed\xa0\x80"),
    (b"large \xf4\x90\x80\x80", r"large \xf4\x90\x80\x80"),
)


class Keys(WeirTest):
    def setUp(self):
        super().setUp()
        self.create("--key-bytes", "64")
        self.weir("policy", "set", "api", "100/1h")
        for number, (key, _) in enumerate(HOSTILE):
            self.weir("allow", "api", key, "--cost", str(number + 1), *self.at())

    def lines(self, *arguments, **options):
        return self.weir(*arguments, *self.at(), **options).split("\n")

    def test_text(self):
        lines = self.lines("list")
        self.assertEqual(len(lines), len(HOSTILE) + 2)  # the heading, and the end
        texts = {line.split(None, 6)[6] for line in lines[1:-1]}
        self.assertEqual(texts, {text for _, text in HOSTILE})

    def test_text_without_utf8(self):
        output = self.weir("list", *self.at(), environment={"LC_ALL": "C"})
        self.assertTrue(output.isascii())
        self.assertIn(r"K\xc3\xb6ln", output)

    def test_top(self):
        lines = self.lines("top", "--once")
        texts = [line.split(None, 6)[6] for line in lines[1:-1]]
        self.assertEqual(texts, [text for _, text in reversed(HOSTILE)])

    def test_json(self):
        buckets = self.weir_json("list", *self.at())["buckets"]
        found = {}
        for bucket in buckets:
            self.assertNotEqual("key" in bucket, "key_base16" in bucket)
            key = bucket["key"].encode() if "key" in bucket else bytes.fromhex(
                bucket["key_base16"])
            self.assertEqual(bucket["key_length"], len(key))
            self.assertFalse(bucket["key_truncated"])
            found[key] = "key" in bucket
        self.assertEqual(set(found), {key for key, _ in HOSTILE})
        self.assertFalse(found[b"\xff\xfe"])
        self.assertTrue(found[b"\x1b[2J\x1b]0;title\x07"])
        # All that leaves is ASCII without controls, in one line a bucket.
        output = self.weir("list", "--json", *self.at())
        self.assertTrue(all(c == "\n" or " " <= c < "\x7f" or c == "\x7f" for c in output))
        self.assertEqual(output.count("\n"), len(HOSTILE) + 2)

    def test_json_of_a_decision(self):
        self.assertEqual(self.weir_json("status", "api", b"\xff", *self.at())["key_base16"], "ff")
        self.assertEqual(self.weir_json("status", "api", "\u6771", *self.at())["key"], "\u6771")

    def test_keys_that_begin_with_a_dash(self):
        self.weir("allow", *self.at(), "--", "api", "--cost")
        self.assertIn("--cost", [b.get("key") for b in
                                 self.weir_json("list", *self.at())["buckets"]])


class List(WeirTest):
    def test_empty(self):
        self.create()
        self.assertEqual(self.weir("list", *self.at()), "")
        self.assertEqual(self.weir_json("list", *self.at()), {"buckets": []})
        self.assertEqual(self.weir_json("top", *self.at()), {"by": "consumed", "buckets": []})

    def test_a_bucket(self):
        self.create()
        self.weir("policy", "set", "api", "10/10s", "100/100s sliding-window")
        self.weir("allow", "api", "key", "--cost", "4", *self.at())
        buckets = self.weir_json("list", *self.at())["buckets"]
        first, second = sorted(buckets, key=lambda bucket: bucket["limit_index"])
        self.assertEqual(first["policy"], "api")
        self.assertEqual(first["algorithm"], "token-bucket")
        self.assertEqual(second["algorithm"], "sliding-window")
        self.assertEqual(first["consumed"], 4)
        self.assertEqual((first["limit"], first["remaining"]), (10, 6))
        self.assertEqual((second["limit"], second["remaining"]), (100, 96))
        self.assertEqual(first["reset_after_ns"], 4_000_000_000)
        self.assertRegex(first["fingerprint"], "^[0-9a-f]{32}$")

    def test_of_one_policy(self):
        self.create()
        for policy in ("api", "web"):
            self.weir("policy", "set", policy, "1/1h")
            self.weir("allow", policy, "key", *self.at())
        (bucket,) = self.weir_json("list", "--policy", "web", *self.at())["buckets"]
        self.assertEqual(bucket["policy"], "web")
        self.assertIn("api, web", self.weir_error("list", "--policy", "zzzzz", *self.at()))

    def test_long_keys_are_cut(self):
        self.create("--key-bytes", "8")
        self.weir("policy", "set", "api", "1/1h")
        self.weir("allow", "api", "0123456789", *self.at())
        self.assertTrue(
            self.weir("list", *self.at()).endswith("  01234567... (10 bytes)\n")
        )
        (bucket,) = self.weir_json("list", *self.at())["buckets"]
        self.assertEqual((bucket["key"], bucket["key_length"]), ("01234567", 10))
        self.assertTrue(bucket["key_truncated"])

    def test_without_keys(self):
        self.create("--key-bytes", "0")
        self.weir("policy", "set", "api", "1/1h")
        self.weir("allow", "api", "key", *self.at())
        (bucket,) = self.weir_json("list", *self.at())["buckets"]
        self.assertNotIn("key", bucket)
        self.assertTrue(bucket["key_truncated"])
        self.assertIn(f"(fingerprint {bucket['fingerprint']})", self.weir("list", *self.at()))

    def test_a_callers_clock_needs_now(self):
        self.create()
        self.assertIn("give --now NS", self.weir_error("list"))
        self.assertIn("give --now NS", self.weir_error("top", "--once"))


class Top(WeirTest):
    def setUp(self):
        super().setUp()
        self.create()
        self.weir("policy", "set", "api", "50/1h")
        for number in range(1, 31):
            self.weir("allow", "api", f"key {number}", "--cost", str(number), *self.at())

    def test_by_consumption(self):
        top = self.weir_json("top", "--once", *self.at())
        self.assertEqual(top["by"], "consumed")
        self.assertEqual([bucket["consumed"] for bucket in top["buckets"]], list(range(30, 10, -1)))
        top = self.weir_json("top", "--count", "3", *self.at())
        self.assertEqual([bucket["key"] for bucket in top["buckets"]],
                         ["key 30", "key 29", "key 28"])

    def test_by_denials(self):
        self.assertEqual(self.weir_json("top", "--by", "denied", *self.at())["buckets"], [])
        # One denial in so many is sampled; so many more are surely seen.
        for _ in range(400):
            self.run_weir("allow", "api", "key 7", "--cost", "50", *self.at(), status=1)
            buckets = self.weir_json("top", "--by", "denied", *self.at())["buckets"]
            if buckets:
                break
        self.assertEqual([bucket["key"] for bucket in buckets], ["key 7"])
        self.assertGreater(buckets[0]["denied_sampled"], 0)

    def test_needs_a_terminal(self):
        self.assertIn("--once", self.weir_error("top", *self.at()))

    def test_bad_options(self):
        self.assertIn("consumed or denied", self.weir_error("top", "--once", "--by", "name"))
        self.assertIn("from 1 to 1000", self.weir_error("top", "--once", "--count", "0"))


class Stats(WeirTest):
    def test_counters(self):
        self.create()
        for policy in ("api", "web"):
            self.weir("policy", "set", policy, "2/1h")
        for policy, count in (("api", 3), ("web", 1)):
            for number in range(count):
                self.run_weir("allow", policy, "key", *self.at(), status=int(number >= 2))
        stats = self.weir_json("stats")
        self.assertEqual(set(stats["total"]), set(stats["counters"]))
        self.assertEqual(stats["policies"]["api"]["allowed"], 2)
        self.assertEqual(stats["policies"]["api"]["denied"], 1)
        self.assertEqual(stats["policies"]["web"]["allowed"], 1)
        self.assertEqual(stats["total"]["allowed"], 3)
        self.assertEqual(stats["total"]["denied"], 1)
        for name, counter in stats["counters"].items():
            self.assertRegex(counter["help"], "^[A-Z].*[a-z.)]$|^[a-z]")
            self.assertTrue(counter["unit"])
            self.assertEqual(name in stats["policies"]["api"], counter["per_policy"])

        text = self.weir("stats")
        for heading in ("total\n", "policy api\n", "policy web\n"):
            self.assertIn(heading, text)
        self.assertRegex(text, r"  allowed +3 ")

    def test_one_policy(self):
        self.create()
        for policy in ("api", "web"):
            self.weir("policy", "set", policy, "2/1h")
        stats = self.weir_json("stats", "web")
        self.assertEqual(list(stats["policies"]), ["web"])
        self.assertNotIn("total", stats)
        self.assertTrue(self.weir("stats", "web").startswith("policy web\n"))
        self.assertIn("api, web", self.weir_error("stats", "zzzzz"))


if __name__ == "__main__":
    main()
