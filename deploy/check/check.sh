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

failed=
run() {
    case ",${SKIP:-}," in *",$1,"*) echo "deploy-check: $1 skipped"; return ;; esac
    if "deploy/check/$1.sh"; then echo "deploy-check: $1 ok"; else failed="$failed $1"; fi
}

install_python_tools
for check in deploy/check/*.sh; do
    name=$(basename "$check" .sh)
    [ "$name" = check ] || run "$name"
done
[ -z "$failed" ] || fail "failed:$failed"
