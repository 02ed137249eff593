# SPDX-License-Identifier: Apache-2.0
"""What limits do to a log, in exact rational arithmetic and one process.

Shares nothing with the program: it parses by regular expression, and its times
and debts are fractions of seconds.
"""

import datetime
import re
from fractions import Fraction

LINE = re.compile(
    rb'(?P<addr>[^ ]+) [^ ]+ (?P<user>.+?) \[(?P<time>[^\]\[]*)\] "(?P<request>(?:[^"\\]|\\.)*)"'
    rb' (?:\d{3}|-) (?:\d+|-)(?: "(?:[^"\\]|\\.)*" "(?P<agent>(?:[^"\\]|\\.)*)| |$)',
    re.DOTALL,
)
REQUEST = re.compile(rb"([^ ]+) ([^ ?]*)", re.DOTALL)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
UNITS = {"ms": Fraction(1, 1000), "s": 1, "m": 60, "h": 3600, "d": 86400}


class Request:
    """A line of the log: its time in seconds since 1970, and its fields."""

    def __init__(self, match):
        text = match["time"].decode()
        if not re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}", text):
            raise ValueError(text)
        moment = datetime.datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z")
        self.time = (moment - EPOCH) // datetime.timedelta(seconds=1)
        if self.time <= 0:
            raise ValueError(text)
        request = REQUEST.match(match["request"])
        self.fields = {
            "addr": match["addr"],
            "user": match["user"],
            "method": request[1] if request else b"-",
            "path": request[2] or b"-" if request else b"-",
            "user-agent": match["agent"] or b"-",
        }


class Log:
    """The requests of a log, with effective times, and what was odd about it."""

    def __init__(self, data):
        lines = data.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        self.lines = len(lines)
        self.requests = []
        self.times = []
        self.steps_back = 0
        for line in lines:
            match = LINE.match(line.rstrip(b"\r"))
            try:
                request = Request(match) if match else None
            except ValueError:
                request = None
            if request:
                self._add(request)
        self.malformed = self.lines - len(self.requests)

    def _add(self, request):
        if self.requests:
            self.steps_back += request.time < self.requests[-1].time
        latest = self.times[-1] if self.times else 0
        self.requests.append(request)
        self.times.append(max(latest, request.time))

    def keys(self, *fields):
        return [tuple(request.fields[field] for field in fields) for request in self.requests]


class TokenBucket:
    """GCRA: full is when the bucket will be full again."""

    def __init__(self, limit, period, burst):
        self.token = Fraction(period, limit)
        self.tolerance = burst * self.token
        self.full = Fraction(0)

    def passes(self, now):
        return max(self.full, now) + self.token - now <= self.tolerance

    def spend(self, now):
        self.full = max(self.full, now) + self.token


class FixedWindow:
    def __init__(self, limit, period, _):
        self.limit = limit
        self.period = period
        self.index = None
        self.count = 0

    def _turn(self, now):
        index = now // self.period
        if index != self.index:
            self.index = index
            self.count = 0

    def passes(self, now):
        self._turn(now)
        return self.count + 1 <= self.limit

    def spend(self, now):
        self._turn(now)
        self.count += 1


class SlidingWindow:
    """Two counters: the previous one weighs as much as is left of it."""

    def __init__(self, limit, period, _):
        self.limit = limit
        self.period = period
        self.index = None
        self.counts = (0, 0)

    def _turn(self, now):
        index = now // self.period
        if index != self.index:
            after_previous = self.index is not None and index == self.index + 1
            self.counts = (self.counts[1] if after_previous else 0, 0)
            self.index = index

    def passes(self, now):
        self._turn(now)
        left = 1 - Fraction(now % self.period) / self.period
        return self.counts[0] * left + self.counts[1] + 1 <= self.limit

    def spend(self, now):
        self._turn(now)
        self.counts = (self.counts[0], self.counts[1] + 1)


ALGORITHMS = {
    "token-bucket": TokenBucket,
    "fixed-window": FixedWindow,
    "sliding-window": SlidingWindow,
}


def bucket(text):
    """A new bucket for a limit such as "7/3s burst 2"."""
    match = re.fullmatch(r"(\d+)/(\d+)(ms|s|m|h|d)(?: burst (\d+))?(?: ([a-z-]+))?", text)
    limit, period = int(match[1]), Fraction(int(match[2]) * UNITS[match[3]])
    return ALGORITHMS[match[5] or "token-bucket"](limit, period, int(match[4] or limit))


class Result:
    """Which requests a policy of LIMITS denies, decided in the order of the log."""

    def __init__(self, log, keys, *limits):
        buckets = {}
        self.keys = keys
        self.denied = []
        for key, now in zip(keys, log.times):
            if key not in buckets:
                buckets[key] = [bucket(limit) for limit in limits]
            passes = all([each.passes(now) for each in buckets[key]])
            if passes:
                for each in buckets[key]:
                    each.spend(now)
            self.denied.append(not passes)
        self.total = sum(self.denied)

    def top(self, count=10):
        """(key, requests, denied) of the most limited keys, in the report's order."""
        counts = {}
        for key, denied in zip(self.keys, self.denied):
            requests, sum_denied = counts.get(key, (0, 0))
            counts[key] = (requests + 1, sum_denied + denied)
        limited = [(key, *pair) for key, pair in counts.items() if pair[1]]
        # The sort is stable, and a dict keeps the order in which keys were seen.
        return sorted(limited, key=lambda row: (-row[2], -row[1]))[:count]
