-- list: ids of a queue in one state, oldest first, a page at a time.
--
-- Leases and delayed tasks are kept for the whole partition, so a page of one queue steps over those
-- of its neighbours: a call looks at `span` entries and says where it stopped.
--
-- KEYS  root    the partition
-- EACH  queue   name of 24 characters
-- EACH  state   "ready", "delayed", "in_progress" or "dlq"
-- EACH  score   ready: priority to go on with; others: score of the last entry seen, "-inf" first
-- EACH  after   ready: how many of that priority were seen; others: id of the last entry seen, or ""
-- EACH  span    most entries to look at
-- GIVES ids     of this queue among them
-- GIVES score   to go on with, "" at the end
-- GIVES after   to go on with
-- COSTS O(log n + span)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")
local task = require("lib.task")

local function ready(queue, priority, seen, span)
  local ids = {}
  while priority >= 0 do
    local list = key.ready .. queue .. ":" .. priority
    local found = redis.call("LRANGE", list, -(seen + span), -(seen + 1))
    for i = #found, 1, -1 do
      if redis.call("HEXISTS", key.tombs, found[i]) == 0 then
        ids[#ids + 1] = found[i]
      end
    end
    if #found == span then
      return { ids, tostring(priority), tostring(seen + span) }
    end
    span = span - #found
    priority, seen = priority - 1, 0
  end
  return { ids, "", "" }
end

-- The rank behind the last entry seen, also when that entry has left meanwhile.
local function rank_after(set, score, after)
  if after == "" then
    return 0
  end
  if redis.call("ZSCORE", set, after) == score then
    return redis.call("ZRANK", set, after) + 1
  end
  return redis.call("ZCOUNT", set, "-inf", "(" .. score)
end

local function sorted(set, queue, score, after, span)
  local first = rank_after(set, score, after)
  local found = redis.call("ZRANGE", set, first, first + span - 1, "WITHSCORES")
  local ids = {}
  for i = 1, #found, 2 do
    local id = found[i]
    local seen = found[i + 1] == score and id <= after
    local of = not seen and (set == key.dead .. queue and { queue = queue } or task.of(id))
    if of and of.queue == queue then
      ids[#ids + 1] = id
    end
  end
  if #found < 2 * span then
    return { ids, "", "" }
  end
  return { ids, found[#found], found[#found - 1] }
end

local function list(queue, state, score, after, span)
  span = tonumber(span)
  if state == "ready" then
    local priority = score == "-inf" and 9 or tonumber(score)
    return ready(queue, priority, tonumber(after) or 0, span)
  elseif state == "delayed" then
    return sorted(key.delayed, queue, score, after, span)
  elseif state == "in_progress" then
    return sorted(key.leases, queue, score, after, span)
  end
  return sorted(key.dead .. queue, queue, score, after, span)
end

return call.each(list)
