#!/bin/sh
# The Dockerfile by hadolint, compose.yaml by the schema of the Compose specification, all YAML by yamllint.
set -eu
cd "$(dirname -- "$0")/.."
hadolint docker/Dockerfile
yamllint --strict --config-file check/yamllint.yaml .
check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml
