#!/bin/sh
# The SBOM of the release, by CycloneDX's schema. The licence texts are collected by `make release` only.
set -eu
cd "$(dirname -- "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.tools/bin/python deploy/release/inventory.py "$folder" 0.0.0 none 1970-01-01T00:00:00Z --sbom-only
deploy/release/validate-sbom.sh "$folder/sbom.cdx.json"
