-- subscription_extend: a worker keeps its subscription. It ends `ttl_ms` from now.
--
-- KEYS  root     the partition where the tenant's subscriptions are
-- EACH  id       the subscription
-- EACH  tenant   tag of the caller's tenant
-- EACH  ttl_ms   until it ends
-- GIVES ends_ms  when it ends
-- FAILS NOT_FOUND
-- COSTS O(log n) in the tenant's subscriptions for each label it is counted under
-- KEEPS another tenant's subscription as it is; one that ended does not come back
local call = require("lib.call")
local clock = require("lib.clock")
local subscription = require("lib.subscription")

local function extend(id, tenant, ttl_ms)
  local of = subscription.read(id)
  if not of or string.sub(of.queues, 1, 12) ~= tenant or of.ends <= clock.now_ms then
    return "NOT_FOUND"
  end
  of.ends = clock.now_ms + ttl_ms
  subscription.keep(id, of)
  return { of.ends }
end

return call.each(extend)
