# SPDX-License-Identifier: Apache-2.0
"""Has spin verify a model, and hold that each of its variants breaks an assertion.

    test_spin.py MODEL.pml VARIANT...

A variant is a name to define, or several: A+B.  One that begins with + must hold: a
remedy for what another variant breaks.

Environment: SPIN, the program (one that is not there: the test is skipped), and CC.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
FLAGS = ["-O2", "-w", "-DSAFETY", "-DMEMLIM=1500"]
DEPTH = "20000"
SECONDS = 90


def explore(spin, compiler, model, variant, folder):
    """(errors, what was violated, states); raises if the verifier did not do all its work."""
    defines = ["-D" + name for name in (variant or "").split("+") if name]
    shutil.copy(model, folder)
    subprocess.run([spin, *defines, "-a", model.name], cwd=folder, check=True, timeout=SECONDS,
                   stdout=subprocess.DEVNULL)
    subprocess.run([*compiler, *FLAGS, "-o", "pan", "pan.c"], cwd=folder, check=True,
                   timeout=SECONDS)
    # -E: processes may wait for ever; that all charges arrive is asserted.
    text = subprocess.run(["./pan", "-E", "-m" + DEPTH, "-w22"], cwd=folder, check=True, timeout=SECONDS,
                          stdout=subprocess.PIPE, universal_newlines=True).stdout
    errors = re.search(r"errors: (\d+)", text)
    states = re.search(r"(\S+) states, stored", text)
    violated = re.search(r"assertion violated (.*) \(at depth", text)
    if not errors or not states or "max search depth too small" in text or "reached" not in text:
        raise RuntimeError("the verifier gave up:\n" + text)
    if "out of memory" in text or "Search not completed" in text and not violated:
        raise RuntimeError("the verifier did not see all states:\n" + text)
    return int(errors.group(1)), violated.group(1) if violated else None, float(states.group(1))


def trail(spin, model, variant, folder):
    """The steps to the violation, its last ones."""
    defines = ["-D" + name for name in (variant or "").split("+") if name]
    text = subprocess.run([spin, *defines, "-t", "-p", "-k", model.name + ".trail", model.name],
                          cwd=folder, timeout=SECONDS, stdout=subprocess.PIPE,
                          universal_newlines=True).stdout
    return "\n".join(text.split("\n")[-120:])


def main():
    model, variants = pathlib.Path(sys.argv[1]), sys.argv[2:]
    spin = shutil.which(os.environ.get("SPIN", "spin"))
    compiler = shlex.split(os.environ.get("CC", "cc"))
    failures = 0

    if not spin or not shutil.which(compiler[0]):
        print("skipped: no spin, or no C compiler (tools/setup test installs them)")
        return SKIPPED
    for variant in [None, *variants]:
        with tempfile.TemporaryDirectory(prefix="weir-spin-") as folder:
            errors, violated, states = explore(spin, compiler, model, variant, folder)
            holds = variant is None or variant.startswith("+")
            good = errors == 0 if holds else bool(violated)
            print("%s %-20s %9d states, %s" % ("ok  " if good else "FAIL", variant or model.stem,
                                               states, violated or "no error"), flush=True)
            if not good:
                failures += 1
                if holds:
                    print(trail(spin, model, variant, folder))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
