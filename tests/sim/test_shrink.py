# SPDX-License-Identifier: Apache-2.0
"""test_shrink.py PROGRAM: a wrong simulator names the seed that fails, and a smaller run.

PROGRAM is the simulator of a mutant.  It must fail, tell the seed, and then a run with
no more hosts, keys, time and faults than that; and what it prints to run that again must
fail again.
"""
import os
import re
import shlex
import subprocess
import sys

AGAIN = re.compile(r"again: WEIR_SIM_FIRST=(\d+) WEIR_SIM_SEEDS=1 sim (.*)")


def run(program, first, seeds, arguments=()):
    environment = dict(os.environ, WEIR_SIM_FIRST=first, WEIR_SIM_SEEDS=seeds)
    done = subprocess.run([program, *arguments], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, timeout=250)
    return done.returncode, done.stdout


def size(arguments):
    """(hosts, keys, milliseconds, faults) of a run."""
    words = shlex.split(arguments)
    numbers = [int(words[words.index(name) + 1]) for name in ("--hosts", "--keys", "--ms")]
    faults = words[words.index("--faults") + 1]
    return (*numbers, 0 if faults == "none" else len(faults.split(",")))


def main():
    program = sys.argv[1]
    status, text = run(program, "1", "5000")
    found = AGAIN.findall(text)
    if status != 1 or len(found) != 2 or not re.search(r"^small: seed \d+: at ", text, re.M):
        sys.exit(f"exit code {status}; the run should have failed and been made small:\n{text}")
    large, small = size(found[0][1]), size(found[1][1])
    if any(a > b for a, b in zip(small, large)) or small == large:
        sys.exit(f"from {large} to {small} (hosts, keys, ms, faults): not smaller\n{text}")
    status, trace = run(program, found[1][0], "1", shlex.split(found[1][1]))
    if status != 1 or "FAILED: at " not in trace:
        sys.exit(f"exit code {status}: the small run does not fail again\n{text}\n{trace}")
    print(f"seed {found[0][0]} {large} became seed {found[1][0]} {small}: hosts, keys, ms, faults")


if __name__ == "__main__":
    main()
