# SPDX-License-Identifier: Apache-2.0
"""Random configurations and requests for both services, and smaller ones of the same kind.

A few words are used everywhere, so that requests meet rules, wildcards, collisions of
joined keys, and each other's buckets.  A configuration is files: {name: what it has}.
"""

import copy
import json
import re

import wire

FILE = "test.yaml"
FILES = ["a.yaml", "b.yml", "sub/c.yaml", "sub/sub/d"]
DOT_FILE = ".e.yaml"  # which may be left out; never alone, for what changes nothing is not told
LONG = "long" * 60
KEYS = ["a", "b", "a_b", "path", "user", "größe"]
VALUES = ["", "", "x", "y", "xy", "x_y", "b", "xyz", "/v1/get", "ä ö", "日本語", LONG]
ODD_VALUES = ["a\tb\n\x7f", "😀\u2028", "*", "x*", "v" * 5000, "é" * 3000, "\"\\<&>"]
WILDCARDS = ["*", "x*", "xy*", "/v1/*", "日*", LONG + "*"]
MIDDLES = ["*y", "x*z", "*x*y*", "/*/get", "*語", "*" + LONG]
INSTEAD = ["", "x", "y", "zz", "/get", "本", "語", LONG]  # of a "*"
UNITS = ["second", "minute", "HOUR", "Day", "week", "month", "year"]
LIMITS = [0, 1, 2, 3, 5, 5, 10, 10, 20, 100, 1 << 31, 4294967295]
MANY_HITS = [(1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 33, 1 << 40, (1 << 44) - 1,
             1 << 44, 1 << 50]
DOMAINS = ["shop", "shop_a", "größe"]
MONTHS = {"january": "envoy-2026-01", "july": "envoy"}


class Raw(str):
    """A scalar that stands in the text as it is."""


# What YAML reads from a scalar without quotes.
SCALARS = [Raw(text) for text in (
    "0x1F", "010", "0o17", "0b101", "1_000", "-1", "+5", "1e3", "1.", ".5", "-.5e-2", "~",
    "null", "yes", "On", "True", "n", "1:30", "190:20:30", "!!str 5", "!!int '5'", "'it''s'",
    "plain text", "=", "<<")]
DATE, INFINITE = Raw("2001-12-14"), Raw("-.inf")


class Config:
    """One configuration."""

    def __init__(self, random, release, settings):
        self.random = random
        self.release = release
        self.tops = {}  # of each domain: composite keys, of all its files
        names = [FILE]
        if settings["RUNTIME_WATCH_ROOT"] == "true":
            names = random.sample(FILES, random.randint(1, 2)) + random.choice([[], [DOT_FILE]])
        domains = random.sample(DOMAINS, len(names))
        if "MERGE_DOMAIN_CONFIG" in settings:
            domains = [random.choice(domains) for _ in names]
        self.files = {name: self.root(domain) for name, domain in zip(names, domains)}

    def root(self, domain):
        # Files are read in any order there: only one of a domain has wildcards at its top.
        wild = domain not in self.tops
        return {"domain": domain,
                "descriptors": self.level(0, self.tops.setdefault(domain, set()), wild)}

    def level(self, depth, used, wild=True):
        random = self.random
        descriptors = []
        values = VALUES + (WILDCARDS if wild else []) + (
            MIDDLES if wild and self.release == "july" else [])
        for _ in range(random.choice([1, 2, 3, 4]) if depth else random.randint(2, 7)):
            descriptor = {"key": random.choice(KEYS)}
            value = random.choice(values)
            if value:
                descriptor["value"] = value
            composite = descriptor["key"] + ("_" + value if value else "")
            if composite in used:
                continue
            used.add(composite)
            self.modes(descriptor, composite)
            if random.random() < 0.75:
                descriptor["rate_limit"] = self.limit()
            if depth < 3 and random.random() < 0.35:
                descriptor["descriptors"] = self.level(depth + 1, set())
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
            descriptor["metadata"] = dict(self.metadata() for _ in range(random.randint(1, 3)))

    def metadata(self):
        random = self.random
        if random.random() < 0.2:
            # Structs of one name are not drawn: merging them is a known difference.
            return f"m{random.getrandbits(32)}", {
                "deep": [1, {"größe": random.choice([*SCALARS, DATE])}], "": {}}
        return random.choice("pqrs"), random.choice(
            [1, -2.5, True, None, "text", "日本語", [1, ["two"], []], 1 << 40, (1 << 64) - 1,
             random.choice(SCALARS)])

    def limit(self):
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
    "unit": ["", "foo", "unknown", 5, None, [], "min ute", "MinutE", "ſecond", "mınute"],
    "requests_per_unit": [-1, 1.5, "5", 1 << 32, (1 << 64) - 1, -(1 << 63), True, None, []],
    "unlimited": [1, "true", None, {}],
    "name": [[], {}, 5, None],
    "replaces": [[{}], ["x"], {"name": 1}, 5, None, [{"name": ""}], [[1, "x"]], [None]],
    "descriptors": [["x"], 5, "x", None, [[1]], [None], {"key": "x"}],
    "rate_limit": [5, "x", [], None, {}],
    "shadow_mode": ["true", 1, None, []],
    "quota_mode": ["false", 0, {}],
    "share_threshold": [True, "x"],
    "metadata": [5, "x", [], None, {}, {"a": {"b": [{"c": 1}]}}],
    "domain": ["", None, 5, 1.5, [], {}],
    "unknown": [1],
}
BEFORE = ["%", "- ", "\t", "*x ", "!!int ", "@", "key: ", "\x01", "--- x\n---\n"]


def wrong_text(random, root):
    """The text of a file with one thing wrong in it, as a rule."""
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
        random.choice(fitting)[key] = random.choice(
            [*SCALARS, INFINITE] if random.random() < 0.3 else WRONG[key])
    return as_text(root)


def mistake(random, files):
    """The texts of a configuration with a mistake in it."""
    name = random.choice(list(files))
    texts = {name: as_text(root) for name, root in files.items()}
    if name != FILE and random.random() < 0.1:
        texts["sub/copy.yaml"] = texts[name]
    else:
        texts[name] = wrong_text(random, files[name])
    return texts


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
    def marked(value):
        if isinstance(value, Raw):
            return f"<raw {value}>"
        if isinstance(value, dict):
            return {key: marked(each) for key, each in value.items()}
        return [marked(each) for each in value] if isinstance(value, list) else value

    text = json.dumps(marked(root), ensure_ascii=False, indent=1)
    return re.sub('"<raw (.*?)>"', r"\1", text).encode()


def any_entries(random, odd):
    count = random.choice([1, 1, 1, 2, 2, 3]) if random.random() < 0.98 else random.choice([0, 20])
    keys = KEYS + ([""] if odd else [])
    return [(random.choice(keys), random.choice(
        ODD_VALUES if odd and random.random() < 0.05 else VALUES)) for _ in range(count)]


def matching_entries(random, level):
    """Entries that lead down the descriptors of a configuration, if nothing is before them."""
    entries = []
    while level:
        descriptor = random.choice(level)
        value = descriptor.get("value", random.choice(VALUES))
        while "*" in value:
            value = value.replace("*", random.choice(INSTEAD), 1)
        entries.append((descriptor["key"], value))
        level = descriptor.get("descriptors", [])
        if "rate_limit" in descriptor and random.random() < 0.6:
            break
    return entries


def hits(random):
    """Of one descriptor."""
    return random.choice([0, 0, 1, 1, 2, 2, 3, 7, random.choice(MANY_HITS)])


def request(random, files, odd=True):
    """A request, mostly of a domain of the configuration.  ODD ones have strings that
    statistics cannot have."""
    root = random.choice(list(files.values()))
    out = {"domain": root["domain"] if random.random() < 0.97 else
           random.choice(DOMAINS + ["", "no"]), "descriptors": []}
    counts = [1, 1, 1, 2, 2, 3, 4]
    for _ in range(random.choice(counts if random.random() < 0.98 else [0, 30])):
        descriptor = {"entries": matching_entries(random, root["descriptors"])
                      if random.random() < 0.7 else any_entries(random, odd)}
        if random.random() < 0.06:
            unit = random.randint(1, 7)
            descriptor["limit"] = (random.choice(LIMITS), unit)
            # Mostly for entries that have no other unit: those are one counter there.
            if random.random() < 0.9:
                descriptor["entries"].append(("unit", str(unit)))
        if random.random() < 0.15:
            descriptor["hits"] = hits(random)
        out["descriptors"].append(descriptor)
    if random.random() < 0.1:
        out["as_json"] = random.randint(1, 4)   # over HTTP, in one of so many ways
    if random.random() < 0.3:
        out["hits"] = random.choice([1, 2, 3, 4, 5, 11, (1 << 31) - 1, 1 << 31, 4294967295])
    return out


def settings(random):
    """Variables of both services."""
    out = {"LIMIT_RESET_HEADER": "X-Reset",
           "NEAR_LIMIT_RATIO": random.choice(["0", "0.5", "0.8", "0.123456789", "1e-3", "1"]),
           "RUNTIME_WATCH_ROOT": random.choice(["true", "false"])}
    for name, chance in (
            ("SHADOW_MODE", 0.25), ("QUOTA_MODE", 0.25), ("MERGE_DOMAIN_CONFIG", 0.5),
            ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", 0.25), ("RUNTIME_IGNOREDOTFILES", 0.5),
            ("LIMIT_RESPONSE_HEADERS_ENABLED", 0.9), ("RESPONSE_DYNAMIC_METADATA", 0.9)):
        if random.random() < chance:
            out[name] = "true"
    for name, values in (("CACHE_KEY_PREFIX", ["", "p:", "größe_", LONG]),
                         ("LIMIT_LIMIT_HEADER", ["X-Limit"]),
                         ("LIMIT_REMAINING_HEADER", ["x-left"])):
        if random.random() < 0.4:
            out[name] = random.choice(values)
    return out


def smaller_configs(files):
    """Configurations with one part less."""
    def parts(descriptors, path):
        for index, descriptor in enumerate(descriptors):
            yield path + [index]
            for key in descriptor:
                if key != "key":
                    yield path + [index, key]
            yield from parts(descriptor.get("descriptors", []), path + [index, "descriptors"])

    paths = [[name] for name in files if len(files) > 1]
    for name, root in files.items():
        paths += parts(root["descriptors"], [name, "descriptors"])
    for path in paths:
        copied = copy.deepcopy(files)
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
