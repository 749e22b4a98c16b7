-- outbox_claim: a node takes deliveries that are due, under a lease. Destinations have turns: each
-- gives a few, then stands behind those that waited meanwhile.
--
-- KEYS  root     the partition
-- ARGV  lease_ms how long a delivery is this node's
-- EACH  most     deliveries at most
-- EACH  room     "<destination><2 digits>" of each whose turn is shorter here: 00 means none
-- EACH  parked   "<destination><13 digits>" of each that is to be left alone until then
-- EACH  aged_ms  above 0: take instead those whose attempts began that long ago, parked or not
-- GIVES now_ms   the store's clock
-- GIVES claimed  for each: delivery, destination, end of its lease, record, beginning of the task's
--                body, beginning of the task's terminal record
-- GIVES busy     destinations that had more than there was room for
-- GIVES more     1: there is more, at once
-- COSTS O(k log n) for k deliveries and at most 32 destinations more than were named
-- KEEPS a delivery is in the outbox until its outcome is written
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local number = require("lib.number")
local outbox = require("lib.outbox")

-- Deliveries that one destination gives in one turn.
local TURN = 8
-- Destinations looked at in one call.
local TURNS = 32
-- How much of a body and of a terminal record goes along: most are shorter.
local HEAD, TERMINAL = "1023", "8191"
-- Where a record counts its claims, and where it says whether it has the head of its body with it.
local CLAIMS = "6"

local lease_ms = call.once()
local now = clock.now_ms
local till = now + lease_ms

-- Destination -> what stands behind it.
local function table_of(text, digits)
  local map = {}
  for at = 1, #text, 16 + digits do
    map[string.sub(text, at, at + 15)] = tonumber(string.sub(text, at + 16, at + 15 + digits))
  end
  return map
end

-- What is needed to send it; nil when its record is gone.
local function taken(name, destination)
  local record = redis.call("GET", key.delivery .. name)
  if not record then
    return nil
  end
  if string.byte(record) ~= 1 then
    -- Of a later version: a node that can read it will send it.
    return nil
  end
  local claims = math.min(string.byte(record, 7) + 1, 255)
  redis.call("SETRANGE", key.delivery .. name, CLAIMS, string.char(claims))
  local id = string.sub(name, 1, 22)
  local head = redis.call("GETRANGE", key.body .. id, "0", HEAD)
  local terminal = redis.call("GETRANGE", key.done .. id, "0", TERMINAL)
  return { name, destination, till, record, head, terminal }
end

local function claim_of(destination, most, claimed)
  local pending = key.pending .. destination
  local due = redis.call("ZRANGEBYSCORE", pending, "-inf", now, "LIMIT", 0, most)
  local leased = { pending }
  for _, name in ipairs(due) do
    local of = taken(name, destination)
    if of then
      claimed[#claimed + 1] = of
    elseif redis.call("EXISTS", key.delivery .. name) == 0 then
      redis.call("ZREM", pending, name)
    end
    leased[#leased + 1] = number(till)
    leased[#leased + 1] = name
  end
  if #due > 0 then
    table.insert(leased, 2, "XX")
    redis.call("ZADD", unpack(leased))
  end
  return #due
end

-- Puts a destination where it belongs after its turn: 1 if it has more that is due.
local function turn_over(destination)
  local first = redis.call("ZRANGE", key.pending .. destination, 0, 0, "WITHSCORES")
  if not first[2] then
    redis.call("ZREM", key.outbox, destination)
    return 0
  end
  local next_due = tonumber(first[2])
  redis.call("ZADD", key.outbox, number(math.max(next_due, now)), destination)
  return next_due <= now and 1 or 0
end

local function claim_due(most, room, parked)
  local claimed, busy, more = {}, {}, 0
  local over = redis.call("ZRANGEBYSCORE", key.parked, "-inf", now, "LIMIT", 0, TURNS)
  for _, destination in ipairs(over) do
    redis.call("ZREM", key.parked, destination)
    redis.call("ZADD", key.outbox, number(now), destination)
  end
  local named = 0
  for _ in pairs(room) do
    named = named + 1
  end
  local due = redis.call("ZRANGEBYSCORE", key.outbox, "-inf", now, "LIMIT", 0, TURNS + named)
  for _, destination in ipairs(due) do
    local has_room = math.min(room[destination] or TURN, TURN)
    if parked[destination] then
      outbox.park(destination, parked[destination])
    elseif has_room == 0 then
      busy[#busy + 1] = destination
    elseif most == 0 then
      more = 1
      break
    else
      local took = claim_of(destination, math.min(has_room, most), claimed)
      most = most - took
      if turn_over(destination) == 1 then
        if took == has_room and has_room < TURN then
          busy[#busy + 1] = destination
        else
          more = 1
        end
      end
    end
  end
  if #due == TURNS + named then
    more = 1
  end
  return { now, claimed, busy, more }
end

-- What is too old is taken wherever it stands, unless an attempt is under way.
local function claim_aged(most, aged_ms)
  local claimed = {}
  local aged = redis.call("ZRANGEBYSCORE", key.aging, "-inf", now - aged_ms, "LIMIT", 0, most)
  for _, member in ipairs(aged) do
    local name = string.sub(member, 13)
    local record = redis.call("GETRANGE", key.delivery .. name, 48, 63)
    if record == "" then
      redis.call("ZREM", key.aging, member)
    else
      local due = redis.call("ZSCORE", key.pending .. record, name)
      if due and tonumber(due) <= now then
        local of = taken(name, record)
        if of then
          redis.call("ZADD", key.pending .. record, "XX", number(till), name)
          claimed[#claimed + 1] = of
        end
      end
    end
  end
  return { now, claimed, {}, #claimed == most and 1 or 0 }
end

local function claim(most, room, parked, aged_ms)
  if aged_ms ~= "0" then
    return claim_aged(tonumber(most), tonumber(aged_ms))
  end
  return claim_due(tonumber(most), table_of(room, 2), table_of(parked, 13))
end

return call.each(claim)
