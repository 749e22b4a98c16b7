-- history: attempts that ended other than by a submit, for the timeline. A task that goes well has
-- none and pays nothing.
local clock = require("lib.clock")
local key = require("lib.keys")

local history = { NACK = 1, EXPIRED = 2, ABANDON = 3, UNDELIVERED = 4, REDRIVE = 5 }
history.READY, history.DELAYED, history.DEAD = 1, 2, 3

-- How many entries are kept.
local LIMIT = 32

function history.push(id, claimed, attempt, cause, to, worker, trace, reason)
  redis.call(
    "LPUSH",
    key.history .. id,
    struct.pack(
      ">BI8I8HBBHc0Bc0Hc0",
      1,
      claimed,
      clock.now_ms,
      attempt,
      cause,
      to,
      #worker,
      worker,
      #trace,
      trace,
      #reason,
      reason
    )
  )
  redis.call("LTRIM", key.history .. id, 0, LIMIT - 1)
end

return history
