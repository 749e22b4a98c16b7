-- outbox_find: deliveries that are pending, by the beginning of their series, or dead, by their
-- death; oldest first, and those of one moment by tenant and name. A call looks at some and says
-- how far it came.
--
-- KEYS  root         the partition
-- EACH  dead         1: the dead ones; 0: the pending ones
-- EACH  tenant       tag of a tenant, "" for all: then of the 256 whose deaths are the oldest
-- EACH  destination  of that one, "" for any
-- EACH  command      tag of a command, "" for any
-- EACH  reason       number of a reason, 0 for any
-- EACH  until_ms     only those before
-- EACH  from_ms      moment of the last one seen, or the earliest that matters
-- EACH  after        tenant and name of the last one seen, "" for none
-- EACH  span         most to look at
-- GIVES now_ms       the store's clock
-- GIVES found        for each that matches: moment, tenant and name, number of its reason
-- GIVES ended        1: there are no more
-- GIVES from_ms      to go on with
-- GIVES after        to go on with
-- COSTS O(log n + span)
-- KEEPS everything
local call = require("lib.call")
local clock = require("lib.clock")
local delivery = require("lib.delivery")
local key = require("lib.keys")

-- Tenants looked at when all are wanted, and what each may give in one call at least.
local TENANTS, SHARE = 256, 8

-- Whether a text stands no later than another in the order of Redis. Lua's own is the locale's.
local function at_most(a, b)
  for n = 1, math.min(#a, #b) do
    local x, y = string.byte(a, n), string.byte(b, n)
    if x ~= y then
      return x < y
    end
  end
  return #a <= #b
end

-- Whether one row stands before another.
local function precedes(a, b)
  if a[1] ~= b[1] then
    return a[1] < b[1]
  end
  return not at_most(b[2], a[2])
end

-- The rank behind the last one seen, which may have left meanwhile.
local function rank_after(set, prefix, from, after)
  local low = redis.call("ZCOUNT", set, "-inf", "(" .. from)
  local high = after == "" and low or low + redis.call("ZCOUNT", set, from, from)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local member = redis.call("ZRANGE", set, middle, middle)[1]
    if at_most(prefix .. member, after) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- The next rows of a set, and whether there are no more.
local function rows_of(set, prefix, from, after, till, span)
  local first = rank_after(set, prefix, from, after)
  local flat = redis.call("ZRANGE", set, first, first + span - 1, "WITHSCORES")
  local rows = {}
  for n = 1, #flat, 2 do
    local at = tonumber(flat[n + 1])
    if at >= till then
      return rows, true
    end
    rows[#rows + 1] = { at, prefix .. flat[n] }
  end
  return rows, #flat < 2 * span
end

-- The next rows of several tenants, and the last of them that can be told apart; nil at the end.
local function rows_of_all(tenants, from, after, till, span)
  local all, reached = {}, nil
  for _, tenant in ipairs(tenants) do
    local rows, ended = rows_of(key.lost .. tenant, tenant, from, after, till, span)
    for _, row in ipairs(rows) do
      all[#all + 1] = row
    end
    local last = rows[#rows]
    if not ended and (not reached or precedes(last, reached)) then
      reached = last
    end
  end
  table.sort(all, precedes)
  return all, reached
end

local function command_of(name)
  local tag = redis.call("GETRANGE", key.body .. string.sub(name, 1, 22), "40", "51")
  if tag == "" then
    local of = delivery.read(name)
    tag = of and string.sub(of.head, 41, 52) or ""
  end
  return tag
end

local function find(dead, tenant, destination, command, reason, until_ms, from_ms, after, span)
  local rows, reached, ended
  local till = tonumber(until_ms)
  span = tonumber(span)
  if dead == "1" then
    local tenants = { tenant }
    if tenant == "" then
      tenants = redis.call("ZRANGE", key.losses, 0, TENANTS - 1)
      span = math.max(math.floor(span / math.max(#tenants, 1)), SHARE)
    end
    rows, reached = rows_of_all(tenants, from_ms, after, till, span)
  else
    rows, ended = rows_of(key.aging, "", from_ms, after, till, span)
    reached = not ended and rows[#rows] or nil
  end

  local found = {}
  for _, row in ipairs(rows) do
    if reached and precedes(reached, row) then
      break
    end
    local name = string.sub(row[2], 13)
    if tenant == "" or string.sub(row[2], 1, 12) == tenant then
      local raw = redis.call("GETRANGE", key.delivery .. name, "0", "63")
      local is_known = #raw == 64 and string.byte(raw) == 1
      local why = is_known and string.byte(raw, 9)
      if
        is_known
        and (destination == "" or string.sub(raw, 49, 64) == destination)
        and (reason == "0" or why == tonumber(reason))
        and (command == "" or command_of(name) == command)
      then
        found[#found + 1] = { row[1], row[2], why }
      end
    end
  end
  if reached then
    return { clock.now_ms, found, 0, reached[1], reached[2] }
  end
  return { clock.now_ms, found, 1, 0, "" }
end

return call.each(find)
