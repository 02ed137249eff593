# SPDX-License-Identifier: Apache-2.0
"""The manual: every exported symbol has a comment in weir.h and an entry in a page; pages are sound."""

import os
import pathlib
import re
import shutil
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGES = sorted((ROOT / "docs" / "man").glob("*.[1-8]"))
LIBRARY_PAGES = [page for page in PAGES if page.suffix == ".3"]
SECTIONS = ["NAME", "LIBRARY", "SYNOPSIS", "DESCRIPTION", "UNITS", "THREADS", "RETURN VALUES",
            "EXAMPLES", "ERRORS", "SEE ALSO"]
MAY_BE_LEFT_OUT = {"EXAMPLES"}


def read(*path):
    return ROOT.joinpath(*path).read_text(encoding="utf-8")


def exported():
    done = subprocess.run(["nm", "-D", "--defined-only", os.environ["WEIR_LIBRARY"]],
                          stdout=subprocess.PIPE, text=True, check=True)
    return {line.split()[2].split("@")[0] for line in done.stdout.splitlines()
            if line.split()[1] == "T"}


def declared():
    """function: (its prototype's parameters, does a comment stand before its block?)"""
    found = {}
    for block in read("include", "weir.h").split("\n\n"):
        code = re.sub(r"/\*.*?\*/", "", block, flags=re.DOTALL)
        for name, parameters in re.findall(r"^[\w *]+?\b(weir_\w+)\(((?:[^;{])*)\);", code,
                                           re.MULTILINE):
            found[name] = (parameters, "/*" in block)
    return found


def names_of(page):
    text = page.read_text(encoding="utf-8")
    return set(re.findall(r"^\.Nm (\w+)", text.split(".Sh LIBRARY")[0], re.MULTILINE))


def parameters_of(page):
    """function: the parameters that the synopsis gives it"""
    synopsis = page.read_text(encoding="utf-8").split(".Sh SYNOPSIS")[1].split(".Sh ")[0]
    found = {name: re.findall(r'"([^"]+)"|\b(void)$', rest)
             for name, rest in re.findall(r"^\.Fn (\w+) (.*)$", synopsis, re.MULTILINE)}
    found = {name: ["".join(pair) for pair in pairs] for name, pairs in found.items()}
    for name, body in re.findall(r"^\.Fo (\w+)\n(.*?)^\.Fc", synopsis,
                                 re.MULTILINE | re.DOTALL):
        found[name] = re.findall(r'"([^"]+)"', body)
    return found


def squeeze(text):
    return re.sub(r"\s+", " ", text).strip()


class Manual(unittest.TestCase):
    maxDiff = None

    def test_lint(self):
        if shutil.which("mandoc") is None:
            self.skipTest("mandoc is not installed")
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *PAGES],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.returncode, 0)

    def test_every_exported_symbol_is_declared_with_a_comment(self):
        functions = declared()
        self.assertEqual(exported(), set(functions))
        self.assertEqual([name for name, (_, comment) in functions.items() if not comment], [])

    def test_every_function_has_one_page(self):
        names = [name for page in LIBRARY_PAGES if page.stem != "libweir"
                 for name in names_of(page)]
        self.assertEqual(sorted(names), sorted(declared()))

    def test_the_synopsis_is_the_prototype(self):
        functions = declared()
        for page in LIBRARY_PAGES:
            if page.stem == "libweir":
                continue
            synopsis = parameters_of(page)
            self.assertEqual(set(synopsis), names_of(page), page.name)
            for name, parameters in synopsis.items():
                self.assertEqual(", ".join(parameters), squeeze(functions[name][0]), name)

    def test_a_name_leads_to_its_page(self):
        build = read("docs", "man", "meson.build")
        for page in LIBRARY_PAGES:
            if page.stem == "libweir":
                continue
            family = re.search(rf"'{page.stem}': \[(.*?)\]", build, re.DOTALL).group(1)
            self.assertEqual(set(re.findall(r"'(\w+)'", family)), names_of(page) - {page.stem})

    def test_sections(self):
        for page in LIBRARY_PAGES:
            found = re.findall(r"^\.Sh (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            wanted = [name for name in SECTIONS if name in found or name not in MAY_BE_LEFT_OUT]
            if page.stem == "libweir":
                wanted.remove("RETURN VALUES")
            self.assertEqual(found, wanted, page.name)

    def test_references_exist(self):
        own = {(page.stem, page.suffix[1:]) for page in PAGES}
        own |= {(name, "3") for name in declared()}
        for page in PAGES:
            for name, section in re.findall(r"^\.(?:It )?Xr (\S+) (\d)",
                                            page.read_text(encoding="utf-8"), re.MULTILINE):
                if "weir" in name:
                    self.assertIn((name, section), own, page.name)

    def test_every_error_and_reason_is_described(self):
        header = read("include", "weir.h")
        errors = read("docs", "man", "libweir.3")
        for status in re.findall(r"^\t(WEIR_E[A-Z]+) = -", header, re.MULTILINE):
            self.assertIn(f".It Dv {status}\n", errors)
        reasons = read("docs", "man", "weir_allow.3")
        for reason in re.findall(r"^\t(WEIR_REASON_\w+) = ", header, re.MULTILINE):
            self.assertIn(f".It Dv {reason}\n", reasons)


if __name__ == "__main__":
    unittest.main()
