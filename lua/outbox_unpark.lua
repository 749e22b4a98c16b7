-- outbox_unpark: a destination is looked at again, whatever was to be waited for. A node that still
-- believes what it saw before parks it for a moment only.
--
-- KEYS  root         the partition
-- EACH  destination  its id
-- GIVES parked       1: it was parked
-- COSTS O(log n) in the destinations with something pending
-- KEEPS when its deliveries are due
local call = require("lib.call")
local outbox = require("lib.outbox")

local function unpark(destination)
  return { outbox.unpark(destination) }
end

return call.each(unpark)
