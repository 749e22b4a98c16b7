-- depths_by_priority: how many tasks of a label are ready in each priority, for a scrape that asks for
-- it.
--
-- KEYS  root   the partition
-- EACH  label  its number
-- GIVES ready  tasks of priority 0 first
-- COSTS O(queues of the label), at most 256 of them: those that have held something for longest
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local QUEUES = 256

local any_tombs = redis.call("EXISTS", key.tombed) == 1

local function by_priority(label)
  local queues = redis.call("ZRANGE", key.of_label .. label, 0, QUEUES - 1)
  local sums, fields = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, {}
  for n, queue in ipairs(queues) do
    fields[n] = queue .. "r"
  end
  local ready = #fields > 0 and redis.call("HMGET", key.counts, unpack(fields)) or {}
  for n, queue in ipairs(queues) do
    for priority = 0, ready[n] and 9 or -1 do
      local list = queue .. ":" .. priority
      local length = redis.call("LLEN", key.ready .. list)
      if any_tombs and length > 0 then
        length = length - (redis.call("HGET", key.tombed, list) or 0)
      end
      sums[priority + 1] = sums[priority + 1] + length
    end
  end
  return { sums }
end

return call.each(by_priority)
