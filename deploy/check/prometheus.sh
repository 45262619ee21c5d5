#!/bin/sh
# Alerts by promtool, with unit tests; the metrics of alerts, dashboards and autoscalers by the table of docs/src/operations.md.
set -eu
cd "$(dirname -- "$0")/../prometheus"
queries=$(mktemp)
log=$(mktemp)
trap 'rm -f "$queries" "$log"' EXIT
python ../check/metrics.py >"$queries"
# kubernetes.yml is not among them: Debian's Prometheus is built without Kubernetes.
for arguments in 'check config prometheus.yml' 'check rules rules.yml' 'test rules rules.test.yml' "check rules $queries"; do
    # shellcheck disable=SC2086 # words
    promtool $arguments >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
done
