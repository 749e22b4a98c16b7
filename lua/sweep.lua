-- sweep: what time does to a partition: due tasks become ready, expired leases end as a nack would,
-- dead tasks past their retention go. Any node may sweep; each thing happens once.
--
-- KEYS  root       the partition
-- ARGV  policy     backoff policy
-- ARGV  base_ms    its base
-- ARGV  max_ms     its longest delay
-- ARGV  dlq_ms     how long a dead task stays
-- ARGV  hold_ms    the least retention while a delivery is pending
-- ARGV  age_ms     how long a delivery may be pending
-- ARGV  lost_ms    how long a dead delivery stays
-- EACH  guard_ms   do nothing if another sweep ran that recently; 0: go on with what is left
-- EACH  limit      most of each kind to move
-- EACH  dooms      most folders of artifacts to give up
-- EACH  chance     random number in [0, 1), from which each backoff draws its own
-- EACH  span       id drawn for the spans of ended leases, 16 digits, "" without tracing
-- GIVES ran        0: another sweep ran just now
-- GIVES more       1: there is more to do at once
-- GIVES due        how many delayed tasks became ready
-- GIVES woken      queues whose ready list was empty, each with head and trace context of the task
--                  that came first
-- GIVES expired    for each ended lease: id, head, "delayed" or "dead", delay, attempt, claimed,
--                  how long it was held, worker, terminal record, awaited, trace context before
-- GIVES retired    label number of each dead task that went
-- GIVES outbox     1: a delivery is due
-- GIVES aged       1: a delivery is pending for too long
-- GIVES doomed     folders of artifacts that the caller must delete: id and name
-- GIVES recoveries those that nobody carries on
-- COSTS O(k log n) for the k ≤ 4 × limit things moved
-- KEEPS each task in one index; an attempt is counted at its claim only
local call = require("lib.call")
local clock = require("lib.clock")
local count = require("lib.count")
local delivery = require("lib.delivery")
local history = require("lib.history")
local key = require("lib.keys")
local lease = require("lib.lease")
local lost = require("lib.lost")
local number = require("lib.number")
local ready = require("lib.ready")
local retry = require("lib.retry")
local task = require("lib.task")
local tomb = require("lib.tomb")

local policy, base_ms, max_ms, dlq_ms, hold_ms, age_ms, lost_ms = call.once()
base_ms, max_ms = tonumber(base_ms), tonumber(max_ms)
dlq_ms, hold_ms = tonumber(dlq_ms), tonumber(hold_ms)
local now = clock.now_ms

-- Spreads one random number over many draws evenly.
local GOLDEN = 0.6180339887498949

local function wake_due(limit, woken)
  local due = redis.call("ZRANGEBYSCORE", key.delayed, "-inf", now, "LIMIT", 0, limit)
  local moved = 0
  for _, id in ipairs(due) do
    local found, refusal = task.of(id)
    if found then
      redis.call("ZREM", key.delayed, id)
      count.add(found.queue, found.label, "d", -1)
      moved = moved + 1
      if ready.push(id, found) == 1 then
        local kept = lease.kept(id)
        woken[#woken + 1] = { found.queue, found.raw, kept and kept.trace or "" }
      end
    elseif refusal == "NOT_FOUND" then
      redis.call("ZREM", key.delayed, id)
    end
  end
  return moved
end

local function end_leases(limit, chance, span, expired)
  local ended = redis.call("ZRANGEBYSCORE", key.leases, "-inf", now, "LIMIT", 0, limit)
  for n, id in ipairs(ended) do
    local found, refusal = task.of(id)
    local of, unreadable
    if found then
      of, unreadable = lease.read(id)
    end
    if refusal == "NOT_FOUND" or (found and not of and not unreadable) then
      -- Nothing is left of it; it must not stand in front of the others for ever.
      redis.call("ZREM", key.leases, id)
      redis.call("HDEL", key.held, id)
    elseif of then
      local jitter = (chance + n * GOLDEN) % 1
      local delay = retry.backoff(policy, base_ms, max_ms, of.attempt, jitter)
      local cause, message = history.EXPIRED, "LEASE_EXPIRED"
      local context = task.context(found, of.trace, span, #expired + 1)
      local outcome, applied, record, awaited =
        retry.task(id, found, of, delay, cause, "", message, context, dlq_ms, hold_ms)
      expired[#expired + 1] = {
        id,
        found.raw,
        outcome,
        applied,
        of.attempt,
        of.claimed,
        now - of.claimed,
        of.worker,
        record,
        awaited,
        of.trace,
      }
    end
  end
  return #expired
end

-- Bodies and records of dead tasks expire by themselves; this takes their ids out of the index.
local function retire(limit)
  local retired = {}
  for _, queue in ipairs(redis.call("ZRANGEBYSCORE", key.graves, "-inf", now, "LIMIT", 0, 8)) do
    local list = key.dead .. queue
    local gone = redis.call("ZRANGEBYSCORE", list, "-inf", now - dlq_ms, "LIMIT", 0, limit)
    for _, id in ipairs(gone) do
      local kept = lease.kept(id)
      redis.call("ZREM", list, id)
      redis.call("HDEL", key.attempted, id)
      local label = kept and kept.label or 0
      count.add(queue, label, "x", -1)
      retired[#retired + 1] = tonumber(label)
    end
    local oldest = redis.call("ZRANGE", list, 0, 0, "WITHSCORES")[2]
    if oldest then
      redis.call("ZADD", key.graves, oldest + dlq_ms, queue)
    else
      redis.call("ZREM", key.graves, queue)
    end
  end
  return retired
end

-- Dead deliveries whose time is over go, those of one tenant in a call.
local function forget(limit)
  local tenant = redis.call("ZRANGEBYSCORE", key.losses, "-inf", now - lost_ms, "LIMIT", 0, 1)[1]
  if not tenant then
    return 0
  end
  local gone =
    redis.call("ZRANGEBYSCORE", key.lost .. tenant, "-inf", now - lost_ms, "LIMIT", 0, limit)
  for _, name in ipairs(gone) do
    local of = delivery.read(name)
    if of then
      lost.leave(name, of)
      redis.call("DEL", key.delivery .. name)
    else
      redis.call("ZREM", key.lost .. tenant, name)
    end
  end
  return #gone
end

-- Whether the first of a sorted set is due at that time.
local function is_due(name, at)
  local first = redis.call("ZRANGE", name, 0, 0, "WITHSCORES")[2]
  return first and tonumber(first) <= at
end

-- How long a node may take to delete a folder, in ms; then it is another's turn.
local DELETING = 300000

-- Folders whose submit never came ("u"), whose task is over ("k"), or that a node did not get rid
-- of in time ("x"). A record that was given more time keeps its artifacts.
local function doom(limit)
  local doomed = {}
  local due = redis.call("ZRANGEBYSCORE", key.folders, "-inf", now, "LIMIT", 0, limit)
  for _, entry in ipairs(due) do
    local left = string.sub(entry, 1, 1) == "k"
      and redis.call("PTTL", key.done .. string.sub(entry, 2, 23))
    if left and left ~= -2 then
      redis.call("ZADD", key.folders, number(now + math.max(left, 1000)), entry)
    else
      local folder = string.sub(entry, 2)
      redis.call("ZREM", key.folders, entry)
      redis.call("ZADD", key.folders, number(now + DELETING), "x" .. folder)
      doomed[#doomed + 1] = folder
    end
  end
  return doomed
end

local function sweep(guard_ms, limit, dooms, chance, span)
  if guard_ms ~= "0" and not redis.call("SET", key.guard, "1", "NX", "PX", guard_ms) then
    return { 0, 0, 0, {}, {}, {}, 0, 0, {}, {} }
  end
  limit = tonumber(limit)
  local woken, expired = {}, {}
  local due = wake_due(limit, woken)
  local ended = end_leases(limit, tonumber(chance), span, expired)
  local retired, forgotten = retire(limit), forget(limit)
  local over = redis.call("ZRANGEBYSCORE", key.awaited, "-inf", now, "LIMIT", 0, limit)
  if #over > 0 then
    redis.call("ZREM", key.awaited, unpack(over))
  end
  local tombed = redis.call("HRANDFIELD", key.tombed)
  if tombed then
    tomb.trim(tombed, limit)
  end
  local more = (due == limit or ended == limit or #retired >= limit) and 1 or 0
  more = forgotten == limit and 1 or more
  local outbox = (is_due(key.outbox, now) or is_due(key.parked, now)) and 1 or 0
  local aged = is_due(key.aging, now - age_ms) and 1 or 0
  local idle = redis.call("ZRANGEBYSCORE", key.recoveries, "-inf", now, "LIMIT", 0, limit)
  local doomed = doom(tonumber(dooms))
  return { 1, more, due, woken, expired, retired, outbox, aged, doomed, idle }
end

local answer = call.each(sweep)
count.flush()
return answer
