# SPDX-License-Identifier: Apache-2.0
"""Write a file as an array of bytes in C: embed.py NAME INPUT OUTPUT."""
import sys

name, source, target = sys.argv[1:]
with open(source, "rb") as file:
    data = file.read()
with open(target, "w", encoding="ascii") as file:
    file.write('#include "serve/descriptors.h"\n\n')
    file.write(f"const unsigned char {name}[] = {{\n")
    for begin in range(0, len(data), 16):
        file.write("\t" + "".join(f"{byte}, " for byte in data[begin:begin + 16]).rstrip() + "\n")
    file.write(f"}};\n\nconst size_t {name}_size = sizeof({name});\n")
