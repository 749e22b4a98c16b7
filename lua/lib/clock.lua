-- clock: the store's time in milliseconds, read once per script. A node's clock decides nothing.
-- Before Redis 7, a script that reads the time may write only in this replication mode.
if redis.replicate_commands then
  redis.replicate_commands()
end
local time = redis.call("TIME")
return { now_ms = time[1] * 1000 + math.floor(time[2] / 1000) }
