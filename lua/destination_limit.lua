-- destination_limit: how much may be sent to a destination.
--
-- KEYS  root         the destination's own partition
-- EACH  destination  its id
-- EACH  tag          tag of the tenant whose it must be
-- EACH  per_second   by the whole fleet, "" without limit
-- EACH  concurrency  at once by a node, "" as for any other
-- GIVES now_ms       the store's clock
-- GIVES before       its limits before, as they are given here
-- GIVES record       as it is now
-- FAILS NOT_FOUND
-- COSTS O(log n) in the destinations of the partition
-- KEEPS its state
local call = require("lib.call")
local clock = require("lib.clock")
local places = require("lib.destination")

local function limit(destination, tag, per_second, concurrency)
  local of = places.read(destination)
  if not of or of.tag ~= tag then
    return "NOT_FOUND"
  end
  local before = { of.per_second, of.concurrency }
  if per_second ~= of.per_second then
    -- Turns handed out ahead of a lower rate must not hold up a higher one.
    places.write(destination, of, { per_second = per_second, paced = 0 })
  end
  places.write(destination, of, { concurrency = concurrency, seen = clock.now_ms })
  places.enlist(destination, of)
  return { clock.now_ms, before, places.show(destination, of) }
end

return call.each(limit)
