-- purge: dead tasks go for good, with their results, history and idempotency keys.
--
-- KEYS  root       the partition
-- EACH  queue      name of 24 characters
-- EACH  ids        ids of 22 characters; "": the oldest
-- EACH  limit      most to take when no ids are given
-- EACH  before_ms  take only those that died before, when no ids are given; 0: now
-- GIVES purged     how many
-- COSTS O(k log n) for k tasks
-- KEEPS a pending delivery of a purged task stays: its receiver has not heard of the end
local call = require("lib.call")
local count = require("lib.count")
local dead = require("lib.dead")
local key = require("lib.keys")
local task = require("lib.task")

local function purge(queue, ids, limit, before_ms)
  local purged = 0
  for _, id in ipairs(dead.choose(queue, ids, limit, before_ms)) do
    local found, refusal = task.of(id)
    if refusal == "NOT_FOUND" then
      purged = purged + dead.drop(id, queue)
    elseif found and found.queue == queue and dead.remove(id, found) == 1 then
      redis.call("HDEL", key.attempted, id)
      redis.call("UNLINK", key.body .. id, key.done .. id, key.history .. id)
      if found.idempotency then
        redis.call("DEL", key.idempotency .. found.idempotency)
      end
      purged = purged + 1
    end
  end
  return { purged }
end

local answer = call.each(purge)
count.flush()
return answer
