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
local places = require("lib.destination")
local outbox = require("lib.outbox")

local function succeeded(destination, to, event, says)
  local of = places.read(destination)
  if not of then
    return "NOT_FOUND"
  end
  local recovered = 0
  if of.state ~= "disabled" then
    places.settle(destination, of)
  end
  if of.state == "open" then
    recovered = 1
    places.turn(destination, of, "")
    if to ~= "" then
      outbox.event(event, to, says)
    end
  end
  return { clock.now_ms, recovered, places.show(destination, of) }
end

return call.each(succeeded)
