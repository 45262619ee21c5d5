#!/bin/sh
# Runs a script of the browser packages with the Node of .tools, after installing the pinned packages:
#   run.sh build   builds the client library, and the pages into dist/, if anything has changed
#   run.sh check   checks types, and that generated types match their schemas
#   run.sh test    runs the tests
#   run.sh types   generates the types from their schemas
set -eu
cd "$(dirname -- "$0")"
PATH="$(pwd)/../../.tools/bin:$PATH"
export PATH

say() { echo "web: $*"; }
fail() { echo "web: $*" >&2; exit 1; }

installed=node_modules/.callpulse-installed
built=node_modules/.callpulse-built

# By content, not by time: a checkout changes times, and a deleted file has none. e2e is not built.
digest() {
    node --version
    find "$@" \( -name node_modules -o -name dist -o -name e2e \) -prune -o -type f -print | LC_ALL=C sort | tr '\n' '\0' | xargs -0 sha256sum
}

same() {
    [ -e "$1" ] && [ "$(cat "$1")" = "$2" ]
}

install() {
    pins=$(digest package.json package-lock.json .npmrc */package.json)
    ! same "$installed" "$pins" || return 0
    say "installing the packages of package-lock.json"
    npm ci --loglevel=error --no-progress >/dev/null || fail "npm could not install the packages of package-lock.json. If the lines above report a
web: network error, give this machine access to an npm registry ('npm config set registry …' selects another one) and run
web: make again. 'make build WEB=skip' builds the services without their pages."
    echo "$pins" >"$installed"
}

build() {
    sources=$(digest .)
    if [ -e client/dist/index.js ] && [ -e dist/index.html ] && same "$built" "$sources"; then
        return 0
    fi
    say "building the client library and the pages"
    npm run --silent build || fail "building the pages failed; see the lines above"
    echo "$sources" >"$built"
}

command -v npm >/dev/null || fail "npm not found; run: make setup"

# One at a time, like setup.sh.
exec 9<package.json
! command -v flock >/dev/null || flock 9

install
case ${1:-} in
build) build ;;
check) build && npm run --silent check ;;
test) build && npm run --silent test ;;
types) npm run --silent types ;;
*) fail "usage: run.sh build|check|test|types" ;;
esac
