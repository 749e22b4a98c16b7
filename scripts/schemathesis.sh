#!/usr/bin/env bash
# Plays thousands of requests made from /openapi.json against a broker: no answer may be a 500, none
# may contradict the schema. Arguments go to schemathesis (for example `--seed 1`).
set -euo pipefail
cd "$(dirname "$0")"

if [ -z "${CODEQ_URL:-}" ]; then exec ./with-broker.sh scripts/schemathesis.sh "$@"; fi

play() { # play <token> <what it may call> [more arguments]
  local token=$1 paths=$2; shift 2
  schemathesis run "$CODEQ_URL/openapi.json" \
    --header "Authorization: Bearer $token" \
    --include-path-regex "$paths" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --exclude-path-regex '^/(metrics|openapi.json)$' \
    --max-examples "${EXAMPLES:-40}" --generation-database none --no-color "$@"
}

# A worker's calls wait for work when asked to, so a run has a limit of its own per request.
play dev-worker-token '/tasks/(claim|batch/results|\{id\}/(heartbeat|abandon|nack|result))|/workers/' --request-timeout 70 "$@"
play dev-producer-token '^(?!.*(/claim|/batch/results|/heartbeat|/abandon|/nack|/workers/)).*$' --request-timeout 70 "$@"
