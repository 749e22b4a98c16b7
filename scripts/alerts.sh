#!/usr/bin/env bash
# Alerts, runbooks and the examples around them.
#
#   scripts/alerts.sh lint   rules are well formed: seconds
#   scripts/alerts.sh        that, and every test of them
set -euo pipefail
cd "$(dirname "$0")/.."

yamllint --strict alerts docs/examples
promtool check rules --lint=all --lint-fatal alerts/codeq*.yaml
[ "${1:-all}" = all ] || exit 0

printf '%s\n' alerts/tests/*.yaml | xargs -P 2 -n 1 promtool test rules
cd tests/alerts
PYTHONDONTWRITEBYTECODE=1 exec ../../.tools/venv/bin/python -m unittest
