-- queues: the queues of a tenant that hold a task or are paused, some at a time.
--
-- KEYS  root      the partition
-- EACH  tenant    tag of the tenant
-- EACH  cursor    "0" first
-- GIVES commands  tags of their commands, 12 characters each
-- GIVES cursor    to go on with, "0" at the end
-- COSTS O(1): about 100 of them
-- KEEPS everything
local call = require("lib.call")
local key = require("lib.keys")

local function queues(tenant, cursor)
  local page = redis.call("HSCAN", key.queues .. tenant, cursor, "COUNT", 100)
  local commands = {}
  for i = 1, #page[2], 2 do
    commands[#commands + 1] = page[2][i]
  end
  return { commands, page[1] }
end

return call.each(queues)
