#!/usr/bin/env bash
# Runs a command beside a broker of its own, in a directory that goes away with it.
#
#   scripts/with-broker.sh [--release] COMMAND ARGS…
#
# The command finds in its environment CODEQ_URL (where the broker serves), CODEQ_REDIS (its store)
# and CODEQ (the program). The broker's log is printed when the command fails.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=dev
if [ "${1:-}" = --release ]; then profile=release; shift; fi
cargo build --locked -q --bin codeq --profile "$profile"
target=$(cargo metadata --locked --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
if [ $profile = dev ]; then CODEQ=$target/debug/codeq; else CODEQ=$target/release/codeq; fi

home=$(mktemp -d)
broker=
finish() {
  rc=$?
  [ -z "$broker" ] || { kill "$broker" 2>/dev/null; wait "$broker" 2>/dev/null || true; }
  [ $rc = 0 ] || { echo "the broker said, last:" >&2; tail -n 40 "$home/log" >&2; }
  rm -rf "$home"
  exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM

# Port 0 is any free one; what was chosen stands in what it prints.
(cd "$home" && exec env PORT=0 SHUTDOWN_DELAY_SECONDS=0 LOG_LEVEL="${LOG_LEVEL:-warn}" "$CODEQ" dev) >"$home/log" 2>&1 &
broker=$!
url=
for _ in $(seq 600); do
  url=$(sed -n 's|^ *API *\(http://[^/]*\)/.*|\1|p' "$home/log")
  [ -z "$url" ] || break
  kill -0 $broker 2>/dev/null || { echo "the broker did not start" >&2; exit 1; }
  sleep 0.1
done
[ -n "$url" ] || { echo "the broker was not ready within a minute" >&2; exit 1; }

export CODEQ CODEQ_URL=$url CODEQ_REDIS="redis+unix://$home/.codeq/redis/redis.sock" CODEQ_PID=$broker
"$@"
