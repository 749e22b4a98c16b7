-- outbox_later: an attempt failed, or did not take place. The delivery is due again later.
--
-- KEYS  root      the partition
-- EACH  delivery  its name
-- EACH  lease_ms  end of the lease under which the caller has it
-- EACH  delay_ms  from now
-- EACH  outcome   2: an attempt ended; 1: something ended that counts as none; 0: nothing began
-- EACH  entry     what it left for the log, "" for nothing
-- EACH  flags     what the record is to remember of its body
-- EACH  park_ms   leave the whole destination alone so long; 0: do not
-- GIVES done      1; 0: the lease was over
-- COSTS O(log n) in the pending deliveries
-- KEEPS a late outcome changes nothing
local call = require("lib.call")
local clock = require("lib.clock")
local delivery = require("lib.delivery")
local key = require("lib.keys")
local number = require("lib.number")
local outbox = require("lib.outbox")

return call.each(function(name, lease_ms, delay_ms, outcome, entry, flags, park_ms)
  local of, unreadable = delivery.read(name)
  if not of or of.state ~= delivery.PENDING then
    return unreadable or { 0 }
  end
  local pending = key.pending .. of.destination
  local due = redis.call("ZSCORE", pending, name)
  if not due or tonumber(due) ~= tonumber(lease_ms) then
    return { 0 }
  end
  due = clock.now_ms + delay_ms
  redis.call("ZADD", pending, "XX", number(due), name)
  if outcome == "0" then
    of.claims = math.max(of.claims - 1, 0)
  else
    of.claims = 0
    of.attempts = of.attempts + (outcome == "2" and 1 or 0)
  end
  of.flags = tonumber(flags)
  delivery.note(of, entry)
  delivery.write(name, of)
  if park_ms ~= "0" then
    outbox.park(of.destination, number(clock.now_ms + park_ms))
  else
    outbox.look(of.destination, number(due))
  end
  return { 1 }
end)
