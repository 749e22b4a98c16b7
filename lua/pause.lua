-- pause: claims of a queue answer empty until it is resumed.
--
-- KEYS  root     the partition
-- EACH  queue    name of 24 characters
-- EACH  command  as asked for, to name a queue that is new
-- EACH  tenant   its name, likewise
-- EACH  label    number of the command's label
-- EACH  paused   "1" to pause, "0" to resume
-- GIVES ready    ready tasks; waiters must hear of a resume
-- GIVES changed  1: it was the other way before
-- COSTS O(1)
-- KEEPS tasks stay where they are
local call = require("lib.call")
local count = require("lib.count")
local key = require("lib.keys")

local function pause(queue, command, tenant, label, paused)
  local changed
  if paused == "1" then
    changed = redis.call("SADD", key.paused, queue)
    count.register(queue, command, tenant, label)
  else
    changed = redis.call("SREM", key.paused, queue)
    count.forget_if_idle(queue, label)
  end
  return { tonumber(redis.call("HGET", key.counts, queue .. "r") or 0), changed }
end

return call.each(pause)
