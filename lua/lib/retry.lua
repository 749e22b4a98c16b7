-- retry: an attempt failed, by a nack or because its lease ended. The task backs off, or is buried
-- when no attempt is left.
local clock = require("lib.clock")
local count = require("lib.count")
local dead = require("lib.dead")
local finish = require("lib.finish")
local history = require("lib.history")
local key = require("lib.keys")
local lease = require("lib.lease")

local retry = {}

-- Milliseconds to wait after that many attempts. `jitter` is a random number in [0, 1).
function retry.backoff(policy, base_ms, max_ms, attempts, jitter)
  local delay = base_ms
  if policy == "linear" then
    delay = base_ms * attempts
  elseif policy ~= "fixed" then
    delay = base_ms * 2 ^ (attempts - 1)
  end
  delay = math.min(delay, max_ms)
  if policy == "exp_full_jitter" then
    delay = delay * jitter
  elseif policy == "exp_equal_jitter" then
    delay = delay / 2 + delay / 2 * jitter
  end
  return math.floor(delay)
end

-- `of` is the lease that ends; `delay_ms` is what a bury or a wait is decided with. Returns outcome,
-- delay, terminal record ("" unless dead) and whether somebody waits for the result.
function retry.task(id, found, of, delay_ms, cause, reason, message, trace, dlq_ms, hold_ms)
  lease.release(id, found)
  of.history = 1
  -- Only a nack has an answer that a repeat may ask for; a lease that ran out ends all that it allowed.
  local is_nack = cause == history.NACK
  if of.attempt >= found.max then
    history.push(id, of.claimed, of.attempt, cause, history.DEAD, of.worker, trace, reason)
    lease.keep(id, found, of, 0, of.attempt, of.ends + 1, is_nack and 2 or 0, 0, trace)
    local record, awaited = finish.task(id, found, {
      kind = finish.DEAD,
      ends = of.ends,
      claimed = of.claimed,
      attempt = of.attempt,
      token = of.token,
      worker = of.worker,
      trace = trace,
      error = message,
      history = 1,
    }, dlq_ms, hold_ms)
    dead.push(id, found, dlq_ms)
    return "dead", 0, record, awaited
  end

  local due = clock.now_ms + delay_ms
  history.push(id, of.claimed, of.attempt, cause, history.DELAYED, of.worker, trace, reason)
  lease.keep(id, found, of, due, of.attempt, of.ends, is_nack and 1 or 0, delay_ms, trace)
  redis.call("ZADD", key.delayed, due, id)
  count.add(found.queue, found.label, "d", 1)
  return "delayed", delay_ms, "", 0
end

return retry
