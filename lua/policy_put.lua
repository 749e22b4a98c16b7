-- policy_put: what an admin lays down for a queue.
--
-- KEYS  root         the partition
-- EACH  queue        name of 24 characters
-- EACH  max          attempts of new tasks, 0: the default
-- EACH  retention_s  their retention, 0: the default
-- EACH  text         the policy as JSON, with its fields in one order
-- GIVES created      1: there was none
-- GIVES version      counts its changes, from 1
-- GIVES before       the policy that was there as JSON, "" without
-- FAILS UNKNOWN_VERSION
-- COSTS O(1)
-- KEEPS the version of a policy that is put again unchanged
local call = require("lib.call")
local key = require("lib.keys")

local function policy_put(queue, max, retention_s, text)
  local name = key.policy .. queue
  local raw = redis.call("GET", name)
  local created, version, before = 1, 1, ""
  if raw and string.byte(raw) ~= 1 then
    return "UNKNOWN_VERSION"
  elseif raw then
    local _, _, _, had, at = struct.unpack(">BHI4I4", raw)
    created, version = 0, had
    before = string.sub(raw, at)
    if before == text then
      return { 0, version, before }
    end
    version = version + 1
  end
  redis.call("SET", name, struct.pack(">BHI4I4", 1, max, retention_s, version) .. text)
  return { created, version, before }
end

return call.each(policy_put)
