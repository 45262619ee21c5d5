#!/bin/bash
# boot.sh ARCHIVE [ROOT]: boots a bare Debian 12 in namespaces of its own, installs the release there as deploy/README.md says, starts
# all units with one nats-server and TLS between them, plays a call of a minute, freezes a service until its watchdog restarts it, and
# stops all units. By hand, as root, after `make build`, with the Debian package debootstrap. ROOT is a debootstrapped folder to use
# again. It takes about three minutes.
set -euo pipefail
cd "$(dirname -- "$0")/../.."
archive=$(realpath "$1")
root=$(realpath -m "${2:-target/dist/debian}")

if [ ! -x "$root/lib/systemd/systemd" ]; then
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libsrtp2-1,libuv1,libssl3,libnss3,libnspr4 bookworm "$root"
fi

release=$(mktemp -d)
trap 'rm -rf "$release"' EXIT
tar --extract --strip-components=1 --directory="$release" --file="$archive"
(cd "$release" && sha256sum --quiet --check SHA256SUMS)
install --target-directory="$root/usr/local/bin" "$release"/bin/* .tools/bin/nats-server "${CARGO_TARGET_DIR:-target}/debug/call"
install -m 0644 --target-directory="$root/etc/systemd/system" "$release"/systemd/*.service
install -D -m 0644 "$release/systemd/callpulse.sysusers.conf" "$root/etc/sysusers.d/callpulse.conf"
rm -rf "$root/etc/callpulse"
mkdir "$root/etc/callpulse"
cp -r "$release/nats" "$release"/etc/*.toml "$root/etc/callpulse"
NATS_SERVERS=127.0.0.1 "$release/secrets.sh" "$root/etc/callpulse/secrets"

# An authority of its own, and the server's certificate.
tls=$root/etc/callpulse/tls
mkdir "$tls"
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${key[@]}" -days 2 -subj /CN=callpulse -keyout "$release/ca.key" -out "$tls/ca.pem" 2>/dev/null
openssl req "${key[@]}" -subj /CN=nats -keyout "$tls/server.key" -out "$release/server.csr" 2>/dev/null
openssl x509 -req -in "$release/server.csr" -CA "$tls/ca.pem" -CAkey "$release/ca.key" -days 2 -out "$tls/server.pem" \
    -extfile <(echo subjectAltName=IP:127.0.0.1) 2>/dev/null
chmod 0644 "$tls"/*
printf 'include "dev.conf"\ntls { cert_file: /etc/callpulse/tls/server.pem, key_file: /etc/callpulse/tls/server.key }\n' \
    >"$root/etc/callpulse/nats/tls.conf"

# One server instead of three.
echo NATS_MAX_FILE_STORE=1GB >>"$root/etc/callpulse/secrets/nats.env"
mkdir -p "$root/etc/systemd/system/callpulse-nats.service.d"
printf '[Service]\nExecStart=\nExecStart=/usr/local/bin/nats-server -c /etc/callpulse/nats/tls.conf\n' \
    >"$root/etc/systemd/system/callpulse-nats.service.d/one.conf"
sed -i 's/^url.*/url = "tls:\/\/127.0.0.1:4222"\nca_file = "\/etc\/callpulse\/tls\/ca.pem"/; s/^replicas.*/replicas = 1/; s/^announced_address.*/announced_address = "127.0.0.1"/' \
    "$root"/etc/callpulse/*.toml

cat >"$root/root/try.sh" <<'TRY'
#!/bin/bash
units='callpulse-nats callpulse-billing-timer callpulse-media-worker@1 callpulse-ws-edge'
ready() {
    exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3 && grep -q '^HTTP/1.1 200' <&3
}
{
    failed=0
    systemd-sysusers
    # shellcheck disable=SC2086 # words
    systemctl start $units || failed=1
    for port in 4022 4111 4002; do
        for _ in $(seq 60); do (ready "$port") 2>/dev/null && break; sleep 0.5; done
        (ready "$port") && echo "port $port: ready" || failed=1
    done
    for unit in $units; do
        process=$(systemctl show --property=MainPID --value "$unit")
        echo "$unit:" $(grep -E '^(CapEff|NoNewPrivs|Seccomp):' "/proc/$process/status" | tr -d '\t')
    done
    # A call with the release's own terms: a minute has 60 s.
    secrets=/etc/callpulse/secrets
    export WS_EDGE__NATS_PASSWORD_FILE=$secrets/ws-edge.nats_password WS_EDGE__JWT__SECRET_FILE=$secrets/ws-edge.jwt_secret
    token() { ws-edge --config /etc/callpulse/ws-edge.toml token --role "$1" --sub "$2"; }
    USER_TOKEN=$(token user user_001) OTOMO_TOKEN=$(token otomo otomo_777) call || failed=1
    # A process that makes no progress: its watchdog ends it, and it starts again.
    systemctl kill --signal=STOP callpulse-billing-timer
    for _ in $(seq 120); do
        [ "$(systemctl show --property=NRestarts --value callpulse-billing-timer)" = 0 ] || break
        sleep 0.5
    done
    for _ in $(seq 60); do systemctl is-active --quiet callpulse-billing-timer && break; sleep 0.5; done
    restarts=$(systemctl show --property=NRestarts --value callpulse-billing-timer)
    echo "callpulse-billing-timer: frozen, restarted $restarts times, $(systemctl is-active callpulse-billing-timer)"
    [ "$restarts" = 1 ] && systemctl is-active --quiet callpulse-billing-timer || failed=1
    for unit in callpulse-ws-edge callpulse-media-worker@1 callpulse-billing-timer callpulse-nats; do
        systemctl stop "$unit"
        result=$(systemctl show --property=Result --value "$unit")
        echo "$unit: stopped, $result"
        [ "$result" = success ] || failed=1
    done
    [ "$failed" = 0 ] || journalctl --no-pager -u 'callpulse-*' | tail -n 60
    echo "failed: $failed"
} >/root/try.log 2>&1
sync
systemctl poweroff --force --force
TRY
chmod +x "$root/root/try.sh"
rm -rf "$root/root/try.log" "$root/var/lib/callpulse-nats"
printf '[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nExecStart=/root/try.sh\n' >"$root/etc/systemd/system/try.service"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants" "$root/old"
ln -sf ../try.service "$root/etc/systemd/system/multi-user.target.wants/try.service"
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

# pivot_root and not chroot, which forbids user namespaces; shared mounts, through which systemd passes credentials.
timeout --kill-after=5 300 unshare --mount --pid --fork --uts --ipc --net --cgroup --kill-child bash -euc '
    ip link set lo up
    mount --make-rprivate /
    mount --bind "$0" "$0"
    cd "$0"
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 none sys/fs/cgroup 2>/dev/null || {
        mount -t tmpfs tmpfs sys/fs/cgroup
        mkdir sys/fs/cgroup/systemd
        mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    }
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs tmp
    mount --rbind /dev dev
    pivot_root . old
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "
        umount -l /old; mount --make-rshared /; exec /lib/systemd/systemd --log-target=console --show-status=0"
' "$root" >target/dist/boot.log 2>&1 || true
cat "$root/root/try.log"
grep -qx 'failed: 0' "$root/root/try.log"
