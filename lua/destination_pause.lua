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
local destination = require("lib.destination")

return call.each(function(id, tag, paused)
  local of = destination.read(id)
  if not of or of.tag ~= tag then
    return "NOT_FOUND"
  end
  local before = of.state
  if paused == "1" then
    destination.write(id, of, { opened = 0, till = 0, granted = 0 })
    destination.turn(id, of, "paused")
  else
    destination.settle(id, of)
    destination.write(id, of, { quiet = 0, seen = clock.now_ms })
    destination.turn(id, of, "")
  end
  return { clock.now_ms, before, destination.show(id, of) }
end)
