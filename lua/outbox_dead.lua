-- outbox_dead: a delivery is given up. It stays to be looked at and sent again, whatever becomes of
-- the task, and the operator is told in the same step.
--
-- KEYS  root      the partition
-- EACH  delivery  its name
-- EACH  lease_ms  end of the lease under which the caller has it
-- EACH  reason    number of the reason
-- EACH  attempted 1: an attempt ended with it
-- EACH  entry     what that left for the log, "" for nothing
-- EACH  head      the task's body without its payload
-- EACH  body      the body that was sent, "" when it is too large to be kept
-- EACH  event     name of the operator event, "" for none
-- EACH  to        its destination
-- EACH  says      its record
-- GIVES done      1; 0: the lease was over
-- FAILS UNKNOWN_VERSION
-- COSTS O(log n) in the pending and in the dead deliveries
-- KEEPS a late outcome changes nothing; one event for each death
local call = require("lib.call")
local clock = require("lib.clock")
local records = require("lib.delivery")
local key = require("lib.keys")
local lost = require("lib.lost")
local outbox = require("lib.outbox")

local function dead(delivery, lease_ms, reason, attempted, entry, head, body, event, to, says)
  local of, unreadable = records.read(delivery)
  if not of or of.state ~= records.PENDING then
    return unreadable or { 0 }
  end
  local due = redis.call("ZSCORE", key.pending .. of.destination, delivery)
  if not due or tonumber(due) ~= tonumber(lease_ms) then
    return { 0 }
  end
  outbox.leave(delivery, of.tenant, of.destination)
  of.state, of.claims, of.changed = records.DEAD, 0, clock.now_ms
  of.reason, of.attempts = tonumber(reason), of.attempts + attempted
  of.body = body
  if head ~= "" then
    of.head = head
  end
  records.note(of, entry)
  records.write(delivery, of)
  lost.enter(delivery, of)
  if event ~= "" then
    outbox.event(event, to, says)
  end
  return { 1 }
end

return call.each(dead)
