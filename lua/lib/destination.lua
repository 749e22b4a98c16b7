-- destination: the record of one, shared by the fleet. Absent fields are "" and 0.
local clock = require("lib.clock")
local key = require("lib.keys")
local number = require("lib.number")

local destination = {}

-- How long the record of one stays that nothing is sent to, and how often it is seen to stay.
local KEEP_MS = 604800000
local REARM_MS = 3600000
-- Records forgotten in one call.
local FORGET = 16

local TEXTS = { "tenant", "tag", "origin", "state", "class", "per_second", "concurrency" }
-- failures: in a row; since: the first of them; opened: how often since it last closed; till: no probe
-- before; granted: a probe is under way until; quiet: the receiver asked for it; paced: the next send.
local NUMBERS = { "failures", "since", "opened", "till", "granted", "quiet", "paced", "seen" }
local STATES = { [""] = 0, active = 0, open = 1, paused = 2, disabled = 3 }

-- The number of a state in `standing`.
function destination.code(state)
  return STATES[state]
end

-- The record as a table, nil when there is none.
function destination.read(id)
  local texts = redis.call("HMGET", key.destination .. id, unpack(TEXTS))
  if not texts[1] then
    return nil
  end
  local of = {}
  for n, field in ipairs(TEXTS) do
    of[field] = texts[n] or ""
  end
  local numbers = redis.call("HMGET", key.destination .. id, unpack(NUMBERS))
  for n, field in ipairs(NUMBERS) do
    of[field] = tonumber(numbers[n] or 0)
  end
  return of
end

-- Writes fields; "" and 0 remove one.
function destination.write(id, of, changes)
  for field, value in pairs(changes) do
    of[field] = value
    if value == "" or value == 0 then
      redis.call("HDEL", key.destination .. id, field)
    else
      redis.call("HSET", key.destination .. id, field, value)
    end
  end
end

-- Whether somebody has decided something about it, which no silence may undo.
local function is_pinned(of)
  return STATES[of.state] >= 2 or of.per_second ~= "" or of.concurrency ~= ""
end

local function forget_old()
  local before = number(clock.now_ms - KEEP_MS)
  local old = redis.call("ZRANGEBYSCORE", key.known, "-inf", before, "LIMIT", 0, FORGET)
  for _, member in ipairs(old) do
    local tag, id = string.sub(member, 1, 12), string.sub(member, 13)
    redis.call("ZREM", key.known, member)
    redis.call("ZREM", key.destinations .. tag, id)
    redis.call("ZREM", key.standing, id)
    redis.call("DEL", key.destination .. id)
  end
end

-- Enters a record where its state and its limits want it.
function destination.enlist(id, of)
  local seen = number(of.seen)
  if is_pinned(of) then
    seen = "+inf"
    redis.call("PERSIST", key.destination .. id)
  else
    redis.call("PEXPIRE", key.destination .. id, KEEP_MS)
  end
  redis.call("ZADD", key.destinations .. of.tag, seen, id)
  redis.call("ZADD", key.known, seen, of.tag .. id)
  redis.call("ZADD", key.standing, STATES[of.state], id)
  forget_old()
end

-- The record, made when there is none; it stays because something is to be sent there.
function destination.seen(id, tenant, tag, origin)
  local of = destination.read(id)
  if of and clock.now_ms - of.seen < REARM_MS then
    return of
  end
  if not of then
    redis.call("HSET", key.destination .. id, "tenant", tenant, "tag", tag, "origin", origin)
    of = destination.read(id)
  end
  destination.write(id, of, { seen = clock.now_ms })
  destination.enlist(id, of)
  return of
end

-- Nothing fails any more, or nobody holds it against it.
function destination.settle(id, of)
  destination.write(
    id,
    of,
    { failures = 0, since = 0, class = "", opened = 0, till = 0, granted = 0 }
  )
end

-- Moves it to another state.
function destination.turn(id, of, state)
  destination.write(id, of, { state = state })
  destination.enlist(id, of)
end

-- What nodes need of it.
function destination.show(id, of)
  return {
    id,
    of.tenant,
    of.origin,
    of.state,
    of.failures,
    of.since,
    of.class,
    math.max(of.till, of.quiet),
    of.granted,
    of.per_second,
    of.concurrency,
  }
end

return destination
