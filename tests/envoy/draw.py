# SPDX-License-Identifier: Apache-2.0
"""Random configurations and requests for both services, and smaller ones of the same kind.

A few words are used everywhere, so that requests meet rules, wildcards, collisions of
joined keys, and each other's buckets.
"""

import copy
import json

import wire

KEYS = ["a", "b", "a_b", "path", "user"]
VALUES = ["", "", "x", "y", "xy", "x_y", "b", "xyz", "/v1/get", "ä ö"]
WILDCARDS = ["*", "x*", "xy*", "/v1/*"]
MIDDLES = ["*y", "x*z", "*x*y*", "/*/get"]
UNITS = ["second", "minute", "HOUR", "Day", "week", "month", "year"]
LIMITS = [0, 1, 2, 3, 5, 5, 10, 10, 20, 100, 4294967295]
DOMAINS = ["shop", "shop_a"]
MONTHS = {"january": "envoy-2026-01", "july": "envoy"}


class Config:
    """One configuration: what is in its file, and how the services are started."""

    def __init__(self, random, release):
        self.random = random
        self.release = release
        self.root = {"domain": random.choice(DOMAINS), "descriptors": self.level(0, set())}

    def level(self, depth, names):
        random = self.random
        descriptors = []
        used = set()
        for _ in range(random.choice([1, 2, 3, 4]) if depth else random.randint(2, 7)):
            descriptor = {"key": random.choice(KEYS)}
            value = random.choice(VALUES + WILDCARDS +
                                  (MIDDLES if self.release == "july" else []))
            if value:
                descriptor["value"] = value
            composite = descriptor["key"] + ("_" + value if value else "")
            if composite in used:
                continue
            used.add(composite)
            self.modes(descriptor, composite)
            if random.random() < 0.75:
                descriptor["rate_limit"] = self.limit(names)
            if depth < 3 and random.random() < 0.35:
                descriptor["descriptors"] = self.level(depth + 1, names)
            descriptors.append(descriptor)
        return descriptors

    def modes(self, descriptor, composite):
        random = self.random
        for mode in ("shadow_mode", "detailed_metric", "value_to_metric", "quota_mode"):
            if random.random() < 0.12:
                descriptor[mode] = random.random() < 0.9
        wild = composite.endswith("*") if self.release == "january" else "*" in composite
        if wild and random.random() < 0.5:
            descriptor["share_threshold"] = True
        if self.release == "july" and random.random() < 0.3:
            # Structs of one name are not drawn: merging them is a known difference.
            descriptor["metadata"] = {random.choice("pqrs"): random.choice(
                [1, -2.5, True, None, "text", [1, ["two"]], 1 << 40])}

    def limit(self, names):
        random = self.random
        limit = {}
        if random.random() < 0.1:
            limit["unlimited"] = True
        else:
            limit["unit"] = random.choice(UNITS)
            limit["requests_per_unit"] = random.choice(LIMITS)
        if random.random() < 0.4:
            limit["name"] = random.choice(["n1", "n2", "n3"])
        if random.random() < 0.2:
            others = [name for name in ("n1", "n2", "n3") if name != limit.get("name")]
            limit["replaces"] = [{"name": name} for name in random.sample(others, 1)]
        return limit


# What may stand instead of a value.
WRONG = {
    "key": ["", None, [], {}, 5, 1.5, True],
    "value": [[], {}, 1.5, 7, False],
    "unit": ["", "foo", "unknown", 5, None, [], "min ute"],
    "requests_per_unit": [-1, 1.5, "5", 1 << 32, (1 << 64) - 1, -(1 << 63), True, None, []],
    "unlimited": [1, "true", None, {}],
    "name": [[], {}, 5, None],
    "replaces": [[{}], ["x"], {"name": 1}, 5, None, [{"name": ""}], [[1, "x"]], [None]],
    "descriptors": [["x"], 5, "x", None, [[1]], [None], {"key": "x"}],
    "rate_limit": [5, "x", [], None, {}],
    "shadow_mode": ["true", 1, None, []],
    "share_threshold": [True, "x"],
    "domain": ["", None, 5, 1.5, [], {}],
    "unknown": [1],
}
BEFORE = ["%", "- ", "\t", "*x ", "!!int ", "@", "key: ", "\x01", "--- x\n---\n"]


def mistake(random, root):
    """The text of a configuration with one thing wrong in it, as a rule."""
    if random.random() < 0.2:
        text = as_text(root)
        if random.random() < 0.5:
            return text[:random.randrange(len(text))]
        return random.choice(BEFORE).encode() + text
    root = copy.deepcopy(root)
    places = [place for place in every_map(root)]
    key = random.choice(list(WRONG))
    if random.random() < 0.15 and root["descriptors"]:
        root["descriptors"].append(random.choice(root["descriptors"]))
    else:
        fitting = [place for place in places if key in place] or places
        random.choice(fitting)[key] = random.choice(WRONG[key])
    return as_text(root)


def every_map(root):
    yield root
    for descriptor in root.get("descriptors", []):
        if "rate_limit" in descriptor:
            yield descriptor["rate_limit"]
        yield from every_map(descriptor)


def shared_limits(descriptors, under=False):
    """(requests, unit, name) of the limits whose buckets several values may share."""
    for descriptor in descriptors:
        here = under or descriptor.get("share_threshold", False)
        limit = descriptor.get("rate_limit", {})
        if here and "unit" in limit:
            yield (limit.get("requests_per_unit", 0), wire.UNITS.index(limit["unit"].upper()),
                   limit.get("name", ""))
        yield from shared_limits(descriptor.get("descriptors", []), here)


def as_text(root):
    """JSON is YAML."""
    return json.dumps(root, ensure_ascii=False, indent=1).encode()


def any_entries(random):
    count = random.choice([1, 1, 1, 2, 2, 3]) if random.random() < 0.99 else 0
    return [(random.choice(KEYS), random.choice(VALUES)) for _ in range(count)]


def matching_entries(random, level):
    """Entries that lead down the descriptors of a configuration, if nothing is before them."""
    entries = []
    while level:
        descriptor = random.choice(level)
        value = descriptor.get("value", random.choice(VALUES))
        while "*" in value:
            value = value.replace("*", random.choice(["", "x", "y", "zz", "/get"]), 1)
        entries.append((descriptor["key"], value))
        level = descriptor.get("descriptors", [])
        if "rate_limit" in descriptor and random.random() < 0.6:
            break
    return entries


def request(random, root):
    """A request, mostly of the configuration's domain."""
    out = {"domain": root["domain"] if random.random() < 0.97 else
           random.choice(DOMAINS + ["", "no"]), "descriptors": []}
    for _ in range(random.choice([1, 1, 1, 2, 2, 3, 4]) if random.random() < 0.99 else 0):
        descriptor = {"entries": matching_entries(random, root["descriptors"])
                      if random.random() < 0.7 else any_entries(random)}
        if random.random() < 0.06:
            unit = random.randint(1, 7)
            descriptor["limit"] = (random.choice(LIMITS), unit)
            # Mostly for entries that have no other unit: those are one counter there.
            if random.random() < 0.9:
                descriptor["entries"].append(("unit", str(unit)))
        if random.random() < 0.15:
            descriptor["hits"] = random.choice([0, 0, 1, 2, 3, 7, 1 << 33])
        out["descriptors"].append(descriptor)
    if random.random() < 0.1:
        out["as_json"] = True   # over HTTP
    if random.random() < 0.3:
        out["hits"] = random.choice([1, 2, 3, 4, 5, 11, 4294967295])
    return out


def settings(random):
    """Variables of both services."""
    out = {"LIMIT_RESPONSE_HEADERS_ENABLED": "true", "RESPONSE_DYNAMIC_METADATA": "true",
           "LIMIT_RESET_HEADER": "X-Reset"}
    for name in ("SHADOW_MODE", "QUOTA_MODE", "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT"):
        if random.random() < 0.25:
            out[name] = "true"
    return out


def smaller_configs(root):
    """Configurations with one part less."""
    def parts(descriptors, path):
        for index, descriptor in enumerate(descriptors):
            yield path + [index]
            for key in descriptor:
                if key != "key":
                    yield path + [index, key]
            yield from parts(descriptor.get("descriptors", []), path + [index, "descriptors"])

    for path in parts(root["descriptors"], ["descriptors"]):
        copied = copy.deepcopy(root)
        place = copied
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]
        yield copied


def smaller_requests(requests):
    """Lists of requests with some less."""
    size = len(requests) // 2
    while size:
        for start in range(0, len(requests), size):
            yield requests[:start] + requests[start + size:]
        size //= 2
