-- abandon: a task goes back unused, to the head of its priority; the attempt is not counted.
--
-- KEYS  root        the partition
-- EACH  id          task id
-- EACH  tenant      tag of the caller's tenant
-- EACH  worker      the caller's subject
-- EACH  token       lease token, "" when the caller sent none
-- EACH  undelivered "1": the node gives back a claim that it could not hand over
-- EACH  span        id of the span drawn for the call, 16 digits, "" without tracing
-- GIVES replayed    1: this call repeats one that was done
-- GIVES head        beginning of the body: what signals need
-- GIVES attempt     the delivery that is taken back
-- GIVES claimed_ms  when it was claimed
-- GIVES length      of its ready list; 1: waiters must hear of it
-- GIVES trace       trace context before the step, "" for that of the creation
-- FAILS NOT_FOUND NOT_IN_PROGRESS LEASE_LOST NOT_OWNER UNKNOWN_VERSION
-- COSTS O(log n) in the leases of the partition
-- KEEPS a repeat by the same worker with the same token answers as the first, until the next claim
local call = require("lib.call")
local clock = require("lib.clock")
local count = require("lib.count")
local history = require("lib.history")
local lease = require("lib.lease")
local ready = require("lib.ready")
local task = require("lib.task")

local function abandon(id, tenant, worker, token, undelivered, span)
  local found, of, mine = lease.held(id, tenant, worker, token)
  if not found then
    local kept = mine and lease.repeated(id, worker, token)
    if kept and kept.answer == 3 then
      return { 1, mine.raw, kept.attempts + 1, 0, 0, kept.trace }
    end
    return of
  end

  local context = task.context(found, of.trace, span)
  lease.release(id, found)
  local length = ready.push_front(id, found)
  if undelivered == "0" then
    history.push(id, of.claimed, of.attempt, history.ABANDON, history.READY, worker, context, "")
    of.history = 1
  end
  lease.keep(id, found, of, clock.now_ms, of.attempt - 1, of.ends, 3, 0, context)
  return { 0, found.raw, of.attempt, of.claimed, length, of.trace }
end

local answer = call.each(abandon)
count.flush()
return answer
