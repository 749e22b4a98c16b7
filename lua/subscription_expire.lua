-- subscription_expire: subscriptions that nobody kept go.
--
-- KEYS  root   the partition
-- EACH  limit  most to remove
-- GIVES gone   for each: id, tenant, URL
-- COSTS O(k q log n) for the k that go, of q queues each
-- KEEPS each goes once, whichever node comes
local call = require("lib.call")
local subscription = require("lib.subscription")

local function expire(limit)
  return { subscription.prune(limit) }
end

return call.each(expire)
