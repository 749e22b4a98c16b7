-- purge: dead tasks go for good, with their results, history and idempotency keys.
--
-- KEYS  root       the partition
-- EACH  queue      name of 24 characters
-- EACH  ids        ids of 22 characters; "": the oldest
-- EACH  limit      most to take when no ids are given
-- EACH  before_ms  take only those that died before, when no ids are given; 0: now
-- GIVES purged     label number of each
-- COSTS O(k log n) for k tasks
-- KEEPS a pending delivery of a purged task: it takes with it what it needs of the task
local call = require("lib.call")
local count = require("lib.count")
local dead = require("lib.dead")
local delivery = require("lib.delivery")
local key = require("lib.keys")
local lease = require("lib.lease")
local task = require("lib.task")

-- Its receiver has not heard of the end yet, and will.
local function take_along(id, ends)
  local name = id .. "_" .. ends
  local of = delivery.read(name)
  if of and of.state == delivery.PENDING and of.head == "" then
    of.head = task.without_payload(id)
    local record = redis.call("GET", key.done .. id)
    if record then
      local _, _, _, _, _, _, _, _, _, _, message =
        struct.unpack(">BBHI8I8Hc16c16Hc0Bc0Hc0", record)
      of.error = message
    end
    delivery.write(name, of)
  end
end

local function purge(queue, ids, limit, before_ms)
  local purged = {}
  for _, id in ipairs(dead.choose(queue, ids, limit, before_ms)) do
    local found, refusal = task.of(id)
    if refusal == "NOT_FOUND" then
      purged[#purged + 1] = dead.drop(id, queue)
    elseif found and found.queue == queue and dead.remove(id, found) == 1 then
      local kept = lease.kept(id)
      if kept and found.hooks ~= 0 then
        take_along(id, kept.ends)
      end
      redis.call("HDEL", key.attempted, id)
      redis.call("UNLINK", key.body .. id, key.done .. id, key.history .. id)
      if found.idempotency then
        redis.call("DEL", key.idempotency .. found.idempotency)
      end
      purged[#purged + 1] = tonumber(found.label)
    end
  end
  return { purged }
end

local answer = call.each(purge)
count.flush()
return answer
