-- recover_read: a recovery, as far as it is known in a partition: what it is where it lives, and
-- what became of its deliveries in each.
--
-- KEYS  root      the partition
-- EACH  recovery  its id
-- GIVES tenant    tag of the tenant, "" where it does not live
-- GIVES state     "running", "stopped", "done" or ""
-- GIVES matched   how many there were
-- GIVES done      how many were moved here
-- GIVES failed    how many here were no longer dead when their turn came
-- COSTS O(1)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local function read(recovery)
  local of = redis.call("HMGET", key.recovery .. recovery, "tenant", "state", "matched")
  local counted = redis.call("HMGET", key.recovered .. recovery, "done", "failed")
  return {
    of[1] or "",
    of[2] or "",
    tonumber(of[3] or 0),
    tonumber(counted[1] or 0),
    tonumber(counted[2] or 0),
  }
end

return call.each(read)
