-- since: since when a ready task has been ready, and its label; nil when there is no such task.
local lease = require("lib.lease")
local task = require("lib.task")

return function(id)
  local found = task.of(id)
  if not found then
    return nil
  end
  local kept = lease.kept(id)
  return kept and kept.visible or found.due, found.label
end
