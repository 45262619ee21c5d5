#!/bin/sh
# Installs the packages of the TypeScript example, by its lock file, with the Node of .tools; `make test` runs it.
set -eu
cd "$(dirname -- "$0")/typescript"
PATH="$(pwd)/../../../.tools/bin:$PATH"
installed=node_modules/.callpulse-installed
pins=$(cat package.json package-lock.json .npmrc)
[ "$(cat "$installed" 2>/dev/null)" != "$pins" ] || exit 0
echo "examples: installing the packages of package-lock.json"
npm ci --loglevel=error --no-progress >/dev/null
printf '%s\n' "$pins" >"$installed"
