-- destination_failed: an attempt failed in a way that says something about its destination.
--
-- KEYS  root         the destination's own partition
-- ARGV  disable_ms   without a success for so long it is disabled; 0: never
-- EACH  destination  its id
-- EACH  class        how the attempt ended
-- EACH  probe        1: it tried out whether the destination is back
-- EACH  quiet_ms     the receiver wants to be left alone so long; 0: it did not say
-- EACH  to           destination of operator events, "" for none
-- EACH  open         name of the event if it opens
-- EACH  says_open    its record
-- EACH  off          name of the event if it is disabled
-- EACH  says_off     its record
-- GIVES now_ms       the store's clock
-- GIVES changed      the state that this made it take, "" when it stays
-- GIVES record       as it is now
-- FAILS NOT_FOUND
-- COSTS O(log n) in the destinations of the partition
-- KEEPS one event for each change
local call = require("lib.call")
local clock = require("lib.clock")
local places = require("lib.destination")
local outbox = require("lib.outbox")

-- Failures in a row that open it, and those without which it is never disabled.
local OPENS, DISABLES = 5, 20
-- How long it is open before it is tried out, the first time and the longest.
local FIRST_MS, LONGEST_MS = 30000, 600000

local now = clock.now_ms
local disable_ms = tonumber((call.once()))

-- Open for twice as long as the time before.
local function opened(of)
  local wait_ms = math.min(FIRST_MS * 2 ^ of.opened, LONGEST_MS)
  return { opened = of.opened + 1, till = now + wait_ms, granted = 0 }
end

local function failed(destination, class, probe, quiet_ms, to, open, says_open, off, says_off)
  local of = places.read(destination)
  if not of then
    return "NOT_FOUND"
  end
  local since = of.failures == 0 and now or of.since
  places.write(destination, of, { failures = of.failures + 1, since = since, class = class })
  if quiet_ms ~= "0" then
    places.write(destination, of, { quiet = math.max(of.quiet, now + quiet_ms) })
  end
  local rests = of.state == "" or of.state == "open"
  local changed = ""
  if rests and disable_ms > 0 and of.failures >= DISABLES and now - since >= disable_ms then
    places.write(destination, of, { opened = 0, till = 0, granted = 0 })
    places.turn(destination, of, "disabled")
    changed = "disabled"
  elseif of.state == "" and of.failures >= OPENS then
    places.write(destination, of, opened(of))
    places.turn(destination, of, "open")
    changed = "open"
  elseif of.state == "open" and probe == "1" and of.granted ~= 0 then
    -- What was under way when it opened fails too, and says nothing new.
    places.write(destination, of, opened(of))
  end
  if to ~= "" and changed ~= "" then
    outbox.event(changed == "open" and open or off, to, changed == "open" and says_open or says_off)
  end
  return { now, changed, places.show(destination, of) }
end

return call.each(failed)
