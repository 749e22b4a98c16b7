-- subscribe: a worker asks to be told when its queues have work. The same id again changes what is
-- there; when it may be told next stays.
--
-- KEYS  root         the partition where the tenant's subscriptions are
-- EACH  id           digest of tenant, URL and queues, 20 characters
-- EACH  tenant       the tenant's name
-- EACH  url          where it is told
-- EACH  mode         "f" all are told, "g" one of each group, "h" one of all
-- EACH  group        digest of the group, 12 characters; "" without
-- EACH  interval_ms  least time between two nudges
-- EACH  queues       names of 24 characters, all of this tenant
-- EACH  labels       numbers of the metric labels, separated by spaces
-- EACH  ttl_ms       until it ends
-- EACH  most         subscriptions that a tenant may have
-- GIVES ends_ms      when it ends
-- GIVES created      1: it is new
-- GIVES gone         others that had ended and were removed, for each: id, tenant, URL
-- FAILS TOO_MANY
-- COSTS O(q log n) for its q queues, and those of at most 16 that had ended
-- KEEPS at most `most` unexpired subscriptions of the tenant
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local subscription = require("lib.subscription")

-- How many that have ended make room in one call.
local ROOM = 16

local function subscribe(id, tenant, url, mode, group, interval_ms, queues, labels, ttl_ms, most)
  local now = clock.now_ms
  local known = subscription.read(id)
  local live = known and known.ends > now
  if not live then
    local of_tenant = key.subscribed .. string.sub(queues, 1, 12)
    if redis.call("ZCOUNT", of_tenant, "(" .. now, "+inf") >= tonumber(most) then
      return "TOO_MANY"
    end
  end

  if known then
    subscription.remove(id, known)
  end
  local next_ms = live and math.min(known.next, known.next - known.interval + interval_ms) or now
  local of = {
    mode = mode,
    group = group,
    queues = queues,
    labels = labels,
    ends = now + ttl_ms,
    next = next_ms,
  }
  redis.call(
    "HSET",
    key.subscription .. id,
    "tenant",
    tenant,
    "url",
    url,
    "mode",
    mode,
    "group",
    group,
    "interval",
    interval_ms,
    "queues",
    queues,
    "labels",
    labels,
    "next",
    next_ms
  )
  subscription.keep(id, of)
  subscription.join(id, of)
  return { of.ends, live and 0 or 1, subscription.prune(ROOM) }
end

return call.each(subscribe)
