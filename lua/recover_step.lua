-- recover_step: a node takes a recovery over, or goes on with one it has, and is told how many
-- deliveries it may move now. What falls behind, as when a node dies, is made up for at a pace that
-- is 4 % faster than asked for, and never in a burst.
--
-- KEYS  root      the partition
-- EACH  recovery  its id
-- EACH  lease_ms  how long it is the caller's
-- EACH  held_ms   end of the lease under which the caller has it; 0: it takes it over
-- EACH  moved     how many were moved so far, by everybody
-- EACH  over      1: nothing is left to move
-- GIVES till_ms   end of the lease; 0: it is another's, or does not run
-- GIVES grant     how many may be moved now
-- GIVES ask       what it is to do, as the node packed it
-- COSTS O(log n) in the recoveries that run
-- KEEPS one node at a time has it; a late step changes nothing
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local number = require("lib.number")

-- How much faster than asked for it may be.
local HASTE = 1.04
-- The longest time between two steps that counts.
local GAP_MS = 500
-- How long a recovery that is over can be looked at: a week.
local SHOWN_MS = "604800000"

local function is_held(recovery, held_ms)
  local score = tonumber(redis.call("ZSCORE", key.recoveries, recovery) or "inf")
  if held_ms == 0 then
    return score <= clock.now_ms
  end
  return score == held_ms
end

local function finish(name, recovery)
  redis.call("HSET", name, "state", "done")
  redis.call("PEXPIRE", name, SHOWN_MS)
  redis.call("ZREM", key.recoveries, recovery)
end

local function step(recovery, lease_ms, held_ms, moved, over)
  held_ms, moved = tonumber(held_ms), tonumber(moved)
  if not is_held(recovery, held_ms) then
    return { 0, 0, "" }
  end
  local name, now = key.recovery .. recovery, clock.now_ms
  local of = redis.call("HMGET", name, "rate", "limit", "begun", "last", "credit", "ask")
  local rate, limit, begun = tonumber(of[1]), tonumber(of[2]), tonumber(of[3])
  if over == "1" or (held_ms ~= 0 and limit > 0 and moved >= limit) then
    finish(name, recovery)
    return { 0, 0, "" }
  end
  local grant, credit = 0, math.min(tonumber(of[5]), 1)
  if held_ms ~= 0 then
    local since = math.min(now - tonumber(of[4]), GAP_MS)
    credit = credit + rate * HASTE * since / 1000
    local owed = math.floor(rate * (now - begun) / 1000) + 1 - moved
    grant = math.max(math.min(math.floor(credit), owed), 0)
    if limit > 0 then
      grant = math.min(grant, limit - moved)
    end
    credit = credit - grant
  end
  local till = now + lease_ms
  redis.call("HSET", name, "last", number(now), "credit", string.format("%.4f", credit))
  redis.call("ZADD", key.recoveries, "XX", number(till), recovery)
  return { till, grant, held_ms == 0 and of[6] or "" }
end

return call.each(step)
