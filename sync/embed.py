# SPDX-License-Identifier: Apache-2.0
"""Write a text file as a C string: embed.py NAME INPUT OUTPUT."""
import sys

name, source, target = sys.argv[1:]
with open(source, encoding="ascii") as file:
    lines = file.read().splitlines()
with open(target, "w", encoding="ascii") as file:
    file.write('#include "sync/script.h"\n\n')
    file.write("const char %s[] =\n" % name)
    for line in lines:
        file.write('\t"%s\\n"\n' % line.replace("\\", "\\\\").replace('"', '\\"'))
    file.write("\t;\n")
