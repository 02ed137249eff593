/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease.pml - credit of one bucket in mode strict: granted, spent, told, given back.
 *
 * The protocol of sync/weir_lease.lua, lease.c, credit.c and bucket.c: a worker that
 * spends, two leaders one after the other, of whom the first may go on as a zombie,
 * and other hosts, which take at once what Redis would grant them.  Tokens never come
 * back with time here, so what is asserted is plain: no more than BURST are admitted.
 * README.md: bounds, and what is left out.
 *
 * Time is modelled by what it orders.  A host's lease ends before Redis counts it as
 * lapsed (it counts from the question, Redis from the answer), and a quarantine ends
 * when all leases have.
 */
#define BURST 2
#define ATTEMPTS 1              /* of the worker */
#define CALLS(me) (2 - me)      /* of each leader */
#define WORKER 2                /* beside the leaders 0 and 1 */

/* ---- The segment ---- */
byte used, credit = 1;          /* used may reach credit */
bool lease = true;              /* has not ended */

/* As those see it who have looked: was the credit lowered since, has the lease ended?
 * So the count of the first never comes round; in the segment it does, after sixteen. */
bool lowered[3], ended;
byte term;

/* ---- Redis ---- */
byte debt;
byte granted = 1, spent, returned;      /* of the host's session */
byte session = 1;
byte era = 1;                   /* tenure and epoch: what is of another is void */
bool quarantine;

byte admitted;

#ifdef LOOK_AT_LIMIT
#define credit_still_covers (seen < credit)
#else
#define credit_still_covers (!lowered[WORKER])
#endif
#define credit_is_the_same (credit == seen_credit && !lowered[me])
#define left (granted - spent - returned)

#define DONE 0
#define VOID 1
#define QUARANTINE 2

inline admit()
{
	admitted++;
	assert(admitted <= BURST)
}

active proctype worker()
{
	byte seen, tries;

	do
	:: tries < ATTEMPTS ->
		tries++;
		atomic {
			if
			:: lease -> ended = false
			:: else -> goto next
			fi
		}
		seen = used;
		atomic {
			if
			:: seen < credit -> lowered[WORKER] = false
			:: else -> goto next
			fi
		}
		atomic {
			if
			:: used == seen -> used++
			:: else -> goto next
			fi
		}
#ifndef NO_SECOND_LOOK
		/* The clock first: the lease that was seen still runs. */
		if
		:: !ended
		:: else -> goto next
		fi;
		if
		:: credit_still_covers
		:: else -> goto next
		fi;
#endif
		d_step { admit() }
next:		seen = 0
	:: else -> break
	od
}

/* Other hosts spend what they are granted at once. */
active proctype others()
{
	do
	:: atomic { !quarantine && debt + left < BURST -> debt++; admit() }
	:: atomic { admitted >= BURST -> break }
	od
}

/* Time, and what may befall Redis, once each. */
active proctype time()
{
	bool forgot, lapsed;
	byte ends;

	do
	:: atomic { lease && ends < 2 -> lease = false; ended = true; ends++ }
	:: atomic {
		!lapsed && session != 0 && !quarantine && !lease -> lapsed = true;
#ifndef FREE_LAPSE
		debt = debt + left;
#endif
		era++; session = 0; granted = 0; spent = 0; returned = 0
	   }
	:: atomic {
		!forgot -> forgot = true;
		debt = 0; era++; session = 0; granted = 0; spent = 0; returned = 0;
#ifndef NO_QUARANTINE
		quarantine = true
#endif
	   }
	:: atomic { quarantine && !lease -> quarantine = false; debt = BURST }
	od
}

/* The script, at one moment. */
inline carry_out(c_era, c_session, c_told, c_back, c_first, c_want)
{
	if
	:: quarantine -> code = QUARANTINE
	:: !quarantine && c_era != era -> code = VOID
	:: else ->
		code = DONE;
		if
		:: c_session > session ->
			/* What is left of the old one is spent, but for what is told. */
			if
			:: session != 0 && left > (c_first -> c_back : 0) ->
				debt = debt + left - (c_first -> c_back : 0)
			:: else
			fi;
			session = c_session; granted = 0; spent = 0; returned = 0
		:: else
		fi;
		if
		:: c_session == session ->
			if
			:: c_told > spent ->
				debt = debt + c_told - spent;
				spent = c_told
			:: else
			fi;
			if
			:: spent + returned > granted -> granted = spent + returned
			:: else
			fi;
			if
			:: !c_first && c_back > returned ->
				returned = (c_back < granted - spent -> c_back : granted - spent)
			:: else
			fi;
			if
			:: c_want && debt + left < BURST -> granted++
			:: else
			fi
		:: else
		fi
	fi
}

/* credit.c: lower the credit to what is used, and see what was used then. */
inline lower()
{
	do
	:: atomic { seen_credit = credit; lowered[me] = false };
		seen_used = used;
		if
		:: term == me
		:: else -> goto over
		fi;
		atomic {
			if
			:: credit == seen_credit && !lowered[me] ->
				credit = seen_used;
				lowered[0] = true; lowered[1] = true; lowered[2] = true;
				break
			:: else
			fi
		}
	od;
	after = used
}

proctype leader(byte me)
{
	byte my_era, my_session, base, unspent, my_granted, my_returned, calls;
	byte seen_credit, seen_used, after, code, of_era, g, told, back;
	bool first, want, answered;

	if
	:: me == 0 ->            /* which has led for a while */
		atomic { my_era = 1; my_session = 1; my_granted = 1 }
	:: me == 1 && term == 1
	fi;
	do
	:: calls < CALLS(me) && term == me ->
		calls++;
		if
		:: my_session != 0 ->
			/* Tell what was spent, and ask for more or give all back. */
			if
			:: want = true
			:: want = false;
				lower();
				if
				:: my_granted > my_returned + after - base ->
					my_returned = my_granted - (after - base)
				:: else
				fi
			fi;
			told = used - base
		:: else -> told = 0; want = false
		fi;
		atomic { seen_credit = credit; lowered[me] = false };
		atomic {
			back = (first -> unspent : my_returned);
			answered = false;
			carry_out(my_era, my_session, told, back, first, want);
			of_era = era;
			g = granted;
			if
			:: answered = true
			:: true                 /* its answer is lost */
			fi
		}
		if
		:: answered ->
			if
			:: code == QUARANTINE
			:: code == VOID ->
				/* All credit is of sessions that are no more. */
				lower();
				atomic {
					my_era = of_era;
					base = (after < seen_credit -> after : seen_credit);
					unspent = (seen_credit > after -> seen_credit - after : 0);
					my_session = 1 + 2 * me + calls; first = true;
					my_granted = 0; my_returned = 0
				}
			:: code == DONE ->
				first = false;
				if
				:: my_session != 0 && g > my_granted -> my_granted = g
				:: else
				fi;
				/* credit_raise() */
				if
				:: term == me
				:: else -> goto over
				fi;
				atomic {
					if
					:: my_session != 0 && credit_is_the_same && my_granted >= my_returned + told ->
						credit = base + my_granted - my_returned
					:: else
					fi
				}
				/* Has the time for which it was renewed passed already? */
				atomic {
					if
					:: of_era == era && !quarantine -> lease = true
					:: else
					fi
				}
			fi
		:: else
		fi;
		d_step {
			seen_credit = 0; seen_used = 0; after = 0; code = 0;
			of_era = 0; g = 0; told = 0; back = 0; want = false; answered = false
		}
	:: else -> break
	od;
over:	skip
}

init {
	atomic {
		run leader(0);
		run leader(1)
	}
	/* The other one takes over, at any time. */
	term = 1
}
