-- SPDX-License-Identifier: Apache-2.0
-- One call brings one host's charges of one shard to Redis and takes home what all hosts charged.
--
-- KEYS[1]  the shard: one hash, so that Redis Cluster moves it as a whole.  Its fields:
--    s          clock offset <i8I4, last virtual time I4I4, live hosts I4, second of that count I4
--    h<host>    <I8I8I8I8I4 term, seq, last applied term and seq, second when last seen
--    <name>     <I4I4I4 tat (seconds, nanoseconds of virtual time), generation
--    w<name>    <I4I4I4I4I8I8I4 end and length of a window, its tokens, the tokens of the one
--               before, generation
--    g<name>    <c16I8I4 for each host that holds units: id, how many, second when it told
--    L          the ids of the live hosts      c  where the garbage collection goes on
--    v          format tag, longer than 64 bytes: Redis then never uses its O(n) listpack
--             Names and ids of hosts have 16 bytes: the name of a field tells its kind.
-- ARGV     1 host (16 bytes)  2 term >= 1  3 seq, 0 = FENCE  4 vlow: <I4I4 the virtual time of the
--          caller's last reply plus what it saw pass since, or ""  5 tolerance in nanoseconds
--          6 seconds that an entry is kept when its tat has passed (the same on all hosts)
--          7 up to 1000 items of 56 bytes, none in a FENCE; little endian:
--          name c16 | d i4I4 | E i4I4 | V i4I4 | cap i4I4 | generation I4 | flags I4
--          8 up to 1000 windows of 64 bytes, none in a FENCE:
--          name c16 | end I4I4 | length I4I4 | n i8 | T I8 | P I8 | generation I4 | flags I4
--          9 up to 1000 concurrency limits of 24 bytes, none in a FENCE: name c16 | held I8
-- Returns  {code, now <I4I4, live hosts, term, seq,
--           items of 12 bytes: G I4I4, with 2^30 x err in its nanoseconds | generation I4,
--           windows of 24 bytes: T i8 | P i8 | generation I4 | err I4,
--           concurrency limits of 16 bytes: others I8 | hosts I4 | err I4,
--           and the call's own term and seq, which name it}
--    code   0 done: term and seq are the last batch of this host that was applied, here or before
--           1 an old term, 2 fence first: nothing was changed; term and seq are those in force.
--           So it is where a window begins later than a second from now: its host's clock is wrong,
--           and a fence tells it the time
--    err    0 done, 1 malformed, 2 the tat would leave the range; 1 and 2 changed nothing
--
-- A duration is (signed floor of its seconds, nanoseconds 0 .. 999999999); all sums are of integers
-- below 2^53, hence exact.  d, E, V and cap are durations, the last three from now on.
--   d    the charges of a window; E: the tat that its requests alone leave of an empty bucket, or
--        -2^31 s where it never ran empty.  Any window turns a tat into max(tat + d, now + E).
--   V    the tat that the host merged last, or -2^31 s.  It makes an absent entry.  Where flag 1
--        says that Redis lost state, it raises one of as many resets and replaces one of an
--        older generation.  Without, an older generation is one that Redis had forgotten as
--        nobody was in debt: the entry keeps what was charged since, and V raises it at most.
--   cap  how far this window may bring the tat, 0: any.  It takes back no debt that was there.
--   G    the tat that results, of virtual time.  Hosts take the larger of it and their own, but
--        adopt the one of a new generation, which a refund (d < 0) and a reset begin: a refund
--        the next number, a reset the next multiple of 4096.  So it shows that a host whose view
--        is of before a refund may know of charges that a Redis that lost state does not: the
--        refund came after that, and must not void them.  Of before a reset it is void.
-- Flag 2 is the reset: of what was only E stays.  One name may occur more than once.
--
-- A window is a sum of tokens, known by its end in virtual time.  n, which may be below 0, is added
-- to the window that the item names: the one that is kept, the one before it, or a later one, which
-- is then kept and has the sum so far as the one before.  Still older ones are gone: T is -1.
--   T    all tokens of the item's window, at most 2^52.  What the host merged last begins a window,
--        or makes an absent one; where flag 1 says that Redis lost state, it raises the sum.
--   P    the same of the window before; what a host knows of it raises it.  -1: not kept.
-- T and P that a host tells are of its generation, which only a reset (flag 2) moves: an older one's
-- are void, and a later one's replace what a Redis that lost state has, but for windows that begin
-- after the item's.
--
-- What is held is a gauge: a host tells how many units it holds now, below 2^44.  What it told
-- before is void, and so is what any host told 30 seconds ago.
--   others  what the other hosts hold, at most 2^52; hosts: how many of them hold any
--   err  3: too many of them do; what was told is not kept
--
-- Redis does not roll a failed script back: what can fail comes before the first write.

local clock = redis.call('TIME')
local GIGA, EXACT, MOST = 1000000000, 9007199254740992, 4503599627370496
local NEVER, FAR, LAST = -2147483648, 2147483647, 4294967295
local ALIVE, HOST_KEPT, GENERATION_KEPT, TTL_MS = 30, 86400, 600, 7 * 86400000
local RESET = 4096
local MAX_ITEMS, MAX_HOSTS, MAX_DEAD, HELD_LIMIT = 1000, 4000, 1000, 17592186044416
local get, put = struct.unpack, struct.pack

local function integer(text, least, limit)
  local value = string.match(text, '^%d+$') and tonumber(text)
  return value and value >= least and value < limit and value
end

local function later(a_s, a_n, b_s, b_n) return a_s > b_s or a_s == b_s and a_n > b_n end

local function sum(a_s, a_n, b_s, b_n)
  if a_n + b_n >= GIGA then return a_s + b_s + 1, a_n + b_n - GIGA end
  return a_s + b_s, a_n + b_n
end

local function difference(a_s, a_n, b_s, b_n)
  if a_n < b_n then return a_s - b_s - 1, a_n - b_n + GIGA end
  return a_s - b_s, a_n - b_n
end

if #KEYS ~= 1 or #ARGV ~= 9 then return redis.error_reply('WEIR expects 1 key and 9 arguments') end
local key, host, blob, windows, holds = KEYS[1], ARGV[1], ARGV[7], ARGV[8], ARGV[9]
local term, seq = integer(ARGV[2], 1, EXACT), integer(ARGV[3], 0, EXACT)
local tolerance, keep = integer(ARGV[5], 0, EXACT), integer(ARGV[6], 1, 2 ^ 30)
local count, window_count, hold_count = #blob / 56, #windows / 64, #holds / 24
local low_s, low_n = nil, 0
if #ARGV[4] == 8 then low_s, low_n = get('<I4I4', ARGV[4]) end
if #host ~= 16 then return redis.error_reply('WEIR argument 1: the host id has 16 bytes') end
if not term then return redis.error_reply('WEIR argument 2: the term is 1 .. 2^53 - 1') end
if not seq then return redis.error_reply('WEIR argument 3: the seq is 0 .. 2^53 - 1') end
if #ARGV[4] ~= 0 and not low_s or low_n >= GIGA then
  return redis.error_reply('WEIR argument 4: vlow is empty or seconds and nanoseconds below 10^9')
end
if not tolerance then return redis.error_reply('WEIR argument 5: tolerance is 0 .. 2^53 - 1') end
if not keep then return redis.error_reply('WEIR argument 6: seconds to keep are 1 .. 2^30 - 1') end
if count % 1 ~= 0 or count > MAX_ITEMS or seq == 0 and count > 0 then
  return redis.error_reply('WEIR argument 7: 0 .. 1000 items of 56 bytes, none in a fence')
end
if window_count % 1 ~= 0 or window_count > MAX_ITEMS or seq == 0 and window_count > 0 then
  return redis.error_reply('WEIR argument 8: 0 .. 1000 windows of 64 bytes, none in a fence')
end
if hold_count % 1 ~= 0 or hold_count > MAX_ITEMS or seq == 0 and hold_count > 0 then
  return redis.error_reply('WEIR argument 9: 0 .. 1000 limits of 24 bytes, none in a fence')
end

local own = 'h' .. host
local found = redis.call('HMGET', key, 's', own, 'L', 'c')

-- The virtual clock: never behind itself, nor further ahead than the caller saw time pass.
local off_s, off_n, last_s, last_n, live, counted = 0, 0, -1, 0, 0, -1
if found[1] and #found[1] == 28 then
  local state = {get('<i8I4I4I4I4I4', found[1])}
  if state[2] < GIGA and state[4] < GIGA then
    off_s, off_n, last_s, last_n, live, counted = unpack(state, 1, 6)
  end
end
local raw_s, raw_n = tonumber(clock[1]), tonumber(clock[2]) * 1000
local now_s, now_n = sum(raw_s, raw_n, off_s, off_n)
if later(last_s, last_n, now_s, now_n) then
  now_s, now_n = last_s, last_n
elseif low_s then
  if later(last_s, last_n, low_s, low_n) then low_s, low_n = last_s, last_n end
  local most_s, most_n = sum(low_s, low_n, math.floor(tolerance / GIGA), tolerance % GIGA)
  if later(now_s, now_n, most_s, most_n) then now_s, now_n = low_s, low_n end
end
off_s, off_n = difference(now_s, now_n, raw_s, raw_n)
local now = put('<I4I4', now_s, now_n)

-- The fence: a term ends all before it, and within a term no batch is applied twice or skipped.
local top, at, applied_term, applied_seq, seen = 0, 0, 0, 0, -ALIVE
if found[2] and #found[2] == 36 then
  top, at, applied_term, applied_seq, seen = get('<I8I8I8I8I4', found[2])
  if seen < now_s - HOST_KEPT then top, at, applied_term, applied_seq, seen = 0, 0, 0, 0, -ALIVE end
end
if term < top or term == top and seq == 0 then
  return {1, now, live, top, at, '', '', '', term, seq}
end
if seq > 0 and (term > top or seq ~= at + 1) then
  return {2, now, live, top, at, '', '', '', term, seq}
end
for i = 1, window_count do
  local end_s, end_n, length_s, length_n = get('<I4I4I4I4', windows, i * 64 - 47)
  local ahead_s, ahead_n = sum(now_s + 1, now_n, length_s, length_n)
  if length_s + length_n > 0 and later(end_s, end_n, ahead_s, ahead_n) then
    return {2, now, live, top, at, '', '', '', term, seq}
  end
end
if seq > 0 then applied_term, applied_seq = term, seq end

-- An entry that may be collected counts as absent, and an absent one as tat = now - keep: nobody
-- can tell whether the collection was there already.
local floor_s, floor_n = now_s - keep, now_n
if floor_s < 0 then floor_s, floor_n = 0, 0 end
local function kept(tat_s, generation)
  return tat_s >= floor_s - (generation > 0 and GENERATION_KEPT or 0)
end

-- The same of a window, when the next one is over as well.
local function gone(end_s, end_n, length_s, length_n)
  end_s, end_n = sum(end_s, end_n, length_s, length_n)
  return end_s < floor_s or end_s == floor_s and end_n < floor_n
end

local record = put('<I8I8I8I8I4', term, seq, applied_term, applied_seq, now_s)
local set, reply, created = {'s', '', own, record}, {}, 0

-- The most frequent item by far, a charge of a key that Redis knows, calls none of the functions
-- above: a call costs as much as some ten other steps.
if count > 0 then
  local field, fresh, size, sub, min = {}, {}, #set, string.sub, math.min
  for i = 1, count do field[i] = sub(blob, i * 56 - 55, i * 56 - 40) end
  local stored = redis.call('HMGET', key, unpack(field))
  local beyond = min(now_s + FAR, LAST + 1)
  for i = 1, count do
    local d_s, d_n, e_s, e_n, v_s, v_n, cap_s, cap_n, generation, flags =
      get('<i4I4i4I4i4I4i4I4I4I4', blob, i * 56 - 39)
    local name, err, known = field[i], 0, false
    local value, tat_s, tat_n, g = fresh[name] or stored[i], 0, 0, 0
    if value and #value == 12 then
      tat_s, tat_n, g = get('<I4I4I4', value)
      known = tat_n < GIGA and tat_s < now_s + FAR and (tat_s >= floor_s or kept(tat_s, g))
    end
    if not known then
      tat_s, tat_n, g, value = floor_s, floor_n, 0, nil
    elseif tat_s < floor_s or tat_s == floor_s and tat_n < floor_n then
      tat_s, tat_n, value = floor_s, floor_n, nil
    end
    if d_n >= GIGA or e_n >= GIGA or v_n >= GIGA or cap_n >= GIGA or cap_s < 0 or flags > 3 then
      err = 1
    else
      local to_s, to_n, to_g, write = tat_s, tat_n, g, false
      if not known or generation > g or flags > 0 then
        local lost = flags % 2 == 1
        if not known or generation > g or
           lost and math.floor(generation / RESET) == math.floor(g / RESET) then
          if lost and generation > g then to_s, to_n = floor_s, floor_n end   -- rolled back: void
          v_s, v_n = sum(now_s, now_n, v_s, v_n)
          if later(v_s, v_n, to_s, to_n) then to_s, to_n, write = v_s, v_n, true end
          if generation > g then to_g, write = generation, true end
        end
        if flags >= 2 then to_s, to_n, d_s, d_n = now_s, now_n, 0, 0 end
      end
      if flags >= 2 then
        to_g, write = min((math.floor(to_g / RESET) + 1) * RESET, LAST), true
      elseif d_s < 0 then
        to_g, write = min(to_g + 1, LAST), true
      end
      local debt_s, debt_n = to_s, to_n
      to_s, to_n = to_s + d_s, to_n + d_n
      if to_n >= GIGA then to_s, to_n = to_s + 1, to_n - GIGA end
      if e_s > NEVER then
        e_s, e_n = now_s + e_s, now_n + e_n
        if e_n >= GIGA then e_s, e_n = e_s + 1, e_n - GIGA end
        if e_s > to_s or e_s == to_s and e_n > to_n then to_s, to_n = e_s, e_n end
      end
      if cap_s > 0 or cap_n > 0 then
        cap_s, cap_n = sum(now_s, now_n, cap_s, cap_n)
        if to_s >= cap_s and later(to_s, to_n, cap_s, cap_n) then
          if later(debt_s, debt_n, cap_s, cap_n) then cap_s, cap_n = debt_s, debt_n end
          if later(to_s, to_n, cap_s, cap_n) then to_s, to_n = cap_s, cap_n end
        end
      end
      if to_s < floor_s or to_s == floor_s and to_n < floor_n then to_s, to_n = floor_s, floor_n end
      if to_s >= beyond then
        err = 2
      elseif write or to_s ~= debt_s or to_n ~= debt_n then
        value = put('<I4I4I4', to_s, to_n, to_g)
        fresh[name], set[size + 1], set[size + 2], size = value, name, value, size + 2
        if not known then created = created + 1 end
      end
    end
    if err > 0 then value = nil end
    reply[i] = value or put('<I4I4I4', tat_s, tat_n + err * 2 ^ 30, g)
  end
end

local window_reply = {}
if window_count > 0 then
  local field, fresh, size, sub, max = {}, {}, #set, string.sub, math.max
  for i = 1, window_count do field[i] = 'w' .. sub(windows, i * 64 - 63, i * 64 - 48) end
  local stored = redis.call('HMGET', key, unpack(field))
  for i = 1, window_count do
    local end_s, end_n, length_s, length_n, n, t, p, generation, flags =
      get('<I4I4I4I4i8I8I8I4I4', windows, i * 64 - 47)
    local name, err, total, before, g, known = field[i], 0, -1, -1, 0, false
    local value, kept_s, kept_n = fresh[name] or stored[i], 0, 0
    local ahead_s, ahead_n = sum(now_s + 1, now_n, length_s, length_n)
    if end_n >= GIGA or length_n >= GIGA or length_s + length_n == 0 or flags > 3 or
       n <= -EXACT or n >= EXACT or t >= EXACT or p >= EXACT then
      err = 1
    else
      if value and #value == 36 then
        local old_s, old_n
        kept_s, kept_n, old_s, old_n, total, before, g = get('<I4I4I4I4I8I8I4', value)
        known = kept_n < GIGA and old_n < GIGA and total < EXACT and before < EXACT and
                not later(kept_s, kept_n, ahead_s, ahead_n) and
                not gone(kept_s, kept_n, old_s, old_n)
      end
      if not known then total, before, g, kept_s, kept_n = 0, 0, 0, 0, 0 end
      local lost, begun = flags % 2 == 1, later(end_s, end_n, kept_s, kept_n)
      if begun then
        kept_s, kept_n = sum(kept_s, kept_n, length_s, length_n)
        before = kept_s == end_s and kept_n == end_n and total or 0
        total, kept_s, kept_n = 0, end_s, end_n
      end
      local from_s, from_n = difference(kept_s, kept_n, length_s, length_n)
      if generation > g then
        if lost and not later(kept_s, kept_n, end_s, end_n) then
          total, before = 0, 0                          -- rolled back: void
        elseif lost and from_s == end_s and from_n == end_n then
          before = 0
        end
        g = generation
      end
      if flags >= 2 then total, before, t, p, g = 0, 0, 0, 0, math.min(g + 1, LAST) end
      if generation < g then t, p = 0, 0 end
      if kept_s == end_s and kept_n == end_n then
        if begun or lost then total = max(total, t) end
        total = math.min(max(total + n, 0), MOST)
        before = math.min(max(before, p), MOST)
        t, p = total, before
      elseif from_s == end_s and from_n == end_n then
        if lost then before = max(before, t) end
        before = math.min(max(before + n, 0), MOST)
        t, p = before, -1
      else
        t, p = -1, -1
      end
      local new = put('<I4I4I4I4I8I8I4', kept_s, kept_n, length_s, length_n, total, before, g)
      if new ~= value then
        fresh[name], set[size + 1], set[size + 2], size = new, name, new, size + 2
        if not known then created = created + 1 end
      end
      total, before = t, p
    end
    window_reply[i] = put('<i8i8I4I4', total, before, g, err)
  end
end

-- Call VISIT for the hosts whose units VALUE tells of, until it returns true.
local function each_holder(value, visit)
  if #value % 28 ~= 0 or #value > 28 * MAX_HOSTS then return end
  for i = 1, #value, 28 do
    local id, held, told = get('<c16I8I4', value, i)
    if held > 0 and held < HELD_LIMIT and told <= now_s and now_s - told < ALIVE and
       visit(id, held, string.sub(value, i, i + 27)) then
      return
    end
  end
end

local hold_reply, emptied = {}, {}
if hold_count > 0 then
  local field, fresh, size = {}, {}, #set
  for i = 1, hold_count do field[i] = 'g' .. string.sub(holds, i * 24 - 23, i * 24 - 8) end
  local stored = redis.call('HMGET', key, unpack(field))
  for i = 1, hold_count do
    local name, held, err, others, list = field[i], get('<I8', holds, i * 24 - 7), 0, 0, {}
    local value = fresh[name] or stored[i] or ''
    each_holder(value, function(id, units, text)
      if id ~= host then others, list[#list + 1] = math.min(others + units, MOST), text end
    end)
    local hosts = #list
    if held >= HELD_LIMIT then
      err = 1
    elseif held > 0 and hosts >= MAX_HOSTS then
      err = 3
    else
      if held > 0 then list[hosts + 1] = put('<c16I8I4', host, held, now_s) end
      fresh[name] = table.concat(list)
    end
    hold_reply[i] = put('<I8I4I4', others, hosts, err)
  end
  for i = 1, hold_count do
    local name = field[i]
    local value = fresh[name]
    if value == '' and stored[i] then
      emptied[#emptied + 1] = name
    elseif value and value ~= '' and value ~= stored[i] then
      set[size + 1], set[size + 2], size = name, value, size + 2
      if not stored[i] then created = created + 1 end
    end
    fresh[name] = nil                               -- a name may occur more than once
  end
end

-- Live hosts are counted once a second, and when one comes (back).
if counted ~= now_s or now_s - seen >= ALIVE then
  local list, alive, fields, listed = found[3] or '', {}, {}, false
  for i = 1, math.min(#list - 15, 16 * MAX_HOSTS), 16 do
    fields[#fields + 1] = 'h' .. string.sub(list, i, i + 15)
  end
  local records = #fields > 0 and redis.call('HMGET', key, unpack(fields)) or {}
  for i = 1, #fields do
    local other = records[i]
    if fields[i] == own then
      listed = true
      alive[#alive + 1] = host
    elseif other and #other == 36 and now_s - get('<I4', other, 33) < ALIVE then
      alive[#alive + 1] = string.sub(fields[i], 2)
    end
  end
  if not listed and #alive < MAX_HOSTS then alive[#alive + 1] = host end
  live, counted = #alive, now_s
  local text = table.concat(alive)
  if text ~= list then set[#set + 1] = 'L'; set[#set + 1] = text end
end

set[2] = put('<i8I4I4I4I4I4', off_s, off_n, now_s, now_n, live, counted)
if seq == 0 then set[#set + 1] = 'v'; set[#set + 1] = 'weir1' .. string.rep('.', 65) end
redis.call('HSET', key, unpack(set))                -- the first write: refused when memory is out
if #emptied > 0 then redis.call('HDEL', key, unpack(emptied)) end
redis.call('PEXPIRE', key, TTL_MS)

-- Collect: two fields for each that came, so that those that nobody needs any more are never more
-- than the others for long, and a few with every batch, so that they go when none comes.
if seq > 0 then
  local some = 8 + 2 * created
  local scan = redis.pcall('HSCAN', key, found[4] or '0', 'COUNT', some)
  if scan.err then scan = {'0', {}} end             -- not a cursor: begin again
  local dead, pairs_found, byte = {}, scan[2], string.byte
  for i = 1, #pairs_found, 2 do
    local name, value, old = pairs_found[i], pairs_found[i + 1], false
    local kind = #name == 17 and byte(name)
    if #name == 16 and #value == 12 then
      local tat_s = get('<I4', value)
      old = tat_s < floor_s and not kept(tat_s, (get('<I4', value, 9)))
    elseif kind == 119 and #value == 36 then        -- w
      old = gone(get('<I4I4I4I4', value))
    elseif kind == 104 and #value == 36 then        -- h
      old = get('<I4', value, 33) < now_s - HOST_KEPT
    elseif kind == 103 then                         -- g
      old = true
      each_holder(value, function() old = false; return true end)
    end
    if old and #dead < MAX_DEAD then dead[#dead + 1] = name end
  end
  if #dead > 0 then redis.call('HDEL', key, unpack(dead)) end
  if scan[1] ~= found[4] then redis.call('HSET', key, 'c', scan[1]) end
end
return {0, now, live, applied_term, applied_seq, table.concat(reply), table.concat(window_reply),
        table.concat(hold_reply), term, seq}
