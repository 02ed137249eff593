/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.pml - the marks of one slot: workers that charge it, leaders that merge it.
 *
 * The protocol of shm/queue.h, the walk of queue.c, and the look at every slot that
 * a new leader takes (round_resolve).  Every process may stop between any two
 * accesses, for ever or for a while; a leader may be taken over at any time.  What
 * Redis does is no matter here: a leader merges in one step what it has seen.
 * README.md: bounds, and what is left out.
 */
#ifndef ATTEMPTS
#define ATTEMPTS 1              /* of each worker to charge */
#endif
#ifndef LEADERS
#define LEADERS 2               /* one after the other */
#endif
#ifndef VISITS
#define VISITS 1                /* of each leader but the last */
#endif

/* ---- The segment ---- */
bool mark, summary;
byte used, merged;
bool queued;                    /* with used, and the epoch, one word */
byte leader;                    /* whose turn it is: grows with each takeover */

/*
 * The epoch, as those see it who have read the state: has it moved since?  So it
 * never comes round; in the segment it does, after four moves.
 */
bool moved[4] = true;

bool killed[LEADERS];

#define same_state() (used == seen_used && queued == seen_queued && !moved[self])

inline move_epoch()
{
#ifndef NO_EPOCH
	moved[0] = true;
	moved[1] = true;
	moved[2] = true;
	moved[3] = true
#else
	skip
#endif
}

inline read_state()
{
	d_step { seen_used = used; seen_queued = queued; moved[self] = false }
}

/* queue_set_bit(): a look, and a read-modify-write if it was clear.  Nothing can
 * come of the look but the clear bit that the other then sets. */
inline set_bit(flag)
{
	if
	:: flag
	:: atomic { !flag -> flag = true }
	fi
}

inline queue_mark()
{
	set_bit(mark);
	set_bit(summary)
}

/* bucket_apply() */
proctype worker(byte self; bool mortal)
{
	byte seen_used, attempts;
	bool seen_queued;

again:	atomic {
		seen_used = 0; seen_queued = false; moved[self] = true;
		if
		:: attempts < ATTEMPTS -> attempts++
		:: attempts == ATTEMPTS -> goto over
		fi
	}
	read_state();
#ifndef CHARGE_FIRST
	if
	:: !seen_queued ->
		set_bit(mark);
		if
		:: set_bit(summary)
		:: mortal -> goto over          /* killed half way */
		fi
	:: else
	fi;
#endif
	atomic {
		if
		:: mortal -> goto over
		:: same_state() ->
			used++;
			queued = true
		:: else -> goto again
		fi
	}
#ifdef CHARGE_FIRST
	if
	:: mortal -> goto over
	:: !seen_queued -> queue_mark()
	:: else
	fi;
#endif
	goto again;
over:	skip
}

/* round_resolve() of a leader that took over, then queue_each() of each tick. */
proctype process(byte me)
{
	byte seen_used, visits, self;
	bool seen_queued, found;

	{
	atomic { leader == me -> self = me + 2 }

	/* The look at every slot. */
	read_state();
#ifdef SCAN_UNMERGED_ONLY
	if
	:: seen_used != merged -> queue_mark()
	:: else
	fi;
#else
#ifndef SCAN_WITHOUT_MARKS
	found = mark;
#endif
	if
	:: seen_used != merged || seen_queued || found -> queue_mark()
	:: else
	fi;
#endif
	atomic { seen_used = 0; seen_queued = false; moved[self] = true; found = false }

tick:	if
	:: atomic {
		summary && (me == LEADERS - 1 || visits < VISITS) ->
		summary = false;
		visits = (me == LEADERS - 1 -> 0 : visits + 1)
	   }
#ifdef SCRUB
	/* round_scrub(), by the last leader. */
	:: me == LEADERS - 1 && (used != merged || queued) && !(mark && summary) ->
		queue_mark();
		goto tick
#endif
	fi;
	atomic {
		found = mark;
		if
		:: !found -> goto next
		:: else
		fi
	}
	read_state();
	if
	:: !seen_queued ->      /* enqueue() */
		atomic {
			if
			:: same_state() -> queued = true; seen_queued = true
			:: else -> goto next
			fi
		}
	:: else
	fi;
	if
	:: seen_used != merged ->
		/* A round, whose reply is merged. */
		atomic { if :: leader == me -> merged = seen_used :: else fi };
		goto next
	:: else
	fi;
	/* dequeue() */
#ifndef UNMARK_LATE
	mark = false;
#endif
	atomic {
		if
		:: same_state() ->
			queued = false;
			move_epoch();
			found = false
		:: else
		fi
	}
#ifdef UNMARK_LATE
	if
	:: !found -> mark = false
	:: else
	fi;
#endif
#ifndef NO_REMARK
	if
	:: found -> queue_mark()
	:: else
	fi;
#endif
next:	found = mark;
	if
	:: found -> set_bit(summary)
	:: else
	fi;
	atomic { seen_used = 0; seen_queued = false; moved[self] = true; found = false }
	goto tick
	} unless { killed[me] }
}

active proctype fate()
{
	/* A takeover, whether the leader is killed, stopped or only slow. */
	do
	:: atomic { leader < LEADERS - 1 -> leader++ }
	:: atomic { leader < LEADERS - 1 -> killed[leader] = true; leader++ }
#ifdef KILL_ZOMBIES
	:: atomic { leader > 0 && !killed[leader - 1] -> killed[leader - 1] = true }
#endif
	:: timeout -> break
	od;
	/* Nobody has anything to do any more. */
	assert(used == merged)
}

init {
	byte i;

	atomic {
		run worker(0, true);
		run worker(1, false);
		for (i : 0 .. LEADERS - 1) { run process(i) }
	}
}
