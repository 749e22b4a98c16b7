-- outbox: the indexes of what is to be delivered. A pending delivery is in `pending` and in `aging`,
-- and its destination is in `outbox` or in `parked`.
local clock = require("lib.clock")
local key = require("lib.keys")
local number = require("lib.number")

-- So long after a destination is to be looked at again a node may act upon what it saw before: a look
-- serves for a second, and what came of it for another.
local STALE_MS = 2500
-- What is parked meanwhile is looked at again after so long.
local SOON_MS = 500

local outbox = {}

-- Has a destination looked at no later than `due`, unless it is parked.
function outbox.look(destination, due)
  if not redis.call("ZSCORE", key.parked, destination) then
    redis.call("ZADD", key.outbox, "LT", due, destination)
  end
end

-- Leaves a destination alone until then. Its deliveries stay as they are, however many.
function outbox.park(destination, till)
  local roused = redis.call("GET", key.roused .. destination)
  if roused and tonumber(roused) > clock.now_ms then
    till = number(math.min(tonumber(till), clock.now_ms + SOON_MS))
  end
  redis.call("ZREM", key.outbox, destination)
  redis.call("ZADD", key.parked, "GT", till, destination)
end

-- Looks at a destination again, and soon once more if a node parks it that does not know yet: 1 if it
-- was parked.
function outbox.unpark(destination)
  local till = number(clock.now_ms + STALE_MS)
  redis.call("SET", key.roused .. destination, till, "PX", STALE_MS)
  local removed = redis.call("ZREM", key.parked, destination)
  if removed == 1 then
    redis.call("ZADD", key.outbox, clock.now_ms, destination)
  end
  return removed
end

-- A delivery that is due now; its record is written.
function outbox.enter(delivery, tenant, destination)
  redis.call("ZADD", key.pending .. destination, clock.now_ms, delivery)
  redis.call("ZADD", key.aging, clock.now_ms, tenant .. delivery)
  outbox.look(destination, clock.now_ms)
end

-- Writes and enters what the operator is to hear of. `record` is packed by the node but for its times.
function outbox.event(name, destination, record)
  local begin = struct.pack(">I8I8", clock.now_ms, clock.now_ms)
  record = string.sub(record, 1, 12) .. begin .. string.sub(record, 29)
  redis.call("SET", key.delivery .. name, record)
  outbox.enter(name, string.sub(record, 37, 48), destination)
end

-- Takes a delivery out: 1 if it was pending. A destination with nothing pending leaves no key.
function outbox.leave(delivery, tenant, destination)
  local removed = redis.call("ZREM", key.pending .. destination, delivery)
  if removed == 1 then
    redis.call("ZREM", key.aging, tenant .. delivery)
    if redis.call("EXISTS", key.pending .. destination) == 0 then
      redis.call("ZREM", key.outbox, destination)
      redis.call("ZREM", key.parked, destination)
    end
  end
  return removed
end

return outbox
