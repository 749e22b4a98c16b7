-- depths_of_tenant: how many tasks a tenant has in each state, some queues at a time, for a scrape that
-- asks for it.
--
-- KEYS  root     the partition
-- EACH  tenant   its tag
-- EACH  cursor   "0" to begin with
-- GIVES numbers  ready, delayed, in progress, dead
-- GIVES cursor   for the next call, "0" when this was the last
-- COSTS O(queues looked at), some 100 of them
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local STATES = { "r", "d", "p", "x" }

local function of_tenant(tenant, cursor)
  local page = redis.call("HSCAN", key.queues .. tenant, cursor, "COUNT", 100)
  local numbers = { 0, 0, 0, 0 }
  for at = 1, #page[2], 2 do
    local queue, fields = tenant .. page[2][at], {}
    for n, state in ipairs(STATES) do
      fields[n] = queue .. state
    end
    for n, number in ipairs(redis.call("HMGET", key.counts, unpack(fields))) do
      numbers[n] = numbers[n] + (number or 0)
    end
  end
  return { numbers, page[1] }
end

return call.each(of_tenant)
