-- policy_delete: a queue goes back to the defaults.
--
-- KEYS  root     the partition
-- EACH  queue    name of 24 characters
-- GIVES deleted  1: there was one
-- COSTS O(1)
-- KEEPS tasks that exist
local call = require("lib.call")
local key = require("lib.keys")

local function policy_delete(queue)
  return { redis.call("DEL", key.policy .. queue) }
end

return call.each(policy_delete)
