-- destination_look: may something be sent to a destination? One that is open is tried out by one
-- caller in the whole fleet.
--
-- KEYS  root         the destination's own partition
-- ARGV  grant_ms     how long a probe may take; then another is granted
-- EACH  destination  its id
-- EACH  tenant       whose; "" for the operator
-- EACH  tag          the tenant's tag
-- EACH  origin       scheme, host, port
-- GIVES now_ms       the store's clock
-- GIVES probe        1: this caller may send one
-- GIVES record       as it is now
-- COSTS O(log n) in the destinations of the partition
-- KEEPS one probe at a time
local call = require("lib.call")
local clock = require("lib.clock")
local places = require("lib.destination")

local now = clock.now_ms
local grant_ms = tonumber((call.once()))

local function look(destination, tenant, tag, origin)
  local of = places.seen(destination, tenant, tag, origin)
  local probe = 0
  if of.state == "open" and math.max(of.till, of.quiet, of.granted) <= now then
    places.write(destination, of, { granted = now + grant_ms })
    probe = 1
  end
  return { now, probe, places.show(destination, of) }
end

return call.each(look)
