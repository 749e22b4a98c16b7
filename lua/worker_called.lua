-- worker_called: a worker called claim or heartbeat for a command. Nodes tell it at most once per
-- worker, command and interval, so that no call of a worker costs more.
--
-- KEYS  root     the partition that keeps it
-- EACH  label    number of the command's label
-- EACH  worker   digest of tenant and subject
-- EACH  keep_ms  how long a call counts
-- EACH  most     workers that are told apart for one label
-- GIVES counted  0: there are too many already
-- COSTS O(log n) in the workers of the label
-- KEEPS nothing for longer than `keep_ms`
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local number = require("lib.number")

-- Workers that left are forgotten so many at a time.
local GONE = 16

local function called(label, worker, keep_ms, most)
  local name, now = key.callers .. label, clock.now_ms
  local over = redis.call("ZRANGEBYSCORE", name, "-inf", number(now - keep_ms), "LIMIT", 0, GONE)
  if #over > 0 then
    redis.call("ZREM", name, unpack(over))
  end
  local known = redis.call("ZSCORE", name, worker)
  if not known and redis.call("ZCARD", name) >= tonumber(most) then
    return { 0 }
  end
  redis.call("ZADD", name, now, worker)
  redis.call("PEXPIRE", name, keep_ms)
  return { 1 }
end

return call.each(called)
