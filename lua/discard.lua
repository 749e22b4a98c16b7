-- discard: a folder of artifacts that no record names is empty now.
--
-- KEYS  root    the partition
-- EACH  folder  id of its task, and its name
-- GIVES gone    0: it was written down no more
-- COSTS O(log n) in the folders of the partition
-- KEEPS the folder that a record names
local call = require("lib.call")
local key = require("lib.keys")

local function discard(folder)
  return { redis.call("ZREM", key.folders, "u" .. folder, "x" .. folder) }
end

return call.each(discard)
