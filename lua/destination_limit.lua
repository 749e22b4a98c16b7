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
local destination = require("lib.destination")

return call.each(function(id, tag, per_second, concurrency)
  local of = destination.read(id)
  if not of or of.tag ~= tag then
    return "NOT_FOUND"
  end
  local before = { of.per_second, of.concurrency }
  if per_second ~= of.per_second then
    -- Turns handed out ahead of a lower rate must not hold up a higher one.
    destination.write(id, of, { per_second = per_second, paced = 0 })
  end
  destination.write(id, of, { concurrency = concurrency, seen = clock.now_ms })
  destination.enlist(id, of)
  return { clock.now_ms, before, destination.show(id, of) }
end)
