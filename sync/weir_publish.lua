-- SPDX-License-Identifier: Apache-2.0
-- Publish, if nobody else has done so meanwhile.
--
-- KEYS[1]  the hash of weir_policies.lua.  Its fields "publication" and "tag" are one publication.
-- ARGV     1 the tag that the caller has seen there, or ""  2 the new tag  3 the new publication
-- Returns  {0} done, or {1, the tag that is there}: nothing was changed

local TTL_MS = 7 * 86400000

if #KEYS ~= 1 or #ARGV ~= 3 then return redis.error_reply('WEIR expects 1 key and 3 arguments') end
local there = redis.call('HGET', KEYS[1], 'tag') or ''
if there ~= ARGV[1] then return {1, there} end
redis.call('HSET', KEYS[1], 'tag', ARGV[2], 'publication', ARGV[3])
redis.call('PEXPIRE', KEYS[1], TTL_MS)
return {0}
