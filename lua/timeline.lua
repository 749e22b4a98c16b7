-- timeline: a task and the attempts that did not end by a submit.
--
-- KEYS  root       the partition
-- EACH  id         task id
-- EACH  tenant     tag of the caller's tenant
-- GIVES place      as read gives it
-- GIVES body       as read gives it
-- GIVES size       as read gives it
-- GIVES record     as read gives it
-- GIVES attempted  as read gives it
-- GIVES at_ms      as read gives it
-- GIVES past       packed entries, newest first, at most 32
-- FAILS NOT_FOUND UNKNOWN_VERSION
-- COSTS O(1)
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")
local place = require("lib.place")

local function timeline(id, tenant)
  local found, refusal = place(id, tenant)
  if not found then
    return refusal
  end
  found[7] = redis.call("LRANGE", key.history .. id, 0, 31)
  return found
end

return call.each(timeline)
