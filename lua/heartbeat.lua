-- heartbeat: a worker keeps its task. The lease ends `extend_ms` from now.
--
-- KEYS  root       the partition
-- EACH  id         task id
-- EACH  tenant     tag of the caller's tenant
-- EACH  worker     the caller's subject
-- EACH  token      lease token, "" when the caller sent none
-- EACH  extend_ms  length of the lease
-- EACH  span       id of the span drawn for the call, 16 digits, "" without tracing
-- GIVES until_ms   end of the lease
-- GIVES head       beginning of the body: what signals need
-- GIVES attempt    which delivery this is
-- GIVES trace      trace context before the step, "" for that of the creation
-- FAILS NOT_FOUND NOT_IN_PROGRESS LEASE_LOST NOT_OWNER UNKNOWN_VERSION
-- COSTS O(log n) in the leases of the partition
-- KEEPS state, attempts
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local lease = require("lib.lease")
local task = require("lib.task")

local function heartbeat(id, tenant, worker, token, extend_ms, span)
  local found, of = lease.held(id, tenant, worker, token)
  if not found then
    return of
  end
  local until_ms = clock.now_ms + extend_ms
  redis.call("ZADD", key.leases, "XX", until_ms, id)
  local before = of.trace
  if span ~= "" then
    of.trace = task.context(found, before, span)
    lease.write(id, of)
  end
  return { until_ms, found.raw, of.attempt, before }
end

return call.each(heartbeat)
