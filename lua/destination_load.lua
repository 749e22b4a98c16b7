-- destination_load: how much waits for destinations in this partition, and how much was given up.
--
-- KEYS  root          the partition
-- EACH  destinations  ids, 16 characters each
-- GIVES pending       for each: deliveries that wait, or are under way
-- GIVES dead          for each: deliveries that were given up
-- COSTS O(destinations)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local function load(destinations)
  local pending, dead = {}, {}
  for at = 1, #destinations, 16 do
    local id = string.sub(destinations, at, at + 15)
    pending[#pending + 1] = redis.call("ZCARD", key.pending .. id)
    dead[#dead + 1] = tonumber(redis.call("HGET", key.lost_of, id) or 0)
  end
  return { pending, dead }
end

return call.each(load)
