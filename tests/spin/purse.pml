/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purse.pml - tokens that threads take ahead of one bucket, and somebody who takes back
 * what all of them have.
 *
 * The protocol of shm/purse.c, with time in tokens: a clock that goes on at any moment,
 * readings of it that get old, two threads that take ahead and pay, one that gives back,
 * also for a refund.  Every process may stop between any two accesses, for ever or for a
 * while.  README.md: bounds, and what is left out.
 */
#ifndef TIME
#define TIME 3                  /* the clock's last reading */
#endif
#ifndef TAKES
#define TAKES 1                 /* of each thread */
#endif
#ifndef RETURNS
#define RETURNS 1
#endif
#define AHEAD 2                 /* tokens, beside one that is asked for */
#define HOLD 1                  /* time that they should count, at least */

#define later(a, b) ((a) > (b) -> (a) : (b))

mtype = { EMPTY, OPEN, FULL };

byte time;

/* The bucket: when it will be full again, and how often it was changed, which stands for
 * all that its compare-and-swap compares. */
byte tat, changes;

/* The purses. */
mtype state[2] = EMPTY;
byte tokens[2], end[2];

/* When a bucket that knows no purses would be full again, at the latest: each token that
 * was admitted, at the time that its request had read. */
byte exact;

inline admit(now)
{
	exact = later(exact, now) + 1;
	assert(exact <= tat)
}

proctype thread(byte me)
{
	byte now, seen, seen_tat, base, takes;

next:	atomic {
		now = 0; seen = 0; seen_tat = 0; base = 0;
		if
		:: takes < TAKES -> takes++
		:: takes == TAKES -> goto over
		fi
	}
	now = time;
	d_step { state[me] = OPEN; tokens[me] = 0; end[me] = 0 }
	d_step { seen = changes; seen_tat = tat }
	base = later(seen_tat, now + HOLD);
	atomic {
		if
		:: changes == seen ->
			changes++;
			tat = base + AHEAD + 1;
			admit(now)
		:: else ->
			state[me] = EMPTY;
			goto next
		fi
	}
	atomic {
		if
		:: state[me] == OPEN ->
			state[me] = FULL;
			tokens[me] = AHEAD;
			end[me] = base
		:: else -> goto next
		fi
	}
	do
	:: now = time;
	   atomic {
		if
#ifndef NO_END
		:: now >= end[me] -> goto next
#endif
		:: else ->
			if
			:: state[me] == FULL && tokens[me] > 0 ->
				tokens[me]--;
				admit(now)
			:: else -> goto next
			fi
		fi
	   }
	:: goto next                    /* before all is spent */
	od;
over:	skip
}

/* gcra_refund() */
inline lower(what, by)
{
	if
	:: what > now + by -> what = what - by
	:: else ->
		if
		:: what > now -> what = now
		:: else
		fi
	fi
}

inline find(purse)
{
	d_step {
		found = found + tokens[purse];
		ends = (ends > end[purse] -> end[purse] : ends)
	}
}

inline take_out(purse)
{
	atomic {
		if
		:: state[purse] == FULL ->
#ifndef ENDED_BACK
			if
			:: end[purse] > now -> find(purse)
			:: else
			fi;
#else
			find(purse);
#endif
			state[purse] = EMPTY;
			tokens[purse] = 0
		:: state[purse] == OPEN -> state[purse] = EMPTY
		:: else
		fi
	}
}

/* purses_give_back(): of what is found, or (REFUND) of a token that was spent, too. */
proctype giver()
{
	byte now, seen, seen_tat, found, ends, returns, refund;

	do
	:: atomic { returns < RETURNS -> returns++; found = 0; ends = 255 }
	   if
	   :: refund = 0
	   :: refund = 1
	   fi;
again:  skip;
#ifdef CLOCK_FIRST
	   now = time;
#endif
	   d_step { seen = changes; seen_tat = tat }
#ifndef CLOCK_FIRST
	   now = time;
#endif
#ifndef CARRY_ENDED
	   if
	   :: ends <= now -> d_step { found = 0; ends = 255 }
	   :: else
	   fi;
#endif
	   take_out(0);
	   take_out(1);
	   atomic {
		if
		:: found + refund == 0
		:: found + refund > 0 && changes == seen ->
			changes++;
			lower(tat, found + refund);
			lower(exact, refund);
			assert(exact <= later(tat, now))
		:: else -> goto again
		fi
	   }
	:: returns == RETURNS -> break
	od
}

proctype clock()
{
	do
	:: atomic { time < TIME -> time++ }
	:: time == TIME -> break
	od
}

init {
	atomic {
		run thread(0);
		run thread(1);
		run giver();
		run clock()
	}
}
