#!/bin/sh
# Builds the release for this machine's architecture on Debian 12: optimised programs, units, settings, the configuration of
# NATS, an SBOM, all licences and checksums in target/dist/callpulse-VERSION-ARCH-linux.tar.gz. `make release` runs it, in about
# 11 minutes on two cores. The same commit gives the same archive if the compiler gives the same programs.
set -eu
cd "$(dirname -- "$0")/../.."

fail() { echo "release: $*" >&2; exit 1; }

[ -z "$(git status --porcelain)" ] || fail "uncommitted changes"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
commit=$(git rev-parse HEAD)
time=$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)
name=callpulse-$version-$(uname -m)-linux
CALLPULSE_BUILD=" ($(git rev-parse --short=12 HEAD))"
export CALLPULSE_BUILD
programs='media-worker ws-edge billing-timer callctl'

# shellcheck disable=SC2086 # one word a package
cargo build --release --locked --bins $(printf ' -p %s' $programs)

rm -rf "target/dist/$name"
mkdir -p "target/dist/$name"
stage=$PWD/target/dist/$name
for program in $programs; do
    install -D "target/release/$program" "$stage/bin/$program"
    [ "$("$stage/bin/$program" --version)" = "$program $version$CALLPULSE_BUILD" ] \
        || fail "$program --version does not report $version$CALLPULSE_BUILD"
done

# What deploy/README.md says that media-worker needs, and what comes with every Debian.
needed=$(objdump -p "$stage/bin/media-worker" | sed -n 's/^ *NEEDED *\([^ ]*\)\.so.*/\1/p' | grep -v '^ld-linux' | sort | tr '\n' ' ')
[ "$needed" = 'libc libcrypto libgcc_s libm libsrtp2 libssl libuv ' ] || fail "media-worker needs other libraries: $needed"

cp -r deploy/systemd deploy/etc deploy/prometheus deploy/grafana deploy/kubernetes deploy/secrets.sh deploy/README.md "$stage"
cp -r nats/conf "$stage/nats"
cp LICENSE-APACHE LICENSE-MIT CHANGELOG.md "$stage"
printf 'version %s\ncommit %s\ntime %s\n%s\n' "$version" "$commit" "$time" "$(rustc --version)" >"$stage/BUILD"
.tools/bin/python deploy/release/inventory.py "$stage" "$version" "$commit" "$time"
deploy/release/validate-sbom.sh "$stage/sbom.cdx.json"
(cd "$stage" && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)

cd target/dist
chmod -R u=rwX,go=rX "$name"
tar --create --sort=name --mtime="$time" --owner=0 --group=0 --numeric-owner --format=gnu "$name" | gzip -9n >"$name.tar.gz"
sha256sum "$name.tar.gz" >"$name.tar.gz.sha256"
echo "release: target/dist/$name.tar.gz"
