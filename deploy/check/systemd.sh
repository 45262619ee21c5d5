#!/bin/sh
# Checks the units with systemd's own tools: that they load, and that each has an exposure below 3 of 10.
set -eu
cd "$(dirname -- "$0")/../systemd"
limit=30 # tenths

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/etc/systemd" "$root/usr/lib/systemd" "$root/usr/local/bin" "$root/bin"
cp -r . "$root/etc/systemd/system"
cp -r "$(dirname "$(find -L /usr/lib/systemd/system /lib/systemd/system -name basic.target 2>/dev/null | head -n 1)")" "$root/usr/lib/systemd/system"
# The commands need only exist.
for command in local/bin/media-worker local/bin/ws-edge local/bin/billing-timer local/bin/nats-server; do
    cp /bin/true "$root/usr/$command"
done
cp /bin/true "$root/bin/kill"
cp /bin/true "$root/bin/sh"

failed=0
for unit in *.service; do
    name=$unit
    case $unit in *@.service)
        name="${unit%.service}1.service"
        cp "$unit" "$root/etc/systemd/system/$name"
        ;;
    esac
    messages=$(systemd-analyze verify --root="$root" --man=no "$name" 2>&1) || failed=1
    [ -z "$messages" ] || { echo "$messages" >&2; failed=1; }
    exposure=$(systemd-analyze security --offline=true --root="$root" --no-pager "$name" |
        sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p')
    echo "$unit: exposure $exposure"
    [ -n "$exposure" ] && [ "$(printf '%s' "$exposure" | tr -d .)" -lt "$limit" ] || failed=1
done
exit "$failed"
