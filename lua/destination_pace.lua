-- destination_pace: turns at a destination with a rate, for the whole fleet (GCRA, as rate_limit).
-- Turns are handed out a little ahead, so that none is lost while nobody asks.
--
-- KEYS  root         the destination's own partition
-- EACH  destination  its id
-- EACH  wanted       how many the caller would send
-- GIVES delays_ms    one for each that it may send: how long from now
-- GIVES wait_ms      when to ask for the rest; 0 when there is none
-- COSTS O(wanted)
-- KEEPS the distance between turns
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")

-- How far ahead turns are handed out, and how late one may be taken.
local AHEAD_MS, LATE_MS = 1000, 250

local now = clock.now_ms

local function pace(destination, wanted)
  local of = redis.call("HMGET", key.destination .. destination, "per_second", "paced")
  local per_second, delays = tonumber(of[1] or 0), {}
  wanted = tonumber(wanted)
  if per_second == 0 then
    for n = 1, wanted do
      delays[n] = 0
    end
    return { delays, 0 }
  end
  local each_ms = 1000 / per_second
  local turn = math.max(tonumber(of[2] or 0), now - LATE_MS)
  while #delays < wanted and turn <= now + AHEAD_MS do
    delays[#delays + 1] = math.ceil(math.max(turn - now, 0))
    turn = turn + each_ms
  end
  local wait_ms = 0
  if #delays < wanted then
    wait_ms = math.ceil(math.max(turn - now - AHEAD_MS / 2, 1))
  end
  if #delays > 0 then
    redis.call("HSET", key.destination .. destination, "paced", string.format("%.3f", turn))
  end
  return { delays, wait_ms }
end

return call.each(pace)
