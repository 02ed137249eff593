# SPDX-License-Identifier: Apache-2.0
"""envoyproxy/ratelimit and `weir serve --compat envoy` answer the same random requests by the
same random configurations alike, field by field, and refuse the same configurations in the
same words.

    test_differential.py [--configs N] [--requests N] [--seed N]

Each pair of calls is made at once.  A pair during which a second passed is discarded, and
counted, and so is what follows in the windows that it may have changed.  docs/envoy.md lists
the differences that are meant; what they concern is not drawn.
"""

import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIPPED = 77  # as meson reads it

try:
    import grpc
except ImportError:
    print("python3-grpcio is not installed (tools/setup test): skipped")
    sys.exit(SKIPPED)

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import draw  # noqa: E402
import peer  # noqa: E402
import wire  # noqa: E402

SECONDS = {1: 1, 2: 60, 3: 3600, 4: 86400, 5: 30 * 86400, 6: 365 * 86400, 7: 7 * 86400}
CONFIGS_OF_A_RUN = 10  # with the same variables
MARGIN_S = 0.015  # no pair is begun so near to a new second
RESET_HEADER = "X-Reset"  # of draw.settings()


class Weir:
    """`weir serve` on a segment of its own, told by the same variables."""

    def __init__(self, directory, compat, settings):
        self.rules = peer.Rules(directory, settings["RUNTIME_WATCH_ROOT"] == "true")
        self.process = subprocess.Popen(
            [os.environ["WEIR_SERVE"], "--segment", str(pathlib.Path(directory) / "segment"),
             "--create", "--compat", compat, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"],
            env={**os.environ, **settings, **self.rules.variables()}, stderr=subprocess.PIPE,
            text=True, preexec_fn=peer.die_with_the_test)
        self.wait_for_load()
        self.port, self.http_port = (
            int(re.search(r":(\d+)$", self.process.stderr.readline()).group(1))
            for _ in range(2))

    def wait_for_load(self):
        said = []
        for line in self.process.stderr:
            said.append(line)
            if "Successfully loaded new configuration" in line:
                return ""
            error = line.partition("Error loading new configuration: ")[2]
            if error:
                # What is no ASCII is escaped: it could harm a terminal.
                return re.sub(rb"\\x([0-9a-f]{2})", lambda hex: bytes.fromhex(hex[1].decode()),
                              error.rstrip("\n").encode()).decode(errors="replace")
        raise RuntimeError("weir serve ended: " + "".join(said))

    def load(self, texts):
        self.rules.put(texts)
        return self.wait_for_load()

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.process.stderr.close()


class Client:
    def __init__(self, port, http_port):
        self.http = http.client.HTTPConnection("127.0.0.1", http_port, timeout=60)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.call = self.channel.unary_unary(
            wire.METHOD, request_serializer=wire.encode_request,
            response_deserializer=wire.decode_response)

    def begin(self, request):
        """Ask; the answer is what the function says that is returned."""
        if not request.get("as_json"):
            future = self.call.future(request)
            return lambda: result(future)
        self.http.request("POST", "/json", json.dumps(wire.json_request(request)).encode())
        return self.json_result

    def json_result(self):
        answer = self.http.getresponse()
        text = answer.read()
        if answer.status not in (200, 429):
            return {"error": answer.status}
        return {"status": answer.status, **wire.from_json(json.loads(text))}

    def close(self):
        self.http.close()
        self.channel.close()


def result(future):
    try:
        return future.result(timeout=60)
    except grpc.RpcError as error:
        return {"error": (error.code().name, error.details())}


def plain(answer):
    """Without what may differ: seconds left by one, and blanks of protobuf's text form, which
    Go draws at random.  Returns (what must be equal, seconds)."""
    answer = json.loads(json.dumps(answer, default=repr))
    seconds = []
    for status in answer.get("statuses", []):
        if "duration_until_reset" in status:
            seconds.append(status["duration_until_reset"])
            status["duration_until_reset"] = "seconds"
    for header in answer.get("response_headers_to_add", []):
        if header[0] == RESET_HEADER:
            seconds.append(int(header[1]))
            header[1] = "seconds"
    for descriptor in (answer.get("dynamic_metadata") or {}).get("descriptors", []):
        if "limit" in descriptor:
            descriptor["limit"] = " ".join(descriptor["limit"].split())
    return answer, seconds


def alike(ours, theirs):
    (ours, our_seconds), (theirs, their_seconds) = plain(ours), plain(theirs)
    return ours == theirs and len(our_seconds) == len(their_seconds) and all(
        abs(a - b) <= 1 for a, b in zip(our_seconds, their_seconds))


class Buckets:
    """Which buckets can be compared.

    A window is left out when a pair may have counted in it or in the one before, and when
    two units share it: Redis' keys have no unit in them, so that at the top of an hour a
    minute's and an hour's are one (docs/envoy.md).  Where what is over decides about the
    others of its request, those are left out with it, for good.

    A bucket goes by its entries, and one that share_threshold may share with other entries
    also by its limit."""

    def __init__(self, settings, files):
        self.together = "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT" in settings
        self.shared = {limit for root in files.values()
                       for limit in draw.shared_limits(root["descriptors"])}
        self.windows = set()  # (name, start)
        self.names = set()
        self.units = {}

    def limited(self, request, answer):
        """(name, unit) of each descriptor that was limited; two, if it has two names."""
        for descriptor, status in zip(request["descriptors"], answer.get("statuses", [])):
            if "current_limit" in status:
                limit = status["current_limit"]
                unit, name = limit["unit"], limit["name"]
                # Joined as in a key of Redis: what collides there is one.
                yield "_".join([request["domain"], *(
                    f"{key}_{value}" for key, value in descriptor["entries"])]), unit
                if (limit["requests_per_unit"], unit, name) in self.shared:
                    yield (request["domain"], limit["requests_per_unit"], name), unit

    def leave_out(self, request, answer):
        self.names.update(name for name, _ in self.limited(request, answer))

    def discard(self, request, answer, before, after):
        """The pair was begun in one second and ended in another."""
        affected = False
        for name, unit in self.limited(request, answer):
            starts = {second - second % SECONDS.get(unit, 1) for second in (before, after)}
            if len(starts) > 1:
                affected = True
                self.windows.update((name, start) for start in starts)
        if affected and self.together:
            self.leave_out(request, answer)

    def usable(self, request, answer, now):
        usable = True
        for name, unit in self.limited(request, answer):
            window = name, now - now % SECONDS.get(unit, 1)
            if self.units.setdefault(window, unit) != unit:
                self.windows.add(window)
            usable &= window not in self.windows and name not in self.names
        if not usable and self.together:
            self.leave_out(request, answer)
        return usable


def as_printed(texts):
    return "".join(f"{name}:\n{text.decode(errors='replace')}\n" for name, text in texts.items())


class Run:
    """Both services, with one set of variables, but for those OF_OURS."""

    def __init__(self, program, directory, settings, counts, **of_ours):
        self.directory = pathlib.Path(directory)
        for name in ("peer", "weir"):
            (self.directory / name).mkdir()
        self.peer = peer.Ratelimit(program, self.directory / "peer", **settings)
        self.release = self.find_release()
        self.weir = Weir(self.directory / "weir", draw.MONTHS[self.release],
                         {"USE_STATSD": "false", **settings, **of_ours})
        self.theirs = Client(self.peer.port, self.peer.http_port)
        self.ours = Client(self.weir.port, self.weir.http_port)
        self.settings = settings
        self.counts = counts
        self.number = 0

    def find_release(self):
        """Which of the two behaviours the program has."""
        probe = b"domain: probe\ndescriptors: [{key: k, metadata: {a: b}}]\n"
        return "january" if self.peer.load({draw.FILE: probe}) else "july"

    def load(self, files):
        """Load it into both, in a name space of its own: nothing was counted there.  Returns
        what is before its domains."""
        self.number += 1
        texts = {name: draw.as_text({**root, "domain": f"{self.number}{root['domain']}"})
                 for name, root in files.items()}
        errors = self.peer.load(texts), self.weir.load(texts)
        if errors[0] or errors[1]:
            raise AssertionError(f"not loaded: {errors}\n{as_printed(texts)}")
        return str(self.number)

    def is_valid(self, files):
        return not self.peer.load({name: draw.as_text(root) for name, root in files.items()})

    def refused_alike(self, texts):
        """Both say the same of a configuration that is wrong, or load it."""
        theirs, ours = self.peer.load(texts), self.weir.load(texts)
        # Of several mistakes each has a line of its own there.
        theirs = theirs.replace("errors:\n  ", "errors: ").replace("\n  ", "; ")
        if self.nameless(theirs) == self.nameless(ours):
            self.counts["refused" if ours else "accepted"] += 1
            return True
        print(f"{as_printed(texts)}\nenvoyproxy/ratelimit: {theirs}\nweir: {ours}")
        return False

    @staticmethod
    def nameless(error):
        """Which of two files has something a second time depends on the order in which they
        are read, which is any there."""
        name, colon, rest = error.partition(": ")
        return rest if rest.startswith("duplicate ") else name + colon + rest

    def pair(self, request):
        """Both answers, and the seconds in which the pair was begun and ended."""
        while True:
            fraction = time.time() % 1
            if MARGIN_S < fraction < 1 - MARGIN_S:
                break
            time.sleep(MARGIN_S)
        before = int(time.time())
        answers = self.theirs.begin(request), self.ours.begin(request)
        theirs, ours = (answer() for answer in answers)
        return theirs, ours, before, int(time.time())

    def first_difference(self, files, requests, counts=None):
        """(index, theirs, ours) of the first pair that differs, or None."""
        prefix = self.load(files)
        domains = {root["domain"] for root in files.values()}
        buckets = Buckets(self.settings, files)
        counts = counts if counts is not None else collections.Counter()
        for index, request in enumerate(requests):
            if request["domain"] in domains:
                request = {**request, "domain": prefix + request["domain"]}
            theirs, ours, before, after = self.pair(request)
            if before != after:
                counts["discarded"] += 1
                buckets.discard(request, theirs, before, after)
            elif not buckets.usable(request, theirs, before):
                counts["left out"] += 1
            elif alike(ours, theirs):
                counts["alike"] += 1
                statuses = theirs.get("statuses", [])
                counts["limited"] += any("current_limit" in status for status in statuses)
                counts["over"] += any(status["code"] == "OVER_LIMIT" for status in statuses)
            else:
                return index, theirs, ours
        return None

    def shrink(self, files, requests):
        """A smaller case that differs, too."""
        deadline = time.monotonic() + 120
        found = True
        while found and time.monotonic() < deadline:
            found = False
            for smaller in draw.smaller_requests(requests):
                if self.first_difference(files, smaller):
                    requests, found = smaller, True
                    break
            for smaller in draw.smaller_configs(files) if not found else ():
                if self.is_valid(smaller) and self.first_difference(smaller, requests):
                    files, found = smaller, True
                    break
        return files, requests

    def one(self, seed, request_count):
        """Compare one configuration; True if both are alike."""
        generator = random.Random(seed)
        files = draw.Config(generator, self.release, self.settings).files
        requests = [draw.request(generator, files) for _ in range(request_count)]
        self.counts["configurations"] += 1
        if not self.refused_alike(draw.mistake(generator, files)):
            print(f"seed {seed}: a configuration is refused otherwise, with {self.settings}")
            return False
        difference = self.first_difference(files, requests, self.counts)
        if not difference:
            return True
        print(f"seed {seed}: request {difference[0]} is answered otherwise, with {self.settings}")
        files, requests = self.shrink(files, requests[:difference[0] + 1])
        print(as_printed({name: draw.as_text(root) for name, root in files.items()}))
        for request in requests:
            print(json.dumps(request, ensure_ascii=False))
        difference = self.first_difference(files, requests) or difference
        print("envoyproxy/ratelimit:", json.dumps(difference[1], default=repr, indent=1))
        print("weir:", json.dumps(difference[2], default=repr, indent=1))
        return False

    def close(self):
        for each in (self.ours, self.theirs, self.weir, self.peer):
            each.close()


def compare(program, seeds, requests, counts):
    with tempfile.TemporaryDirectory() as directory:
        run = Run(program, directory, draw.settings(random.Random(seeds[0])), counts)
        try:
            return all([run.one(seed, requests) for seed in seeds])
        finally:
            run.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", type=int, default=4)
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()

    program = peer.find()
    if not program or not shutil.which("redis-server"):
        print("envoyproxy/ratelimit or redis-server is not installed (tools/setup clients; "
              "WEIR_RATELIMIT names the program): skipped")
        sys.exit(SKIPPED)
    print(f"seed {options.seed}")
    counts = dict.fromkeys(("alike", "limited", "over", "discarded", "left out",
                            "configurations", "refused", "accepted"), 0)
    good = True
    for first in range(0, options.configs, CONFIGS_OF_A_RUN):
        seeds = range(first, min(first + CONFIGS_OF_A_RUN, options.configs))
        good &= compare(program, [options.seed + i for i in seeds], options.requests, counts)
        print(counts, flush=True)
    # A comparison of nothing is none.
    enough = counts["alike"] * 2 > options.configs * options.requests and counts["limited"] > 0
    sys.exit(0 if good and enough else 1)


if __name__ == "__main__":
    main()
