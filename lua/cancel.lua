-- cancel: a producer or admin calls off a task that nobody works on.
--
-- KEYS  root     the partition
-- ARGV  hold_ms  the least retention while a delivery is pending
-- EACH  id       task id
-- EACH  tenant   tag of the caller's tenant
-- EACH  span     id of the span drawn for the call, 16 digits, "" without tracing
-- GIVES record   the terminal record
-- GIVES head     beginning of the body: what signals need
-- GIVES awaited  1: somebody waits for the result
-- GIVES trace    trace context before the step, "" for that of the creation
-- FAILS NOT_FOUND NOT_CANCELLABLE UNKNOWN_VERSION
-- COSTS O(log n) in the delayed tasks of the partition
-- KEEPS exactly one terminal transition; a cancelled task is never delivered
local call = require("lib.call")
local count = require("lib.count")
local finish = require("lib.finish")
local key = require("lib.keys")
local lease = require("lib.lease")
local task = require("lib.task")
local tomb = require("lib.tomb")

-- Cancelled ids taken off the ends of a list in one call.
local TRIM = 64

local hold_ms = tonumber((call.once()))

local function cancel(id, tenant, span)
  local found, refusal = task.of(id, tenant)
  if not found then
    return refusal
  end
  if
    redis.call("HEXISTS", key.held, id) == 1
    or redis.call("EXISTS", key.done .. id) == 1
    or redis.call("PTTL", key.body .. id) >= 0
  then
    return "NOT_CANCELLABLE"
  end
  local kept, unreadable = lease.kept(id)
  if unreadable then
    return unreadable
  end

  if redis.call("ZREM", key.delayed, id) == 1 then
    count.add(found.queue, found.label, "d", -1)
  else
    local list = found.queue .. ":" .. found.priority
    tomb.mark(id, list)
    tomb.trim(list, TRIM)
    count.add(found.queue, found.label, "r", -1)
  end
  if kept then
    redis.call("HDEL", key.attempted, id)
  end
  local record, awaited = finish.task(id, found, {
    kind = finish.CANCELLED,
    ends = kept and kept.ends or 0,
    claimed = 0,
    attempt = kept and kept.attempts or 0,
    worker = "",
    trace = task.context(found, kept and kept.trace or "", span),
    error = "CANCELLED",
    history = kept and kept.history or 0,
  }, found.retention_ms, hold_ms)
  return { record, found.raw, awaited, kept and kept.trace or "" }
end

local answer = call.each(cancel)
count.flush()
return answer
