#!/bin/sh
# Installs the packages of a folder's lock file with the Node of .tools, if they are not installed: npm.sh NAME FOLDER
set -eu
name=$1
PATH="$(cd "$(dirname -- "$0")/../.." && pwd)/.tools/bin:$PATH"
cd "$2"
installed=node_modules/.callpulse-installed
pins=$(cat package.json package-lock.json .npmrc)
[ "$(cat "$installed" 2>/dev/null)" != "$pins" ] || exit 0
echo "$name: installing the packages of package-lock.json"
npm ci --loglevel=error --no-progress >/dev/null
printf '%s\n' "$pins" >"$installed"
