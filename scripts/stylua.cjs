// stylua [--check] FILE…: formats Lua as stylua.toml says. The npm package is a library only.
"use strict";
const fs = require("fs");
const path = require("path");
const stylua = require("@johnnymorganz/stylua");

const wanted = Object.fromEntries(
  fs
    .readFileSync(path.join(__dirname, "..", "stylua.toml"), "utf8")
    .split("\n")
    .map((line) => line.match(/^(\w+) = "?([^"]+)"?$/))
    .filter(Boolean)
    .map(([, key, value]) => [key, value]),
);
const args = process.argv.slice(2);
if (args.includes("--version")) {
  console.log("stylua " + require("@johnnymorganz/stylua/package.json").version);
  process.exit(0);
}

function configured() {
  const config = stylua.Config.new();
  config.indent_type = stylua.IndentType[wanted.indent_type];
  config.indent_width = Number(wanted.indent_width);
  config.column_width = Number(wanted.column_width);
  config.syntax = stylua.LuaVersion[wanted.syntax];
  return config;
}

let unformatted = 0;
for (const file of args.filter((arg) => !arg.startsWith("--"))) {
  const before = fs.readFileSync(file, "utf8");
  const after = stylua.formatCode(before, configured(), undefined, stylua.OutputVerification.Full);
  if (after === before) continue;
  if (args.includes("--check")) {
    unformatted += 1;
    console.error(`${file}: not formatted, run \`make fmt\``);
  } else {
    fs.writeFileSync(file, after);
  }
}
process.exit(unformatted ? 1 : 0);
