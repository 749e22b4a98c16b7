-- labels: every label that was given a number.
--
-- KEYS  root       the first partition
-- EACH  from       number to begin with, from 1
-- EACH  most       how many
-- GIVES spellings  in the order of their numbers
-- COSTS O(most)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local function labels(from, most)
  local last = math.min(redis.call("HLEN", key.labels) / 2, from + most - 1)
  local spellings = {}
  for number = from, last do
    spellings[#spellings + 1] = redis.call("HGET", key.labels, number)
  end
  return { spellings }
end

return call.each(labels)
