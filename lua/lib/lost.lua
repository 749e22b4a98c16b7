-- lost: the index of deliveries that were given up, until somebody sends them again or their
-- retention ends.
local clock = require("lib.clock")
local key = require("lib.keys")

local lost = {}

-- Enters a delivery whose record says that it is dead.
function lost.enter(name, of)
  redis.call("ZADD", key.lost .. of.tenant, clock.now_ms, name)
  redis.call("ZADD", key.losses, "NX", clock.now_ms, of.tenant)
  redis.call("HINCRBY", key.lost_of, of.destination, 1)
end

-- Takes one out: 1 if it was there. Its record is the caller's.
function lost.leave(name, of)
  local removed = redis.call("ZREM", key.lost .. of.tenant, name)
  if removed == 1 then
    if redis.call("HINCRBY", key.lost_of, of.destination, -1) <= 0 then
      redis.call("HDEL", key.lost_of, of.destination)
    end
    local oldest = redis.call("ZRANGE", key.lost .. of.tenant, 0, 0, "WITHSCORES")[2]
    if oldest then
      redis.call("ZADD", key.losses, oldest, of.tenant)
    else
      redis.call("ZREM", key.losses, of.tenant)
    end
  end
  return removed
end

return lost
