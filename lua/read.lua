-- read: a task, wherever it is.
--
-- KEYS  root       the partition
-- EACH  id         task id
-- EACH  tenant     tag of the caller's tenant
-- GIVES place      "ready", "delayed", "leased", "dead" or "done"
-- GIVES body       first 2048 bytes of the body
-- GIVES size       its whole length
-- GIVES record     lease record, or terminal record, or ""
-- GIVES attempted  what it brings along from earlier attempts, or ""
-- GIVES at_ms      end of the lease, due time, or time of death; else 0
-- FAILS NOT_FOUND UNKNOWN_VERSION
-- COSTS O(1)
-- KEEPS everything
local call = require("lib.call")
local place = require("lib.place")

local function read(id, tenant)
  local found, refusal = place(id, tenant)
  return found or refusal
end

return call.each(read)
