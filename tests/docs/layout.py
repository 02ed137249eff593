# SPDX-License-Identifier: Apache-2.0
"""layout.py LAYOUT.md OUTPUT.c: turn the tables of docs/layout.md into a program.

Each table that follows a heading "### `struct NAME` (SIZE bytes)" has rows
"| OFFSET | SIZE | `FIELD` | ... |".  The program compares each row with the
compiler's offsetof and sizeof, and the rows must fill the struct without a gap;
bytes without a field are a row whose field is "-".
"""

import re
import sys

HEADING = re.compile(r"^### `struct (\w+)` \(([\d,]+) bytes\)")
ROW = re.compile(r"^\| (\d+) \| (\d+|…) \| (`[\w.\[\]]+`|-) \|")

PROLOGUE = """/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdio.h>

#include "shm/layout.h"

static int wrong;

static void same(int line, const char *what, size_t documented, size_t real)
{
\tif (documented == real)
\t\treturn;
\tprintf("docs/layout.md:%d: %s is %zu, and not %zu\\n", line, what, real, documented);
\twrong = 1;
}

int main(void)
{
"""


def fail(number, message):
    sys.exit(f"docs/layout.md:{number}: {message}")


def convert(text):
    checks, struct, size, end = [], None, 0, 0
    fields = 0
    for number, line in enumerate(text.split("\n"), start=1):
        heading, row = HEADING.match(line), ROW.match(line)
        if heading or line.startswith("#"):
            if struct and end != size:
                fail(number, f"the rows of struct {struct} end at {end}, not at {size}")
            struct = None
        if heading:
            struct, size, end = heading.group(1), int(heading.group(2).replace(",", "")), 0
            checks.append(f'\tsame({number}, "sizeof(struct {struct})", {size}, '
                          f"sizeof(struct {struct}));")
        elif row and struct:
            offset, length, field = int(row.group(1)), row.group(2), row.group(3).strip("`")
            if offset != end:
                fail(number, f"struct {struct} has a row at {offset}, the one before ends at {end}")
            end = offset + (0 if length == "…" else int(length))
            if field == "-":
                continue
            fields += 1
            member = f"((struct {struct} *)0)->{field}"
            checks.append(f'\tsame({number}, "the offset of {struct}.{field}", {offset}, '
                          f"offsetof(struct {struct}, {field}));")
            if length != "…":
                checks.append(f'\tsame({number}, "the size of {struct}.{field}", {length}, '
                              f"sizeof({member}));")
    if struct and end != size:
        fail(number, f"the rows of struct {struct} end at {end}, not at {size}")
    if fields < 50:
        fail(number, f"only {fields} fields were found in the tables")
    return PROLOGUE + "\n".join(checks) + "\n\treturn wrong;\n}\n"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as document:
        program = convert(document.read())
    with open(sys.argv[2], "w", encoding="utf-8") as output:
        output.write(program)
