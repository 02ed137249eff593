# SPDX-License-Identifier: Apache-2.0
"""What the real libweir.so shows to the world, and what it asks of it."""

import collections
import os
import pathlib
import platform
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LIBRARY = os.environ["WEIR_LIBRARY"]
HEADER = (ROOT / "include" / "weir.h").read_text(encoding="utf-8")

# libc, the libraries that docs/dependencies.md names, and what a sanitizer adds.
MAY_NEED = re.compile(r"(libc|ld-linux[-\w]*|libpthread|libgcc_s|libm|libyaml-0|libhiredis|"
                      r"liburcu-bp|liburcu-common|libasan|libubsan|libtsan|libgcov)\.so(\.\d+)+")


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def symbols(*options):
    """[(type, name, version)] of the dynamic symbol table"""
    found = []
    for line in run("nm", "-D", *options, LIBRARY).splitlines():
        kind, name = line.split()[-2:]
        name, _, version = name.partition("@")
        found.append((kind, name, version.lstrip("@")))
    return found


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def declared():
    return set(re.findall(r"^[\w *]+?\b(weir_\w+)\(", without_comments(HEADER), re.MULTILINE))


class Library(unittest.TestCase):
    def test_exports_what_the_header_declares_and_nothing_else(self):
        exported = [symbol for symbol in symbols("--defined-only") if symbol[0] != "A"]
        self.assertEqual({name for _, name, _ in exported}, declared())
        self.assertGreater(len(exported), 40)
        # Functions only: a variable would be copied into programs that use it.
        self.assertEqual({kind for kind, _, _ in exported}, {"T"})

    def test_every_symbol_has_a_version(self):
        versions = {version for kind, _, version in symbols("--defined-only") if kind != "A"}
        self.assertEqual(versions, {"LIBWEIR_0"})

    def test_needs_only_what_the_documents_name(self):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", LIBRARY))
        self.assertIn("libyaml-0.so.2", needed)
        self.assertEqual([name for name in needed if not MAY_NEED.fullmatch(name)], [])

    def test_brings_no_allocator(self):
        """A library leaves the choice to the program."""
        undefined = {name for _, name, _ in symbols("--undefined-only")}
        self.assertIn("calloc", undefined)
        self.assertEqual([name for name in undefined if re.match(r"(je_|mallctl|tc_)", name)], [])

    def test_ends_no_process(self):
        undefined = {name for _, name, _ in symbols("--undefined-only")}
        forbidden = {"exit", "_exit", "perror", "printf", "puts", "signal",
                     "sigaction", "setlocale", "chdir", "umask", "strtok", "getenv"}
        self.assertEqual(undefined & forbidden, set())

    def test_may_be_loaded_anywhere_and_stays(self):
        dynamic = run("readelf", "-d", LIBRARY)
        self.assertIn("SONAME", dynamic)
        self.assertRegex(dynamic, r"SONAME.*\[libweir\.so\.0\]")
        self.assertRegex(dynamic, r"FLAGS_1.*NODELETE")
        self.assertNotIn("TEXTREL", dynamic)
        # A stack that may run code is what one careless assembly file asks for.
        stack = re.search(r"GNU_STACK.* (R\w*) +0x", run("readelf", "-lW", LIBRARY))
        self.assertEqual(stack.group(1), "RW")


class Header(unittest.TestCase):
    def test_defines_no_foreign_names(self):
        code = without_comments(HEADER)
        macros = set(re.findall(r"^#define (\w+)", code, re.MULTILINE))
        self.assertEqual({name for name in macros if not re.match(r"WEIR_", name)}, set())
        tags = set(re.findall(r"^(?:struct|enum) (\w+)", code, re.MULTILINE))
        self.assertEqual({name for name in tags if not re.match(r"weir(_|$)", name)}, set())
        values = set(re.findall(r"^\t(\w+) = ", code, re.MULTILINE))
        self.assertEqual({name for name in values if not re.match(r"WEIR_", name)}, set())


class Folders(unittest.TestCase):
    """Includes run one way: weir.h <- shm <- sync <- src <- the programs."""

    def includes(self, folder):
        for path in sorted((ROOT / folder).rglob("*.[ch]")):
            text = path.read_text(encoding="utf-8")
            for name in re.findall(r'^#include ["<](.*?)[">]', text, re.MULTILINE):
                yield path, name

    def test_shm_knows_nothing_above_it(self):
        for path, name in self.includes("shm"):
            self.assertFalse(name.startswith(("src/", "sync/", "cli/")), f"{path} includes {name}")

    def test_sync_knows_nothing_above_it(self):
        for path, name in self.includes("sync"):
            self.assertFalse(name.startswith(("src/", "cli/")), f"{path} includes {name}")

    def test_the_program_uses_the_public_header_alone(self):
        for path, name in self.includes("src/cli"):
            self.assertFalse(name.startswith(("shm/", "sync/", "urcu", "hiredis")),
                             f"{path} includes {name}")
            if name.startswith("src/"):
                self.assertTrue(name.startswith("src/cli/"), f"{path} includes {name}")

    def test_the_service_uses_the_public_header_alone(self):
        for path, name in self.includes("serve"):
            self.assertFalse(name.startswith(("shm/", "sync/", "urcu", "hiredis")),
                             f"{path} includes {name}")
            if name.startswith("src/"):
                self.assertIn(name, ("src/cli/cli.h", "src/cli/json.h", "src/cli/text.h"), path)

    def test_one_file_uses_urcu(self):
        users = {str(path.relative_to(ROOT)) for folder in ("shm", "src")
                 for path, name in self.includes(folder) if name.startswith("urcu")}
        self.assertEqual(users, {"src/rcu.h"})

    def test_one_file_uses_hiredis(self):
        users = {str(path.relative_to(ROOT)) for folder in ("shm", "src", "sync")
                 for path, name in self.includes(folder) if name.startswith("hiredis")}
        self.assertEqual(users, {"sync/redis_link.c"})

    def test_only_sync_starts_threads(self):
        """weir_sync_start()'s, and that one's to look a name up: libweir(3) promises it."""
        callers = [str(path.relative_to(ROOT)) for folder in ("shm", "src", "sync")
                   for path in sorted((ROOT / folder).glob("*.[ch]"))
                   for _ in re.findall(r"\b(?:pthread_create|thrd_create|clone3?)\(",
                                       path.read_text(encoding="utf-8"))]
        self.assertEqual(callers, ["sync/redis_lookup.c", "sync/thread.c"])

    def test_memory_orders_are_spelled_in_one_file(self):
        for folder in ("shm", "src"):
            for path in sorted((ROOT / folder).rglob("*.[ch]")):
                if path.name in ("atomic.h", "handle.c", "handle.h") or "cli" in path.parts:
                    continue
                self.assertNotRegex(path.read_text(encoding="utf-8"), r"__ATOMIC_\w+|__sync_\w+",
                                    str(path))


# How many prefetches each function has that decides, what is put into it included.
PREFETCHES = {"weir_allow": 1, "allow_at": 1, "allow_by_kernel": 1, "allow_by_ticks": 1,
              "short_by_kernel": 1, "spend": 1, "spend_compact": 1, "plan_prepare": 2,
              "decide_some": 2, "decide_some_compact": 1, "learn_and_decide": 6, "plain_absent": 2}


class Prefetches(unittest.TestCase):
    @unittest.skipUnless(platform.machine() == "x86_64" and
                         os.environ["WEIR_OPTIMIZATION"] in ("2", "3"), "another code")
    def test_compiler_has_kept_them(self):
        """gcc may take one for nothing, and no result would tell: see prefetch_line()."""
        found, function = collections.Counter(), ""
        for line in run("objdump", "-d", "--no-show-raw-insn", LIBRARY).splitlines():
            label = re.fullmatch(r"[0-9a-f]+ <(.*)>:", line)
            if label:
                function = label[1]
            elif "\tprefetch" in line:
                found[function] += 1
        for name, least in PREFETCHES.items():
            self.assertGreaterEqual(found[name], least, name)


if __name__ == "__main__":
    unittest.main()
