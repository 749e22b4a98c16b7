-- call: the arguments of a script. ONCE and EACH are the numbers of its ARGV and EACH lines.
local call = {}

-- What is given once per call.
function call.once()
  return unpack(ARGV, 1, ONCE)
end

-- Runs `step` for every item. It returns a table (the GIVES fields) or a word of FAILS; one item's
-- refusal does not touch the others.
function call.each(step)
  local out, n = {}, 0
  for first = ONCE + 1, #ARGV, EACH do
    n = n + 1
    out[n] = step(unpack(ARGV, first, first + EACH - 1))
  end
  return out
end

return call
