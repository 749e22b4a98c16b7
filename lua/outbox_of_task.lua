-- outbox_of_task: the latest delivery of a task, for somebody who looks at it.
--
-- KEYS  root       the partition
-- EACH  id         task id
-- EACH  tenant     tag of the caller's tenant
-- GIVES delivery   its name
-- GIVES record     its record in brief, with its whole log
-- GIVES due_ms     when it is due, or the end of the lease of an attempt; 0: it is not pending
-- GIVES parked_ms  until when its destination is left alone; 0: it is not
-- FAILS NOT_FOUND UNKNOWN_VERSION
-- COSTS O(1)
-- KEEPS everything
local brief = require("lib.brief")
local call = require("lib.call")
local key = require("lib.keys")
local lease = require("lib.lease")
local task = require("lib.task")

-- Ends of a task that may have been told to nobody before one that was.
local BACK = 16

-- How often the task has ended.
local function ends_of(id)
  local done = redis.call("GETRANGE", key.done .. id, "2", "3")
  if done ~= "" then
    return (struct.unpack(">H", done))
  end
  local of = lease.read(id) or lease.kept(id)
  return of and of.ends or 0
end

local function step(id, tenant)
  local found, refusal = task.of(id, tenant)
  if not found then
    return refusal
  end
  local ends = found.destination and ends_of(id) or 0
  for n = ends, math.max(ends - BACK + 1, 1), -1 do
    local name = id .. "_" .. n
    local record, missing = brief(name, 255)
    if record then
      local destination = string.sub(record, 49, 64)
      local due = redis.call("ZSCORE", key.pending .. destination, name)
      local parked = redis.call("ZSCORE", key.parked, destination)
      return { name, record, tonumber(due or 0), tonumber(parked or 0) }
    elseif missing ~= "NOT_FOUND" then
      return missing
    end
  end
  return "NOT_FOUND"
end

return call.each(step)
