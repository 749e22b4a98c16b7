#!/usr/bin/env bash
# Measures a broker built for speed. Arguments go to `codeq bench` (for example `cycle --tasks 9000`).
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${CODEQ_URL:-}" ]; then exec ./with-broker.sh --release scripts/bench.sh "$@"; fi
exec "$CODEQ" bench --url "$CODEQ_URL" --redis "$CODEQ_REDIS" --node-pid "$CODEQ_PID" "$@"
