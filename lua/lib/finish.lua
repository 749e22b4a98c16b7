-- finish: the one way out. Every terminal transition writes the record, starts the retention of all
-- that belongs to the task, and puts the webhook's delivery into the outbox, in the same script.
local clock = require("lib.clock")
local key = require("lib.keys")
local number = require("lib.number")
local outbox = require("lib.outbox")

local finish = { COMPLETED = 1, FAILED = 2, DEAD = 3, CANCELLED = 4 }

local any_awaited = redis.call("EXISTS", key.awaited) == 1

local NO_TOKEN = string.rep("-", 16)

-- Which bit of the task's hooks asks for which end.
local WANTS = { 1, 2, 4, 8 }

-- How long a superseded delivery can be looked at: a week. Its state as a byte.
local SHOWN_MS, SUPERSEDED = "604800000", "\3"

-- `of`: kind, ends (transitions before this one), claimed, attempt, token, worker, trace, error,
-- history; from a submit also digest, parts, apart. `keep_ms` is how long all of it stays, at least
-- `hold_ms` while a delivery is pending. Returns the record and whether somebody waits for it.
function finish.task(id, found, of, keep_ms, hold_ms)
  local ends = of.ends + 1
  local trace, worker, message = of.trace, of.worker, of.error
  local record = struct.pack(
    ">BBHI8I8Hc16c16Hc0Bc0Hc0",
    1,
    of.kind,
    ends,
    clock.now_ms,
    of.claimed,
    of.attempt,
    of.token or NO_TOKEN,
    of.digest or NO_TOKEN,
    #worker,
    worker,
    #trace,
    trace,
    #message,
    message
  ) .. (of.parts or "")

  local hooked = math.floor(found.hooks / WANTS[of.kind]) % 2 == 1
  if hooked and keep_ms < hold_ms then
    keep_ms = hold_ms
  end

  local keep = number(keep_ms)
  redis.call("SET", key.done .. id, record, "PX", keep)
  redis.call("PEXPIRE", key.body .. id, keep)
  if found.idempotency then
    redis.call("PEXPIRE", key.idempotency .. found.idempotency, keep)
  end
  if of.history == 1 then
    redis.call("PEXPIRE", key.history .. id, keep)
  end
  if of.apart and of.apart ~= "" then
    redis.call("PEXPIRE", key.part .. id .. ":" .. of.apart, keep)
  end

  if hooked then
    local name = id .. "_" .. ends
    local tenant = string.sub(found.queue, 1, 12)
    -- What it reports is in the record written above; model/delivery.rs has the layout.
    redis.call(
      "SET",
      key.delivery .. name,
      struct.pack(
        ">BBHHBBBBHI8I8I8c12c16BHBI4I4",
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        of.kind,
        ends,
        clock.now_ms,
        clock.now_ms,
        0,
        tenant,
        found.destination,
        0,
        0,
        0,
        0,
        0
      )
    )
    outbox.enter(name, tenant, found.destination)
  end
  return record, any_awaited and redis.call("ZREM", key.awaited, id) or 0
end

-- Takes the delivery of the end before out of the outbox, if it is still there: the task lives again.
function finish.supersede(id, found, ends)
  if found.destination == nil then
    return 0
  end
  local name = id .. "_" .. ends
  local removed = outbox.leave(name, string.sub(found.queue, 1, 12), found.destination)
  if removed == 1 then
    redis.call("SETRANGE", key.delivery .. name, "1", SUPERSEDED)
    redis.call("PEXPIRE", key.delivery .. name, SHOWN_MS)
  end
  return removed
end

return finish
