-- lease: who holds a task, and until when.
local clock = require("lib.clock")
local count = require("lib.count")
local key = require("lib.keys")
local task = require("lib.task")

local lease = {}

-- Gives a task to a worker. `of`: claimed, attempt, ends, history, token, worker, trace.
function lease.write(id, of)
  redis.call(
    "HSET",
    key.held,
    id,
    struct.pack(
      ">BBI8HHc16Hc0Bc0",
      1,
      of.history,
      of.claimed,
      of.attempt,
      of.ends,
      of.token,
      #of.worker,
      of.worker,
      #of.trace,
      of.trace
    )
  )
end

-- The lease record of a task, nil when nobody holds it.
function lease.read(id)
  local raw = redis.call("HGET", key.held, id)
  if not raw then
    return nil
  elseif string.byte(raw) ~= 1 then
    return nil, "UNKNOWN_VERSION"
  end
  local _, history, claimed, attempt, ends, token, worker, trace =
    struct.unpack(">BBI8HHc16Hc0Bc0", raw)
  return {
    history = history,
    claimed = claimed,
    attempt = attempt,
    ends = ends,
    token = token,
    worker = worker,
    trace = trace,
  }
end

-- The task and its lease, if `worker` (and `token`, unless "") may speak for it; otherwise nil, the
-- word, and the task when it is the tenant's and nobody holds it.
function lease.held(id, tenant, worker, token)
  local found, refusal = task.of(id, tenant)
  if not found then
    return nil, refusal
  end
  local of, unreadable = lease.read(id)
  if not of then
    return nil, unreadable or "NOT_IN_PROGRESS", found
  end
  if token ~= "" and token ~= of.token then
    return nil, "LEASE_LOST"
  end
  if worker ~= of.worker then
    return nil, "NOT_OWNER"
  end
  return found, of
end

-- Ends a lease. The task is in no index until the caller puts it into one.
function lease.release(id, found)
  redis.call("ZREM", key.leases, id)
  redis.call("HDEL", key.held, id)
  count.add(found.queue, found.label, "p", -1)
end

-- What a task brings along until its next claim. `answer`: 0 none, 1 delayed, 2 dead, 3 abandoned;
-- with the lease it ended it lets a repeated nack or abandon be answered as the first was. The label
-- is here because a dead task's body may be gone when it is last counted.
function lease.keep(id, found, of, visible, attempts, ends, answer, delay, trace)
  redis.call(
    "HSET",
    key.attempted,
    id,
    struct.pack(
      ">BBHI8I8HHBI8c16Hc0Bc0",
      1,
      of.history,
      found.label,
      clock.now_ms,
      visible,
      attempts,
      ends,
      answer,
      delay,
      of.token,
      #of.worker,
      of.worker,
      #trace,
      trace
    )
  )
end

-- The record that `keep` wrote, nil when there is none.
function lease.kept(id)
  local raw = redis.call("HGET", key.attempted, id)
  if not raw then
    return nil
  elseif string.byte(raw) ~= 1 then
    return nil, "UNKNOWN_VERSION"
  end
  local _, history, label, at, visible, attempts, ends, answer, delay, token, worker, trace =
    struct.unpack(">BBHI8I8HHBI8c16Hc0Bc0", raw)
  return {
    history = history,
    label = label,
    at = at,
    visible = visible,
    attempts = attempts,
    ends = ends,
    answer = answer,
    delay = delay,
    token = token,
    worker = worker,
    trace = trace,
  }
end

-- The kept record if this call repeats the nack or abandon that wrote it.
function lease.repeated(id, worker, token)
  if token == "" then
    return nil
  end
  local kept = lease.kept(id)
  if kept and kept.answer ~= 0 and kept.token == token and kept.worker == worker then
    return kept
  end
  return nil
end

return lease
