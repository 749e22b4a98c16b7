-- subscription_pick: who is told that a queue has work. Whoever is told now may be told again only
-- after its interval, on whichever node; who may not yet be told gives way to the next.
--
-- KEYS  root    the partition where the tenant's subscriptions are
-- EACH  queue   name of 24 characters
-- EACH  mode    "f" all are told, "g" one of each group, "h" one of all
-- EACH  at_ms   0; for more of the same: what the first call gave
-- EACH  limit   most to tell with this call
-- GIVES told    for each: id, URL, tenant
-- GIVES at_ms   by whose intervals these are; the store's clock of the first call
-- GIVES more    1: there may be more of the same
-- COSTS O(k log n) for the k subscriptions told, ended, or told elsewhere since
-- KEEPS a subscription is told at most once in its interval; a group, or those of which one is told,
--       at most once for a queue that became ready
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local subscription = require("lib.subscription")

-- Lines that were left behind by another queue's nudge, and set right before one is found.
local STALE = 256

-- The lines of a queue, and those of whoever wants every queue of the tenant.
local function sources(queue)
  return { queue, string.sub(queue, 1, 12) .. subscription.EVERY }
end

-- Tells it if its record agrees; otherwise sets its line right.
local function tell(id, line, at)
  local of = subscription.read(id)
  if not of then
    redis.call("ZREM", line, id)
  elseif of.ends <= clock.now_ms then
    subscription.leave(id, of)
  elseif of.next > at then
    redis.call("ZADD", line, of.next, id)
  else
    local next_ms = clock.now_ms + of.interval
    redis.call("HSET", key.subscription .. id, "next", next_ms)
    redis.call("ZADD", line, next_ms, id)
    return { id, of.url, of.tenant }
  end
  return nil
end

-- Visits what is due in the lines of a queue: 1 if the limit ended that.
local function visit_due(queue, at, limit, line_of, visit)
  for _, source in ipairs(sources(queue)) do
    local line = line_of(source)
    local due = redis.call("ZRANGEBYSCORE", line, "-inf", at, "LIMIT", 0, limit)
    for _, member in ipairs(due) do
      visit(member, line)
    end
    limit = limit - #due
    if limit == 0 then
      return 1
    end
  end
  return 0
end

local function line_of_all(source)
  return subscription.line(source, "f", "")
end

local function all(queue, at, limit, told)
  return visit_due(queue, at, limit, line_of_all, function(id, line)
    told[#told + 1] = tell(id, line, at)
  end)
end

-- The one of a group that has waited longest since it was told.
local function one_of_group(queue, group, at)
  for _ = 1, STALE do
    local line, id, score
    for _, source in ipairs(sources(queue)) do
      local of_source = subscription.line(source, "g", group)
      local first = redis.call("ZRANGEBYSCORE", of_source, "-inf", at, "WITHSCORES", "LIMIT", 0, 1)
      if first[1] and (not score or tonumber(first[2]) < score) then
        line, id, score = of_source, first[1], tonumber(first[2])
      end
    end
    local told = id and tell(id, line, at)
    if told or not id then
      return told
    end
  end
  return nil
end

local function groups_of(source)
  return key.groups .. source
end

local function one_of_each_group(queue, at, limit, told)
  return visit_due(queue, at, limit, groups_of, function(group)
    told[#told + 1] = one_of_group(queue, group, at)
    -- Later than this call, so that one queue is told of once however many calls it takes.
    for _, source in ipairs(sources(queue)) do
      subscription.regroup(source, group, at + 1)
    end
  end)
end

-- The seconds of the clock go round among those who may be told now.
local function one(queue, at, told)
  for _ = 1, STALE do
    local lines, counts, sum = {}, {}, 0
    for i, source in ipairs(sources(queue)) do
      lines[i] = subscription.line(source, "h", "")
      counts[i] = redis.call("ZCOUNT", lines[i], "-inf", at)
      sum = sum + counts[i]
    end
    if sum == 0 then
      return
    end
    local place, i = math.floor(at / 1000) % sum, 1
    if place >= counts[1] then
      place, i = place - counts[1], 2
    end
    local id = redis.call("ZRANGE", lines[i], place, place)[1]
    told[1] = tell(id, lines[i], at)
    if told[1] then
      return
    end
  end
end

local function pick(queue, mode, at_ms, limit)
  local at, told, more = tonumber(at_ms), {}, 0
  if at == 0 then
    at = clock.now_ms
  end
  limit = tonumber(limit)
  if mode == "f" then
    more = all(queue, at, limit, told)
  elseif mode == "g" then
    more = one_of_each_group(queue, at, limit, told)
  else
    one(queue, at, told)
  end
  return { told, at, more }
end

return call.each(pick)
