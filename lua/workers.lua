-- workers: how many workers called for the commands of each label lately, for a scrape.
--
-- KEYS  root     the partition that keeps it
-- EACH  labels   the highest label number; 0 is `_other`
-- EACH  keep_ms  how long a call counts
-- GIVES numbers  of label 0, then of 1, and so on
-- COSTS O(labels), and for each O(log n) in its workers
-- KEEPS everything
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local number = require("lib.number")

local function workers(labels, keep_ms)
  local numbers, after = {}, "(" .. number(clock.now_ms - keep_ms)
  for label = 0, labels do
    numbers[label + 1] = redis.call("ZCOUNT", key.callers .. label, after, "+inf")
  end
  return { numbers }
end

return call.each(workers)
