#!/usr/bin/env bash
# The broker as it is shipped, and a collector that is not ours (rotel): a task is created, claimed
# and ended by examples/worker.py, and its spans are read back from what the collector prints. Once
# over gRPC, once over HTTP. Fails loudly when a span is missing or hangs elsewhere.
#
#   scripts/otel-e2e.sh                              builds the release binary
#   CODEQ_BIN=target/debug/codeq scripts/otel-e2e.sh takes this one
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.tools/bin:$PATH"

say() { printf 'otel-e2e: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }
command -v rotel-agent >/dev/null || fail "rotel-agent is missing: scripts/tools.sh rotel"
if [ -z "${CODEQ_BIN:-}" ]; then
  cargo build --locked -q --release --bin codeq
  target=$(cargo metadata --locked --format-version 1 --no-deps | jq -r .target_directory)
  CODEQ_BIN=$target/release/codeq
fi
CODEQ_BIN=$(realpath "$CODEQ_BIN")

home=$(mktemp -d)
children=()
finish() {
  rc=$?
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ $rc != 0 ]; then
    for log in "$home"/*.log; do echo "--- $log" >&2; tail -n 60 "$log" >&2; done
  fi
  rm -rf "$home"
  exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# until WHAT COMMAND…: waits up to half a minute for it to be true
until_true() {
  local what=$1; shift
  for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  fail "not within half a minute: $what"
}
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
api() { curl -sf -H "Authorization: Bearer $1" -H 'Content-Type: application/json' "${@:2}"; }

# one_trace <log>: whether what the collector printed is the life of the task
one_trace() {
  python3 - "$1" "$TRACE" <<'PY'
import re, sys

said, trace = open(sys.argv[1]).read(), sys.argv[2]
spans, scope = {}, ""
for line in said.splitlines():
    if line.startswith("InstrumentationScope"):
        scope = line.split()[1]
    elif line.startswith("Span #"):
        span = {"scope": scope}
    elif found := re.match(r" +(Trace ID|Parent ID|ID|Name|Kind) +: (.*)", line):
        span[found[1]] = found[2].strip()
        if found[1] == "Kind" and span["Trace ID"] == trace:
            spans.setdefault(span["Name"], span)
above = {
    "POST /v1/codeq/tasks": None,
    "codeq.task.create": "POST /v1/codeq/tasks",
    "codeq.task.claim": "codeq.task.create",
    "process e2e": "codeq.task.claim",
    "codeq.task.heartbeat": "codeq.task.claim",
    "codeq.task.submit_result": "codeq.task.heartbeat",
}
for name, parent in above.items():
    span = spans.get(name) or sys.exit(f"no span {name!r} in the trace; there are {sorted(spans)}")
    expected = spans[parent]["ID"] if parent else "00f067aa0ba902b7"
    if span["Parent ID"] != expected:
        sys.exit(f"{name} hangs below {span['Parent ID']}, not below {parent or 'the caller'}")
for name, (scope, kind) in {
    "POST /v1/codeq/tasks": ("codeq/http", "SERVER"),
    "codeq.task.create": ("codeq/scheduler", "PRODUCER"),
    "codeq.task.claim": ("codeq/scheduler", "CONSUMER"),
    "codeq.task.submit_result": ("codeq/results", "INTERNAL"),
}.items():
    seen = spans[name]["scope"], spans[name]["Kind"].removeprefix("SPAN_KIND_")
    if seen != (scope, kind):
        sys.exit(f"{name} is of {seen}, not of {(scope, kind)}")
if "service.name: Str(codeq)" not in said:
    sys.exit("no service.name")
PY
}

TRACE=4bf92f3577b34da6a3ce929d0e0e4736
story() { # story <protocol>
  local protocol=$1 name=${1%%/*} grpc http port collector broker url endpoint
  grpc=$(free_port) http=$(free_port) port=$(free_port)
  rotel-agent start --otlp-grpc-endpoint "127.0.0.1:$grpc" --otlp-http-endpoint "127.0.0.1:$http" \
    --exporter blackhole --debug-log traces --debug-log-verbosity detailed \
    --pid-file "$home/$name.pid" >"$home/rotel-$name.log" 2>&1 &
  collector=$!
  children+=("$collector")
  until_true "the collector listens" answers "$grpc"
  endpoint=http://127.0.0.1:$grpc
  [ "$protocol" = grpc ] || endpoint=http://127.0.0.1:$http
  mkdir "$home/$name"
  (cd "$home/$name" && exec env PORT="$port" SHUTDOWN_DELAY_SECONDS=0 LOG_LEVEL=warn \
    TRACING_ENABLED=true TRACING_OTLP_ENDPOINT="$endpoint" OTEL_EXPORTER_OTLP_PROTOCOL="$protocol" \
    "$CODEQ_BIN" dev) >"$home/codeq-$name.log" 2>&1 &
  broker=$!
  children+=("$broker")
  url=http://127.0.0.1:$port
  until_true "the broker is ready" curl -sf "$url/readyz"

  api dev-producer-token -H "traceparent: 00-$TRACE-00f067aa0ba902b7-01" \
    -d '{"command":"e2e","payload":{"n":1}}' "$url/v1/codeq/tasks" >/dev/null || fail "create"
  CODEQ_URL=$url CODEQ_TOKEN=dev-worker-token WORKER_TASKS=1 \
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:$http python3 examples/worker.py e2e >/dev/null || fail "worker"
  kill "$broker"
  wait "$broker" || fail "the broker did not stop in order"

  until_true "$protocol: the last span arrives" grep -qF codeq.task.submit_result "$home/rotel-$name.log"
  one_trace "$home/rotel-$name.log" || fail "$protocol: the spans are not one trace"
  kill "$collector"
  say "$protocol: the spans of a task came back as one trace"
}

story grpc
story http/protobuf
