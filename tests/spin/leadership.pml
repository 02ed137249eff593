/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leadership.pml - leaders of one host, one slot, and a Redis that is hard to reach.
 *
 * Two processes lead in turn; each may be stopped between any two accesses of the
 * segment, for ever (then it was killed) or until it goes on as a zombie.  A third
 * one leads last, over a network that has become good: it must find every charge
 * applied once.  README.md: bounds, and what is left out.
 *
 * The names are those of sync/leader.c, collect.c, merge.c and weir_sync.lua.
 */
#ifndef TERMS
#define TERMS 2                 /* of the two processes; the heir has one more */
#endif
#ifndef CHARGES
#define CHARGES 2
#endif
#ifndef ROUNDS
#define ROUNDS 1                /* in one term */
#endif

#ifndef OTHERS
#define OTHERS 1                /* doubts about calls of other shards */
#endif

#define HEIR 2
#define NOBODY 3
#define TAG(term, sequence) ((term) * 8 + (sequence))

/* ---- The segment ---- */
byte leader = NOBODY, leader_term;
byte others;                    /* ghost: how many of its terms other shards took */
byte used = 1;                  /* tokens; the first has been charged */
byte acked, merged;
byte sent_used, sent_tag;       /* one pair */
bool calm;                      /* the heir leads */
bool settled;                   /* it found all charges merged */

/* ---- Redis: weir_sync.lua's record of this host ---- */
byte redis_term, redis_sequence, applied_tag;
short applied;
byte fenced;                    /* ghost: the highest term whose fence was carried out */

/* ---- The wire: per process the call that it waits for, and one that it gave up ---- */
typedef message {
	bool live;
	byte term;
	byte sequence;          /* 0: a fence */
	short charge;
}
message current[3], late[3];

mtype = { nothing, done, refused };
mtype reply[3] = nothing;
byte reply_tag[3];

#define is_leader(me, term) (leader == (me) && leader_term == (term))

/* Exactly once, at every step. */
#define check() assert(applied <= used && acked <= applied && merged <= acked)

/* The script.  In one step: Redis has one thread. */
inline execute(m)
{
	if
#ifndef NO_FENCE
	:: m.term < redis_term || (m.term == redis_term && m.sequence == 0) ->
		outcome = refused
	:: m.sequence > 0 && (m.term > redis_term ||
			      (m.term == redis_term && m.sequence != redis_sequence + 1)) ->
		outcome = refused
#endif
	:: else ->
		outcome = done;
		redis_term = m.term;
		redis_sequence = m.sequence;
		if
		:: m.sequence == 0 -> fenced = (m.term > fenced -> m.term : fenced)
		:: else ->
			assert(m.term >= fenced);
			applied = applied + m.charge;
			applied_tag = TAG(m.term, m.sequence);
			check()
		fi
	fi
}

/* Fields that nobody reads again would only multiply states. */
inline clear(m)
{
	m.live = false;
	m.term = 0;
	m.sequence = 0;
	m.charge = 0
}

inline execute_current(who)
{
	d_step {
		current[who].live ->
		execute(current[who]);
		reply_tag[who] = applied_tag
	};
	/* A reply that is lost is one that nobody waits for any more.  A call that
	 * stays is carried out again, and that is what is answered. */
	if
	:: reply[who] = outcome; clear(current[who])
	:: !calm -> skip
	fi;
	outcome = nothing
}

inline execute_late(who)
{
	d_step {
		late[who].live ->
		execute(late[who]);
		clear(late[who]);
		outcome = nothing
	}
}

active proctype redis()
{
	mtype outcome = nothing;

end:	do
	:: atomic { current[0].live -> execute_current(0) }
	:: atomic { current[1].live -> execute_current(1) }
	:: atomic { current[HEIR].live -> execute_current(HEIR) }
	:: atomic { late[0].live -> execute_late(0) }
	:: atomic { late[1].live -> execute_late(1) }
	od
}

active proctype workers()
{
	do
	:: used < CHARGES -> used++
	:: used == CHARGES -> break
	od
}

inline send(s, c)
{
	current[me].term = call_term;
	current[me].sequence = s;
	current[me].charge = c;
	current[me].live = true;
	reply[me] = nothing
}

/* The call's outcome is in doubt, and the connection is closed: what it carried
 * may still be carried out, or never.  One such call a process is remembered. */
inline give_up()
{
	if
	:: current[me].live ->
		late[me].live = true;
		late[me].term = current[me].term;
		late[me].sequence = current[me].sequence;
		late[me].charge = current[me].charge
	:: skip
	fi;
	clear(current[me]);
	reply[me] = nothing;
	reply_tag[me] = 0
}

/*
 * round_agree() and renew_credit(): what is there is read, then the leader word,
 * and a compare-and-swap fails if a later leader has stored since.
 */
inline agree(word)
{
#ifdef PLAIN_STORES
	atomic { acked = word; check() }
#else
	do
	:: base = acked;
		atomic { if :: !is_leader(me, term) -> goto lost :: else fi };
		atomic {
			if
			:: acked == base -> acked = word; check(); break
			:: else
			fi
		}
	od
#endif
}

inline renew(word)
{
#ifdef PLAIN_STORES
	merged = word
#else
	do
	:: base = merged;
		atomic { if :: !is_leader(me, term) -> goto lost :: else fi };
		atomic {
			if
			:: merged == base -> merged = word; break
			:: else
			fi
		}
	od
#endif
}

inline forget_locals()
{
	sequence = 0; last_tag = 0; item = 0; base = 0; seen_used = 0; seen_tag = 0
}

proctype process(byte me)
{
	byte term, call_term;           /* the leader word's, and the shard's */
	byte sequence, last_tag;
	byte item, base;                /* used and acked, as they were read */
	byte seen_used, seen_tag;

stand:	atomic {
		forget_locals();
		term = 0;
		call_term = 0;
		/* The heartbeat is old, or seems so: it is only a hint. */
		if
		:: me != HEIR && !calm && leader != me && leader_term - others < TERMS
		:: me == HEIR && used == CHARGES -> calm = true
		fi;
		leader_term++;
		leader = me;
		term = leader_term;
		call_term = term
	}

fence:	atomic {
		forget_locals();
		send(0, 0)
	}
	if
	:: atomic { reply[me] == done -> last_tag = reply_tag[me]; give_up() }
	:: atomic { reply[me] == refused || me != HEIR -> give_up(); goto doubt }
	fi;

	/* resolve_slot(): of sent the tokens before the tag. */
#ifndef NO_RESOLVE
#ifdef TAG_FIRST
	seen_tag = sent_tag;
	base = acked;
	seen_used = sent_used;
#else
	seen_used = sent_used;
	base = acked;
	seen_tag = sent_tag;
#endif
	if
	:: seen_tag == last_tag && last_tag > 0 && seen_used != base -> agree(seen_used)
	:: else
	fi;
#endif
	atomic {
		base = 0; seen_used = 0; seen_tag = 0; last_tag = 0;
		/* Else what was not resolved is forgotten: Redis tells the next leader
		 * of the call that now follows, and not of the one before. */
		if
		:: !is_leader(me, term) -> goto lost
		:: else
		fi
	}

tick:	/* The call of another shard is in doubt, and that one takes a new term: this
	 * shard's calls go on under the one that they have. */
	atomic {
		if
		:: me == 0 && is_leader(me, term) && others < OTHERS ->    /* or 1: it is the same */
			others++;
			leader_term++;
			term = leader_term
		:: skip
		fi;
		item = 0; base = 0; seen_used = 0; seen_tag = 0;
		/* Idle buckets are not looked at (queue.pml). */
		me == HEIR || (sequence < ROUNDS && (used != acked || acked != merged));
		base = acked
	}
	item = used;
	atomic {
		if
		:: base == item && merged == item ->
			if
			:: me == HEIR ->
				assert(applied == used && acked == used && merged == used);
				settled = true;
				goto over
			:: else -> goto tick
			fi
		:: else
		fi;
		seen_used = sent_used;
		seen_tag = sent_tag
	}
#ifndef MARK_LATE
	atomic { if :: !is_leader(me, term) -> goto lost :: else fi }
	atomic {
		if
		:: sent_used == seen_used && sent_tag == seen_tag ->
			sent_used = item;
			sent_tag = TAG(call_term, sequence + 1)
		:: else -> goto tick
		fi
	}
#endif
	atomic { send(sequence + 1, item - base) }
#ifdef MARK_LATE
	atomic {
		if
		:: is_leader(me, term) && sent_used == seen_used && sent_tag == seen_tag ->
			sent_used = item;
			sent_tag = TAG(call_term, sequence + 1)
		:: else
		fi
	}
#endif
	if
	:: atomic { reply[me] == done -> give_up(); seen_used = 0; seen_tag = 0 }
	:: atomic { reply[me] == refused || me != HEIR -> give_up(); goto doubt }
	fi;

	/* merge_item() */
	agree(item);
	renew(item);
	atomic {
		if
		:: !is_leader(me, term) -> goto lost
		:: else -> sequence++; goto tick
		fi
	}

doubt:	atomic {
		if
		:: is_leader(me, term) && (me == HEIR || leader_term - others < TERMS) ->
			leader_term++;
			term = leader_term;
#ifdef FORGOTTEN_DOUBT
			if :: sequence < ROUNDS -> goto tick :: else fi;
#endif
			call_term = term;
#ifdef MARK_CLOSED
			sent_used = used;
			sent_tag = TAG(call_term, 1);
#endif
			goto fence
		:: else
		fi
	}
lost:	goto stand;
over:	skip
}

init {
	atomic { run process(0); run process(1); run process(HEIR) }
	timeout;
	assert(settled)
}
