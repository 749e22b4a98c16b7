-- delivery: the record of one. src/model/delivery.rs is the other side of the format.
local key = require("lib.keys")

local delivery = { PENDING = 0, DELIVERED = 1, DEAD = 2, SUPERSEDED = 3 }

-- Attempts that the log keeps.
local LOG = 20

local FIXED = ">BBHHBBBBHI8I8I8c12c16"
local FIELDS = {
  "state",
  "attempts",
  "base",
  "claims",
  "flags",
  "reason",
  "kind",
  "ends",
  "completed",
  "born",
  "changed",
  "tenant",
  "destination",
}

-- The record of a delivery: a table, nil when there is none, nil and a word when it is unreadable.
function delivery.read(name)
  local raw = redis.call("GET", key.delivery .. name)
  if not raw then
    return nil
  elseif string.byte(raw) ~= 1 then
    return nil, "UNKNOWN_VERSION"
  end
  local of = { raw = raw }
  local fixed = { struct.unpack(FIXED, raw) }
  for n, field in ipairs(FIELDS) do
    of[field] = fixed[n + 1]
  end
  local at = fixed[#fixed]
  local body_length, entries
  of.asked, of.error, entries, at = struct.unpack(">Bc0Hc0B", raw, at)
  of.log = {}
  for n = 1, entries do
    of.log[n], at = struct.unpack(">Hc0", raw, at)
  end
  of.head, body_length, at = struct.unpack(">I4c0I4", raw, at)
  of.body = string.sub(raw, at, at + body_length - 1)
  return of
end

-- Adds what one attempt left; the oldest beyond the limit go.
function delivery.note(of, entry)
  if entry ~= "" then
    of.log[#of.log + 1] = entry
    if #of.log > LOG then
      table.remove(of.log, 1)
    end
  end
end

-- The record as text.
function delivery.pack(of)
  local fixed = {}
  for n, name in ipairs(FIELDS) do
    fixed[n] = of[name]
  end
  local parts = {
    struct.pack(FIXED, 1, unpack(fixed)),
    struct.pack(">Bc0Hc0B", #of.asked, of.asked, #of.error, of.error, #of.log),
  }
  for _, entry in ipairs(of.log) do
    parts[#parts + 1] = struct.pack(">Hc0", #entry, entry)
  end
  parts[#parts + 1] = struct.pack(">I4c0I4", #of.head, of.head, #of.body)
  parts[#parts + 1] = of.body
  return table.concat(parts)
end

-- Writes a record that stays until something happens to it.
function delivery.write(name, of)
  redis.call("SET", key.delivery .. name, delivery.pack(of))
end

-- Writes a record that goes after `keep_ms`.
function delivery.write_for(name, of, keep_ms)
  redis.call("SET", key.delivery .. name, delivery.pack(of), "PX", string.format("%.0f", keep_ms))
end

return delivery
