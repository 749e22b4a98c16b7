-- destination_succeeded: a receiver answered. What failed before is forgotten, and an open destination
-- is as any other again.
--
-- KEYS  root         the destination's own partition
-- EACH  destination  its id
-- EACH  to           destination of operator events, "" for none
-- EACH  event        name of the event if it recovers
-- EACH  says         its record
-- GIVES now_ms       the store's clock
-- GIVES recovered    1: it was open
-- GIVES record       as it is now
-- FAILS NOT_FOUND
-- COSTS O(log n) in the destinations of the partition
-- KEEPS what an administrator decided, and what was disabled
local call = require("lib.call")
local clock = require("lib.clock")
local destination = require("lib.destination")
local outbox = require("lib.outbox")

return call.each(function(id, to, event, says)
  local of = destination.read(id)
  if not of then
    return "NOT_FOUND"
  end
  local recovered = 0
  if of.state ~= "disabled" then
    destination.settle(id, of)
  end
  if of.state == "open" then
    recovered = 1
    destination.turn(id, of, "")
    if to ~= "" then
      outbox.event(event, to, says)
    end
  end
  return { clock.now_ms, recovered, destination.show(id, of) }
end)
