-- stats: the numbers of a queue.
--
-- KEYS  root         the partition
-- EACH  queue        name of 24 characters
-- GIVES command      as first registered, "" for a queue without tasks
-- GIVES ready        ready tasks
-- GIVES delayed      delayed tasks
-- GIVES in_progress  leased tasks
-- GIVES dead         tasks in the DLQ
-- GIVES paused       1 while paused
-- GIVES oldest_ms    how long the oldest ready task has been ready, 0 when there is none
-- GIVES priorities   ready tasks of each priority, 0 first
-- COSTS O(1)
-- KEEPS everything
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local since = require("lib.since")

local function stats(queue)
  local tenant, command = string.sub(queue, 1, 12), string.sub(queue, 13)
  local numbers =
    redis.call("HMGET", key.counts, queue .. "r", queue .. "d", queue .. "p", queue .. "x")
  local priorities, oldest = {}, clock.now_ms
  for priority = 0, 9 do
    local list = queue .. ":" .. priority
    local length = 0
    if numbers[1] then
      length = redis.call("LLEN", key.ready .. list)
      if length > 0 then
        local ready = since(redis.call("LINDEX", key.ready .. list, -1))
        oldest = math.min(oldest, ready or oldest)
        length = length - (redis.call("HGET", key.tombed, list) or 0)
      end
    end
    priorities[priority + 1] = length
  end
  return {
    redis.call("HGET", key.queues .. tenant, command) or "",
    tonumber(numbers[1] or 0),
    tonumber(numbers[2] or 0),
    tonumber(numbers[3] or 0),
    tonumber(numbers[4] or 0),
    redis.call("SISMEMBER", key.paused, queue),
    clock.now_ms - oldest,
    priorities,
  }
end

return call.each(stats)
