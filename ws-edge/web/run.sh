#!/bin/sh
# Runs a script of the browser packages with the Node of .tools, once what package-lock.json pins is installed:
#   run.sh build   the client library, and the pages into dist/; nothing if nothing has changed since
#   run.sh check   types, and that the generated ones are those of the schema
#   run.sh test    their tests
set -eu
cd "$(dirname -- "$0")"
PATH="$(pwd)/../../.tools/bin:$PATH"
export PATH

say() { echo "web: $*"; }
fail() { echo "web: $*" >&2; exit 1; }

installed=node_modules/.callpulse-installed
built=node_modules/.callpulse-built

# By content, not by time: a checkout changes times, and a file that is gone has none. Of e2e nothing is built.
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
    say "installing what package-lock.json pins"
    npm ci --loglevel=error --no-progress >/dev/null || fail "npm could not install what package-lock.json pins. If the lines above tell
web: of the network, let this machine reach an npm registry ('npm config set registry …' names another one) and run
web: make once more. 'make build WEB=skip' builds the services without their pages meanwhile."
    echo "$pins" >"$installed"
}

build() {
    sources=$(digest .)
    if [ -e client/dist/index.js ] && [ -e dist/index.html ] && same "$built" "$sources"; then
        return 0
    fi
    say "building the client library and the pages"
    npm run --silent build || fail "the pages could not be built; the lines above say why"
    echo "$sources" >"$built"
}

command -v npm >/dev/null || fail "no npm here; run: make setup"

# One at a time, like setup.sh.
exec 9<package.json
! command -v flock >/dev/null || flock 9

install
case ${1:-} in
build) build ;;
check) build && npm run --silent check ;;
test) build && npm run --silent test ;;
*) fail "what? build, check or test" ;;
esac
