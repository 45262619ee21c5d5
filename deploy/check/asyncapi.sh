#!/bin/sh
# Validates docs/src/schema/asyncapi.json with AsyncAPI's parser, whose packages are pinned in deploy/check/asyncapi.
set -eu
cd "$(dirname -- "$0")/../.."
PATH="$PWD/.tools/bin:$PATH"
export PATH
pins=$(cat deploy/check/asyncapi/package-lock.json)
stamp=deploy/check/asyncapi/node_modules/.callpulse-installed
[ "$(cat "$stamp" 2>/dev/null)" = "$pins" ] || {
    echo "deploy-check: installing @asyncapi/parser"
    npm ci --prefix deploy/check/asyncapi --loglevel=error --no-progress --no-audit --no-fund --ignore-scripts >/dev/null
    printf '%s\n' "$pins" >"$stamp"
}
node deploy/check/asyncapi/validate.js docs/src/schema/asyncapi.json
