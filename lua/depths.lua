-- depths: how many tasks of each label are in each state, and how many subscriptions it has, for a
-- scrape.
--
-- KEYS  root     the partition
-- EACH  labels   the highest label number; 0 is `_other`
-- GIVES numbers  ready, delayed, in progress, dead, subscriptions of label 0, then of 1, and so on
-- COSTS O(labels), and for each O(log n) in its subscriptions if there are any
-- KEEPS everything
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")

local function depths(labels)
  local numbers = {}
  local any_subscription = redis.call("EXISTS", key.subscriptions) == 1
  for label = 0, labels do
    local four =
      redis.call("HMGET", key.counts, label .. "r", label .. "d", label .. "p", label .. "x")
    for i = 1, 4 do
      numbers[#numbers + 1] = tonumber(four[i] or 0)
    end
    numbers[#numbers + 1] = any_subscription
        and redis.call("ZCOUNT", key.labelled .. label, "(" .. clock.now_ms, "+inf")
      or 0
  end
  return { numbers }
end

return call.each(depths)
