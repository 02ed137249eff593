#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copy a source file with one fault sown in: mutate.py NAME SOURCE OUTPUT.

A model that cannot fail proves nothing.  Each fault below takes away one thing
that the code relies on, and some scenario has to notice.  The text that it
replaces must stand in the source exactly once: when the code changes so that it
does not, the fault has to be thought through again.
"""
import sys

MUTANTS = {
    # A slot is given away while charges can still land in it.
    "no-seal": ("if (seal(table, seen, report) && publish(seen, fingerprint))",
                "if (publish(seen, fingerprint))"),
    # A slot is confirmed on a reading that began before it was published.
    "no-second-sight": ("if (candidate.slot == ref->slot && "
                        "candidate.generation == ref->generation) {",
                        "if (ref->slot) {"),
    # Another tentative slot of the key is left to be confirmed, too.
    "no-kill": ("if (!seal(table, other, report))",
                "if (0 && !seal(table, other, report))"),
    # The next owner of a slot has the generation of the last one.
    "no-next-generation": ("uint64_t generation = (seen->identity.second + 1) & GENERATION_MASK;",
                           "uint64_t generation = seen->identity.second & GENERATION_MASK;"),
    # An eviction is not counted.
    "no-eviction-count": ("report->evicted_live++;", "report->evicted_live += 0;"),
    # A charge lands in whatever bucket the slot holds by now.
    "any-generation": ("return (state_second & (GENERATION_MASK | STATE_LIVE)) == "
                       "(ref->generation | STATE_LIVE);",
                       "(void)ref; return (state_second & STATE_LIVE) != 0;"),
    # A charge is made by a policy that was read while it changed.
    "no-version-at-charge": ("if (atomic_load_acquire(request->version) != request->version_seen)",
                             "if (0)"),
    # So is a denial.
    "no-version-at-denial": ("if (result == PLAN_DENIED && policy_version(plan->segment) != "
                             "plan->version)",
                             "if (0)"),
    # What was charged before another limit denied is kept.
    "no-undo": ("step->charged && attempt < LOOK_ATTEMPTS", "0 && attempt < LOOK_ATTEMPTS"),
    # A claimer goes by the time at which it began.
    "no-second-clock": ("if (!segment->table.taken_ns && plan->request->now_ns == 0)",
                        "if (0)"),
    # A claimer goes by its own time, whoever took its key's bucket.
    "no-later-time": ("plan->now_ns = table_time_ns(segment->table.taken_ns, plan->now_ns);",
                      "plan->now_ns += 0;"),
    # Whoever takes a bucket as expired does not say by which time.
    "no-announcement": ("if (!announce(table, seen, now_ns))", "if (0)"),
    # A compact slot is confirmed by who has not seen its window behind the claim.
    "compact-no-second-look": ("if (own.live) {", "if (0) {"),
    # Another tentative slot of the key is left to be confirmed, too.
    "compact-no-emptying": ("!own.others || empty_others(&window, name, ref->compact)", "1"),
    # Any claim of the name is confirmed, whoever made it.
    "compact-any-claim": ("return ref->tentative && word.second == ref->generation;",
                          "return ref->tentative;"),
    # A charge lands in whatever bucket the slot holds by now.
    "compact-any-name": ("if (name_of(word) != name)\n\t\treturn false;",
                         "if (name == 0)\n\t\treturn false;"),
    # Whoever takes a bucket as expired does not say by which time.
    "compact-no-announcement": ("!announce(table, word, now_ns) ||", ""),
    # A bucket's last operation is replaced before its record knows of it.
    "no-settle": ("if (tag_of(index, word) != time_ns)", "if (word.first || !word.first)"),
    # A reaper does not look whether the dead owner's units are in the bucket.
    "no-look-at-bucket": ("bool applied = place >> 16 < segment->slots &&",
                          "bool applied = false && place >> 16 < segment->slots &&"),
    # Units that were taken out already are taken out again.
    "no-finish": ("if (state.first == tag || !counts(state.second, generation))",
                  "if (!counts(state.second, generation))"),
    # A writer switches to the new bank before it is written.
    "switch-first": ("\tcopy_bank(segment, version);\n\t/* First, to make room. */",
                     "\tswitch_bank(segment, version);\n\tcopy_bank(segment, version);\n"),
}


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in MUTANTS:
        sys.exit("usage: mutate.py NAME SOURCE OUTPUT; NAME is one of " + ", ".join(MUTANTS))
    name, source, output = sys.argv[1:]
    old, new = MUTANTS[name]
    with open(source, encoding="ascii") as file:
        text = file.read()
    found = text.count(old)
    if found != 1:
        sys.exit(f"mutate.py: {source} has {found} places for {name}, not 1: {old!r}")
    with open(output, "w", encoding="ascii") as file:
        # Messages and schedules tell the lines of the source.
        file.write(f'#line 1 "{source}"\n' + text.replace(old, new))


if __name__ == "__main__":
    main()
