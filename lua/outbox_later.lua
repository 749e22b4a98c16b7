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
-- FAILS UNKNOWN_VERSION
-- COSTS O(log n) in the pending deliveries
-- KEEPS a late outcome changes nothing
local call = require("lib.call")
local clock = require("lib.clock")
local records = require("lib.delivery")
local key = require("lib.keys")
local number = require("lib.number")
local outbox = require("lib.outbox")

local function later(delivery, lease_ms, delay_ms, outcome, entry, flags, park_ms)
  local of, unreadable = records.read(delivery)
  if not of or of.state ~= records.PENDING then
    return unreadable or { 0 }
  end
  local pending = key.pending .. of.destination
  local due = redis.call("ZSCORE", pending, delivery)
  if not due or tonumber(due) ~= tonumber(lease_ms) then
    return { 0 }
  end
  due = clock.now_ms + delay_ms
  redis.call("ZADD", pending, "XX", number(due), delivery)
  if outcome == "0" then
    of.claims = math.max(of.claims - 1, 0)
  else
    of.claims = 0
    of.attempts = of.attempts + (outcome == "2" and 1 or 0)
  end
  of.flags = tonumber(flags)
  records.note(of, entry)
  records.write(delivery, of)
  if park_ms ~= "0" then
    outbox.park(of.destination, number(clock.now_ms + park_ms))
  else
    outbox.look(of.destination, number(due))
  end
  return { 1 }
end

return call.each(later)
