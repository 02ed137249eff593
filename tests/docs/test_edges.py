# SPDX-License-Identifier: Apache-2.0
"""The table of ordering edges in shm/README.md is the code's, and the code's is the table's."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PLACES = re.compile(r"((?:`\w+`(?:, )?)+) \((\w+\.[ch])\)")
LABEL = re.compile(r"\bE\d+\b")
ORDERED = re.compile(r"\batomic_(?:load_acquire|store_release|cas_acq_rel|\w+_full)\(")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def sources():
    for folder in ("shm", "src", "sync"):
        for path in sorted((ROOT / folder).glob("*.[ch]")):
            if path.name != "atomic.h":
                yield path


def functions(text):
    """(name, first line, last line), counted from 0, of each function of a file."""
    lines = text.split("\n")
    start = 0
    for number, line in enumerate(lines):
        if line == "{":
            header = " ".join(lines[start:number])
            name = re.findall(r"(\w+)\(", re.sub(r"__attribute__\(\(.*?\)\)+", "", header))
            begin = number
        elif line == "}" and name:
            yield name[-1] if "(" not in header else name[0], begin, number
        if line in ("", "}") or line.endswith((";", "*/")):
            start = number + 1


class Uses:
    """Where labels and ordered accesses stand."""

    def __init__(self):
        self.places = {}  # label: {(function, file)}
        self.unlabelled = []
        for path in sources():
            text = path.read_text(encoding="utf-8")
            lines = text.split("\n")
            for name, begin, end in functions(text):
                for comment in COMMENT.findall("\n".join(lines[begin:end])):
                    for label in LABEL.findall(comment):
                        self.places.setdefault(label, set()).add((name, path.name))
            for number, line in enumerate(lines):
                if ORDERED.search(line) and not self.is_labelled(lines, number):
                    self.unlabelled.append(f"{path.name}:{number + 1}: {line.strip()}")

    @staticmethod
    def is_labelled(lines, number):
        """Within the statement that begins on this line, or on its last line."""
        for line in lines[number:number + 4]:
            if any(LABEL.search(comment) for comment in COMMENT.findall(line)):
                return True
            if re.search(r"[;{]\s*(?:/\*.*)?$", line):
                break
        return False


def table():
    """label: (places of the release side, places of the acquire side)."""
    rows = {}
    for line in (ROOT / "shm" / "README.md").read_text(encoding="utf-8").split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if LABEL.fullmatch(cells[0]) and len(cells) == 4:
            rows[cells[0]] = tuple(
                {(name, file) for names, file in PLACES.findall(cell)
                 for name in re.findall(r"\w+", names)} for cell in cells[1:3])
    return rows


class Edges(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.uses = Uses()
        self.table = table()

    def test_every_ordered_access_has_a_label(self):
        self.assertEqual(self.uses.unlabelled, [])

    def test_every_label_of_the_code_is_in_the_table(self):
        self.assertEqual(sorted(self.uses.places), sorted(self.table))
        self.assertGreaterEqual(len(self.table), 6)

    def test_every_edge_has_two_sides(self):
        for label, (release, acquire) in self.table.items():
            with self.subTest(label):
                self.assertTrue(release)
                self.assertTrue(acquire)

    def test_the_places_of_the_table_are_those_of_the_code(self):
        for label, (release, acquire) in self.table.items():
            with self.subTest(label):
                self.assertEqual(sorted(release | acquire),
                                 sorted(self.uses.places.get(label, set())))

    def test_orders_are_spelled_in_one_file(self):
        for path in (ROOT / "shm").glob("*.[ch]"):
            if path.name != "atomic.h":
                self.assertNotRegex(path.read_text(encoding="utf-8"),
                                    r"__ATOMIC_|__sync_|memory_order_|stdatomic", path.name)


if __name__ == "__main__":
    unittest.main()
