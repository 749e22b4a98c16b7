-- upload: artifacts of a submit are about to be stored. Their folder is written down first, so that
-- whatever becomes of the node, somebody knows what to delete.
--
-- KEYS  root       the partition
-- ARGV  within_ms  from when on no submit comes any more
-- EACH  id         task id
-- EACH  tenant     tag of the caller's tenant
-- EACH  worker     the caller's subject
-- EACH  token      lease token, "" when the caller sent none
-- EACH  folder     name of the folder, never used before
-- EACH  span       id of the span drawn for the submit, 16 digits, "" without tracing
-- GIVES held       0: the caller does not hold the task, and nothing was written
-- GIVES trace      trace context of that span
-- COSTS O(log n) in the folders of the partition
-- KEEPS every folder in the store has an entry until it is empty
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")
local lease = require("lib.lease")
local number = require("lib.number")
local task = require("lib.task")

local within_ms = tonumber((call.once()))

local function upload(id, tenant, worker, token, folder, span)
  local found, of = lease.held(id, tenant, worker, token)
  if not found then
    return { 0, "" }
  end
  redis.call("ZADD", key.folders, number(clock.now_ms + within_ms), "u" .. id .. folder)
  return { 1, task.context(found, of.trace, span) }
end

return call.each(upload)
