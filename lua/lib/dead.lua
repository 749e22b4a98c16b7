-- dead: the DLQ of a queue, and when the oldest of it goes.
local clock = require("lib.clock")
local count = require("lib.count")
local key = require("lib.keys")
local lease = require("lib.lease")

local dead = {}

-- Buries a task whose terminal record is written.
function dead.push(id, found, dlq_ms)
  redis.call("ZADD", key.dead .. found.queue, clock.now_ms, id)
  redis.call("ZADD", key.graves, "NX", clock.now_ms + dlq_ms, found.queue)
  count.add(found.queue, found.label, "x", 1)
end

local function take(id, queue, label)
  local removed = redis.call("ZREM", key.dead .. queue, id)
  if removed == 1 then
    count.add(queue, label, "x", -1)
    if redis.call("EXISTS", key.dead .. queue) == 0 then
      redis.call("ZREM", key.graves, queue)
    end
  end
  return removed
end

-- Takes one out: 1 if it was there.
function dead.remove(id, found)
  return take(id, found.queue, found.label)
end

-- Takes out an id whose body has expired before its entry: its label if it was there.
function dead.drop(id, queue)
  local kept = lease.kept(id)
  local label = kept and kept.label or 0
  if take(id, queue, label) == 0 then
    return nil
  end
  redis.call("HDEL", key.attempted, id)
  return tonumber(label)
end

-- The ids an admin means: those named, or the oldest that died before a time.
function dead.choose(queue, ids, limit, before_ms)
  if ids ~= "" then
    local chosen = {}
    for at = 1, #ids, 22 do
      chosen[#chosen + 1] = string.sub(ids, at, at + 21)
    end
    return chosen
  end
  local before = before_ms == "0" and "+inf" or "(" .. before_ms
  return redis.call("ZRANGEBYSCORE", key.dead .. queue, "-inf", before, "LIMIT", 0, limit)
end

return dead
