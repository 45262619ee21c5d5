#!/bin/sh
# Validates docs/src/schema/asyncapi.json with AsyncAPI's parser, whose packages are pinned in deploy/check/asyncapi.
set -eu
cd "$(dirname -- "$0")/../.."
deploy/setup/npm.sh deploy-check deploy/check/asyncapi
PATH="$PWD/.tools/bin:$PATH" node deploy/check/asyncapi/validate.js docs/src/schema/asyncapi.json
