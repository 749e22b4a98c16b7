-- recover_begin: a recovery of dead deliveries is written down; any node carries it on.
--
-- KEYS  root      the partition
-- EACH  recovery  its id
-- EACH  tenant    tag of the tenant
-- EACH  ask       what it is to do, as the node packs it
-- EACH  rate      deliveries in a second
-- EACH  limit     most to move, 0 for all
-- EACH  matched   how many there were
-- GIVES began     1; 0: it was there already
-- COSTS O(log n) in the recoveries that run
-- KEEPS a recovery that was begun
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local number = require("lib.number")

local function begin(recovery, tenant, ask, rate, limit, matched)
  local name, now = key.recovery .. recovery, number(clock.now_ms)
  if redis.call("HSETNX", name, "state", "running") == 0 then
    return { 0 }
  end
  redis.call("HSET", name, "tenant", tenant, "ask", ask, "rate", rate, "limit", limit)
  redis.call("HSET", name, "matched", matched, "begun", now, "last", now, "credit", "1")
  redis.call("ZADD", key.recoveries, now, recovery)
  return { 1 }
end

return call.each(begin)
