-- depths: how many tasks of each label are in each state, and how late the latest are, for a scrape.
--
-- KEYS  root       the partition
-- EACH  labels     the highest label number; 0 is `_other`
-- GIVES numbers    ready, delayed, in progress, dead, subscriptions, whether a queue is paused, and for
--                  how many ms the oldest has been ready: of label 0, then of 1, and so on
-- GIVES overdue_ms how late the most overdue delayed task is
-- GIVES overdue_leases leases that have ended and that no sweep has noticed yet
-- COSTS O(labels), and for each O(log n) in its subscriptions and a bounded look at its queues
-- KEEPS everything
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local since = require("lib.since")

-- Queues of a label that are looked at, those first that have held something for longest; and how many
-- of those with ready tasks in one call.
local QUEUES, HEADS = 64, 64

local now = clock.now_ms
local any_paused = redis.call("EXISTS", key.paused) == 1
local any_subscription = redis.call("EXISTS", key.subscriptions) == 1
local heads = HEADS

-- A task whose label is another than its queue's was made before the settings changed.
local function look_into(queue, oldest)
  for priority = 0, 9 do
    local id = redis.call("LINDEX", key.ready .. queue .. ":" .. priority, -1)
    local ready, label = since(id or "")
    if ready then
      oldest[label] = math.max(oldest[label] or 0, now - ready)
    end
  end
end

local function look_at_queues(label, oldest, paused)
  local found = redis.call("ZRANGE", key.of_label .. label, 0, QUEUES - 1, "WITHSCORES")
  if #found == 0 then
    return
  end
  local queues, fields = {}, {}
  for at = 1, #found, 2 do
    queues[#queues + 1] = found[at]
    fields[#fields + 1] = found[at] .. "r"
  end
  if any_paused then
    for _, is_paused in ipairs(redis.call("SMISMEMBER", key.paused, unpack(queues))) do
      paused[label] = math.max(paused[label] or 0, is_paused)
    end
  end
  local ready = redis.call("HMGET", key.counts, unpack(fields))
  for n, queue in ipairs(queues) do
    -- No task has been ready for longer than its queue has held something.
    if heads == 0 or now - tonumber(found[2 * n]) <= (oldest[label] or 0) then
      return
    end
    if ready[n] then
      heads = heads - 1
      look_into(queue, oldest)
    end
  end
end

local function depths(labels)
  local numbers, oldest, paused = {}, {}, {}
  for n = 0, labels do
    local label = tostring(n)
    local four =
      redis.call("HMGET", key.counts, label .. "r", label .. "d", label .. "p", label .. "x")
    for i = 1, 4 do
      numbers[7 * n + i] = tonumber(four[i] or 0)
    end
    numbers[7 * n + 5] = any_subscription
        and redis.call("ZCOUNT", key.labelled .. label, "(" .. now, "+inf")
      or 0
    if four[1] or any_paused then
      look_at_queues(label, oldest, paused)
    end
  end
  for n = 0, labels do
    numbers[7 * n + 6] = paused[tostring(n)] or 0
    numbers[7 * n + 7] = oldest[tostring(n)] or 0
  end
  local first = redis.call("ZRANGE", key.delayed, 0, 0, "WITHSCORES")[2]
  local leases = redis.call("ZCOUNT", key.leases, "-inf", now)
  return { numbers, math.max(0, now - (first or now)), leases }
end

return call.each(depths)
