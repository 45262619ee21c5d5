#!/bin/sh
# Every setting that deploy/ names is in the configuration reference, and nats-server accepts what secrets.sh writes.
set -eu
cd "$(dirname -- "$0")/../.."
.tools/deploy-check/bin/python deploy/check/settings.py

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
deploy/secrets.sh "$folder/secrets"
# Like EnvironmentFile of systemd and env_file of Compose: a line is a name and its value, without quotes.
while IFS='=' read -r name value; do export "$name=$value"; done <"$folder/secrets/nats.env"
export NATS_SERVER_NAME=nats-0 NATS_LISTEN=127.0.0.1:4222 NATS_CLUSTER_LISTEN=127.0.0.1:6222 \
    NATS_MONITORING_LISTEN=127.0.0.1:8222 NATS_STORE_DIR="$folder/store" NATS_MAX_FILE_STORE=1GB
.tools/bin/nats-server -t -c nats/conf/cluster.conf >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
