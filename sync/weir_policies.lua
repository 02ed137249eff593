-- SPDX-License-Identifier: Apache-2.0
-- One call tells which policies one host has, and takes home which hosts have others.
--
-- KEYS[1]  one hash, so that Redis Cluster moves it as a whole.  Its fields:
--    hosts      <c16 c16 I4 for each host: id, digest of its policies, second when last seen
--    t<id>      the policies of a host, in words
--    tag, publication: see publication.h
-- ARGV     1 host (16 bytes)  2 digest of its policies (16 bytes)  3 its policies, or ""
-- Returns  {code, id and digest (32 bytes) of each other host with another digest, tag, bytes}
--    code   0 done, 1 nothing was changed: call again, with the policies
--    tag    of the publication, or ""; bytes: how long it is
--
-- What hosts say is not understood here: they keep it apart by its digest.  A step of Redis' clock
-- loses hosts until their next call, a second later.

local ALIVE, TTL_MS, MAX_HOSTS, MAX_TEXT = 30, 7 * 86400000, 4000, 4 * 1048576
local RECORD = 36

if #KEYS ~= 1 or #ARGV ~= 3 then return redis.error_reply('WEIR expects 1 key and 3 arguments') end
local key, host, digest, text = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if #host ~= 16 then return redis.error_reply('WEIR argument 1: the host id has 16 bytes') end
if #digest ~= 16 then return redis.error_reply('WEIR argument 2: the digest has 16 bytes') end
if #text > MAX_TEXT then return redis.error_reply('WEIR argument 3: at most 4 MiB of policies') end

local now = tonumber(redis.call('TIME')[1])
local list = redis.call('HGET', key, 'hosts') or ''
local kept, others, gone, known = {}, {}, {}, false
for at = 1, math.min(#list, RECORD * MAX_HOSTS) - RECORD + 1, RECORD do
  local id, theirs, seen = struct.unpack('<c16c16I4', list, at)
  if id == host then
    known = theirs == digest
  elseif math.abs(now - seen) >= ALIVE then
    gone[#gone + 1] = 't' .. id
  elseif #kept < MAX_HOSTS - 1 then
    kept[#kept + 1] = string.sub(list, at, at + RECORD - 1)
    if theirs ~= digest and redis.call('HSTRLEN', key, 't' .. id) <= MAX_TEXT then
      others[#others + 1] = id .. theirs
    end
  end
end
if not known and text == '' then return {1, '', '', 0} end

kept[#kept + 1] = struct.pack('<c16c16I4', host, digest, now)
redis.call('HSET', key, 'hosts', table.concat(kept))        -- the first write
if text ~= '' then redis.call('HSET', key, 't' .. host, text) end
if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
redis.call('PEXPIRE', key, TTL_MS)
local tag = redis.call('HGET', key, 'tag') or ''
return {0, table.concat(others), string.sub(tag, 1, 17), redis.call('HSTRLEN', key, 'publication')}
