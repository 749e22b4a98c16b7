-- recover_stop: a recovery ends where it is. The step that is under way may still move what it may.
--
-- KEYS  root      the partition
-- EACH  recovery  its id
-- EACH  tenant    tag of the caller's tenant
-- GIVES stopped   1; 0: it did not run
-- COSTS O(log n) in the recoveries that run
-- KEEPS what was moved
local call = require("lib.call")
local key = require("lib.keys")

-- How long a recovery that is over can be looked at: a week.
local SHOWN_MS = "604800000"

local function stop(recovery, tenant)
  local name = key.recovery .. recovery
  local of = redis.call("HMGET", name, "tenant", "state")
  if of[1] ~= tenant or of[2] ~= "running" then
    return { 0 }
  end
  redis.call("HSET", name, "state", "stopped")
  redis.call("PEXPIRE", name, SHOWN_MS)
  redis.call("ZREM", key.recoveries, recovery)
  return { 1 }
end

return call.each(stop)
