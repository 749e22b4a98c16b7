-- tomb: a ready task that was cancelled stays in its list, which has no cheap removal from the
-- middle, and is skipped when a claim meets it.
local key = require("lib.keys")

local tomb = {}

-- Whether an id that was taken out of a list is cancelled; its mark is removed.
function tomb.take(id)
  local list = redis.call("HGET", key.tombs, id)
  if not list then
    return false
  end
  redis.call("HDEL", key.tombs, id)
  if redis.call("HINCRBY", key.tombed, list, -1) == 0 then
    redis.call("HDEL", key.tombed, list)
  end
  return true
end

-- Takes cancelled ids off both ends of a list, at most `limit` of each, so that a list of nothing
-- else goes away without a claim.
function tomb.trim(list, limit)
  for side, pop in pairs({ [-1] = "RPOP", [0] = "LPOP" }) do
    for _ = 1, limit do
      local id = redis.call("LINDEX", key.ready .. list, side)
      if not id or not tomb.take(id) then
        break
      end
      redis.call(pop, key.ready .. list)
    end
  end
end

-- Marks one.
function tomb.mark(id, list)
  redis.call("HSET", key.tombs, id, list)
  redis.call("HINCRBY", key.tombed, list, 1)
end

return tomb
