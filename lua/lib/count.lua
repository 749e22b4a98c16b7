-- count: how many tasks of a queue, and of a metric label, are ready (r), delayed (d), in progress (p)
-- and dead (x). Changes are gathered and written once per call; a number at 0 leaves no field.
local clock = require("lib.clock")
local key = require("lib.keys")

local count = {}
local by_queue, by_label, label_of = {}, {}, {}

function count.add(queue, label, state, by)
  local of_queue, of_label = queue .. state, label .. state
  by_queue[of_queue] = (by_queue[of_queue] or 0) + by
  by_label[of_label] = (by_label[of_label] or 0) + by
  label_of[queue] = label
end

local function write(field, by)
  local now = redis.call("HINCRBY", key.counts, field, by)
  if now == 0 then
    redis.call("HDEL", key.counts, field)
  end
  return now
end

-- Forgets the name of a queue that holds nothing and is not paused. Tasks from before a change of the
-- settings may have been counted under another label, most likely that of all others.
function count.forget_if_idle(queue, label)
  local left =
    redis.call("HMGET", key.counts, queue .. "r", queue .. "d", queue .. "p", queue .. "x")
  if
    not (left[1] or left[2] or left[3] or left[4])
    and redis.call("SISMEMBER", key.paused, queue) == 0
  then
    local tenant = string.sub(queue, 1, 12)
    redis.call("HDEL", key.queues .. tenant, string.sub(queue, 13))
    if redis.call("ZREM", key.of_label .. label, queue) == 0 then
      redis.call("ZREM", key.of_label .. "0", queue)
    end
    if redis.call("EXISTS", key.queues .. tenant) == 0 then
      redis.call("HDEL", key.tenants, tenant)
    end
  end
end

-- Remembers the name of a queue, as first spelled, and of its tenant.
function count.register(queue, command, tenant, label)
  local tag = string.sub(queue, 1, 12)
  if redis.call("HSETNX", key.queues .. tag, string.sub(queue, 13), command) == 1 then
    redis.call("ZADD", key.of_label .. label, clock.now_ms, queue)
    redis.call("HSETNX", key.tenants, tag, tenant)
  end
end

-- Writes what was gathered. `names`, given by enqueue: queue -> command and tenant, for queues that
-- may be new. Returns queue -> ready tasks, for the queues whose ready number changed.
function count.flush(names)
  local ready = {}
  for field, by in pairs(by_label) do
    if by ~= 0 then
      write(field, by)
    end
  end
  local drained = {}
  for field, by in pairs(by_queue) do
    if by ~= 0 then
      local queue, state = string.sub(field, 1, 24), string.sub(field, 25)
      local now = write(field, by)
      if now == 0 then
        drained[queue] = true
      end
      local tenant, command = string.sub(queue, 1, 12), string.sub(queue, 13)
      if names and now == by then
        count.register(queue, names[queue][1], names[queue][2], label_of[queue])
      end
      if state == "r" then
        ready[queue] = now
        if now == 0 then
          redis.call("ZREM", key.waiting .. tenant, command)
        elseif now == by then
          redis.call("ZADD", key.waiting .. tenant, "NX", clock.now_ms, command)
        end
      end
    end
  end
  for queue in pairs(drained) do
    count.forget_if_idle(queue, label_of[queue])
  end
  by_queue, by_label, label_of = {}, {}, {}
  return ready
end

return count
