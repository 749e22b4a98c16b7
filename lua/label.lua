-- label: the number by which metrics of a command are kept; first come, first served, up to a cap.
-- One registry for the fleet, in the first partition, so that all nodes agree.
--
-- KEYS  root      the first partition
-- EACH  command   tag of the lower-cased command
-- EACH  spelling  of the command
-- EACH  cap       most numbers to give out
-- GIVES label     its number from 1, 0 when there is none left
-- GIVES spelling  as first seen, "" when there is no number
-- COSTS O(1)
-- KEEPS a number that was given is never given to another command
local call = require("lib.call")
local key = require("lib.keys")

local function label(command, spelling, cap)
  local number = redis.call("HGET", key.labels, command)
  if number then
    return { tonumber(number), redis.call("HGET", key.labels, number) }
  end
  local next_number = redis.call("HLEN", key.labels) / 2 + 1
  if next_number > tonumber(cap) then
    return { 0, "" }
  end
  redis.call("HSET", key.labels, command, next_number, next_number, spelling)
  return { next_number, spelling }
end

return call.each(label)
