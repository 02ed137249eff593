# SPDX-License-Identifier: Apache-2.0
"""Links of the documents resolve, inside of the repository, and no file speaks of a path outside."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDERS = ("include", "shm", "src", "sync", "serve", "tests", "perf", "docs", "tools", ".ci")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Somebody's directories.  Tests may make files in /tmp, of a name that they draw.
OUTSIDE = re.compile(r"(?<![\w.*/-])/(?:work|root|home/\w+|mnt|Users|workspace)/[\w.-]+")


def documents():
    for path in sorted(ROOT.glob("*.md")):
        yield path
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.md"))


def text_files():
    # .git is a file in a work tree, with the path of its repository.
    yield from (path for path in ROOT.glob("*") if path.is_file() and path.name != ".git")
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "corpus" not in path.parts and path.suffix != ".pyc":
                yield path


def anchors(path):
    """As GitHub makes them from headings."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def links(path):
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"),
                   flags=re.DOTALL | re.MULTILINE)
    return LINK.findall(re.sub(r"`[^`\n]*`", "", prose))


class Links(unittest.TestCase):
    def test_links_resolve(self):
        count = 0
        for document in documents():
            for link in links(document):
                if re.match(r"https?://", link):
                    continue
                with self.subTest(document=document.name, link=link):
                    count += 1
                    name, _, anchor = link.partition("#")
                    target = (document.parent / name).resolve() if name else document
                    self.assertTrue(target.exists())
                    self.assertIn(ROOT, [target, *target.parents])
                    if anchor:
                        self.assertIn(anchor, anchors(target))
        self.assertGreater(count, 20)

    def test_no_path_outside(self):
        for path in text_files():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            with self.subTest(path=str(path.relative_to(ROOT))):
                self.assertIsNone(OUTSIDE.search(text))

    def test_every_document_is_linked(self):
        linked = {(document.parent / link.partition("#")[0]).resolve()
                  for document in documents() for link in links(document)}
        for document in documents():
            if document.name != "README.md" or document.parent != ROOT:
                with self.subTest(document=str(document.relative_to(ROOT))):
                    self.assertIn(document.resolve(), linked)


if __name__ == "__main__":
    unittest.main()
