-- brief: the record of a delivery for somebody who looks at it. It comes without the body that is
-- sent and with as much of the task's body as names it, from wherever that is.
local key = require("lib.keys")

-- All of a record up to what its task's body says of command and webhook.
local NEAR = "16383"
-- That part of a task's body.
local HEAD, LAST = 2560, "2559"

-- The record with the last `most` entries of its log: text, or nil and a word.
return function(name, most)
  local raw = redis.call("GETRANGE", key.delivery .. name, "0", NEAR)
  if raw == "" then
    return nil, "NOT_FOUND"
  elseif string.byte(raw) ~= 1 then
    return nil, "UNKNOWN_VERSION"
  end
  local at = 66 + string.byte(raw, 65)
  at = at + 2 + struct.unpack(">H", raw, at)
  local entries = string.byte(raw, at)
  at = at + 1
  local log = {}
  for n = 1, entries do
    local length = struct.unpack(">H", raw, at)
    if n > entries - most then
      log[#log + 1] = string.sub(raw, at, at + 1 + length)
    end
    at = at + 2 + length
  end
  local length = struct.unpack(">I4", raw, at)
  local head = string.sub(raw, at + 4, at + 3 + math.min(length, HEAD))
  if head == "" then
    head = redis.call("GETRANGE", key.body .. string.sub(name, 1, 22), "0", LAST)
  end
  return string.sub(raw, 1, 64)
    .. struct.pack(">BHB", 0, 0, #log)
    .. table.concat(log)
    .. struct.pack(">I4", #head)
    .. head
    .. struct.pack(">I4", 0)
end
