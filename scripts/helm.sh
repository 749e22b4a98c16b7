#!/usr/bin/env bash
# Judges helm/codeq and the Dockerfile: lint, every file of values rendered and held to schemas and
# promises, bad values refused, the rendered command run against a real Redis. Needs the built binary.
#
#   scripts/helm.sh                               everything
#   scripts/helm.sh lint                          the two linters only, without the binary
#   scripts/helm.sh test_policy                   one file
#   scripts/helm.sh test_policy.Policy.test_name  one test
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = lint ]; then
  hadolint Dockerfile
  # It tells that it follows links, and what it would refuse without values.
  helm lint --strict --quiet helm/codeq 2>&1 | { grep -v '^level=INFO' || true; }
  exit
fi

missing=
for tool in helm helm3 kubernetes-validate check-jsonschema hadolint yamllint promtool node redis-server cargo; do
  command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -d .tools/npm/node_modules/@kubernetes-models/keda ] || missing="$missing @kubernetes-models"
[ -x "${CODEQ_BIN:=target/debug/codeq}" ] || missing="$missing $CODEQ_BIN(cargo build)"
[ -z "$missing" ] || { echo "helm: missing:$missing; run scripts/tools.sh" >&2; exit 1; }

CODEQ_BIN=$(cd "$(dirname "$CODEQ_BIN")" && pwd)/$(basename "$CODEQ_BIN")
export CODEQ_BIN PYTHONDONTWRITEBYTECODE=1
python=$PWD/.tools/venv/bin/python
cd tests/helm
exec "$python" -m unittest "$@"
