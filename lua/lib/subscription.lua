-- subscription: who wants to hear that there is work, and when each may be told next.
--
-- For every queue asked for there are lines: one of the subscriptions that are all told, one of
-- those of which one is told, one for each group, and a list of the groups. Each is in the order of
-- when somebody may be told, so that who was told just now is not even looked at. A subscription to
-- all of a tenant's queues stands in the lines of a queue of that name. What a line says may be
-- older than the record, where somebody is in several; the record is right.
local clock = require("lib.clock")
local key = require("lib.keys")

local subscription = {}

-- In the place of a command: every queue of the tenant. No digest holds a colon.
subscription.EVERY = "::::::::::::"
local FIELDS = { "mode", "group", "interval", "queues", "labels", "ends", "next", "url", "tenant" }

-- The record of a subscription, nil when there is none.
function subscription.read(id)
  local values = redis.call("HMGET", key.subscription .. id, unpack(FIELDS))
  if not values[1] then
    return nil
  end
  local of = {}
  for i, field in ipairs(FIELDS) do
    of[field] = values[i]
  end
  of.interval, of.ends, of.next = tonumber(of.interval), tonumber(of.ends), tonumber(of.next)
  return of
end

-- The line of a queue that is drawn from by mode: "f" for all, "h" for one, "g" and the group.
function subscription.line(queue, mode, group)
  return key.nudges .. queue .. ":" .. mode .. group
end

-- Says again when the first of a group may be told, not before `floor`.
function subscription.regroup(queue, group, floor)
  local line = subscription.line(queue, "g", group)
  local first = redis.call("ZRANGE", line, 0, 0, "WITHSCORES")[2]
  if first then
    redis.call("ZADD", key.groups .. queue, math.max(tonumber(first), floor), group)
  else
    redis.call("ZREM", key.groups .. queue, group)
  end
end

local function each_queue(of, step)
  for at = 1, #of.queues, 24 do
    step(string.sub(of.queues, at, at + 23))
  end
end

-- Into every line, at the time at which it may be told next.
function subscription.join(id, of)
  each_queue(of, function(queue)
    redis.call("ZADD", subscription.line(queue, of.mode, of.group), of.next, id)
    if of.mode == "g" then
      subscription.regroup(queue, of.group, 0)
    end
  end)
end

-- Out of every line.
function subscription.leave(id, of)
  each_queue(of, function(queue)
    redis.call("ZREM", subscription.line(queue, of.mode, of.group), id)
    if of.mode == "g" then
      subscription.regroup(queue, of.group, 0)
    end
  end)
end

-- When it ends, for its tenant, for the partition and for the labels it is counted under.
function subscription.keep(id, of)
  redis.call("HSET", key.subscription .. id, "ends", of.ends)
  redis.call("ZADD", key.subscribed .. string.sub(of.queues, 1, 12), of.ends, id)
  redis.call("ZADD", key.subscriptions, of.ends, id)
  for label in string.gmatch(of.labels, "%d+") do
    redis.call("ZADD", key.labelled .. label, of.ends, id)
  end
end

-- Nothing is left of it.
function subscription.remove(id, of)
  subscription.leave(id, of)
  redis.call("DEL", key.subscription .. id)
  redis.call("ZREM", key.subscribed .. string.sub(of.queues, 1, 12), id)
  redis.call("ZREM", key.subscriptions, id)
  for label in string.gmatch(of.labels, "%d+") do
    redis.call("ZREM", key.labelled .. label, id)
  end
end

-- Removes what has ended by now, the longest ended first. Returns for each: id, tenant, host's URL.
function subscription.prune(limit)
  local ended =
    redis.call("ZRANGEBYSCORE", key.subscriptions, "-inf", clock.now_ms, "LIMIT", 0, limit)
  local gone = {}
  for _, id in ipairs(ended) do
    local of = subscription.read(id)
    if of then
      subscription.remove(id, of)
      gone[#gone + 1] = { id, of.tenant, of.url }
    else
      redis.call("ZREM", key.subscriptions, id)
    end
  end
  return gone
end

return subscription
