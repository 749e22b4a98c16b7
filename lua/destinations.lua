-- destinations: those of a tenant, or of everybody, in the order of their ids.
--
-- KEYS  root     the partition
-- EACH  tag      tag of the tenant, "" for all
-- EACH  state    only those, "" for all
-- EACH  after    begin behind this one, "" at the first
-- EACH  most     how many
-- GIVES records  at most so many
-- GIVES more     1: there are others behind
-- COSTS O(n log n) in the tenant's destinations on the partition, at most 10,000 of them
-- KEEPS everything
local call = require("lib.call")
local destination = require("lib.destination")
local key = require("lib.keys")

-- Destinations that are looked through. Beyond them a list is not whole.
local MOST = 10000

local function ids(tag, code)
  if tag == "" then
    if not code then
      return redis.call("ZRANGEBYSCORE", key.standing, "-inf", "+inf", "LIMIT", 0, MOST)
    end
    return redis.call("ZRANGEBYSCORE", key.standing, code, code, "LIMIT", 0, MOST)
  end
  local name = key.destinations .. tag
  local all = redis.call("ZRANGEBYSCORE", name, "-inf", "+inf", "LIMIT", 0, MOST)
  if not code then
    return all
  end
  local found = {}
  for _, id in ipairs(all) do
    if tonumber(redis.call("ZSCORE", key.standing, id)) == code then
      found[#found + 1] = id
    end
  end
  return found
end

local function destinations(tag, state, after, most)
  local found = ids(tag, state ~= "" and destination.code(state) or nil)
  table.sort(found)
  local records, more = {}, 0
  most = tonumber(most)
  for _, id in ipairs(found) do
    if id > after then
      if #records == most then
        more = 1
        break
      end
      local of = destination.read(id)
      if of then
        records[#records + 1] = destination.show(id, of)
      end
    end
  end
  return { records, more }
end

return call.each(destinations)
