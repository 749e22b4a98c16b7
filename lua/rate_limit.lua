-- rate_limit: takes from a bucket that refills steadily (GCRA, ITU-T I.371: the virtual scheduling
-- algorithm). One clock, one fleet.
--
-- KEYS  root        the partition
-- EACH  bucket      digest of scope, tenant and subject
-- EACH  cost        how many to take; more than the burst is let in by a full bucket, into debt
-- EACH  per_minute  what flows in
-- EACH  burst       what it holds
-- GIVES allowed     1 if taken
-- GIVES wait_ms     otherwise: when it would be
-- COSTS O(1)
-- KEEPS a refused call takes nothing; a full bucket leaves no key
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")

local function rate_limit(bucket, cost, per_minute, burst)
  local name = key.bucket .. bucket
  local now, each_ms = clock.now_ms, 60000 / per_minute
  local arrival = math.max(now, tonumber(redis.call("GET", name) or 0))
  -- How far ahead of now the bucket may be drawn before this call.
  local room = math.max(0, burst - cost) * each_ms
  local wait_ms = arrival - now - room
  if wait_ms > 0 then
    return { 0, math.ceil(wait_ms) }
  end
  arrival = arrival + cost * each_ms
  if arrival > now then
    redis.call("SET", name, string.format("%.3f", arrival), "PX", math.ceil(arrival - now))
  end
  return { 1, 0 }
end

return call.each(rate_limit)
