"""Checks what the schemas cannot: that the manifests name each other correctly, and that a drain fits into its grace period."""

import re
import sys
from pathlib import Path

import yaml

base = Path(sys.argv[1])
reference = Path(__file__).resolve().parents[2] / "docs/src/configuration"
kustomization = yaml.safe_load((base / "kustomization.yaml").read_text())
manifests = [manifest for name in kustomization["resources"] for manifest in yaml.safe_load_all((base / name).read_text())]
settings = {it["name"]: dict(line.split("=", 1) for env in it["envs"] for line in (base / env).read_text().splitlines())
            for it in kustomization["configMapGenerator"]}
workloads = {it["metadata"]["name"]: it for it in manifests if it["kind"] in ("Deployment", "StatefulSet")}
wrong = []


def check(holds, message):
    if not holds:
        wrong.append(message)


def selects(selector):
    """Whether every label value that a selector names is a workload's."""
    named = list(selector.get("matchLabels", {}).items())
    named += [(it["key"], value) for it in selector.get("matchExpressions", []) for value in it["values"]]
    labels = [it["spec"]["template"]["metadata"]["labels"].items() for it in workloads.values()]
    return all(any(pair in it for it in labels) for pair in named)


def selectors(node, path=""):
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("podSelector", "labelSelector") or (key == "selector" and "matchLabels" in (value or {})):
                yield value
            else:
                yield from selectors(value)
    elif isinstance(node, list):
        for value in node:
            yield from selectors(value)


files = {it.name for it in base.glob("*.yaml")} - {"kustomization.yaml"}
check(files == set(kustomization["resources"]), "kustomization.yaml: `resources` are not the files of the folder")
for manifest in manifests:
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    check(all(selects(it) for it in selectors(manifest)), f"{name}: a selector matches no workload")
    if manifest["kind"] == "Service":
        check(selects({"matchLabels": manifest["spec"]["selector"]}), f"{name}: its selector matches no workload")
    if manifest["kind"] == "HorizontalPodAutoscaler":
        check(manifest["spec"]["scaleTargetRef"]["name"] in workloads, f"{name}: no such workload")
for name, workload in workloads.items():
    pod = workload["spec"]["template"]["spec"]
    sources = [it["configMapRef"]["name"] for container in pod["containers"] for it in container["envFrom"] if "configMapRef" in it]
    for source in sources:
        check(source in settings, f"{name}: kustomization.yaml does not generate {source}")
    check(any(it["kind"] == "PodDisruptionBudget" and it["metadata"]["name"] == name for it in manifests),
          f"{name}: has no PodDisruptionBudget")
    page = reference / f"{name}.md"
    if page.exists():
        default = re.search(r"`drain_timeout_ms` \| integer \| `(\d+)`", page.read_text())[1]
        key = f"{name.upper().replace('-', '_')}__DRAIN_TIMEOUT_MS"
        drain_s = int(next((settings[it][key] for it in sources if key in settings.get(it, {})), default)) / 1000
        check(pod["terminationGracePeriodSeconds"] > drain_s, f"{name}: its grace period is shorter than its drain")
print(*wrong, sep="\n", end="\n" if wrong else "")
sys.exit(bool(wrong))
