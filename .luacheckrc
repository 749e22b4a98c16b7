-- What a script may name: Lua 5.1 as Redis offers it, and what our loader puts in front of it.
-- cjson is absent on purpose: payloads and records never pass through JSON inside Redis.
stds.codeq = {
  read_globals = {
    "assert", "error", "ipairs", "next", "pairs", "pcall", "select", "tonumber", "tostring",
    "type", "unpack", "string", "table", "math", "bit", "struct", "cmsgpack", "redis",
    "KEYS", "ARGV", -- Redis
    "ROOT", "ONCE", "EACH", "require", -- the loader
  },
}
std = "codeq"
max_line_length = 104 -- stylua owns the length of code; this is for comments and strings
