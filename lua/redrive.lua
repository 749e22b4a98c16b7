-- redrive: dead tasks come back, in the order of their death, with all attempts before them.
--
-- KEYS  root       the partition
-- EACH  queue      name of 24 characters
-- EACH  ids        ids of 22 characters; "": the oldest
-- EACH  limit      most to take when no ids are given
-- EACH  before_ms  take only those that died before, when no ids are given; 0: now
-- EACH  span       id drawn for the spans of the call, 16 digits, "" without tracing
-- GIVES tasks      for each: id, head, trace context before the step, "" for that of the creation
-- GIVES superseded deliveries removed from the outbox unsent
-- GIVES expired    label number of each that was no longer there, since its retention ended
-- GIVES length     of a ready list that was empty: 1, else 0
-- COSTS O(k log n) for k tasks
-- KEEPS order; the idempotency key; result record and error go
local call = require("lib.call")
local clock = require("lib.clock")
local count = require("lib.count")
local dead = require("lib.dead")
local finish = require("lib.finish")
local history = require("lib.history")
local key = require("lib.keys")
local lease = require("lib.lease")
local ready = require("lib.ready")
local task = require("lib.task")

local function redrive(queue, ids, limit, before_ms, span)
  local chosen, tasks, superseded, woke = dead.choose(queue, ids, limit, before_ms), {}, 0, 0
  local expired = {}
  for _, id in ipairs(chosen) do
    local found, refusal = task.of(id)
    local kept = found and lease.kept(id)
    if kept and found.queue == queue and dead.remove(id, found) == 1 then
      superseded = superseded + finish.supersede(id, found, kept.ends)
      redis.call("DEL", key.done .. id)
      redis.call("PERSIST", key.body .. id)
      redis.call("PERSIST", key.history .. id)
      if found.idempotency then
        redis.call("PERSIST", key.idempotency .. found.idempotency)
      end
      local context = task.context(found, kept.trace, span, #tasks + 1)
      local to, now = history.READY, clock.now_ms
      history.push(id, now, kept.attempts, history.REDRIVE, to, "", context, "")
      kept.history = 1
      lease.keep(id, found, kept, now, 0, kept.ends, 0, 0, context)
      if ready.push(id, found) == 1 then
        woke = 1
      end
      tasks[#tasks + 1] = { id, found.raw, kept.trace }
    elseif refusal == "NOT_FOUND" then
      expired[#expired + 1] = dead.drop(id, queue)
    end
  end
  return { tasks, superseded, expired, woke }
end

local answer = call.each(redrive)
count.flush()
return answer
