-- keys: every key there is, and what it holds. Names are ROOT .. suffix .. what follows in brackets.
--
-- ROOT is "{<keyPrefix>:<partition>}", so all keys of a partition share one hash slot. The loader
-- writes these suffixes into the scripts; nothing is built at run time that a script does not use.
-- <id> is a task id in 22 characters, <queue> 24 characters of which the first 12 are the tenant's.
-- Layout version 1.
return {
  body = ":b:", -- string [<id>]: head, packed fields, payload. TTL from the terminal transition on
  ready = ":r:", -- list [<queue>:<priority>]: ready ids, tail on the left, head on the right
  delayed = ":d", -- zset: id -> due ms
  leases = ":l", -- zset: id -> lease end ms
  held = ":f", -- hash: id -> lease record
  attempted = ":a", -- hash: id -> what a task nobody holds brings along from its attempts
  dead = ":x:", -- zset [<queue>]: id -> time of death
  graves = ":x", -- zset: queue -> when the retention of its oldest dead task ends
  history = ":h:", -- list [<id>]: attempts that did not end by a submit, newest first
  done = ":c:", -- string [<id>]: terminal record, TTL
  part = ":s:", -- string [<id>:<name>]: a large result. TTL, short until a submit claims it
  idempotency = ":i:", -- string [<digest>]: id and payload digest. TTL from the terminal transition on
  counts = ":n", -- hash: <queue><state> and <label><state> -> number; states r d p x
  queues = ":q:", -- hash [<tenant>]: command tag -> command, queues with a task or paused
  tenants = ":j", -- hash: tenant tag -> tenant, those with a queue above
  of_label = ":jl:", -- zset [<label>]: queue -> since when it is in the hash above without a break
  callers = ":jw:", -- zset [<label>]: worker -> when it last called for a command of it. TTL
  waiting = ":e:", -- zset [<tenant>]: command tag -> when last served, queues with ready tasks
  paused = ":p", -- set: queue
  tombs = ":t", -- hash: id -> <queue>:<priority>, cancelled but still in that ready list
  tombed = ":tn", -- hash: <queue>:<priority> -> number of such ids
  awaited = ":y", -- zset: id of a task whose result somebody waits for -> when the wait ends
  outbox = ":o", -- zset: destination -> when it is looked at next
  parked = ":oz", -- zset: destination -> until when it is left alone; then it is not in the outbox
  roused = ":ou:", -- string [<destination>]: until when no node's memory may park it for long. TTL
  pending = ":o:", -- zset [<destination>]: delivery -> due ms, while claimed the end of its lease
  aging = ":oa", -- zset: <tenant><delivery> -> when its series of attempts began; all that are pending
  lost = ":od:", -- zset [<tenant>]: dead delivery -> time of death
  losses = ":od", -- zset: tenant -> death of the oldest of them
  lost_of = ":oc", -- hash: destination -> number of its dead deliveries
  recoveries = ":or", -- zset: recovery that runs -> its next step, while taken the end of its lease
  recovery = ":or:", -- hash [<recovery>]: what it is to do and how far it is. TTL when it is over
  recovered = ":orm:", -- hash [<recovery>]: what became of its deliveries in this partition. TTL
  delivery = ":v:", -- string [<delivery>]: record; <delivery> is <id>_<n>. No TTL while pending or dead
  destination = ":z:", -- hash [<destination>]: its record, where its name is hashed to. TTL when idle
  destinations = ":zt:", -- zset [<tenant>]: destination -> last seen, +inf for one without TTL
  known = ":zt", -- zset: <tenant><destination> -> the same
  standing = ":zs", -- zset: destination -> 0 active, 1 open, 2 paused, 3 disabled
  policy = ":u:", -- string [<queue>]: the topic's policy
  bucket = ":k:", -- string [<digest>]: rate limit, theoretical arrival time; TTL until full
  labels = ":m", -- hash: command tag -> label number, label number -> spelling
  subscription = ":sb:", -- hash [<id>]: who is told, how often, until when
  subscribed = ":sbt:", -- zset [<tenant>]: subscription -> when it ends
  subscriptions = ":sbx", -- zset: subscription -> when it ends
  labelled = ":sbl:", -- zset [<label>]: subscription -> when it ends
  nudges = ":sbn:", -- zset [<queue>:<mode and group>]: subscription -> when it may be told next
  groups = ":sbg:", -- zset [<queue>]: group -> when one of it may be told next
  guard = ":g", -- string: a sweep of this partition ran just now; TTL
  folders = ":w", -- zset: letter, <id>, name of a folder of artifacts -> when it is looked at next
}
