# SPDX-License-Identifier: Apache-2.0
"""table.py SIM DOCS: measure with the simulator, and write the results for people.

SIM is the simulator, DOCS the folder of documents.  The tables of sync-results.md are
written anew, between their marks; sync-results.svg is the plot.  Without DOCS the
tables are printed.  Cell by cell they are compared with reference.csv.
"""
import csv
import math
import pathlib
import subprocess
import sys

MODES = ("eventual", "bounded", "strict")
WINDOWS = ("fixed-window", "sliding-window")
WINDOW_MODES = ("eventual", "bounded")
COLOURS = {"eventual": "#d9762b", "bounded": "#3b87c8", "strict": "#4c9a52"}
REFERENCE = pathlib.Path(__file__).parent / "reference.csv"
DASHES = {10: "2 3", 100: "", 1000: "7 4"}
STYLE = """
text { font: 12px sans-serif; fill: #24292f; }
.title { font-weight: bold; }
.axis { stroke: #8c959f; fill: none; }
.grid { stroke: #8c959f; stroke-opacity: 0.3; fill: none; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
"""


def measure(sim):
    """({(hosts, interval, load, mode): cell}, [(fault, load, mode, cell)],
    {(hosts, interval, load, algorithm, mode): cell}); a cell is (over-admission and its
    bound in per cent of the burst, admitted : ideal)."""
    done = subprocess.run([sim, "--table", "3,10,100,faults,windows-3,windows-10,windows-100"],
                          stdout=subprocess.PIPE, universal_newlines=True)
    modes, faults, windows = {}, [], {}
    for line in done.stdout.splitlines():
        kind, *words = line.split(",")
        over, admitted, bound = map(float, words[-3:])
        cell = (over, bound, admitted)
        if kind == "modes":
            modes[int(words[0]), int(words[1]), float(words[2]), words[3]] = cell
        elif kind == "windows":
            windows[int(words[0]), int(words[1]), float(words[2]), words[3], words[4]] = cell
        else:
            faults.append((words[0], float(words[1]), words[2], cell))
    if done.returncode != 0:
        sys.exit(f"{sim} finds a bound broken, or too little admitted:\n{done.stdout}")
    return modes, faults, windows


def reference():
    """{(hosts, interval, load, mode): (over-admission, admitted : ideal)}"""
    with open(REFERENCE, encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(int(row["hosts"]), int(row["interval_ms"]), float(row["load"]), row["mode"]):
                (float(row["over"]), float(row["admitted"])) for row in rows}


def axis_of(modes, place):
    return sorted({key[place] for key in modes})


# ---- Text -------------------------------------------------------------------


def text_of(cell, mode):
    over, bound, admitted = cell
    if mode == "strict" and bound == 0:
        return f"{over:.1f} | {admitted:.3f}"
    return f"{over:.1f} of {bound:.1f} | {admitted:.3f}"


def head_of(first, columns):
    titles = " | ".join(f"{column}: over, % | admitted ÷ ideal" for column in columns)
    return [f"| {first} | {titles} |",
            "|---" * (first.count("|") + 1 + 2 * len(columns)) + "|"]


def modes_table(modes):
    lines = head_of("hosts | interval | load", MODES)
    for hosts in axis_of(modes, 0):
        for interval in axis_of(modes, 1):
            for load in axis_of(modes, 2):
                cells = " | ".join(text_of(modes[hosts, interval, load, mode], mode)
                                   for mode in MODES)
                lines.append(f"| {hosts} | {interval} ms | {load:g} | {cells} |")
    return "\n".join(lines)


def windows_table(windows):
    columns = [(algorithm, mode) for algorithm in WINDOWS for mode in WINDOW_MODES]
    lines = head_of("hosts | interval | load",
                    [f"{algorithm.split('-')[0]}, {mode}" for algorithm, mode in columns])
    for hosts in axis_of(windows, 0):
        for interval in axis_of(windows, 1):
            for load in axis_of(windows, 2):
                cells = " | ".join(text_of(windows[(hosts, interval, load) + column], column[1])
                                   for column in columns)
                lines.append(f"| {hosts} | {interval} ms | {load:g} | {cells} |")
    return "\n".join(lines)


def faults_table(faults):
    lines = head_of("fault | load", MODES)
    cells = {(name, mode): cell for name, load, mode, cell in faults}
    for name, load, mode, _ in faults:
        if mode == MODES[0]:
            row = " | ".join(text_of(cells[name, mode], mode) for mode in MODES)
            lines.append(f"| {name} | {load:g} | {row} |")
    return "\n".join(lines)


def compare(ours, theirs):
    """Are (over-admission, admitted : ideal) at or better?  What is admitted beyond the
    ideal is no merit, and what both show is rounded."""
    return (ours[0] <= theirs[0], min(ours[1], 1) >= min(theirs[1], 1))


def comparison(modes):
    """Against the reference: how many cells are at or better, and those that are not."""
    known = reference()
    lines = ["| mode | cells | over-admission at or better | admitted ÷ ideal at or better |",
             "|---|---|---|---|"]
    worse = ["| mode | hosts | interval | load | over, %: here | reference "
             "| admitted ÷ ideal: here | reference |", "|---|---|---|---|---|---|---|---|"]
    for mode in MODES:
        keys = [key for key in sorted(modes) if key[3] == mode and key in known]
        marks = {key: compare((modes[key][0], modes[key][2]), known[key]) for key in keys}
        lines.append(f"| {mode} | {len(keys)} | {sum(over for over, _ in marks.values())} "
                     f"| {sum(admitted for _, admitted in marks.values())} |")
        for key in keys:
            if not all(marks[key]):
                hosts, interval, load, _ = key
                worse.append(f"| {mode} | {hosts} | {interval} ms | {load:g} "
                             f"| {modes[key][0]:.1f} | {known[key][0]:.1f} "
                             f"| {modes[key][2]:.3f} | {known[key][1]:.3f} |")
    if len(worse) > 2:
        lines += ["", "All cells that are not:", "", *worse]
    return "\n".join(lines)


def replace_part(text, name, part):
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        sys.exit(f"sync-results.md has no place for {name}: {begin}...{end}")
    return text[:text.index(begin) + len(begin)] + part + text[text.index(end):]


# ---- The plot ---------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 250, 190, 64, 54, 26, 66


class Panel:
    """One diagram; VALUES are the ticks of its y axis, SCALE puts them on it."""

    def __init__(self, column, row, loads, values, scale):
        self.x0 = LEFT + column * (WIDTH + GAP_X)
        self.y0 = TOP + row * (HEIGHT + GAP_Y)
        self.loads, self.values, self.scale = loads, values, scale
        self.parts = []

    def x(self, load):
        return self.x0 + WIDTH * (0.06 + 0.88 * self.loads.index(load) / (len(self.loads) - 1))

    def y(self, value):
        low, high = self.scale(self.values[0]), self.scale(self.values[-1])
        return self.y0 + HEIGHT * (1 - (self.scale(value) - low) / (high - low))

    def frame(self, title, labels):
        self.parts.append(f'<text class="title" x="{self.x0}" y="{self.y0 - 8}">{title}</text>')
        for value in self.values:
            y = self.y(value)
            self.parts.append(f'<path class="grid" d="M{self.x0} {y:.1f}h{WIDTH}"/>')
            if labels:
                self.parts.append(f'<text x="{self.x0 - 6}" y="{y + 4:.1f}" '
                                  f'text-anchor="end">{value:g}</text>')
        for load in self.loads:
            self.parts.append(f'<text x="{self.x(load):.1f}" y="{self.y0 + HEIGHT + 16}" '
                              f'text-anchor="middle">{load:g}</text>')
        self.parts.append(f'<rect class="axis" x="{self.x0}" y="{self.y0}" width="{WIDTH}" '
                          f'height="{HEIGHT}"/>')

    def line(self, points, colour, dash, width=2.0):
        path = "M" + "L".join(f"{self.x(load):.1f} {self.y(value):.1f}" for load, value in points)
        self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" '
                          f'stroke-width="{width}" stroke-dasharray="{dash}"/>')


def over_scale(value):
    """Logarithmic, but 0 has a place."""
    return math.log10(max(value, 0) + 1)


def legend(y):
    x, parts = LEFT, []
    entries = [(f"{mode}, every {interval} ms", COLOURS[mode], DASHES[interval], 2.0)
               for mode in MODES for interval in DASHES]
    entries.append(("bounded may be at most", COLOURS["bounded"], "", 0.8))
    for i, (label, colour, dash, width) in enumerate(entries):
        left, line = x + i % 4 * 205, y + i // 4 * 20
        parts.append(f'<path d="M{left} {line - 4}h30" stroke="{colour}" stroke-width="{width}" '
                     f'stroke-dasharray="{dash}"/><text x="{left + 36}" y="{line}">{label}</text>')
    return parts


def plot(modes):
    loads = axis_of(modes, 2)
    parts = []
    for column, hosts in enumerate(axis_of(modes, 0)):
        over = Panel(column, 0, loads, [0, 1, 3, 10, 30, 100], over_scale)
        share = Panel(column, 1, loads, [0.96, 0.98, 1.0, 1.02, 1.04], float)
        over.frame(f"{hosts} hosts", column == 0)
        share.frame("", column == 0)
        for mode in MODES:
            for interval, dash in DASHES.items():
                cells = [(load, modes[hosts, interval, load, mode]) for load in loads]
                over.line([(load, cell[0]) for load, cell in cells], COLOURS[mode], dash)
                share.line([(load, cell[2]) for load, cell in cells], COLOURS[mode], dash)
        bound = max(modes[hosts, 100, load, "bounded"][1] for load in loads)
        over.line([(load, bound) for load in loads], COLOURS["bounded"], "", 0.8)
        parts += over.parts + share.parts
    width = LEFT + 3 * WIDTH + 2 * GAP_X + 14
    bottom = TOP + 2 * HEIGHT + GAP_Y
    for row, label in enumerate(("over-admission, % of the burst", "admitted ÷ ideal")):
        y = TOP + row * (HEIGHT + GAP_Y) + HEIGHT / 2
        parts.append(f'<text transform="translate(16 {y}) rotate(-90)" '
                     f'text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{LEFT + (width - LEFT) / 2}" y="{bottom + 34}" text-anchor="middle">'
                 "demand of all hosts ÷ limit</text>")
    parts += legend(bottom + 62)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 114}" '
            f'width="{width}" height="{bottom + 114}">\n<style>{STYLE}</style>\n'
            f'<text class="title" x="{LEFT}" y="20">What hosts admit together, simulated: 1000 '
            "tokens a second, burst 1000</text>\n" + "\n".join(parts) + "\n</svg>\n")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    modes, faults, windows = measure(sys.argv[1])
    parts = {"modes": modes_table(modes), "comparison": comparison(modes),
             "windows": windows_table(windows), "faults": faults_table(faults)}
    if len(sys.argv) == 2:
        print("\n\n".join(parts.values()))
        return
    docs = pathlib.Path(sys.argv[2])
    page = docs / "sync-results.md"
    text = page.read_text()
    for name, part in parts.items():
        text = replace_part(text, name, part)
    page.write_text(text)
    (docs / "sync-results.svg").write_text(plot(modes))


if __name__ == "__main__":
    main()
