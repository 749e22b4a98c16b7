-- subscribed: whether anybody wants to be told of a queue, before it is looked at more closely.
--
-- KEYS  root    the partition where the tenant's subscriptions are
-- EACH  tenant  tag of the tenant
-- EACH  queue   name of 24 characters, or "" to ask for any queue
-- GIVES any     1: somebody may
-- COSTS O(1)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")
local subscription = require("lib.subscription")

local function subscribed(tenant, queue)
  if queue == "" then
    return { redis.call("EXISTS", key.subscribed .. tenant) }
  end
  local every = tenant .. subscription.EVERY
  local any = redis.call(
    "EXISTS",
    key.groups .. queue,
    subscription.line(queue, "f", ""),
    subscription.line(queue, "h", ""),
    key.groups .. every,
    subscription.line(every, "f", ""),
    subscription.line(every, "h", "")
  )
  return { any > 0 and 1 or 0 }
end

return call.each(subscribed)
