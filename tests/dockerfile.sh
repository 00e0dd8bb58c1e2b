#!/bin/sh
# Runs the Dockerfile's build steps where no container tool exists: the build stage for real in a folder
# of its own, then the binary as the image would run it, as a user without rights, with its health check.
# Settings: TARGET keeps compiled dependencies between runs.
set -eu
project=$(cd "$(dirname "$0")/.." && pwd)
root=$(mktemp -d /tmp/mana-auth-image.XXXXXX)
chmod 755 "$root"
trap 'rm -rf "$root"; [ -z "${service:-}" ] || kill "$service" 2>/dev/null || true' EXIT

echo "== build stage" >&2
stage=
while IFS= read -r line; do
    case $line in
    "FROM "*" AS build") stage=build ;;
    "FROM "*) stage=run ;;
    "WORKDIR "*) [ "$stage" != build ] || { work=$root${line#WORKDIR }; mkdir -p "$work"; } ;;
    "COPY --from=build "*)
        # shellcheck disable=SC2086
        set -- ${line#COPY --from=build }
        mkdir -p "$root$(dirname "$2")"
        cp "$root$1" "$root$2"
        ;;
    "COPY "*)
        # shellcheck disable=SC2086
        set -- ${line#COPY }
        for target; do :; done
        while [ $# -gt 1 ]; do
            if [ -d "$project/$1" ]; then cp -r "$project/$1" "$work/$target"; else cp "$project/$1" "$work/"; fi
            shift
        done
        ;;
    "RUN "*)
        if [ "$stage" = build ]; then
            echo "+ ${line#RUN }" >&2
            [ -z "${TARGET:-}" ] || ln -sfn "$TARGET" "$work/target"
            (cd "$work" && sh -euc "${line#RUN }")
        fi
        ;;
    esac
done <"$project/Dockerfile"

echo "== the image's command, in development mode with a private cluster" >&2
binary=$root/usr/local/bin/mana-auth
data=$root/var/lib/mana-auth
mkdir -p "$data"
user=nobody
if [ "$(id -u)" = 0 ]; then
    chown "$user" "$data"
    as="setpriv --reuid $user --regid nogroup --clear-groups"
else
    as=
fi
port=3999
# shellcheck disable=SC2086
NODE_ENV=development PORT=$port MANA_AUTH_DATA_DIR=$data $as "$binary" serve &
service=$!
tries=0
# shellcheck disable=SC2086
until PORT=$port $as "$binary" health; do
    tries=$((tries + 1))
    [ $tries -lt 150 ] || { echo "error: the service does not get ready" >&2; exit 1; }
    sleep 0.2
done
kill -TERM "$service"
wait "$service"
service=
echo "the image's build and command work" >&2
