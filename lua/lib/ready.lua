-- ready: the ten lists of a queue. The oldest is on the right, where claims take.
local count = require("lib.count")
local key = require("lib.keys")

local ready = {}

-- Joins at the tail. Returns the length of its list: 1 means that waiters must hear of it.
function ready.push(id, found)
  count.add(found.queue, found.label, "r", 1)
  return redis.call("LPUSH", key.ready .. found.queue .. ":" .. found.priority, id)
end

-- Returns to the head, where it was taken from.
function ready.push_front(id, found)
  count.add(found.queue, found.label, "r", 1)
  return redis.call("RPUSH", key.ready .. found.queue .. ":" .. found.priority, id)
end

return ready
