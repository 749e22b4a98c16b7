-- outbox_depths: how much is in the outbox, for a scrape.
--
-- KEYS  root       the partition
-- EACH  most       destinations and tenants looked at
-- GIVES pending    deliveries that are pending and not parked
-- GIVES parked     deliveries whose destination is left alone
-- GIVES dead       deliveries that were given up
-- GIVES oldest_ms  how long the one that waits longest has been due, without parked ones
-- GIVES states     destinations that are active, open, paused, disabled
-- COSTS O(most)
-- KEEPS everything
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local number = require("lib.number")

local now = clock.now_ms

-- How long the first of each has been due, and none before it was looked at again.
local function lateness(destinations, since)
  local late = 0
  for n, id in ipairs(destinations) do
    local due = tonumber(redis.call("ZRANGE", key.pending .. id, 0, 0, "WITHSCORES")[2] or now)
    late = math.max(late, now - math.max(due, since and since[n] or 0))
  end
  return late
end

local function depths(most)
  local looked = redis.call("ZRANGEBYSCORE", key.outbox, "-inf", now, "LIMIT", 0, most)
  local over = redis.call("ZRANGEBYSCORE", key.parked, "-inf", now, "WITHSCORES", "LIMIT", 0, most)
  local back, since = {}, {}
  for n = 1, #over, 2 do
    back[#back + 1], since[#since + 1] = over[n], tonumber(over[n + 1])
  end
  local parked, dead, states = 0, 0, {}
  local away = redis.call("ZRANGEBYSCORE", key.parked, "(" .. number(now), "+inf", "LIMIT", 0, most)
  for _, id in ipairs(away) do
    parked = parked + redis.call("ZCARD", key.pending .. id)
  end
  for _, tenant in ipairs(redis.call("ZRANGE", key.losses, 0, most - 1)) do
    dead = dead + redis.call("ZCARD", key.lost .. tenant)
  end
  for code = 0, 3 do
    states[code + 1] = redis.call("ZCOUNT", key.standing, code, code)
  end
  local pending = redis.call("ZCARD", key.aging) - parked
  return { pending, parked, dead, math.max(lateness(looked), lateness(back, since)), states }
end

return call.each(depths)
