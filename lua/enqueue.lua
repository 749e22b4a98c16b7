-- enqueue: a producer's task becomes ready, or delayed. A known idempotency key answers its task.
--
-- KEYS  root         the partition
-- ARGV  max_attempts the default, when neither the task nor the queue's policy says
-- ARGV  retention_s  the default retention after the end
-- EACH  id           task id, made by the node: a repeat of this call finds it and does nothing
-- EACH  command      as spelled, to name a queue that is new
-- EACH  run_at_ms    when it becomes ready; 0: delay_ms decides
-- EACH  delay_ms     from now
-- EACH  max          attempts asked for, 0 for none
-- EACH  digest       of the payload, 16 characters, compared on a replay
-- EACH  stored       "1": the body was SET beside this call, with room for the head, and expires
-- EACH  body         packed body without its head; of a stored one at least up to the tenant
-- GIVES replayed     1: the idempotency key was known
-- GIVES id           of the new, or of the known task
-- GIVES mismatch     1: the known task has another payload
-- GIVES created_ms   when it was accepted
-- GIVES due_ms       when it is ready
-- GIVES max          attempts it may have
-- GIVES length       of its ready list; 1: waiters must hear of it
-- FAILS PART_LOST
-- COSTS O(log n) in the delayed tasks of the partition, otherwise O(1)
-- KEEPS one idempotency key, one task; a body without an index expires
local call = require("lib.call")
local clock = require("lib.clock")
local count = require("lib.count")
local key = require("lib.keys")
local number = require("lib.number")
local ready = require("lib.ready")

local default_max, default_retention = call.once()
local names, policies = {}, {}

-- Attempts and retention that the queue's policy sets, false where it does not.
local function policy(queue)
  local known = policies[queue]
  if not known then
    known = { false, false }
    local raw = redis.call("GETRANGE", key.policy .. queue, 0, 6)
    if #raw == 7 and string.byte(raw) == 1 then
      local _, max, retention = struct.unpack(">BHI4", raw)
      known = { max > 0 and max, retention > 0 and retention }
    end
    policies[queue] = known
  end
  return known
end

-- Whether an earlier run of this same call did the work, for a body that was SET beside it.
local function already_done(name, id)
  local ttl = redis.call("PTTL", name)
  if ttl == -2 then
    return nil, "PART_LOST"
  end
  return ttl == -1 or redis.call("EXISTS", key.done .. id) == 1
end

-- The tenant's name, the first of the packed fields.
local function tenant_name(body, hooks, flags, at)
  if flags % 2 == 1 then
    at = at + 22
  end
  if hooks ~= 0 then
    at = at + 16
  end
  local _, length = struct.unpack(">BH", body, at)
  return string.sub(body, at + 3, at + 2 + length)
end

local function enqueue(id, command, run_at_ms, delay_ms, max, digest, stored, body)
  local priority, hooks, label, flags, queue, at = struct.unpack(">BBHBc24", body)
  label = number(label)
  local name = key.body .. id
  local done, lost
  if stored == "1" then
    done, lost = already_done(name, id)
  end

  local idempotency
  if flags % 2 == 1 then
    idempotency = key.idempotency .. string.sub(body, at, at + 21)
    local known = not done and redis.call("GET", idempotency)
    if known and string.sub(known, 1, 22) ~= id then
      if stored == "1" then
        redis.call("UNLINK", name)
      end
      local other = string.sub(known, 1, 22)
      return { 1, other, string.sub(known, 23) == digest and 0 or 1, 0, 0, 0, 0 }
    end
  end
  -- Not before: a repeat of a call that found its key known, and gave the body up, finds no body.
  if lost then
    return lost
  end

  local now = clock.now_ms
  local due = now + delay_ms
  if run_at_ms ~= "0" then
    due = math.max(now, tonumber(run_at_ms))
  end
  local set = policy(queue)
  local attempts = tonumber(max)
  if attempts == 0 then
    attempts = set[1] or tonumber(default_max)
  end
  local retention = set[2] or tonumber(default_retention)
  local head = struct.pack(">BI8I8HI4", 1, now, due, attempts, retention)

  -- The growing write comes first: at maxmemory the call is refused here, whole. A body that is there
  -- was put there by an earlier run of this same call.
  if stored == "0" then
    done = not redis.call("SET", name, head .. body, "NX")
  elseif not done then
    redis.call("SETRANGE", name, "0", head)
    redis.call("PERSIST", name)
  end
  if done then
    local _, had_created, had_due, had_max =
      struct.unpack(">BI8I8H", redis.call("GETRANGE", name, "0", "22"))
    return { 0, id, 0, had_created, had_due, had_max, 0 }
  end
  if idempotency then
    redis.call("SET", idempotency, id .. digest)
  end
  if not names[queue] then
    names[queue] = { command, tenant_name(body, hooks, flags, at) }
  end
  local length = 0
  if due > now then
    redis.call("ZADD", key.delayed, due, id)
    count.add(queue, label, "d", 1)
  else
    length = ready.push(id, { queue = queue, label = label, priority = number(priority) })
  end
  return { 0, id, 0, now, due, attempts, length }
end

local answer = call.each(enqueue)
count.flush(names)
return answer
