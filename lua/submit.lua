-- submit: a worker's verdict ends the task: result, terminal state and outbox entry together.
--
-- KEYS  root       the partition
-- ARGV  hold_ms    the least retention while a delivery is pending
-- EACH  id         task id
-- EACH  tenant     tag of the caller's tenant
-- EACH  worker     the caller's subject
-- EACH  token      lease token, "" when the caller sent none
-- EACH  kind       1 completed, 2 failed
-- EACH  digest     of the verdict, 16 characters, compared when it is repeated
-- EACH  error      why it failed, "" when completed
-- EACH  parts      what the record carries beside: result, artifacts, packed
-- EACH  apart      name of a result that was SET beside this call and expires, "" for none
-- EACH  folder     name of the folder that `upload` wrote down and that is full now, "" for none
-- EACH  span       id of the span drawn for the call, 16 digits, "" without tracing
-- GIVES replayed   1: the same verdict of the same worker was stored before
-- GIVES record     the terminal record
-- GIVES head       beginning of the body: what signals need
-- GIVES awaited    1: somebody waits for the result
-- GIVES trace      trace context before the step, "" for that of the creation
-- FAILS NOT_FOUND NOT_IN_PROGRESS LEASE_LOST NOT_OWNER PART_LOST UNKNOWN_VERSION
-- COSTS O(log n) in the leases of the partition
-- KEEPS exactly one terminal transition; a task with a webhook has exactly one outbox entry for it
local call = require("lib.call")
local clock = require("lib.clock")
local count = require("lib.count")
local finish = require("lib.finish")
local key = require("lib.keys")
local lease = require("lib.lease")
local number = require("lib.number")
local task = require("lib.task")

local hold_ms = tonumber((call.once()))

-- The stored record, if this call repeats the verdict that made it: by the lease token, or blindly,
-- since clients repeat every POST whose answer was lost.
local function repeated(id, worker, token, kind, digest)
  local record = redis.call("GET", key.done .. id)
  if not record or string.byte(record) ~= 1 then
    return nil
  end
  local _, had, _, _, _, _, its_token, its_digest, its_worker =
    struct.unpack(">BBHI8I8Hc16c16Hc0", record)
  if
    tostring(had) == kind
    and its_digest == digest
    and its_worker == worker
    and (token == "" or token == its_token)
  then
    return record
  end
  return nil
end

local function submit(id, tenant, worker, token, kind, digest, message, parts, apart, folder, span)
  local found, of, mine = lease.held(id, tenant, worker, token)
  if not found then
    local record = mine and repeated(id, worker, token, kind, digest)
    if record then
      return { 1, record, mine.raw, 0, "" }
    end
    return of
  end
  if apart ~= "" and redis.call("EXISTS", key.part .. id .. ":" .. apart) == 0 then
    return "PART_LOST"
  end
  local full = "u" .. id .. folder
  if folder ~= "" and not redis.call("ZSCORE", key.folders, full) then
    return "PART_LOST"
  end

  lease.release(id, found)
  local record, awaited = finish.task(id, found, {
    kind = tonumber(kind),
    ends = of.ends,
    claimed = of.claimed,
    attempt = of.attempt,
    token = of.token,
    worker = worker,
    trace = task.context(found, of.trace, span),
    error = message,
    history = of.history,
    digest = digest,
    parts = parts,
    apart = apart,
  }, found.retention_ms, hold_ms)
  if folder ~= "" then
    local ends = clock.now_ms + redis.call("PTTL", key.done .. id)
    redis.call("ZREM", key.folders, full)
    redis.call("ZADD", key.folders, number(ends), "k" .. id .. folder)
  end
  return { 0, record, found.raw, awaited, of.trace }
end

local answer = call.each(submit)
count.flush()
return answer
