# SPDX-License-Identifier: Apache-2.0
"""envoyproxy/ratelimit and `weir serve --compat envoy` answer the same random requests by the
same random configurations alike, field by field.

    test_differential.py [--configs N] [--requests N] [--seed N]

Each pair of calls is made at once.  A pair during which a second passed is discarded, and
counted, and so is what follows in the buckets that it may have changed.  docs/envoy.md lists
the differences that are meant; what they concern is not drawn.
"""

import argparse
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
MARGIN_S = 0.015  # no pair is begun so near to a new second
SETTINGS = {"LIMIT_RESPONSE_HEADERS_ENABLED": "true", "RESPONSE_DYNAMIC_METADATA": "true",
            "LIMIT_RESET_HEADER": "X-Reset"}


class Weir:
    """`weir serve` on a segment of its own, told by the same variables."""

    def __init__(self, directory, compat):
        self.directory = pathlib.Path(directory)
        self.config = self.directory / "rules"
        self.config.mkdir()
        (self.config / peer.Ratelimit.FILE).write_text("domain: none\n", encoding="utf-8")
        self.segment = str(self.directory / "segment")
        self.process = subprocess.Popen(
            [os.environ["WEIR_SERVE"], "--segment", self.segment, "--create", "--compat",
             compat, "--rules", str(self.config), "--grpc", "127.0.0.1:0"],
            env={**os.environ, **SETTINGS}, stderr=subprocess.PIPE, text=True,
            preexec_fn=peer.die_with_the_test)
        self.wait_for_load()
        line = self.process.stderr.readline()
        self.port = int(re.search(r":(\d+)$", line).group(1))

    def wait_for_load(self):
        for line in self.process.stderr:
            if "Successfully loaded new configuration" in line:
                return ""
            error = line.partition("Error loading new configuration: ")[2]
            if error:
                return error.rstrip("\n")
        raise RuntimeError("weir serve ended")

    def load(self, text):
        path = self.directory / "new.yaml"
        path.write_bytes(text)
        os.rename(path, self.config / peer.Ratelimit.FILE)
        return self.wait_for_load()

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.process.stderr.close()


class Client:
    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.call = self.channel.unary_unary(
            wire.METHOD, request_serializer=wire.encode_request,
            response_deserializer=wire.decode_response)

    def close(self):
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
        if header[0] == SETTINGS["LIMIT_RESET_HEADER"]:
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

    One is left out from when a pair may have counted in two windows, and when two units
    would share it: Redis' keys have no unit in them, so that at the top of an hour a
    minute's and an hour's are one (docs/envoy.md)."""

    def __init__(self):
        self.left_out = set()
        self.units = {}

    @staticmethod
    def names(request, answer):
        """(entries, unit) of each descriptor that was limited."""
        for descriptor, status in zip(request["descriptors"], answer.get("statuses", [])):
            if "current_limit" in status:
                yield (request["domain"],
                       "_".join(f"{key}_{value}" for key, value in descriptor["entries"]),
                       ), status["current_limit"]["unit"]

    def leave_out(self, request, answer):
        self.left_out.update(name for name, _ in self.names(request, answer))

    def usable(self, request, answer, now):
        usable = True
        for name, unit in self.names(request, answer):
            start = now - now % SECONDS.get(unit, 1)
            if self.units.setdefault((name, start), unit) != unit:
                self.left_out.add(name)
            usable &= name not in self.left_out
        return usable


class Run:
    def __init__(self, program, directory):
        self.directory = pathlib.Path(directory)
        for name in ("peer", "weir"):
            (self.directory / name).mkdir()
        self.peer = peer.Ratelimit(program, self.directory / "peer", **SETTINGS)
        self.release = self.find_release()
        self.weir = Weir(self.directory / "weir", draw.MONTHS[self.release])
        self.theirs, self.ours = Client(self.peer.port), Client(self.weir.port)
        self.counts = {"alike": 0, "discarded": 0, "left out": 0, "configurations": 0}
        self.number = 0

    def find_release(self):
        """Which of the two behaviours the program has."""
        probe = b"domain: probe\ndescriptors: [{key: k, metadata: {a: b}}]\n"
        return "january" if self.peer.load(probe) else "july"

    def load(self, root):
        """Load it into both, in a name space of its own: nothing was counted there."""
        self.number += 1
        root = {**root, "domain": f"{root['domain']}{self.number}"}
        text = json.dumps(root, ensure_ascii=False, indent=1).encode()
        errors = self.peer.load(text), self.weir.load(text)
        if errors[0] or errors[1]:
            raise AssertionError(f"not loaded: {errors}\n{text.decode()}")
        return root["domain"]

    def pair(self, request):
        """Both answers, and the second that they are of, or None if one passed."""
        while True:
            fraction = time.time() % 1
            if MARGIN_S < fraction < 1 - MARGIN_S:
                break
            time.sleep(MARGIN_S)
        before = int(time.time())
        futures = self.theirs.call.future(request), self.ours.call.future(request)
        theirs, ours = map(result, futures)
        return theirs, ours, before if int(time.time()) == before else None

    def first_difference(self, root, requests, counts=None):
        """(index, theirs, ours) of the first pair that differs, or None."""
        domain = self.load(root)
        buckets = Buckets()
        counts = counts if counts is not None else dict.fromkeys(self.counts, 0)
        for index, drawn in enumerate(requests):
            request = drawn if drawn["domain"] != root["domain"] else {**drawn, "domain": domain}
            theirs, ours, now = self.pair(request)
            if now is None:
                counts["discarded"] += 1
                buckets.leave_out(request, theirs)
            elif not buckets.usable(request, theirs, now):
                counts["left out"] += 1
            elif alike(ours, theirs):
                counts["alike"] += 1
            else:
                return index, theirs, ours
        return None

    def shrink(self, root, requests):
        """A smaller case that differs, too."""
        deadline = time.monotonic() + 120
        found = True
        while found and time.monotonic() < deadline:
            found = False
            for smaller in draw.smaller_requests(requests):
                if self.first_difference(root, smaller):
                    requests, found = smaller, True
                    break
            for smaller in draw.smaller_configs(root) if not found else ():
                if self.first_difference(smaller, requests):
                    root, found = smaller, True
                    break
        return root, requests

    def one(self, seed, request_count):
        """Compare one configuration; True if both are alike."""
        generator = random.Random(seed)
        root = draw.Config(generator, self.release).root
        requests = [draw.request(generator, root["domain"]) for _ in range(request_count)]
        self.counts["configurations"] += 1
        if self.counts["configurations"] % 100 == 0:
            print(self.counts, flush=True)
        difference = self.first_difference(root, requests, self.counts)
        if not difference:
            return True
        print(f"seed {seed}: request {difference[0]} is answered otherwise")
        root, requests = self.shrink(root, requests[:difference[0] + 1])
        print(json.dumps(root, ensure_ascii=False, indent=1))
        for request in requests:
            print(json.dumps(request, ensure_ascii=False))
        difference = self.first_difference(root, requests) or difference
        print("envoyproxy/ratelimit:", json.dumps(difference[1], default=repr, indent=1))
        print("weir:", json.dumps(difference[2], default=repr, indent=1))
        return False

    def close(self):
        for each in (self.ours, self.theirs, self.weir, self.peer):
            each.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", type=int, default=4)
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()

    program = peer.find()
    if not program or not shutil.which("redis-server"):
        print("envoyproxy/ratelimit or redis-server is not installed (perf/setup-peers; "
              "WEIR_RATELIMIT names the program): skipped")
        sys.exit(SKIPPED)
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as directory:
        run = Run(program, directory)
        try:
            good = all([run.one(options.seed + i, options.requests)
                        for i in range(options.configs)])
        finally:
            run.close()
    print(f"{run.release}: {run.counts}")
    # A comparison of nothing is none.
    enough = run.counts["alike"] * 2 > options.configs * options.requests
    sys.exit(0 if good and enough else 1)


if __name__ == "__main__":
    main()
