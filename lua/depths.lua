-- depths: how many tasks of each label are in each state, for a scrape.
--
-- KEYS  root     the partition
-- EACH  labels   the highest label number; 0 is `_other`
-- GIVES numbers  ready, delayed, in progress, dead of label 0, then of label 1, and so on
-- COSTS O(labels)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local function depths(labels)
  local numbers = {}
  for label = 0, labels do
    local four =
      redis.call("HMGET", key.counts, label .. "r", label .. "d", label .. "p", label .. "x")
    for i = 1, 4 do
      numbers[#numbers + 1] = tonumber(four[i] or 0)
    end
  end
  return { numbers }
end

return call.each(depths)
