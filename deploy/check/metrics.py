"""Metrics named by alerts, dashboards and autoscalers are in the table of docs/src/operations.md (which a test compares with the code),
with labels that the table has; every alert has a unit test. Prints the queries of the dashboards as rules, for promtool."""

import json
import re
import sys
from pathlib import Path

import yaml

deploy = Path(__file__).resolve().parent.parent
page = (deploy.parent / "docs/src/operations.md").read_text()
rows = re.findall(r"^\| `(callpulse_\w+)` \| (\w+) \| ([^|]*)\|", page, re.M)
known = {}
for name, kind, labels in rows:
    labels = set(re.findall(r"`(\w+)`", labels))
    for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
        known[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
# Prometheus and the scrape configuration add these.
target_labels = {"job", "instance", "namespace", "pod"}

rules = yaml.safe_load((deploy / "prometheus/rules.yml").read_text())
rules = [rule for group in rules["groups"] for rule in group["rules"]]
dashboards = [json.loads(it.read_text()) for it in sorted((deploy / "grafana").rglob("*.json"))]


def targets(panels):
    for panel in panels:
        yield from ((panel["title"], it["expr"]) for it in panel.get("targets", []))
        yield from targets(panel.get("panels", []))


queries = [query for dashboard in dashboards for query in targets(dashboard["panels"])]
wrong = []


def check(where, text):
    for name, matchers in re.findall(r"(?<![\w:])(callpulse_\w+)(\{[^}]*\})?", text):
        if name not in known:
            wrong.append(f"{where}: {name} is not documented")
            continue
        for label in set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', matchers)) - known[name] - target_labels:
            wrong.append(f"{where}: {name} has no label {label}")


for rule in rules:
    check(f"rule {rule.get('alert', rule.get('record'))}", rule["expr"])
for title, query in queries:
    check(f"panel {title}", query)
for path in (deploy / "kubernetes").rglob("*.yaml"):
    for name in re.findall(r"metric: \{ name: (\w+) \}", path.read_text()):
        check(path.name, name)
tests = (deploy / "prometheus/rules.test.yml").read_text()
wrong += [f"alert {it['alert']} has no test" for it in rules if "alert" in it and f'"{it["alert"]}"' not in tests]
if not known or not rules or not queries:
    wrong.append("nothing to compare")
if wrong:
    sys.exit("\n".join(wrong))
expand = {"$__rate_interval": "1m", "$__range": "1h", "$instance": ".*", "$job": ".*"}
for old, new in expand.items():
    queries = [(title, query.replace(old, new)) for title, query in queries]
json.dump({"groups": [{"name": "dashboard", "rules": [
    {"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(queries)]}]}, sys.stdout)
