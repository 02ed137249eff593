# SPDX-License-Identifier: Apache-2.0
"""extract.py DOCUMENT LANGUAGE OUTPUT: write the document's first code block of a language."""

import re
import sys


def extract(document, language):
    with open(document, encoding="utf-8") as file:
        block = re.search(rf"^```{language}\n(.*?)^```", file.read(), re.DOTALL | re.MULTILINE)
    if block is None:
        sys.exit(f"{document} has no code block in {language}")
    return block.group(1)


if __name__ == "__main__":
    with open(sys.argv[3], "w", encoding="utf-8") as output:
        output.write(extract(sys.argv[1], sys.argv[2]))
