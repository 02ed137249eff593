# SPDX-License-Identifier: Apache-2.0
"""test_repeat.py PROGRAM: a seed is one run, in whatever process it is run.

Each kind of run is made by itself, and in processes that differ in all that a run might
depend on without being meant to: the addresses of everything (the kernel chooses them
anew each time), the contents of memory that nobody has written, whether the thread can
count in restartable sequences, and how many runs there were before.  All of them must
have the same trace, a hash of what happened and of each process's steps.
"""
import os
import re
import subprocess
import sys

KINDS = ([], ["--windows"], ["--strict"], ["--holds"], ["--faults", "node,reply-lost,stop"])
FIRST, SEEDS = 718024, 4
NO_SEQUENCES = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
MEMORY_WRITTEN = {"MALLOC_PERTURB_": "165"}
TRACE = re.compile(r" (\d+) calls, .*, trace ([0-9a-f]{16}): nothing found$", re.M)


def run(program, kind, first, seeds, variables):
    """(calls, trace) of some seeds."""
    environment = dict(os.environ, WEIR_SIM_FIRST=str(first), WEIR_SIM_SEEDS=str(seeds),
                       **variables)
    done = subprocess.run([program, *kind], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, timeout=250)
    found = TRACE.search(done.stdout)
    if done.returncode != 0 or not found:
        sys.exit(f"{' '.join(kind)}: exit code {done.returncode}\n{done.stdout}")
    return int(found[1]), int(found[2], 16)


def run_apart(program, kind, variables):
    """The same as of all seeds in one process, from one process for each."""
    calls = trace = 0
    for seed in range(FIRST, FIRST + SEEDS):
        more, last = run(program, kind, seed, 1, variables)
        calls, trace = calls + more, (trace * 31 + last) % 2**64
    return calls, trace


def main():
    program = sys.argv[1]
    for kind in KINDS:
        together = run(program, kind, FIRST, SEEDS, {})
        others = {
            "without restartable sequences": run(program, kind, FIRST, SEEDS, NO_SEQUENCES),
            "in a process for each seed": run_apart(program, kind, MEMORY_WRITTEN),
        }
        name = " ".join(kind) or "tokens"
        for how, other in others.items():
            if other != together:
                sys.exit(f"{name}, {SEEDS} seeds from {FIRST}: (calls, trace) were {together}, "
                         f"and {other} {how}")
        print(f"{name}: {SEEDS} seeds, {together[0]} calls, the same in all processes")


if __name__ == "__main__":
    main()
