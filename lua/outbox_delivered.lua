-- outbox_delivered: a receiver has accepted a delivery. Its record shrinks to the log of attempts and
-- is kept as long as the task.
--
-- KEYS  root         the partition
-- EACH  delivery     its name
-- EACH  tenant       tag of its tenant
-- EACH  destination  where it went
-- EACH  record       what is kept of it, packed by the node
-- EACH  stays_ms     how long
-- EACH  task_ms      how long the task stays from now on; 0: as long as it would
-- EACH  idempotency  digest of the task's idempotency key, "" without
-- EACH  part         name of its large result, "" without
-- GIVES done         1; 0: it was no longer pending
-- COSTS O(log n) in the pending deliveries
-- KEEPS whoever says so first; a success counts even when the lease is over
local call = require("lib.call")
local key = require("lib.keys")
local outbox = require("lib.outbox")

-- While the delivery was pending the task was kept longer than it would be.
local function release(id, task_ms, idempotency, part)
  redis.call("PEXPIRE", key.body .. id, task_ms)
  redis.call("PEXPIRE", key.done .. id, task_ms)
  redis.call("PEXPIRE", key.history .. id, task_ms)
  if idempotency ~= "" then
    redis.call("PEXPIRE", key.idempotency .. idempotency, task_ms)
  end
  if part ~= "" then
    redis.call("PEXPIRE", key.part .. part, task_ms)
  end
end

local function delivered(
  delivery,
  tenant,
  destination,
  record,
  stays_ms,
  task_ms,
  idempotency,
  part
)
  if outbox.leave(delivery, tenant, destination) == 0 then
    return { 0 }
  end
  redis.call("SET", key.delivery .. delivery, record, "PX", stays_ms)
  if task_ms ~= "0" then
    release(string.sub(delivery, 1, 22), task_ms, idempotency, part)
  end
  return { 1 }
end

return call.each(delivered)
