-- outbox_delivered: a receiver has accepted a delivery. Its record shrinks to the log of attempts and
-- is kept as long as the task.
--
-- KEYS  root         the partition
-- ARGV  alone_ms     how long the record stays when there is no task
-- EACH  delivery     its name
-- EACH  entry        what the attempt left for the log
-- EACH  keep_ms      how long the task stays from its end; 0: as long as it would
-- EACH  idempotency  digest of the task's idempotency key, "" without
-- EACH  part         name of its large result, "" without
-- GIVES done         1; 0: it was no longer pending
-- FAILS UNKNOWN_VERSION
-- COSTS O(log n) in the pending deliveries
-- KEEPS whoever says so first; a success counts even when the lease is over
local call = require("lib.call")
local clock = require("lib.clock")
local records = require("lib.delivery")
local key = require("lib.keys")
local number = require("lib.number")
local outbox = require("lib.outbox")

local alone_ms = tonumber((call.once()))

-- While the delivery was pending the task was kept longer than it would be.
local function release(id, left_ms, idempotency, part)
  local left = number(math.max(left_ms, 1))
  redis.call("PEXPIRE", key.body .. id, left)
  redis.call("PEXPIRE", key.done .. id, left)
  redis.call("PEXPIRE", key.history .. id, left)
  if idempotency ~= "" then
    redis.call("PEXPIRE", key.idempotency .. idempotency, left)
  end
  if part ~= "" then
    redis.call("PEXPIRE", key.part .. part, left)
  end
end

local function delivered(delivery, entry, keep_ms, idempotency, part)
  local of, unreadable = records.read(delivery)
  if not of or of.state ~= records.PENDING then
    return unreadable or { 0 }
  end
  local id = string.sub(delivery, 1, 22)
  outbox.leave(delivery, of.tenant, of.destination)
  of.state, of.attempts, of.claims = records.DELIVERED, of.attempts + 1, 0
  of.changed, of.asked, of.error, of.head, of.body = clock.now_ms, "", "", "", ""
  records.note(of, entry)
  local stays = redis.call("PTTL", key.done .. id)
  if stays > 0 and keep_ms ~= "0" then
    stays = math.max(of.completed + keep_ms - clock.now_ms, 1)
    release(id, stays, idempotency, part)
  end
  records.write_for(delivery, of, stays > 0 and stays or alone_ms)
  return { 1 }
end

return call.each(delivered)
