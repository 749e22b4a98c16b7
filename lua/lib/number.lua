-- number: a whole number as an argument. Redis prints a Lua number with 17 digits each time it is
-- one, which costs more than many a command; within a call the same few recur.
local known = {}

return function(n)
  local text = known[n]
  if not text then
    text = string.format("%.0f", n)
    known[n] = text
  end
  return text
end
