-- tenants: who has a queue that holds a task or is paused, some at a time.
--
-- KEYS  root    the partition
-- EACH  cursor  "0" first
-- GIVES names   of tenants
-- GIVES cursor  to go on with, "0" at the end
-- COSTS O(1): about 100 of them
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local function tenants(cursor)
  local page = redis.call("HSCAN", key.tenants, cursor, "COUNT", 100)
  local names = {}
  for i = 2, #page[2], 2 do
    names[#names + 1] = page[2][i]
  end
  return { names, page[1] }
end

return call.each(tenants)
