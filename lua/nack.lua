-- nack: a worker gives a task back. It backs off, or is buried when no attempt is left.
--
-- KEYS  root       the partition
-- ARGV  policy     backoff policy
-- ARGV  base_ms    its base
-- ARGV  max_ms     the longest delay, asked or computed
-- ARGV  dlq_ms     how long a dead task stays
-- ARGV  hold_ms    the least retention while a delivery is pending
-- EACH  id         task id
-- EACH  tenant     tag of the caller's tenant
-- EACH  worker     the caller's subject
-- EACH  token      lease token, "" when the caller sent none
-- EACH  delay_ms   asked delay; 0 leaves it to the policy
-- EACH  jitter     random number in [0, 1)
-- EACH  reason     why; becomes the task's error if it is buried, "" for MAX_ATTEMPTS
-- EACH  span       id of the span drawn for the call, 16 digits, "" without tracing
-- GIVES replayed   1: this call repeats one that was done
-- GIVES outcome    "delayed" or "dead"
-- GIVES delay_ms   the delay applied, 0 when dead
-- GIVES head       beginning of the body: what signals need
-- GIVES attempt    which delivery this was
-- GIVES claimed_ms when it was claimed
-- GIVES held_ms    how long the worker had it
-- GIVES record     terminal record when dead, else ""
-- GIVES awaited    1: somebody waits for the result
-- GIVES trace      trace context before the step, "" for that of the creation
-- FAILS NOT_FOUND NOT_IN_PROGRESS LEASE_LOST NOT_OWNER UNKNOWN_VERSION
-- COSTS O(log n) in the tasks of the partition
-- KEEPS attempts stays as it is; a buried task with a webhook has exactly one outbox entry
local call = require("lib.call")
local clock = require("lib.clock")
local count = require("lib.count")
local history = require("lib.history")
local lease = require("lib.lease")
local retry = require("lib.retry")
local task = require("lib.task")

local policy, base_ms, max_ms, dlq_ms, hold_ms = call.once()
base_ms, max_ms = tonumber(base_ms), tonumber(max_ms)
dlq_ms, hold_ms = tonumber(dlq_ms), tonumber(hold_ms)

local OUTCOMES = { "delayed", "dead" }

local function nack(id, tenant, worker, token, delay_ms, jitter, reason, span)
  local found, of, mine = lease.held(id, tenant, worker, token)
  if not found then
    local kept = mine and lease.repeated(id, worker, token)
    local outcome = kept and OUTCOMES[kept.answer]
    if outcome then
      return { 1, outcome, kept.delay, mine.raw, kept.attempts, 0, 0, "", 0, kept.trace }
    end
    return of
  end

  local delay = math.min(tonumber(delay_ms), max_ms)
  if delay <= 0 then
    delay = retry.backoff(policy, base_ms, max_ms, of.attempt, tonumber(jitter))
  end
  local context = task.context(found, of.trace, span)
  local message = reason ~= "" and reason or "MAX_ATTEMPTS"
  local outcome, applied, record, awaited =
    retry.task(id, found, of, delay, history.NACK, reason, message, context, dlq_ms, hold_ms)
  local held = clock.now_ms - of.claimed
  return { 0, outcome, applied, found.raw, of.attempt, of.claimed, held, record, awaited, of.trace }
end

local answer = call.each(nack)
count.flush()
return answer
