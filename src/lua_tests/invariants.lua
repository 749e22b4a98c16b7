-- invariants: what is wrong with a partition, in words; nothing when all is well. For tests only:
-- it looks at every key.
--
-- KEYS  root    the partition
-- EACH  dlq_ms  how long a dead task stays
-- GIVES wrong   one sentence for each fault
-- COSTS O(everything)
-- KEEPS everything
local call = require("lib.call")
local clock = require("lib.clock")
local key = require("lib.keys")

local wrong = {}

local function check(truth, ...)
  if not truth then
    local words = { ... }
    for i = 1, #words do
      words[i] = tostring(words[i])
    end
    wrong[#wrong + 1] = table.concat(words, " ")
  end
end

-- What stands behind a prefix, for every key that begins with it.
local function names(prefix)
  local found = {}
  for _, name in ipairs(redis.call("KEYS", prefix .. "*")) do
    found[#found + 1] = string.sub(name, #prefix + 1)
  end
  return found
end

local function hash(name)
  local flat, map = redis.call("HGETALL", name), {}
  for i = 1, #flat, 2 do
    map[flat[i]] = flat[i + 1]
  end
  return map
end

local function zset(name)
  local flat, map = redis.call("ZRANGE", name, 0, -1, "WITHSCORES"), {}
  for i = 1, #flat, 2 do
    map[flat[i]] = tonumber(flat[i + 1])
  end
  return map
end

local function ttl(name)
  return redis.call("PTTL", name)
end

-- The head of a body, nil when there is none.
local function body(id)
  local raw = redis.call("GET", key.body .. id)
  if not raw or string.byte(raw) ~= 1 then
    return nil
  end
  local _, _, _, max, _, priority, hooks, label, flags, queue, at =
    struct.unpack(">BI8I8HI4BBHBc24", raw)
  local of = { max = max, priority = priority, hooks = hooks, label = label, queue = queue }
  if flags % 2 == 1 then
    of.key = string.sub(raw, at, at + 21)
    at = at + 22
  end
  if hooks ~= 0 then
    of.destination = string.sub(raw, at, at + 15)
  end
  return of
end

local function invariants(dlq_ms)
  local place, counts, queues = {}, {}, {}

  local function count(queue, label, state)
    counts[queue .. state] = (counts[queue .. state] or 0) + 1
    counts[label .. state] = (counts[label .. state] or 0) + 1
    queues[queue] = true
  end

  local function enter(id, where, queue)
    check(not place[id], id, "is in", place[id], "and in", where)
    place[id] = where
    local of = body(id)
    check(of, id, "is in", where, "without a body")
    if not of then
      return nil
    end
    check(not queue or of.queue == queue, id, "is in", where, "of another queue")
    return of
  end

  local function live(id, where, state, queue)
    local of = enter(id, where, queue)
    if of then
      count(of.queue, of.label, state)
      check(ttl(key.body .. id) == -1, id, "is in", where, "and its body expires")
      check(redis.call("EXISTS", key.done .. id) == 0, id, "is in", where, "and has ended")
      if of.key then
        local name = key.idempotency .. of.key
        check(ttl(name) == -1, id, "lives, and its idempotency key expires or is gone")
      end
      local history = ttl(key.history .. id)
      check(history < 0, id, "lives, and its history expires")
    end
    return of
  end

  -- Ready lists and tombs.
  local tombs, tombed = hash(key.tombs), {}
  local seen = {}
  for _, list in ipairs(names(key.ready)) do
    local queue, priority = string.sub(list, 1, 24), tonumber(string.sub(list, 26))
    for _, id in ipairs(redis.call("LRANGE", key.ready .. list, 0, -1)) do
      check(not seen[id], id, "is twice in ready lists")
      seen[id] = list
      if not tombs[id] then
        local of = live(id, "ready", "r", queue)
        check(not of or of.priority == priority, id, "is ready with another priority")
      end
    end
  end
  for id, list in pairs(tombs) do
    tombed[list] = (tombed[list] or 0) + 1
    check(seen[id] == list, id, "has a tomb and is not in its list")
    check(not place[id], id, "has a tomb and is in", place[id])
  end
  local told = hash(key.tombed)
  for list, number in pairs(tombed) do
    check(tonumber(told[list]) == number, list, "has", number, "tombs, counted", told[list])
  end
  for list in pairs(told) do
    check(tombed[list], list, "has no tombs, counted", told[list])
  end

  -- Delayed and leased.
  for id in pairs(zset(key.delayed)) do
    live(id, "delayed", "d")
  end
  local held = hash(key.held)
  for id in pairs(zset(key.leases)) do
    local of = live(id, "leased", "p")
    check(held[id], id, "is leased without a record")
    if of and held[id] then
      local version, history, claimed, attempt = struct.unpack(">BBI8H", held[id])
      check(version == 1 and claimed <= clock.now_ms, id, "has a strange lease")
      check(attempt >= 1 and attempt <= of.max, id, "has attempt", attempt, "of", of.max)
      local past = redis.call("EXISTS", key.history .. id)
      check(past == 0 or history == 1, id, "has a history that its lease does not know")
    end
  end
  for id in pairs(held) do
    check(place[id] == "leased", id, "has a lease record and is", place[id])
  end

  -- Dead.
  local graves = zset(key.graves)
  for _, queue in ipairs(names(key.dead)) do
    local oldest
    for id, died in pairs(zset(key.dead .. queue)) do
      oldest = math.min(oldest or died, died)
      local record = redis.call("GET", key.done .. id)
      local kept = redis.call("HGET", key.attempted, id)
      check(kept, id, "is dead without a record of its attempts")
      if record then
        local of = enter(id, "dead", queue)
        check(string.byte(record, 2) == 3, id, "is in the DLQ and ended otherwise")
        if of then
          count(queue, of.label, "x")
        end
      else
        -- Its retention ended, the sweep has not come by.
        check(died + dlq_ms <= clock.now_ms, id, "is dead and its record is gone")
        check(not body(id), id, "is dead, its record is gone and its body is not")
        place[id] = "dead"
        if kept then
          count(queue, struct.unpack(">H", kept, 3), "x")
        end
      end
    end
    local due = graves[queue]
    check(due and due <= math.max(oldest + dlq_ms, clock.now_ms + 1), queue, "retires late", due)
    graves[queue] = nil
  end
  for queue in pairs(graves) do
    check(false, queue, "has a grave and nobody dead")
  end

  -- What a task brings along.
  for id in pairs(hash(key.attempted)) do
    local where = place[id]
    check(where and where ~= "leased", id, "has earlier attempts and is", where)
  end

  -- Bodies, terminal records, and what belongs to them.
  local keys_of = {}
  for _, id in ipairs(names(key.body)) do
    local of = body(id)
    local record = redis.call("EXISTS", key.done .. id) == 1
    local expires = ttl(key.body .. id) >= 0
    check(expires or place[id], id, "has a body for ever and is in no index")
    check(not record or expires, id, "ended and its body does not expire")
    if of and of.key and (place[id] or record) then
      keys_of[of.key] = id
      check(
        string.sub(redis.call("GET", key.idempotency .. of.key) or "", 1, 22) == id,
        id,
        "is not what its idempotency key names"
      )
    end
  end
  for _, id in ipairs(names(key.done)) do
    check(ttl(key.done .. id) >= 0, id, "ended and its record does not expire")
    check(not place[id] or place[id] == "dead", id, "ended and is", place[id])
    check(body(id), id, "ended and has no body")
  end
  for _, digest in ipairs(names(key.idempotency)) do
    local id = keys_of[digest]
    check(id, digest, "is an idempotency key without a task")
    if id then
      local both = ttl(key.body .. id) >= 0
      check(both == (ttl(key.idempotency .. digest) >= 0), id, "and its idempotency key part")
    end
  end
  for _, id in ipairs(names(key.history)) do
    check(body(id), id, "has a history and no body")
    local both = ttl(key.body .. id) >= 0
    check(both == (ttl(key.history .. id) >= 0), id, "and its history part")
    check(redis.call("LLEN", key.history .. id) <= 32, id, "has a long history")
  end
  for _, part in ipairs(names(key.part)) do
    check(ttl(key.part .. part) >= 0, part, "is a result that does not expire")
  end

  -- Counters and registries.
  local counted = hash(key.counts)
  for field, number in pairs(counts) do
    check(tonumber(counted[field]) == number, field, "holds", number, "counted", counted[field])
  end
  for field, number in pairs(counted) do
    check(counts[field], field, "holds nothing, counted", number)
  end
  for _, queue in ipairs(redis.call("SMEMBERS", key.paused)) do
    queues[queue] = true
  end
  local tenants = hash(key.tenants)
  for queue in pairs(queues) do
    local tenant, command = string.sub(queue, 1, 12), string.sub(queue, 13)
    check(redis.call("HEXISTS", key.queues .. tenant, command) == 1, queue, "is not registered")
    check(tenants[tenant], tenant, "is not registered")
    local waits = redis.call("ZSCORE", key.waiting .. tenant, command)
    check((counts[queue .. "r"] ~= nil) == (waits and true or false), queue, "waits:", waits)
  end
  local of_label = {}
  for _, label in ipairs(names(key.of_label)) do
    for queue in pairs(zset(key.of_label .. label)) do
      check(queues[queue], queue, "is listed for label", label, "and holds nothing")
      check(not of_label[queue], queue, "is listed for two labels")
      of_label[queue] = label
    end
  end
  for queue in pairs(queues) do
    check(of_label[queue], queue, "is listed for no label")
  end
  for _, tenant in ipairs(names(key.queues)) do
    for command in pairs(hash(key.queues .. tenant)) do
      check(queues[tenant .. command], tenant .. command, "is registered and holds nothing")
    end
    tenants[tenant] = nil
  end
  for tenant in pairs(tenants) do
    check(false, tenant, "is registered and has no queue")
  end
  for _, tenant in ipairs(names(key.waiting)) do
    for command in pairs(zset(key.waiting .. tenant)) do
      check(counts[tenant .. command .. "r"], tenant .. command, "waits with nothing ready")
    end
  end

  -- The outbox.
  local outbox, parked, aging = zset(key.outbox), zset(key.parked), zset(key.aging)
  local pending, lost, lost_of = {}, {}, {}
  for _, destination in ipairs(names(key.pending)) do
    for name, due in pairs(zset(key.pending .. destination)) do
      local raw = redis.call("GET", key.delivery .. name)
      check(raw, name, "is pending and has no record")
      if raw then
        local tenant, of = struct.unpack(">c12c16", raw, 37)
        pending[name] = true
        check(string.byte(raw, 2) == 0, name, "is in the outbox in state", string.byte(raw, 2))
        check(of == destination, name, "is pending for another destination")
        check(ttl(key.delivery .. name) == -1, name, "is pending and its record expires")
        check(aging[tenant .. name], name, "is pending and does not age")
        aging[tenant .. name] = nil
      end
      local first = outbox[destination]
      -- A destination whose turn has just passed stands behind those that waited.
      local looked = first and (first <= due or first <= clock.now_ms)
      check(looked or parked[destination], name, "is due before its destination")
    end
  end
  for member in pairs(aging) do
    check(false, member, "ages and is not pending")
  end
  for destination in pairs(outbox) do
    check(redis.call("EXISTS", key.pending .. destination) == 1, destination, "has nothing due")
    check(not parked[destination], destination, "is parked and looked at")
  end
  for destination in pairs(parked) do
    check(redis.call("EXISTS", key.pending .. destination) == 1, destination, "parks nothing")
  end
  for _, tenant in ipairs(names(key.lost)) do
    local oldest
    for name, died in pairs(zset(key.lost .. tenant)) do
      oldest = math.min(oldest or died, died)
      local raw = redis.call("GET", key.delivery .. name)
      check(raw and string.byte(raw, 2) == 2, name, "is lost and its record is not dead")
      check(raw and ttl(key.delivery .. name) == -1, name, "is lost and its record expires")
      if raw then
        lost[name] = true
        local of, destination = struct.unpack(">c12c16", raw, 37)
        check(of == tenant, name, "is lost for another tenant")
        lost_of[destination] = (lost_of[destination] or 0) + 1
      end
    end
    check(zset(key.losses)[tenant] == oldest, tenant, "lost its oldest", oldest)
  end
  for destination, number in pairs(hash(key.lost_of)) do
    check(lost_of[destination] == tonumber(number), destination, "lost counted", number)
    lost_of[destination] = nil
  end
  for destination, number in pairs(lost_of) do
    check(false, destination, "lost", number, "and counted none")
  end
  for _, name in ipairs(names(key.delivery)) do
    local state = string.byte(redis.call("GET", key.delivery .. name), 2)
    check(state ~= 0 or pending[name], name, "is pending nowhere")
    check(state ~= 2 or lost[name], name, "is dead nowhere")
    local ends = state == 1 or state == 3
    check(not ends or ttl(key.delivery .. name) >= 0, name, "is over and stays for ever")
  end

  -- Destinations.
  local known, standing = zset(key.known), zset(key.standing)
  local codes = { [""] = 0, open = 1, paused = 2, disabled = 3 }
  for _, id in ipairs(names(key.destination)) do
    local of = hash(key.destination .. id)
    local state = of.state or ""
    check(of.tenant and of.tag and of.origin, id, "is nobody's destination")
    if of.tag then
      local met = zset(key.destinations .. of.tag)[id]
      local pinned = codes[state] >= 2 or of.per_second or of.concurrency
      check(met and met == known[of.tag .. id], id, "is registered", met, known[of.tag .. id])
      check((met == math.huge) == (pinned and true or false), id, "was met", met)
      check((ttl(key.destination .. id) == -1) == (met == math.huge), id, "expires otherwise")
      check(standing[id] == codes[state], id, "stands", standing[id], "and is", state)
      known[of.tag .. id], standing[id] = nil, nil
    end
    check((state == "open") == (of.till ~= nil), id, "is", state, "until", of.till)
    check(state == "open" or not of.granted, id, "is", state, "and probed")
    check((of.failures ~= nil) == (of.since ~= nil), id, "failed", of.failures, "since", of.since)
  end
  for member, met in pairs(known) do
    check(met + 604800000 <= clock.now_ms, member, "is a destination without a record")
    standing[string.sub(member, 13)] = nil
  end
  for id in pairs(standing) do
    check(false, id, "stands without a record")
  end

  for id, where in pairs(place) do
    local of = body(id)
    if of and of.hooks ~= 0 and where == "dead" then
      local ends = struct.unpack(">H", redis.call("GET", key.done .. id), 3)
      local told = redis.call("EXISTS", key.delivery .. id .. "_" .. ends) == 1
      check(told, id, "died and tells nobody")
    end
  end

  -- Artifacts.
  for entry in pairs(zset(key.folders)) do
    local letter = string.sub(entry, 1, 1)
    check(letter == "u" or letter == "k" or letter == "x", entry, "is in no known state")
    for _, other in ipairs({ "u", "k", "x" }) do
      local twice = other ~= letter
        and redis.call("ZSCORE", key.folders, other .. string.sub(entry, 2))
      check(not twice, entry, "is in two states")
    end
  end

  table.sort(wrong)
  return { wrong }
end

return call.each(invariants)
