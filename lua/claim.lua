-- claim: workers take ready tasks under a lease. Each delivery counts as an attempt, here and nowhere
-- else, before any work is done.
--
-- KEYS  root      the partition
-- EACH  queues    names of 24 characters in the order to look; "": any queue of the tenant, least
--                 recently served first
-- EACH  tenant    tag of the tenant
-- EACH  worker    the caller's subject
-- EACH  leases    fresh lease ids of 16 characters, one for each task wanted
-- EACH  lease_ms  length of the leases
-- EACH  span      id drawn for the spans of the claim, 16 digits, "" without tracing
-- GIVES tasks     for each: id, first 2048 bytes of the body, its size, lease id, lease end, attempt,
--                 since when it was ready, trace context before the step, "" for that of the creation
-- GIVES left      ready tasks left in the queue that gave the last of them
-- COSTS O(log n) in the leases of the partition for each task taken
-- KEEPS a task that is taken is in no ready list and in the lease set, with a lease record
local call = require("lib.call")
local clock = require("lib.clock")
local count = require("lib.count")
local key = require("lib.keys")
local lease = require("lib.lease")
local number = require("lib.number")
local task = require("lib.task")
local tomb = require("lib.tomb")

-- How many of a tenant's queues one claim for any of them looks at.
local LOOKS = 16
-- The first bytes of a body that are answered; the rest of a larger one is fetched beside.
local NEAR, LAST = 2048, "2047"

local now = clock.now_ms
local any_tombs = redis.call("EXISTS", key.tombs) == 1
local any_attempted = redis.call("EXISTS", key.attempted) == 1
-- Highest priority of a queue that may still hold something; -1: nothing, or it is paused.
local top = {}

local function first_priority(queue)
  if redis.call("SISMEMBER", key.paused, queue) == 1 then
    return -1
  end
  local r = key.ready .. queue .. ":"
  -- Most queues use priority 0 only: one look instead of nine.
  if
    redis.call(
      "EXISTS",
      r .. "9",
      r .. "8",
      r .. "7",
      r .. "6",
      r .. "5",
      r .. "4",
      r .. "3",
      r .. "2",
      r .. "1"
    ) == 0
  then
    return 0
  end
  return 9
end

-- Takes the oldest of the highest priority, nil when there is none.
local function pop(queue)
  local priority = top[queue] or first_priority(queue)
  while priority >= 0 do
    local id = redis.call("RPOP", key.ready .. queue .. ":" .. number(priority))
    if not id then
      priority = priority - 1
    elseif not (any_tombs and tomb.take(id)) then
      top[queue] = priority
      return id, priority
    end
  end
  top[queue] = -1
  return nil
end

local function grant(id, token, worker, lease_ms, span, n)
  local raw = redis.call("GETRANGE", key.body .. id, "0", LAST)
  if raw == "" then
    return nil
  end
  local found = task.parse(raw)
  local kept, unreadable
  if any_attempted then
    kept, unreadable = lease.kept(id)
  end
  if not found or unreadable then
    return nil, "UNKNOWN_VERSION"
  end

  local of = { history = 0, claimed = now, attempt = 1, ends = 0, token = token, worker = worker }
  local visible, trace = found.due, ""
  if kept then
    redis.call("HDEL", key.attempted, id)
    of.history, of.attempt, of.ends = kept.history, kept.attempts + 1, kept.ends
    visible, trace = kept.visible, kept.trace
  end
  of.trace = task.context(found, trace, span, n)
  lease.write(id, of)
  redis.call("ZADD", key.leases, number(now + lease_ms), id)
  count.add(found.queue, found.label, "r", -1)
  count.add(found.queue, found.label, "p", 1)
  local size = #raw
  if size == NEAR then
    size = redis.call("STRLEN", key.body .. id)
  end
  return { id, raw, size, token, now + lease_ms, of.attempt, visible, trace }
end

local function take(queue, tasks, leases, worker, lease_ms, span)
  while #tasks * 16 < #leases do
    local id, priority = pop(queue)
    if not id then
      return
    end
    local first = #tasks * 16 + 1
    local granted, refusal =
      grant(id, string.sub(leases, first, first + 15), worker, lease_ms, span, #tasks + 1)
    if granted then
      tasks[#tasks + 1] = granted
    elseif refusal then
      -- A later version wrote it, and later nodes will take it: it goes back, and is left alone.
      redis.call("RPUSH", key.ready .. queue .. ":" .. number(priority), id)
      top[queue] = -1
      return
    end
  end
end

-- The last queue that each item took from, to tell how much is left there.
local served = {}

local function claim(queues, tenant, worker, leases, lease_ms, span)
  local tasks, last = {}, nil
  local wanted = #leases / 16
  lease_ms = tonumber(lease_ms)
  local function look(queue)
    local before = #tasks
    take(queue, tasks, leases, worker, lease_ms, span)
    if #tasks > before then
      last = queue
    end
  end
  if queues ~= "" then
    for at = 1, #queues, 24 do
      look(string.sub(queues, at, at + 23))
      if #tasks == wanted then
        break
      end
    end
  else
    local waiting = key.waiting .. tenant
    for _, command in ipairs(redis.call("ZRANGE", waiting, 0, LOOKS - 1)) do
      look(tenant .. command)
      -- To the back of the line, also a paused one, so that no queue is starved.
      redis.call("ZADD", waiting, "XX", now, command)
      if #tasks == wanted then
        break
      end
    end
  end
  served[#served + 1] = last or false
  return { tasks, 0 }
end

local answer = call.each(claim)
local ready = count.flush()
for i, queue in ipairs(served) do
  answer[i][2] = queue and ready[queue] or 0
end
return answer
