# SPDX-License-Identifier: Apache-2.0
"""Write a file as an array of bytes in C: embed.py NAME HEADER INPUT
OUTPUT; HEADER declares it."""
import sys

name, header, source, target = sys.argv[1:]
with open(source, "rb") as file:
    data = file.read()
with open(target, "w", encoding="ascii") as file:
    file.write(f'#include "{header}"\n\n')
    file.write(f"const unsigned char {name}[] = {{\n")
    for begin in range(0, len(data), 16):
        file.write("\t" + "".join(f"{byte}, " for byte in data[begin:begin + 16]).rstrip() + "\n")
    file.write(f"}};\n\nconst size_t {name}_size = sizeof({name});\n")
