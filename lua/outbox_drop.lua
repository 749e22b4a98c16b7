-- outbox_drop: a delivery that is pending or dead goes for good, unsent. An attempt that is under way
-- finds nothing to write its outcome to.
--
-- KEYS  root      the partition
-- EACH  delivery  its name
-- EACH  tenant    tag of the caller's tenant
-- GIVES dropped   1; 0: there was none such
-- GIVES dead      1: it was dead; 0: it was pending
-- FAILS UNKNOWN_VERSION
-- COSTS O(log n) in the pending and in the dead deliveries
-- KEEPS what was delivered
local call = require("lib.call")
local records = require("lib.delivery")
local key = require("lib.keys")
local lost = require("lib.lost")
local outbox = require("lib.outbox")

local function drop(delivery, tenant)
  local of, unreadable = records.read(delivery)
  if not of or of.tenant ~= tenant then
    return unreadable or { 0, 0 }
  end
  if of.state == records.PENDING then
    outbox.leave(delivery, of.tenant, of.destination)
  elseif of.state == records.DEAD then
    lost.leave(delivery, of)
  else
    return { 0, 0 }
  end
  redis.call("DEL", key.delivery .. delivery)
  return { 1, of.state == records.DEAD and 1 or 0 }
end

return call.each(drop)
