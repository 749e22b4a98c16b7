-- peek: which partitions hold ready tasks of a tenant, before a claim for any queue visits them.
--
-- KEYS  root    the partition
-- EACH  tenant  tag of the tenant
-- GIVES queues  its queues with ready tasks
-- COSTS O(1)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local function peek(tenant)
  return { redis.call("ZCARD", key.waiting .. tenant) }
end

return call.each(peek)
