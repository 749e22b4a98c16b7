#!/usr/bin/env bash
# Plays thousands of requests made from /openapi.json against a broker, as a worker and as a producer
# who administrates: no answer may be a 500 or contradict the description, what fits it must be
# accepted, what does not must be refused, and what was created must be there. The same requests each
# time, unless arguments say otherwise (as `--seed 7`, or EXAMPLES=500). Any finding fails the run.
set -euo pipefail
cd "$(dirname "$0")"

# As many as the description says that a claim may take.
if [ -z "${CODEQ_URL:-}" ]; then MAX_CLAIM_BATCH=100 exec ./with-broker.sh scripts/schemathesis.sh "$@"; fi

export SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1
# It leaves a cache where it runs.
cd ../.tools
WORKER_CALLS='/tasks/(claim|batch/results|\{id\}/(heartbeat|abandon|nack|result))|/workers/'
rc=0

play() { # play <token> <paths> [more arguments]
  local token=$1 paths=$2
  shift 2
  schemathesis --config-file ../scripts/schemathesis.toml run "$CODEQ_URL/openapi.json" \
    --header "Authorization: Bearer $token" --include-path-regex "$paths" \
    --max-examples "${EXAMPLES:-25}" --seed 1 --continue-on-failure \
    --generation-database none --request-timeout 10 --no-color "$@" || rc=$?
}

play dev-worker-token "$WORKER_CALLS" "$@"
play dev-producer-token '^(?!.*(/claim|/batch/results|/heartbeat|/abandon|/nack|/workers/)).*$' "$@"
exit $rc
