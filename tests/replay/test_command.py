# SPDX-License-Identifier: Apache-2.0
"""`weir replay`: what it reads, what it refuses, what it prints."""

import gzip
import os
import sys
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))

from support import SOURCE, WeirTest, main

SMALL = os.path.join(SOURCE, "tests", "data", "access-small.log")
SVG = "{http://www.w3.org/2000/svg}"
LINE_MAX = 65536


def log_line(seconds=0, addr="192.0.2.1", zone="+0000", request="GET / HTTP/1.1", tail=""):
    """A line at SECONDS (below an hour) after noon of a day."""
    clock = f"12:{seconds // 60:02}:{seconds % 60:02}"
    return f'{addr} - - [01/Jun/2024:{clock} {zone}] "{request}" 200 1{tail}\n'.encode()


class ReplayTest(WeirTest):
    def write(self, name, data):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def replay(self, data, *options, **more):
        """The JSON report on a log of these bytes."""
        path = self.write("access.log", data)
        return self.weir_json("replay", path, "--limit", "1/10s", *options, **more)


class Input(ReplayTest):
    def test_plain_gzip_and_stdin_are_the_same(self):
        with open(SMALL, "rb") as file:
            data = file.read()
        options = ("--limit", "3/10s", "--workers", "2")
        zipped = self.write("access.log.gz", gzip.compress(data))
        two_members = self.write(
            "two.gz", gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])
        )
        reports = [
            self.weir_json("replay", SMALL, *options),
            self.weir_json("replay", zipped, *options),
            self.weir_json("replay", two_members, *options),
        ]
        for path in (SMALL, zipped):
            with open(path, "rb") as file:
                reports.append(self.weir_json("replay", "-", *options, stdin=file))
        for report in reports:
            for name in ("elapsed_ns", "decisions_per_second", "latency_ns"):
                del report[name]
            self.assertEqual(report, reports[0])

    def test_damaged_gzip(self):
        with open(SMALL, "rb") as file:
            zipped = gzip.compress(file.read())
        path = self.write("cut.gz", zipped[: len(zipped) // 2])
        error = self.weir_error("replay", path, "--limit", "3/10s")
        self.assertRegex(error, r"cut\.gz is damaged after line \d+")
        wrong = bytearray(zipped)
        wrong[len(wrong) // 2] ^= 0xFF
        wrong[-6] ^= 0xFF
        path = self.write("wrong.gz", bytes(wrong))
        self.assertIn("wrong.gz is damaged", self.weir_error("replay", path, "--limit", "3/10s"))

    def test_no_such_log(self):
        missing = os.path.join(self.directory, "missing.log")
        error = self.weir_error("replay", missing, "--limit", "1/s")
        self.assertIn("missing.log: No such file", error)
        error = self.weir_error("replay", self.directory, "--limit", "1/s")
        self.assertIn("directory", error)

    def test_nothing_to_replay(self):
        self.assertIn("is empty", self.weir_error("replay", self.write("a", b""), "--limit", "1/s"))
        path = self.write("a", b"\x1b[2Jgarbage\nmore\n")
        error = self.weir_error("replay", path, "--limit", "1/s")
        self.assertIn("no line in the common or combined log format (2 lines)", error)
        self.assertIn("line 1: ", error)
        self.assertIn(r"\x1b[2Jgarbage", error)

    def test_the_last_line_needs_no_newline(self):
        report = self.replay(log_line(0) + log_line(1)[:-1])
        self.assertEqual((report["lines"], report["requests"], report["denied"]), (2, 2, 1))

    def test_malformed_lines_are_counted_and_the_first_shown(self):
        data = b"".join(b"bad \xff\x1b]0;x\x07 %d\n" % i + log_line(i) for i in range(9))
        report = self.replay(data)
        self.assertEqual((report["requests"], report["malformed"]), (9, 9))
        self.assertEqual([each["line"] for each in report["malformed_first"]], [1, 3, 5, 7, 9])
        self.assertEqual(report["malformed_first"][1]["text"], r"bad \xff\x1b]0;x\x07 1")
        text = self.weir("replay", self.write("a", data), "--limit", "1/10s")
        self.assertIn(r"bad \xff\x1b]0;x\x07 0", text)
        self.assertIn("and 4 more", text)
        self.assertNotIn("\x1b", text)

    def test_the_longest_line(self):
        def long_line(length):
            line = log_line(1, tail=' "-" "')[:-1]
            return line + b"a" * (length - len(line) - 1) + b'"'

        for newline in (b"\n", b""):
            report = self.replay(log_line(0) + long_line(LINE_MAX) + newline)
            self.assertEqual((report["requests"], report["malformed"]), (2, 0))
            report = self.replay(log_line(0) + long_line(LINE_MAX + 1) + newline)
            self.assertEqual((report["requests"], report["malformed"]), (1, 1))
            self.assertTrue(report["malformed_first"][0]["cut"])

    def test_lines_far_too_long(self):
        for length in (4 * LINE_MAX - 1, 4 * LINE_MAX, 4 * LINE_MAX + 1, 11 * LINE_MAX):
            data = log_line(0) + b"x" * length + b"\n" + log_line(1)
            report = self.replay(data + b"\x00" * length)
            self.assertEqual((report["lines"], report["requests"]), (4, 2))
            self.assertEqual(report["malformed"], 2)

    def test_keys_of_the_longest_line(self):
        line = log_line(0, request="GET /" + "p" * 30000 + " HTTP/1.1", tail=' "-" "')[:-1]
        line += b"\x80" * (LINE_MAX - len(line) - 1) + b'"\n'
        fields = "addr+user+method+path+user-agent"
        report = self.replay(line + line, "--key", fields, "--workers", "1")
        (top,) = report["top_keys"]
        self.assertEqual(list(top["key"]), fields.split("+"))
        self.assertEqual(top["key"]["path"], "/" + "p" * 30000)
        self.assertEqual(set(top["key"]["user-agent"].split("\\x")[1:]), {"80"})

    def test_fields_of_a_combination_do_not_run_into_each_other(self):
        data = log_line(0, addr="ab", request="c /x HTTP/1.1")
        data += log_line(0, addr="a", request="bc /x HTTP/1.1")
        report = self.replay(data, "--key", "addr+method")
        self.assertEqual((report["keys"], report["denied"]), (2, 0))
        report = self.replay(data, "--key", "path")
        self.assertEqual((report["keys"], report["denied"]), (1, 1))


class Time(ReplayTest):
    def test_zones(self):
        data = log_line(0, zone="+0000")
        for zone in ("+0530", "-1100", "-0330"):
            report = self.replay(log_line(0, zone=zone))
            hours, minutes = int(zone[1:3]), int(zone[3:])
            shift = (hours * 60 + minutes) * (-1 if zone[0] == "+" else 1)
            hour, minute = divmod((12 * 60 + shift) % 1440, 60)
            self.assertEqual(report["first_time"], f"2024-06-01T{hour:02}:{minute:02}:00Z")
        # The same instant, written in two zones: not a step.
        data += log_line(0).replace(b"12:00:00 +0000", b"17:30:00 +0530")
        report = self.replay(data)
        self.assertEqual((report["time_steps_back"], report["denied"]), (0, 1))

    def test_the_latest_time_so_far_holds(self):
        """1/10s: 20 s pass; what is logged late is decided then, not before."""
        seconds = [0, 20, 5, 6, 25, 30]
        report = self.replay(b"".join(map(log_line, seconds)), "--workers", "1")
        self.assertEqual(report["time_steps_back"], 1)
        self.assertEqual(report["requests_held"], 2)
        self.assertEqual(report["denied"], 3)   # 5 and 6 at 20, and 25
        self.assertEqual(report["last_time"], "2024-06-01T12:00:30Z")

    def test_more_workers_than_requests(self):
        report = self.replay(log_line(0) + log_line(1), "--workers", "64")
        self.assertEqual((report["allowed"], report["denied"]), (1, 1))


class Policies(ReplayTest):
    def policies(self, text):
        return self.write("policies.yaml", text.encode())

    def test_shadow_and_flag(self):
        path = self.policies(
            "policies:\n"
            "  - {name: dark, limits: [1/10s], shadow: true}\n"
            "  - {name: mark, limits: [{limit: 1, period: 10s, algorithm: sliding-window, "
            "action: flag}]}\n"
        )
        log = self.write("a", log_line(0) + log_line(1) + log_line(2))
        report = self.weir_json("replay", log, "--policies", path)
        self.assertEqual((report["allowed"], report["denied"]), (3, 0))
        policies = {each["name"]: each for each in report["policies"]}
        self.assertEqual(policies["dark"]["shadow_denied"], 2)
        self.assertEqual(policies["dark"]["limits"][0]["denied_alone"], 2)
        self.assertEqual(policies["mark"]["flagged"], 2)
        text = self.weir("replay", log, "--policies", path)
        self.assertIn("in shadow: would deny 2", text)
        self.assertIn("flagged 2", text)

    def test_concurrency_cannot_be_replayed(self):
        log = self.write("a", log_line(0) + log_line(1))
        error = self.weir_error("replay", log, "--limit", "5 concurrency")
        self.assertIn("does not say when a request ended", error)
        path = self.policies("policies:\n  - {name: a, limits: [5 concurrency]}\n")
        error = self.weir_error("replay", log, "--policies", path)
        self.assertIn("no limit that can be replayed", error)
        path = self.policies(
            "policies:\n  - {name: a, limits: [5 concurrency]}\n"
            "  - {name: b, limits: [1/10s, 2 concurrency]}\n"
        )
        report = self.weir_json("replay", log, "--policies", path)
        self.assertEqual(report["concurrency_limits_left_out"], 2)
        self.assertEqual([each["name"] for each in report["policies"]], ["b"])
        self.assertEqual(report["denied"], 1)

    def test_too_many_policies(self):
        """A segment has room for 4096; each of several limits takes a place, too."""
        for count, fits in ((1365, True), (1366, False)):
            path = self.policies(
                "policies:\n"
                + "".join(f"  - {{name: p{i}, limits: [1/s, 2/m]}}\n" for i in range(count))
            )
            log = self.write("a", log_line(0) + log_line(1))
            arguments = ("replay", log, "--policies", path)
            if fits:
                report = self.weir_json(*arguments)
                self.assertEqual((len(report["policies"]), report["decisions"]), (count, 2 * count))
            else:
                self.assertIn("1366 policies with 2732 limits", self.weir_error(*arguments))

    def test_names_that_look_like_ours(self):
        path = self.policies(
            'policies:\n  - {name: "alone0:0.0", limits: [1/10s]}\n'
            "  - {name: b, limits: [1/10s, 2/1m]}\n"
        )
        log = self.write("a", log_line(0) + log_line(1))
        report = self.weir_json("replay", log, "--policies", path, "--workers", "1")
        self.assertEqual([each["denied"] for each in report["policies"]], [1, 1])


class Table(ReplayTest):
    def test_a_table_too_small_is_refused_with_the_size_it_needs(self):
        data = b"".join(log_line(0, addr=f"host{i}") for i in range(1500))
        log = self.write("a", data)
        for limits, need in (([], 4096), (["2/1m"], 16384)):
            options = [option for limit in ["1/s"] + limits for option in ("--limit", limit)]
            error = self.weir_error("replay", log, *options, "--slots", str(need // 2))
            self.assertIn(f"--slots {need // 2} is too small", error)
            self.assertIn("1500 keys", error)
            self.assertIn(f"--slots {need} or more", error)
            report = self.weir_json("replay", log, *options, "--slots", str(need))
            self.assertEqual((report["slots"], report["evicted_live"]), (need, 0))
            self.assertEqual(self.weir_json("replay", log, *options)["slots"], need)

    def test_slots(self):
        self.assertEqual(self.replay(log_line(0))["slots"], 1024)
        self.assertEqual(self.replay(log_line(0), "--slots", "100")["slots"], 128)


class Usage(ReplayTest):
    def test_errors(self):
        limit = ["--limit", "1/s"]
        for options, what in (
            ([], "no limit to apply"),
            (limit * 5, "one too many"),
            (["--limit", "1/parsec"], "parsec"),
            (limit + ["--policies", "p"], "exclude each other"),
            (["--policies", "/nonexistent.yaml"], "nonexistent"),
            (limit + ["--key", "host"], 'no field "host"'),
            (limit + ["--key", "addr+"], 'no field ""'),
            (limit + ["--key", ""], 'no field ""'),
            (limit + ["--key", "addr+addr"], "twice"),
            (limit + ["--workers", "0"], "--workers"),
            (limit + ["--workers", "65"], "--workers"),
            (limit + ["--speed", "warp"], "log or max"),
            (limit + ["--slots", "0"], "--slots"),
            (limit + ["extra"], "extra"),
        ):
            with self.subTest(options=options):
                self.assertIn(what, self.weir_error("replay", SMALL, *options))

    def test_an_unwritable_plot(self):
        plot = os.path.join(self.directory, "missing", "a.svg")
        options = ("--limit", "1/s", "--plot", plot)
        _, errors = self.run_weir("replay", SMALL, *options, status=2)
        self.assertIn(b"cannot write the plot", errors)


class Output(ReplayTest):
    def test_text(self):
        text = self.weir("replay", SMALL, "--limit", "3/10s", "--workers", "3")
        report = self.weir_json("replay", SMALL, "--limit", "3/10s", "--workers", "3")
        for name in ("requests", "allowed", "denied", "malformed"):
            self.assertRegex(text, rf"(?m)^{name} +{report[name]}\b")
        for top in report["top_keys"]:
            self.assertRegex(text, rf"(?m)^ +{top['requests']} +{top['denied']}  {top['key']}$")
        self.assertRegex(text, r"p50 \d+ ns, p99 \d+ ns, p99\.9 \d+ ns")
        self.assertTrue(text.replace("\n", "").isprintable())

    def test_latencies_are_in_order(self):
        for speed in ("log", "max"):
            report = self.weir_json("replay", SMALL, "--limit", "3/10s", "--speed", speed)
            latency = report["latency_ns"]
            self.assertLess(0, latency["p50"])
            self.assertLessEqual(latency["p50"], latency["p99"])
            self.assertLessEqual(latency["p99"], latency["p99.9"])
            self.assertLessEqual(latency["p99.9"], latency["max"])
            self.assertLessEqual(latency["max"], report["elapsed_ns"])

    def test_full_speed(self):
        """By the real clock: a day's limit has nothing to give back meanwhile."""
        for workers in ("1", "8"):
            report = self.weir_json(
                "replay", SMALL, "--limit", "10/1d", "--limit", "100/1d", "--speed", "max",
                "--workers", workers,
            )
            self.assertEqual(report["speed"], "max")
            self.assertEqual(report["requests"], report["allowed"] + report["denied"])
            (policy,) = report["policies"]
            hot = report["top_keys"][0]
            self.assertGreaterEqual(hot["denied"], hot["requests"] - 10)
            self.assertGreaterEqual(policy["limits"][0]["denied_alone"], hot["requests"] - 10)
            self.assertEqual(policy["limits"][1]["denied_alone"], hot["requests"] - 100)

    def plot(self, log, *options):
        path = os.path.join(self.directory, "plot.svg")
        report = self.weir_json("replay", log, *options, "--plot", path)
        return report, ElementTree.parse(path).getroot()

    def test_plot(self):
        report, svg = self.plot(SMALL, "--limit", "3/10s")
        self.assertEqual(svg.get("role"), "img")
        title, description = svg.find(SVG + "title"), svg.find(SVG + "desc")
        self.assertEqual(svg.get("aria-labelledby"), f"{title.get('id')} {description.get('id')}")
        self.assertIn("access-small.log, by 3/10s per addr", title.text)
        self.assertIn(f"{report['allowed']} allowed, {report['denied']} denied", description.text)
        allowed = denied = 0
        for bar in svg.iter(SVG + "g"):
            words = bar.find(SVG + "title").text.replace(",", "").split()
            allowed += int(words[words.index("allowed") - 1])
            denied += int(words[words.index("denied") - 1])
        self.assertEqual((allowed, denied), (report["allowed"], report["denied"]))
        texts = [text.text for text in svg.iter(SVG + "text")]
        self.assertIn(f"allowed ({allowed})", texts)
        self.assertIn(f"denied ({denied})", texts)
        self.assertIn("28 Feb 2024", texts)

    def test_bars_have_the_height_of_their_counts(self):
        _, svg = self.plot(SMALL, "--limit", "3/10s")
        heights = {}
        for bar in svg.iter(SVG + "g"):
            words = bar.find(SVG + "title").text.replace(",", "").split()
            counts = [int(words[words.index(name) - 1]) for name in ("allowed", "denied")]
            parts = [float(part.get("height")) for part in bar.iter(SVG + "rect")]
            for count, height in zip([count for count in counts if count], parts, strict=True):
                heights.setdefault(count, set()).add(height)
        (unit,) = heights[1]
        for count, values in heights.items():
            for value in values:
                self.assertAlmostEqual(value, count * unit, delta=0.02 + 0.01 * count)

    def test_plots_of_odd_logs(self):
        """One instant, a name with markup, and a century."""
        name = 'a<&>"\x1b\u00e9.log'
        log = self.write(name, log_line(0) + log_line(0))
        _, svg = self.plot(log, "--limit", "1/s")
        self.assertEqual(len(list(svg.iter(SVG + "g"))), 1)
        self.assertIn('a<&>"\\x1b\u00e9.log', svg.find(SVG + "title").text)
        late = log_line(0).replace(b"2024", b"2199")
        _, svg = self.plot(self.write("b", log_line(0) + late), "--limit", "1/s")
        self.assertEqual(len(list(svg.iter(SVG + "g"))), 2)
        self.assertLess(len(list(svg.iter(SVG + "text"))), 50)


if __name__ == "__main__":
    main()
