#!/usr/bin/env bash
# Plays thousands of requests made from /openapi.json against a broker: no answer may be a 500, none
# may contradict the schema. Arguments go to schemathesis (for example `--seed 1`).
set -euo pipefail
cd "$(dirname "$0")"

if [ -z "${CODEQ_URL:-}" ]; then exec ./with-broker.sh scripts/schemathesis.sh "$@"; fi

export SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1
# It leaves a cache where it runs.
cd ../.tools
rc=0

play() { # play <token> <paths> [more arguments]
  local token=$1 paths=$2
  shift 2
  schemathesis run "$CODEQ_URL/openapi.json" \
    --header "Authorization: Bearer $token" \
    --include-path-regex "$paths" \
    --exclude-path-regex '^/(metrics|openapi.json)$' \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --max-examples "${EXAMPLES:-40}" --generation-database none --request-timeout 40 --no-color "$@" || rc=$?
}

play dev-worker-token '/tasks/(claim|batch/results|\{id\}/(heartbeat|abandon|nack|result))|/workers/' "$@"
play dev-producer-token '^(?!.*(/claim|/batch/results|/heartbeat|/abandon|/nack|/workers/)).*$' "$@"
exit $rc
