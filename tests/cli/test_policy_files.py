# SPDX-License-Identifier: Apache-2.0
"""What docs/policy-files.md says: its example loads, its two ways to write a
limit mean the same, and its messages are those of the program."""

import os
import re

from support import SOURCE, WeirTest, main

with open(os.path.join(SOURCE, "docs", "policy-files.md"), encoding="utf-8") as file:
    PAGE = file.read()

POLICY = "policies: [{name: a, limits: [1/s]"

# A file for each message of the page that a file can provoke, in no order.
MISTAKES = [
    "# nothing",
    POLICY + "}]\n---\n" + POLICY + "}]",
    "policies:\n\t- name: a",
    b"\xff",
    b"\x01",
    b"#" * (4 << 20) + b"#",
    "policies:\n" + "".join(f"- {{name: p{i}, limits: [1/s]}}\n" for i in range(4097)),
    "policies: *x",
    "policies: &x []",
    "policies: !x []",
    "%TAG ! x\n---\n" + POLICY + "}]",
    POLICY + ", x: y}]",
    POLICY + ", x: y, x: z}]",
    POLICY + ", name: x}]",
    "policies: [{name: x}]",
    "policies: [{name: x, limits: 1/s}]",
    "policies: [{name: x, limits: []}]",
    "policies: [{name: x, limits: [1/s, 1/s, 1/s, 1/s, 1/s]}]",
    "policies: [{name: x, limits: [1/s]}, {name: x, limits: [1/s]}]",
    "policies: [{name: x y, limits: [1/s]}]",
    "policies: [{name: " + "x" * 64 + ", limits: [1/s]}]",
    'policies: [{name: "", limits: [1/s]}]',
    POLICY + ", fail_mode: x}]",
    POLICY + ", buckets: b}]",
] + [
    "policies: [{name: x, limits: [" + limit + "]}]"
    for limit in [
        "{limit: x, period: 1s}",
        "{limit: 18446744073709551616, period: 1s}",
        "{limit: 0, period: 1s}",
        "{limit: 5, period: 1w}",
        "{limit: 5, period: 999us}",
        "{limit: 5, period: 366d}",
        "{limit: 5}",
        "5/1s x",
        "5/1s token-bucket token-bucket",
        "5/1s deny deny",
        "5/1s burst 1 burst 1",
        "5/1s burst",
        "100000001/1s",
        "1/400h burst 25",
        "5/1s fixed-window burst 20",
        "5/1m concurrency",
        "5/1s flag",
        "17592186044416/365d fixed-window",
    ]
]


def documented_messages():
    """The messages of the page's table, as regular expressions."""
    table = PAGE[PAGE.index("| message | cause |") :]
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", row):
            pattern = re.escape(message)
            # Names of the reader's own choice, and what the page leaves out.
            pattern = pattern.replace("…", ".*").replace("FILE", ".*").replace("TEXT", ".*")
            yield re.sub(r'"x"|\bx\b', lambda match: match[0].replace("x", ".+"), pattern)


class PolicyFiles(WeirTest):
    def load(self, text, status=0):
        path = os.path.join(self.directory, "policies.yaml")
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        if status:
            return self.weir_error("policy", "load", path)
        self.weir("policy", "load", path)
        return self.weir_json("policy", "list")["policies"]

    def test_example(self):
        self.create()
        example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
        policies = self.load(example)
        self.assertEqual([policy["name"] for policy in policies], ["api", "log-in"])
        self.assertEqual([len(policy["limits"]) for policy in policies], [2, 2])

    def test_line_and_mapping(self):
        self.create()
        rows = re.findall(r"^\| `([^`]+)` \| `(\{[^`]+\})` \|$", PAGE, re.MULTILINE)
        self.assertEqual(len(rows), 5)
        for line, mapping in rows:
            (policy,) = self.load("policies: [{name: a, limits: [%s, '%s']}]" % (mapping, line))
            self.assertEqual(policy["limits"][0], policy["limits"][1])
            self.assertEqual(policy["limits"][0]["text"], line)

    def test_messages(self):
        self.create()
        said = [self.load(mistake, status=2) for mistake in MISTAKES]
        documented = list(documented_messages())
        self.assertGreater(len(documented), 35)
        for pattern in documented:
            self.assertTrue(
                any(re.search(pattern, message) for message in said),
                f"no mistake is answered by {pattern}",
            )
        self.assertEqual(self.weir_json("policy", "list")["policies"], [])


if __name__ == "__main__":
    main()
