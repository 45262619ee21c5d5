"""Compares the settings that deploy/ names, as variables and in etc/*.toml, with the generated configuration reference."""

import re
import sys
import tomllib
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent
REFERENCE = DEPLOY.parent / "docs/src/configuration"
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \|", re.M)
VARIABLE = re.compile(r"\b(MEDIA_WORKER|WS_EDGE|BILLING_TIMER)__([A-Z0-9_]+)")


def known(service):
    """The keys of a service; any text key also exists with the suffix `_file`."""
    keys = set(ROW.findall((REFERENCE / f"{service}.md").read_text()))
    return keys | {f"{key}_file" for key in keys}


def flatten(table, prefix=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key


named = []
for path in sorted(DEPLOY.rglob("*")):
    if not path.is_file() or path.parent.name in ("check", "secrets") or path.suffix == ".md":
        continue
    for prefix, rest in VARIABLE.findall(path.read_text()):
        named.append((path, prefix.lower().replace("_", "-"), rest.lower().replace("__", ".")))
    if path.parent.name == "etc" and path.suffix == ".toml":
        named += [(path, path.stem, key) for key in flatten(tomllib.loads(path.read_text()))]

wrong = {f"{path.relative_to(DEPLOY)}: {service} has no setting {key}"
         for path, service, key in named if key not in known(service)}
print(*sorted(wrong), sep="\n", end="\n" if wrong else "")
if wrong or not named:
    sys.exit(1)
