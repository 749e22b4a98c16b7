-- destination_unprobed: a probe was granted and not sent: the delivery that it was has to wait, or is
-- given up. Another may be granted at once.
--
-- KEYS  root         the destination's own partition
-- EACH  destination  its id
-- EACH  granted_ms   until when the probe was granted
-- GIVES now_ms       the store's clock
-- GIVES record       as it is now
-- FAILS NOT_FOUND
-- COSTS O(1)
-- KEEPS a probe that was granted to somebody else since
local call = require("lib.call")
local clock = require("lib.clock")
local places = require("lib.destination")

local function unprobed(destination, granted_ms)
  local of = places.read(destination)
  if not of then
    return "NOT_FOUND"
  end
  if of.granted == tonumber(granted_ms) then
    places.write(destination, of, { granted = 0 })
  end
  return { clock.now_ms, places.show(destination, of) }
end

return call.each(unprobed)
