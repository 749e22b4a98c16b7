-- outbox_read: a delivery, for somebody who looks at it.
--
-- KEYS  root       the partition
-- EACH  delivery   its name
-- EACH  tenant     tag of the caller's tenant, "" for all
-- EACH  log        entries of its log at most, the last ones
-- GIVES record     its record in brief
-- GIVES due_ms     when it is due, or the end of the lease of an attempt; 0: it is not pending
-- GIVES parked_ms  until when its destination is left alone; 0: it is not
-- FAILS NOT_FOUND UNKNOWN_VERSION
-- COSTS O(1)
-- KEEPS everything
local brief = require("lib.brief")
local call = require("lib.call")
local key = require("lib.keys")

local function read(delivery, tenant, log)
  local record, refusal = brief(delivery, tonumber(log))
  if not record then
    return refusal
  elseif tenant ~= "" and string.sub(record, 37, 48) ~= tenant then
    return "NOT_FOUND"
  end
  local destination = string.sub(record, 49, 64)
  local due = redis.call("ZSCORE", key.pending .. destination, delivery)
  local parked = redis.call("ZSCORE", key.parked, destination)
  return { record, tonumber(due or 0), tonumber(parked or 0) }
end

return call.each(read)
