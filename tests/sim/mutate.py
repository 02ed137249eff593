# SPDX-License-Identifier: Apache-2.0
"""mutate.py MUTANT FILE OUTPUT: write FILE with the bugs of MUTANT in it.

Each mutant is a wrong version of the algorithm, which the simulator must find.  A
text that is not in the source, or more than once, is an error: the source has moved
on, and the mutant must follow it.
"""
import pathlib
import sys

MUTANTS = {
    # Redis takes what was fenced off: a late call is executed beside its repetition.
    "no-fence": {
        "script_model.c": [(
            "if (call->term < known.term || (call->term == known.term && call->seq == 0)) {",
            "if (call->term == known.term && call->seq == 0) {",
        ), (
            "if (call->seq > 0 && (call->term > known.term || call->seq != known.seq + 1)) {",
            "if (call->seq > 0 && call->term == known.term && call->seq != known.seq + 1) {",
        )],
    },
    # After a doubt the term stays.
    "no-new-term": {
        "leader.c": [(
            "!new_terms(leader, seen, doubt->shards, term))",
            "!new_terms(leader, seen, doubt->shards, term - 1))",
        )],
    },
    # Of the shards whose calls were not answered, only the first one is fenced.
    "forgotten-doubt": {
        "leader.c": [(
            "doubt->shards |= 1u << call->shard;",
            "doubt->shards |= doubt->shards ? 0 : 1u << call->shard;",
        )],
    },
    # One call that is not answered leaves all in doubt.
    "all-doubt": {
        "leader.c": [(
            "doubt->shards |= 1u << call->shard;",
            "doubt->shards = ALL_SHARDS;",
        ), (
            "if (shards == 0)",
            "shards &= ~doubt.shards;\n\tif (shards == 0)",
        )],
    },
    # What others' doubts do to the leader word's term makes a shard's own calls void.
    "one-term": {
        "merge.c": [(
            "if (!round_term_holds(segment, round->term))",
            "if (!round_term_holds(segment, round->tag >> 32))",
        )],
    },
    # Buckets of a shard in doubt are taken into a round all the same.
    "no-closing": {
        "collect.c": [(
            "if (round->closed &&\n",
            "if (0 &&\n",
        )],
    },
    # The view is added to what the bucket has, not merged into it.
    "additive-merge": {
        "merge.c": [(
            "after.first = view_ns + (uint64_t)since;",
            "after.first = (debt > 0 ? (uint64_t)debt : 0) + state.first;",
        ), (
            "uint64_t view_ns, enum view_rule rule)\n{",
            "uint64_t view_ns, enum view_rule rule, int64_t debt)\n{",
        ), (
            "!merge_bucket(&ref, item, view_ns, rule))",
            "!merge_bucket(&ref, item, view_ns, rule, debt))",
        ), (
            "merge_bucket(ref, item, view_ns, rule) &&",
            "merge_bucket(ref, item, view_ns, rule, debt_ns) &&",
        )],
    },
    # Debt beyond the limit is forgiven at each merge.
    "clamped-debt": {
        "merge.c": [(
            "\tview_ns = round->taken_ns + (uint64_t)debt;",
            "\tif (debt > (int64_t)gcra_charge_ns(&item->limit, 0, item->limit.burst) / 2)\n"
            "\t\tdebt = (int64_t)gcra_charge_ns(&item->limit, 0, item->limit.burst) / 2;\n"
            "\tview_ns = round->taken_ns + (uint64_t)debt;",
        ), (
            "if (rule == VIEW_MAXIMUM && (int64_t)(after.first - state.first) <= 0)",
            "if (0)",
        )],
    },
    # A bucket that ran empty in a window looks like one that did not.
    "no-idle": {
        "collect.c": [(
            "return (int64_t)(item->time_ns - collector->now_ns);",
            "return WIRE_NONE;",
        )],
    },
    # What was applied without an answer is sent again.
    "no-resolve": {
        "resolve.c": [(
            "if (applied && acked != sent &&",
            "if (0 && applied && acked != sent &&",
        )],
    },
    # A Redis that has forgotten is told of new charges, and of no others.
    "no-restore": {
        "resolve.c": [(
            "is_owed(segment, slot, ref.generation, now_ns);",
            "is_owed(segment, slot, ref.generation, now_ns) && 0;",
        )],
    },
    # The credit comes back with the acknowledgement, before the view.
    "credit-by-ack": {
        "resolve.c": [(
            "\tif (round_agree(segment, sync, sent, base_ns, term))\n",
            "\tatomic_store_release(&segment->table.slots[index].merged,\n"
            "\t\t\t     sent & ~(uint64_t)SENT_RESETS_MASK);\n"
            "\tif (round_agree(segment, sync, sent, base_ns, term))\n",
        )],
    },
    # A charge that comes while the slot leaves the queue is not seen.
    "no-recheck": {
        "collect.c": [(
            "state, clean))    /* E7 */\n\t\tqueue_mark(&segment->queue, index);",
            "state, clean))    /* E7 */\n\t\treturn;",
        )],
    },
    # Redis is not told of a reset.
    "no-reset": {
        "collect.c": [(
            "\t\tflags |= WIRE_RESET;",
            "\t\tflags |= 0;",
        )],
    },
    # A leader that was stopped stores what it had, whoever leads now.
    "no-term": {
        "resolve.c": [(
            "if (!round_term_holds(segment, term))",
            "if (0)",
        )],
        "merge.c": [(
            "if (!round_term_holds(segment, term))",
            "if (0)",
        )],
    },
    # What the other hosts have includes this one's tokens.
    "foreign-own": {
        "windows.c": [(
            "foreign_word(total - (int64_t)item->used,",
            "foreign_word(total,",
        )],
    },
    # A window's tokens are sent from its beginning, whatever was acknowledged.
    "whole-window": {
        "windows.c": [(
            "reset ? item->used : item->used - acked",
            "item->used",
        )],
    },
    # The next window begins with what was acknowledged of the last.
    "kept-ack": {
        "windows.c": [(
            "item->generation &&\n\t       item->base_ns == item->gone_ns;",
            "item->generation;",
        )],
    },
    # A window is over by the clock that the host had before it heard of Redis.
    "own-clock": {
        "windows.c": [(
            "window_clock_ns(&item->limit, item->time_ns)",
            "item->time_ns",
        )],
    },
    # A bucket stays in the window that a wrong clock began.
    "stays-early": {
        "windows.c": [(
            "if (!is_early(item, item->gone_ns, now_ns))",
            "if (now_ns != 0)",
        )],
    },
    # A leader that was stopped takes a later window for an early one.
    "old-clock": {
        "windows.c": [(
            "now_ns = collector->clock_ns();",
            "now_ns = collector->now_ns;",
        )],
    },
    # A host is later than Redis by more than a call took.
    "late-clock": {
        "windows.c": [(
            "offset = offset < least ? least : offset > most ? most : offset;",
            "offset = least - WIRE_SECOND / 10;",
        )],
    },
    # Less is told of a concurrency limit than was, and the cap counts from what was.
    "kept-base": {
        "holds.c": [(
            "if (item->used < merged && !lower(collector, item, &state))",
            "if (0 && !lower(collector, item, &state))",
        )],
    },
    # The cap counts from what was sent, whatever the view.
    "credit-by-send": {
        "holds.c": [(
            "\tplan_refresh(collector, sync);\n\tpack(collector, round, item);",
            "\tplan_refresh(collector, sync);\n"
            "\tround_renew_credit(segment, slot, round_merged_word(item, collector->term),\n"
            "\t\t\t   collector->term);\n"
            "\tpack(collector, round, item);",
        )],
    },
    # What others held counts for ever, whatever they released.
    "kept-others": {
        "holds.c": [(
            "if (others < known && !all_have_told(segment, round))",
            "if (others < known)",
        )],
    },
    # Mode strict: a Redis that has forgotten, or is another, grants at once.
    "no-quarantine": {
        "lease_model.c": [(
            "model->end_ns = call->clock_ns + TTL_NS;",
            "model->end_ns = call->clock_ns - WIRE_SECOND * 86400;",
        )],
    },
    # What is given back is told without being taken away.
    "keep-credit": {
        "credit.c": [(
            "lower = lowered_word(word, state_used(state) + (keep < left ? keep : left),",
            "lower = lowered_word(word, state_used(state) + left + 0 * keep,",
        ), (
            ".after = lower >> STATE_USED_SHIFT,",
            ".after = (state_used(state) + keep) & WEIR_COUNT_MAX,",
        )],
    },
    # A leader's successor trusts the marks.
    "no-remark": {
        "resolve.c": [(
            "if (restore || is_unmerged(slot, state) || (state.second & STATE_QUEUED) ||\n"
            "\t    queue_is_marked(&segment->queue, index))",
            "if (restore || is_unmerged(slot, state))",
        )],
    },
}


def main():
    mutant, source, output = sys.argv[1:]
    name = pathlib.Path(source).name
    text = pathlib.Path(source).read_text()
    for old, new in MUTANTS[mutant].get(name, []):
        if text.count(old) != 1:
            sys.exit(f"{source}: mutant {mutant} needs this text once, and it stands there "
                     f"{text.count(old)} times; change the mutant as the source has changed:\n{old}")
        text = text.replace(old, new)
    pathlib.Path(output).write_text(text)


if __name__ == "__main__":
    main()
