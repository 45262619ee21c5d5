#!/bin/sh
# Validates an SBOM by CycloneDX's schema, which comes with the package cyclonedx-python-lib (deploy/check/requirements.txt).
set -eu
tools="$(dirname -- "$0")/../../.tools/deploy-check"
schemas=$(find "$tools/lib" -path '*/cyclonedx/schema/_res')
"$tools/bin/check-jsonschema" --quiet --schemafile "$schemas/bom-1.6.SNAPSHOT.schema.json" "$1"
