-- await: somebody waits for the end of a task; whoever ends it is told so.
--
-- KEYS  root     the partition
-- EACH  id       task id
-- EACH  wait_ms  how long
-- GIVES until_ms when the wait ends
-- COSTS O(log n) in the tasks of the partition that are waited for
-- KEEPS the longest of several waits for one task
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")

local function await(id, wait_ms)
  local until_ms = clock.now_ms + wait_ms
  redis.call("ZADD", key.awaited, "GT", until_ms, id)
  return { until_ms }
end

return call.each(await)
