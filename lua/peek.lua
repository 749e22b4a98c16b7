-- peek: whether something is ready, before a claim looks for it.
--
-- KEYS  root    the partition
-- EACH  queue   name of 24 characters, or "" to ask for any queue
-- EACH  tenant  tag of the tenant, when any queue is asked for
-- GIVES ready   ready tasks of the queue, 0 while it is paused; or queues with ready tasks
-- COSTS O(1)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local function peek(queue, tenant)
  if queue == "" then
    return { redis.call("ZCARD", key.waiting .. tenant) }
  elseif redis.call("SISMEMBER", key.paused, queue) == 1 then
    return { 0 }
  end
  return { tonumber(redis.call("HGET", key.counts, queue .. "r") or 0) }
end

return call.each(peek)
