-- SPDX-License-Identifier: Apache-2.0
-- Leases: one call brings what one host spent of its credit of one shard, and takes home credit.
--
-- KEYS[1]  the leases of the shard: one hash, so that Redis Cluster moves it as a whole.  Its fields:
--    s          epoch c16, clock offset <i8I4, last virtual time I4I4, end of the quarantine I4I4,
--               what the clock lost I4I4, and the run_id of the Redis that all of this is of
--    h<host>    <I4I4I4I4 tenure, and when it ends if it is not renewed
--    k<name>    <I4I4I4I4 tat (seconds, nanoseconds of virtual time), generation, seconds of tau,
--               then a lease of 60 bytes for each host that has one: host c16 |
--               tenure I4I4 | session I4I4 | granted I4I4 | spent I4I4 | returned I4I4 | resets I4
--               A session that has ended stays for a minute, so that its late calls are known: it
--               has flag 2^31 in resets, and in granted when it ended
--    c          where the garbage collection goes on
--    v          format tag, longer than 64 bytes: Redis then never uses its O(n) listpack
-- ARGV     1 host (16 bytes)  2 epoch (16 bytes) and  3 tenure (8 bytes) as the last reply had them,
--          or ""  4 vlow: <I4I4I4I4 the time of the caller's last reply plus what it saw pass since
--          it sent that call, and since it had the reply; or ""
--          5 name of the call (16 bytes), never used before
--          6 up to 1000 items of 76 bytes, little endian:
--          name c16 | session I4I4 | spent I4I4 | known I4I4 | returned I4I4 | target I4I4 |
--          least I4I4 | tau I4I4 | resets I4
--          or, in the first call of a session, with flag 2^31 in resets: returned is what was left
--          unspent of the session before it.  A call that wants nothing and leaves nothing ends its
--          session
-- Returns  {code, name of the call, epoch, tenure, virtual time and what it lost <I4I4,
--           items of 24 bytes: granted I4I4 | debt i4I4 | generation I4 | err I4}
--    code   0 done, and the tenure is renewed
--           1 quarantine: nothing was done
--           2 another epoch or tenure: nothing was done; all credit of the caller is void
--    err    0 done, 1 malformed, 2 an old session, 3 too many leases: these changed nothing
--
-- All numbers of a lease count up since its session began, so a call that comes late or twice says
-- nothing new.  What a host may still spend is granted - returned - spent, here called left.
--
-- The invariant: debt + all that is left <= tau after each grant, where debt = max(tat - now, 0).
-- Spending moves from left to debt, and what is left of a lapsed lease is debt: no sum ever grows
-- but by a grant.  So all hosts together never admit more than one bucket would.
--
-- A tenure is the time in which a host renews its leases without a gap.  The host stops spending
-- before TTL has passed since it sent the last call that renewed it, and this script counts what is
-- left as spent when TTL has passed since it carried that out.
--
-- An epoch is a making of this hash under one run_id.  Whoever finds none, or another Redis, begins
-- one: for TTL nothing is granted or renewed, so that every lease of the past has ended, and then
-- each key counts as if a whole burst had just been spent.
--
-- Redis does not roll a failed script back: what can fail comes before the first write.

local clock = redis.call('TIME')
local run = redis.pcall('INFO', 'server')
local GIGA, LAST, TTL, TOLERANCE = 1000000000, 4294967295, 2, 10000000
local TTL_MS, KEPT, FIRST, LOST_MAX = 7 * 86400000, 60, 2147483648, 1073741824
local ITEM, LEASE, HEAD, MAX_ITEMS, MAX_LEASES, MAX_DEAD = 76, 60, 16, 1000, 1000, 1000
local get, put, sub = struct.unpack, struct.pack, string.sub

local function later(a_s, a_n, b_s, b_n) return a_s > b_s or a_s == b_s and a_n > b_n end

local function sum(a_s, a_n, b_s, b_n)
  if a_n + b_n >= GIGA then return a_s + b_s + 1, a_n + b_n - GIGA end
  return a_s + b_s, a_n + b_n
end

local function difference(a_s, a_n, b_s, b_n)
  if a_n < b_n then return a_s - b_s - 1, a_n - b_n + GIGA end
  return a_s - b_s, a_n - b_n
end

-- a - b, or 0 if that is less.
local function above(a_s, a_n, b_s, b_n)
  if later(a_s, a_n, b_s, b_n) then return difference(a_s, a_n, b_s, b_n) end
  return 0, 0
end

local function least_of(a_s, a_n, b_s, b_n)
  if later(a_s, a_n, b_s, b_n) then return b_s, b_n end
  return a_s, a_n
end

local function most_of(a_s, a_n, b_s, b_n)
  if later(a_s, a_n, b_s, b_n) then return a_s, a_n end
  return b_s, b_n
end

local function part(a_s, a_n, shares)
  local whole = math.floor(a_s / shares)
  return whole, math.floor(((a_s - whole * shares) * GIGA + a_n) / shares)
end

if type(run) ~= 'string' then
  return redis.error_reply('WEIR leases need INFO: ' .. (run.err or 'it is no text'))
end
run = string.match(run, 'run_id:(%x+)') or ''
if #KEYS ~= 1 or #ARGV ~= 6 then
  return redis.error_reply('WEIR leases expect 1 key and 6 arguments')
end
local key, host, epoch, tenure, call, blob = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[5], ARGV[6]
local count, low_s, low_n, sure_s, sure_n = #blob / ITEM, nil, 0, 0, 0
if #ARGV[4] == 16 then low_s, low_n, sure_s, sure_n = get('<I4I4I4I4', ARGV[4]) end
if #host ~= 16 then return redis.error_reply('WEIR argument 1: the host id has 16 bytes') end
if #epoch ~= 0 and #epoch ~= 16 then
  return redis.error_reply('WEIR argument 2: the epoch has 16 bytes, or none')
end
if #ARGV[4] ~= 0 and not low_s or low_n >= GIGA or sure_n >= GIGA then
  return redis.error_reply('WEIR argument 4: vlow is empty or two times of 8 bytes')
end
if #run == 0 then return redis.error_reply('WEIR leases need the run_id of INFO') end
if #call ~= 16 then return redis.error_reply('WEIR argument 5: the call has a name of 16 bytes') end
if count % 1 ~= 0 or count > MAX_ITEMS then
  return redis.error_reply('WEIR argument 6: 0 .. 1000 items of 76 bytes')
end

local found = redis.call('HMGET', key, 's', 'h' .. host, 'c')
local raw_s, raw_n = tonumber(clock[1]), tonumber(clock[2]) * 1000
local state = found[1]
if state and (#state < 53 or sub(state, 53) ~= run or get('<I4', state, 45) > LOST_MAX) then
  state = nil
end

if not state then                                   -- an epoch begins
  local end_s = raw_s + TTL
  redis.call('UNLINK', key)
  redis.call('HSET', key, 's', call ..
    put('<i8I4I4I4I4I4I4I4', 0, 0, raw_s, raw_n, end_s, raw_n, 0, 0) .. run, 'v', 'weir-lease1' .. string.rep('.', 65))
  redis.call('PEXPIRE', key, TTL_MS)
  return {1, call, call, '', put('<I4I4', raw_s, raw_n), ''}
end

-- The virtual clock: never behind itself, nor further ahead than the caller saw time pass.  If Redis'
-- clock is, only the time that has surely passed counts.  Who saw nothing of this epoch does not
-- move it at all.
--
-- Time that does not count is lost for good: another caller, who saw it pass, must not make up for
-- it, or what was spent since would be forgiven too early.  So callers are told the time with all
-- that was lost, and what is lost after a call is taken off what its caller vouches for.
local now_epoch = sub(state, 1, 16)
local off_s, off_n, last_s, last_n, end_s, end_n, lost_s, lost_n =
  get('<i8I4I4I4I4I4I4I4', state, 17)
local now_s, now_n = last_s, last_n
if low_s and epoch == now_epoch then
  local clock_s, clock_n = sum(raw_s, raw_n, off_s, off_n)
  local most_s, most_n = difference(low_s, low_n, lost_s, lost_n)
  most_s, most_n = most_of(most_s, most_n, last_s, last_n)
  local reach_s, reach_n = sum(most_s, most_n, 0, TOLERANCE)
  if later(last_s, last_n, clock_s, clock_n) then
    clock_s, clock_n = most_s, most_n               -- stepped back: as much as that may be lost
  elseif later(clock_s, clock_n, reach_s, reach_n) then
    now_s, now_n = difference(sure_s, sure_n, lost_s, lost_n)
    now_s, now_n = most_of(now_s, now_n, last_s, last_n)
  else
    now_s, now_n = clock_s, clock_n
  end
  clock_s, clock_n = difference(clock_s, clock_n, now_s, now_n)
  lost_s, lost_n = sum(lost_s, lost_n, clock_s, clock_n)
  off_s, off_n = difference(now_s, now_n, raw_s, raw_n)
end
local now, told = put('<I4I4', now_s, now_n), put('<I4I4', sum(now_s, now_n, lost_s, lost_n))
local set = {'s', now_epoch ..
  put('<i8I4I4I4I4I4I4I4', off_s, off_n, now_s, now_n, end_s, end_n, lost_s, lost_n) .. run}

local function answer(code, own_tenure, items)
  redis.call('HSET', key, unpack(set))              -- the first write: refused when memory is out
  redis.call('PEXPIRE', key, TTL_MS)
  return {code, call, now_epoch, own_tenure, told, items}
end

if later(end_s, end_n, now_s, now_n) then return answer(1, '', '') end

-- Tenures, this host's first.
local function alive(record)
  if not record or #record ~= 16 then return nil end
  local until_s, until_n = get('<I4I4', record, 9)
  return later(until_s, until_n, now_s, now_n) and sub(record, 1, 8) or nil
end

local own_tenure = alive(found[2])
if not own_tenure or epoch ~= now_epoch or tenure ~= own_tenure then
  if not own_tenure then
    own_tenure = now
    set[3], set[4] = 'h' .. host, now .. put('<I4I4', now_s + TTL, now_n)
  end
  return answer(2, own_tenure, '')
end
set[3], set[4] = 'h' .. host, own_tenure .. put('<I4I4', now_s + TTL, now_n)

local records, tenures = {[host] = set[4]}, {[host] = own_tenure}
local function record_of(other)
  if not records[other] then records[other] = redis.call('HGET', key, 'h' .. other) or '' end
  return records[other]
end

local function tenure_of(other)
  if tenures[other] == nil then tenures[other] = alive(record_of(other)) or false end
  return tenures[other]
end

-- A lease lapses with its tenure, which ended when the next one began at the latest; and a minute
-- ago if nobody knows any more.
local function lapsed_at(other, its)
  local record, at_s, at_n = record_of(other), 0, 0
  if #record == 16 then at_s, at_n = get('<I4I4', record, sub(record, 1, 8) == its and 9 or 1) end
  return most_of(at_s, at_n, now_s - KEPT, now_n)
end

-- The leases of an entry: what lapsed is debt, spent when the last of it lapsed at the latest.
local function settle(entry, tat_s, tat_n, visit)
  local void_s, void_n, last_s, last_n = 0, 0, 0, 0
  for at = HEAD + 1, #entry - LEASE + 1, LEASE do
    local other, its = sub(entry, at, at + 15), sub(entry, at + 16, at + 23)
    local g_s, g_n, s_s, s_n, r_s, r_n, resets = get('<I4I4I4I4I4I4I4', entry, at + 32)
    local left_s, left_n = sum(s_s, s_n, r_s, r_n)
    left_s, left_n = above(g_s, g_n, left_s, left_n)
    local runs = tenure_of(other) == its and visit
    if resets >= FIRST then
      if runs and g_s + KEPT >= now_s then visit(other, at, 0, 0, true) end
    elseif runs then
      visit(other, at, left_s, left_n, false)
    elseif left_s > 0 or left_n > 0 then
      void_s, void_n = sum(void_s, void_n, left_s, left_n)
      last_s, last_n = most_of(last_s, last_n, lapsed_at(other, its))
    end
  end
  return sum(void_s, void_n, most_of(tat_s, tat_n, last_s, last_n))
end

local function is_entry(value) return #value >= HEAD and (#value - HEAD) % LEASE == 0 end

local reply = {}
if count > 0 then
  local field, fresh, size = {}, {}, #set
  for i = 1, count do field[i] = 'k' .. sub(blob, i * ITEM - ITEM + 1, i * ITEM - ITEM + 16) end
  local stored = redis.call('HMGET', key, unpack(field))
  for i = 1, count do
    local high, low, spent_s, spent_n, known_s, known_n, back_s, back_n, target_s, target_n,
      least_s, least_n, tau_s, tau_n, resets = get('<I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4', blob,
      i * ITEM - ITEM + 17)
    local first = resets >= FIRST
    local name, err, generation, others, active = field[i], 0, 0, {}, 1
    local tat_s, tat_n = sum(end_s, end_n, tau_s, tau_n)
    local out_s, out_n, own_at, own_s, own_n, over = 0, 0, nil, 0, 0, not first
    local value = fresh[name] and set[fresh[name]] or stored[i]
    if value and not is_entry(value) then value = nil end
    if value then
      tat_s, tat_n, generation = get('<I4I4I4', value)
      tat_s, tat_n = settle(value, tat_s, tat_n, function(other, at, left_s, left_n, ended)
        if other == host then
          own_at, own_s, own_n, over = at, left_s, left_n, ended
        else
          out_s, out_n = sum(out_s, out_n, left_s, left_n)
          active = active + (ended and 0 or 1)
          others[#others + 1] = sub(value, at, at + LEASE - 1)
        end
      end)
    end
    if first then resets = resets - FIRST end
    local g_s, g_n, s_s, s_n, r_s, r_n, reset = known_s, known_n, known_s, known_n, 0, 0, 0
    if own_at then
      local its_high, its_low = get('<I4I4', value, own_at + 24)
      if its_high == high and its_low == low then
        if not over then
          g_s, g_n, s_s, s_n, r_s, r_n, reset =
            get('<I4I4I4I4I4I4I4', value, own_at + 32)
        end
      elseif later(its_high, its_low, high, low) then
        err = 2
      else                                          -- a session ends: what is not given back is spent
        if first then own_s, own_n = above(own_s, own_n, back_s, back_n) end
        tat_s, tat_n = most_of(tat_s, tat_n, now_s, now_n)
        tat_s, tat_n = sum(tat_s, tat_n, own_s, own_n)
        own_s, own_n, over = 0, 0, not first
      end
    end
    if spent_n >= GIGA or known_n >= GIGA or back_n >= GIGA or target_n >= GIGA or
       least_n >= GIGA or tau_n >= GIGA or tau_s >= LAST / 16 then err = 1 end
    if active > MAX_LEASES and not own_at then err = 3 end
    if err == 0 and not over then
      -- Spent: out of what is left; beyond it, by who had no lease to go by, up to twice tau.
      if later(spent_s, spent_n, s_s, s_n) then
        local more_s, more_n = difference(spent_s, spent_n, s_s, s_n)
        local within_s, within_n = least_of(more_s, more_n, own_s, own_n)
        tat_s, tat_n = most_of(tat_s, tat_n, now_s, now_n)
        tat_s, tat_n = sum(tat_s, tat_n, within_s, within_n)
        more_s, more_n = difference(more_s, more_n, within_s, within_n)
        more_s, more_n = sum(tat_s, tat_n, more_s, more_n)
        local most_s, most_n = sum(now_s + 2 * tau_s, now_n, 0, tau_n)
        most_s, most_n = sum(most_s, most_n, 0, tau_n)
        more_s, more_n = least_of(more_s, more_n, most_s, most_n)
        tat_s, tat_n = most_of(tat_s, tat_n, more_s, more_n)
        s_s, s_n = spent_s, spent_n
      end
      local used_s, used_n = sum(s_s, s_n, r_s, r_n)
      g_s, g_n = most_of(g_s, g_n, used_s, used_n)
      if not first then
        used_s, used_n = difference(g_s, g_n, s_s, s_n)
        used_s, used_n = least_of(back_s, back_n, used_s, used_n)
        r_s, r_n = most_of(r_s, r_n, used_s, used_n)
      end
      if resets > reset then
        tat_s, tat_n, generation, reset = now_s, now_n, math.min(generation + 1, LAST), resets
      end
      own_s, own_n = sum(s_s, s_n, r_s, r_n)
      own_s, own_n = difference(g_s, g_n, own_s, own_n)
      -- Grant: a fair part of the room, but nothing that is too little to be of use.
      local want_s, want_n = above(target_s, target_n, own_s, own_n)
      if want_s > 0 or want_n > 0 then
        local taken_s, taken_n = above(tat_s, tat_n, now_s, now_n)
        taken_s, taken_n = sum(taken_s, taken_n, out_s, out_n)
        taken_s, taken_n = sum(taken_s, taken_n, own_s, own_n)
        local room_s, room_n = above(tau_s, tau_n, taken_s, taken_n)
        local grant_s, grant_n = part(room_s, room_n, active)
        grant_s, grant_n = most_of(grant_s, grant_n, least_s, least_n)
        grant_s, grant_n = least_of(grant_s, grant_n, want_s, want_n)
        if not later(grant_s, grant_n, room_s, room_n) then
          g_s, g_n = sum(g_s, g_n, grant_s, grant_n)
          own_s, own_n = sum(own_s, own_n, grant_s, grant_n)
        end
      end
      if target_s > 0 or target_n > 0 or own_s > 0 or own_n > 0 then
        others[#others + 1] = host .. own_tenure ..
          put('<I4I4I4I4I4I4I4I4I4', high, low, g_s, g_n, s_s, s_n, r_s, r_n, reset)
      else
        others[#others + 1] = host .. own_tenure ..
          put('<I4I4I4I4I4I4I4I4I4', high, low, now_s, now_n, 0, 0, 0, 0, FIRST)
      end
      if not fresh[name] then
        set[size + 1], size = name, size + 2
        set[size] = ''
        fresh[name] = size
      end
      value = put('<I4I4I4I4', tat_s, tat_n, generation, tau_s + 1) .. table.concat(others)
      set[fresh[name]] = value
    end
    local debt_s, debt_n = difference(tat_s, tat_n, now_s, now_n)
    reply[i] = put('<I4I4i4I4I4I4', g_s, g_n, debt_s, debt_n, generation, err)
  end
end
local done = answer(0, own_tenure, table.concat(reply))

-- Collect: a few fields with every call.  Leases that lapsed a while ago are settled first.
local function all_gone(entry)
  for at = HEAD + 1, #entry - LEASE + 1, LEASE do
    local since = get('<I4', entry, at + 32)        -- an ended session
    if get('<I4', entry, at + 56) < FIRST then
      since = lapsed_at(sub(entry, at, at + 15), sub(entry, at + 16, at + 23))
    end
    if since + KEPT > now_s then return false end
  end
  return true
end
local scan = redis.pcall('HSCAN', key, found[3] or '0', 'COUNT', 8 + math.floor(count / 2))
if scan.err then scan = {'0', {}} end               -- not a cursor: begin again
local dead, some = {}, scan[2]
for i = 1, #some, 2 do
  local kind, value, old = string.byte(some[i]), some[i + 1], false
  if kind == 107 and is_entry(value) then           -- k
    local tat_s, tat_n, generation, tau_s = get('<I4I4I4I4', value)
    if #value == HEAD then                          -- an absent entry tells as much
      old = tat_s < now_s and end_s + tau_s < now_s
    elseif all_gone(value) then
      tat_s, tat_n = settle(value, tat_s, tat_n)
      redis.call('HSET', key, some[i], put('<I4I4I4I4', tat_s, tat_n, generation, tau_s))
    end
  elseif kind == 104 and #value == 16 then          -- h
    old = get('<I4', value, 9) + KEPT < now_s
  end
  if old and #dead < MAX_DEAD then dead[#dead + 1] = some[i] end
end
if #dead > 0 then redis.call('HDEL', key, unpack(dead)) end
if scan[1] ~= found[3] then redis.call('HSET', key, 'c', scan[1]) end
return done
