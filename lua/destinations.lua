-- destinations: those of a tenant, or of everybody, in the order of their ids.
--
-- KEYS  root     the partition
-- EACH  tag      tag of the tenant, "" for all
-- EACH  state    only those, "" for all
-- EACH  after    begin behind this one, "" at the first
-- EACH  most     how many
-- GIVES records  at most so many
-- GIVES more     1: there are others behind
-- COSTS O(n log n) in the tenant's destinations on the partition
-- KEEPS everything
local call = require("lib.call")
local destination = require("lib.destination")
local key = require("lib.keys")

local function ids(tag, code)
  if tag == "" then
    if not code then
      return redis.call("ZRANGE", key.standing, 0, -1)
    end
    return redis.call("ZRANGEBYSCORE", key.standing, code, code)
  end
  local all = redis.call("ZRANGE", key.destinations .. tag, 0, -1)
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

return call.each(function(tag, state, after, most)
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
end)
