-- outbox_replay: somebody asks for a delivery again. A dead one, and a delivered one while its task
-- is there, gets a new series of attempts; a pending one is due now, unless an attempt is under way.
--
-- KEYS  root      the partition
-- EACH  delivery  its name
-- EACH  tenant    tag of the caller's tenant
-- EACH  asked     trace context of the request, "" without
-- EACH  hold_ms   the least that a task stays while its delivery is pending
-- EACH  recovery  id of the recovery that moves it, and then only a dead one; "" for none
-- GIVES moved     1: a new series began; 0: it goes on as it was
-- FAILS NOT_FOUND UNKNOWN_VERSION
-- COSTS O(log n) in the pending and in the dead deliveries
-- KEEPS identity and body; no destination is looked at earlier for it than its park ends
local call = require("lib.call")
local clock = require("lib.clock")
local records = require("lib.delivery")
local key = require("lib.keys")
local lost = require("lib.lost")
local number = require("lib.number")
local outbox = require("lib.outbox")
local task = require("lib.task")

-- The bit of a series that somebody asked for.
local REPLAY = 4
-- How long a recovery is counted: eight days, a day longer than its record.
local COUNTED_MS = "691200000"

-- The name of the large result that belongs to a terminal record, nil without.
local function part_of(record)
  local at = select(12, struct.unpack(">BBHI8I8Hc16c16Hc0Bc0Hc0", record))
  while at + 4 <= #record do
    local tag, length = struct.unpack(">BI4", record, at)
    if tag == 2 then
      return string.sub(record, at + 5, at + 4 + length)
    end
    at = at + 5 + length
  end
  return nil
end

-- Keeps a task that has ended, with all that belongs to it, at least that long.
local function hold(id, record, hold_ms)
  local left = redis.call("PTTL", key.done .. id)
  if left < 0 or left >= tonumber(hold_ms) then
    return
  end
  for _, prefix in ipairs({ key.body, key.done, key.history }) do
    redis.call("PEXPIRE", prefix .. id, hold_ms)
  end
  local found = task.of(id)
  if found and found.idempotency then
    redis.call("PEXPIRE", key.idempotency .. found.idempotency, hold_ms)
  end
  local part = part_of(record)
  if part then
    redis.call("PEXPIRE", key.part .. id .. ":" .. part, hold_ms)
  end
end

-- The terminal record that the delivery tells of, nil when the task is gone or lives again.
local function end_of(id, of)
  local record = redis.call("GET", key.done .. id)
  if record and string.byte(record) == 1 and struct.unpack(">H", record, 3) == of.ends then
    return record
  end
  return nil
end

-- Makes a pending one due now. What is under a lease is being sent.
local function hasten(name, of)
  local pending = key.pending .. of.destination
  local due = redis.call("ZSCORE", pending, name)
  if of.claims == 0 and due and tonumber(due) > clock.now_ms then
    redis.call("ZADD", pending, "XX", number(clock.now_ms), name)
    outbox.look(of.destination, number(clock.now_ms))
  end
end

local function again(name, of, record, asked, hold_ms)
  of.state, of.claims, of.reason, of.base = records.PENDING, 0, 0, of.attempts
  of.born, of.changed, of.asked = clock.now_ms, 0, asked
  if math.floor(of.flags / REPLAY) % 2 == 0 then
    of.flags = of.flags + REPLAY
  end
  records.write(name, of)
  if record then
    hold(string.sub(name, 1, 22), record, hold_ms)
  end
  outbox.enter(name, of.tenant, of.destination)
end

-- Counts for a recovery what became of one.
local function counted(recovery, field)
  if recovery ~= "" then
    redis.call("HINCRBY", key.recovered .. recovery, field, 1)
    redis.call("PEXPIRE", key.recovered .. recovery, COUNTED_MS)
  end
end

local function replay(delivery, tenant, asked, hold_ms, recovery)
  local of, unreadable = records.read(delivery)
  if unreadable then
    return unreadable
  end
  local is_dead = of and of.tenant == tenant and of.state == records.DEAD
  if recovery ~= "" and not is_dead then
    counted(recovery, "failed")
    return { 0 }
  elseif not of or of.tenant ~= tenant then
    return "NOT_FOUND"
  elseif of.state == records.PENDING then
    hasten(delivery, of)
    return { 0 }
  end
  local record = end_of(string.sub(delivery, 1, 22), of)
  if is_dead then
    lost.leave(delivery, of)
  elseif of.state ~= records.DELIVERED or not record then
    return "NOT_FOUND"
  end
  again(delivery, of, record, asked, hold_ms)
  counted(recovery, "done")
  return { 1 }
end

return call.each(replay)
