-- destination_pause: nothing is sent to a destination until it is resumed. To resume also ends what
-- failures did to it.
--
-- KEYS  root         the destination's own partition
-- EACH  destination  its id
-- EACH  tag          tag of the tenant whose it must be
-- EACH  paused       "1" to pause, "0" to resume
-- GIVES now_ms       the store's clock
-- GIVES before       its state before
-- GIVES record       as it is now
-- FAILS NOT_FOUND
-- COSTS O(log n) in the destinations of the partition
-- KEEPS its limits
local call = require("lib.call")
local clock = require("lib.clock")
local places = require("lib.destination")

local function pause(destination, tag, paused)
  local of = places.read(destination)
  if not of or of.tag ~= tag then
    return "NOT_FOUND"
  end
  local before = of.state
  if paused == "1" then
    places.write(destination, of, { opened = 0, till = 0, granted = 0 })
    places.turn(destination, of, "paused")
  else
    places.settle(destination, of)
    places.write(destination, of, { quiet = 0, seen = clock.now_ms })
    places.turn(destination, of, "")
  end
  return { clock.now_ms, before, places.show(destination, of) }
end

return call.each(pause)
