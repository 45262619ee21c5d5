#!/bin/sh
# secrets.sh FOLDER: writes new random secrets for NATS, the services and TURN, one value a file, and nats.env for
# nats-server. The folder is readable by its owner only. It must not exist, so that no secret is replaced.
set -eu
folder=${1:?usage: secrets.sh FOLDER}
umask 077
mkdir "$folder"

# Letters and digits with a letter first: nats-server parses a variable like its configuration file.
random() { printf 'p%s' "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"; }
# Containers read the files as another user; the folder's mode protects them.
write() { printf '%s\n' "$2" >"$folder/$1"; chmod 0644 "$folder/$1"; }

cluster=$(random)
{
    for user in admin media-worker ws-edge billing-timer observer operator wallet; do
        password=$(random)
        write "$user.nats_password" "$password"
        echo "NATS_$(printf '%s' "$user" | tr 'a-z-' 'A-Z_')_PASSWORD=$password"
    done
    echo "NATS_CLUSTER_PASSWORD=$cluster"
    routes=
    for server in ${NATS_SERVERS:-nats-0 nats-1 nats-2}; do
        routes="${routes:+$routes, }nats://cluster:$cluster@$server:6222"
    done
    echo "NATS_CLUSTER_ROUTES=[$routes]"
} >"$folder/nats.env"
write ws-edge.jwt_secret "$(random)"
write turn_secret "$(random)"
