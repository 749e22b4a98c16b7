-- queue_ready: what a nudge says of a queue.
--
-- KEYS  root     the partition
-- EACH  queue    name of 24 characters
-- GIVES command  as first spelled, "" when the queue holds nothing
-- GIVES ready    ready tasks, 0 while it is paused
-- COSTS O(1)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local function queue_ready(queue)
  local tenant, command = string.sub(queue, 1, 12), string.sub(queue, 13)
  local ready = tonumber(redis.call("HGET", key.counts, queue .. "r") or 0)
  if redis.call("SISMEMBER", key.paused, queue) == 1 then
    ready = 0
  end
  return { redis.call("HGET", key.queues .. tenant, command) or "", ready }
end

return call.each(queue_ready)
