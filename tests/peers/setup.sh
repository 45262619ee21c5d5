#!/bin/sh
# Installs the peers of `make bench`, by their lock file, with the Node of .tools. Redis comes from Debian: redis-server.
set -eu
cd "$(dirname -- "$0")"
PATH="$(pwd)/../../.tools/bin:$PATH"
installed=node_modules/.callpulse-installed
pins=$(cat package.json package-lock.json .npmrc)
[ "$(cat "$installed" 2>/dev/null)" != "$pins" ] || exit 0
echo "peers: installing the packages of package-lock.json"
npm ci --loglevel=error --no-progress >/dev/null
printf '%s\n' "$pins" >"$installed"
