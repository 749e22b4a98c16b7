-- place: where a task is. Its state is the index that holds it, so this is asked, never stored.
local key = require("lib.keys")
local task = require("lib.task")

-- The first bytes of a body that a read gets through the script; the rest is fetched beside it.
local NEAR, LAST = 2048, "2047"

-- Returns place, first bytes of the body, its whole size, the record of that place (lease or
-- terminal), the record of earlier attempts, and the time that goes with the place (lease end, due);
-- or nil and a word.
return function(id, tenant)
  local raw = redis.call("GETRANGE", key.body .. id, "0", LAST)
  if raw == "" then
    return nil, "NOT_FOUND"
  end
  local found, refusal = task.parse(raw)
  if not found then
    return nil, refusal
  end
  if string.sub(found.queue, 1, 12) ~= tenant then
    return nil, "NOT_FOUND"
  end
  local size = #raw
  if size == NEAR then
    size = redis.call("STRLEN", key.body .. id)
  end

  local held = redis.call("HGET", key.held, id)
  if held then
    return { "leased", raw, size, held, "", tonumber(redis.call("ZSCORE", key.leases, id)) }
  end
  local done = redis.call("GET", key.done .. id)
  if done then
    local buried = redis.call("ZSCORE", key.dead .. found.queue, id)
    return { buried and "dead" or "done", raw, size, done, "", tonumber(buried or 0) }
  end
  local attempted = redis.call("HGET", key.attempted, id) or ""
  local due = redis.call("ZSCORE", key.delayed, id)
  if due then
    return { "delayed", raw, size, "", attempted, tonumber(due) }
  end
  -- A body that still expires was never enqueued, or outlived its record by a moment.
  if redis.call("PTTL", key.body .. id) >= 0 then
    return nil, "NOT_FOUND"
  end
  return { "ready", raw, size, "", attempted, 0 }
end
