-- task: what scripts need to know of a body. src/model/record.rs is the other side of the format.
local key = require("lib.keys")
local number = require("lib.number")

local task = {}

-- Reads the head out of the first bytes of a body: a table, or nil and a word.
function task.parse(raw)
  local version = string.byte(raw)
  if version == 0 then
    -- Stored beside an enqueue that has not come, and may never come.
    return nil, "NOT_FOUND"
  elseif version ~= 1 then
    return nil, "UNKNOWN_VERSION"
  end
  local _, created, due, max, retention, priority, hooks, label, flags, queue, at =
    struct.unpack(">BI8I8HI4BBHBc24", raw)
  local found = {
    raw = raw,
    created = created,
    due = due,
    max = max,
    retention_ms = retention * 1000,
    priority = number(priority),
    hooks = hooks,
    label = number(label),
    queue = queue,
  }
  if flags % 2 == 1 then
    found.idempotency = string.sub(raw, at, at + 21)
    at = at + 22
  end
  if hooks ~= 0 then
    found.destination = string.sub(raw, at, at + 15)
    at = at + 16
  end
  found.fields = at
  return found
end

-- The task of that id if it is this tenant's: a table, or nil and a word. 512 bytes hold the head
-- and the fields that signals name; the payload is not read.
function task.of(id, tenant)
  local raw = redis.call("GETRANGE", key.body .. id, "0", "511")
  if raw == "" then
    return nil, "NOT_FOUND"
  end
  local found, refusal = task.parse(raw)
  if found and tenant and string.sub(found.queue, 1, 12) ~= tenant then
    return nil, "NOT_FOUND"
  end
  return found, refusal
end

-- The trace context that the body holds, "" when none.
local function created_context(found)
  local raw, at = found.raw, found.fields
  while at + 2 <= #raw do
    local tag, length = struct.unpack(">BH", raw, at)
    if tag == 0 then
      return ""
    elseif tag == 3 then
      return string.sub(raw, at + 3, at + 2 + length)
    end
    at = at + 3 + length
  end
  return ""
end

-- All of a body but its payload: the fields come to at most some 12 KB.
function task.without_payload(id)
  local raw = redis.call("GETRANGE", key.body .. id, "0", "16383")
  local found = task.parse(raw)
  if not found then
    return ""
  end
  local at = found.fields
  while at + 2 <= #raw do
    local tag, length = struct.unpack(">BH", raw, at)
    if tag == 0 then
      break
    end
    at = at + 3 + length
  end
  return string.sub(raw, 1, at - 1) .. "\0"
end

-- The context after a step. The node drew the id of a span for it and offers it in 16 digits; the
-- trace and its flags are the task's own. "" offered: tracing is off, nothing changes. Of a call that
-- moves several tasks, the `n`-th has the number as its last four digits: two may be in one trace.
function task.context(found, current, offered, n)
  if offered == "" then
    return current
  end
  if current == "" then
    current = created_context(found)
  end
  if #current ~= 55 then
    return current
  end
  if n then
    offered = string.format("%s%04x", string.sub(offered, 1, 12), n)
  end
  return string.sub(current, 1, 36) .. offered .. string.sub(current, 53)
end

return task
