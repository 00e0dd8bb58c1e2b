#!/bin/sh
# Builds and runs what the Dockerfile says where no container tool exists: a folder stands for the file system of
# each stage. The build stage's steps run as they are written; then the image's command runs inside of its folder
# (chroot), as the image's user, with the image's environment, in production mode on a PostgreSQL of its own, and is
# asked by the image's health check and stopped by the image's signal.
# What this cannot show: the base images and their packages. This machine's Rust, shared libraries and certificates
# stand in for them. An instruction that this script does not know ends it.
#   sudo tests/dockerfile.sh     needs root, as chroot does; a release build takes minutes
# Settings: TARGET names a folder that keeps compiled dependencies between runs.
set -eu
project=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d /tmp/mana-auth-image.XXXXXX)
build=$place/build image=$place/image server=$place/postgres
service='' postgres=''
clean() {
    [ -z "$service" ] || { kill -KILL "$service" && wait "$service"; } 2>/dev/null || true
    [ -z "$postgres" ] || { kill -INT "$postgres" 2>/dev/null && wait "$postgres"; } || true
    rm -rf "$place"
}
trap clean EXIT
trap 'exit 1' INT TERM
say() { printf '\n== %s\n' "$*" >&2; }
fail() { echo "error: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "this needs root, as chroot does"

# Words of the exec form: ["mana-auth", "serve"].
words() { printf '%s' "$1" | tr -d '[]",'; }

# copy FROM... TO: FROM below $source, TO below $target; folders are copied as their contents.
copy() {
    for to; do :; done
    case $to in /*) to=$target$to ;; *) to=$target$folder/$to ;; esac
    while [ $# -gt 1 ]; do
        if [ -d "$source/$1" ]; then
            mkdir -p "$to" && cp -R "$source/$1/." "$to"
        else
            case $to in */) mkdir -p "$to" ;; *) mkdir -p "$(dirname "$to")" ;; esac
            cp "$source/$1" "$to"
        fi
        shift
    done
}

# The second stage's RUN installs packages of its base image, which is not here. The user that it makes is made.
run_in_image() {
    case $1 in
    *"ca-certificates"*"useradd "*) ;;
    *) fail "this script does not know how to do: RUN $1" ;;
    esac
    mkdir -p "$image/etc/ssl/certs" "$image/var/lib"
    cp /etc/ssl/certs/ca-certificates.crt "$image/etc/ssl/certs/"
    cp /etc/login.defs "$image/etc/"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$image/etc/passwd"
    echo 'root:x:0:' >"$image/etc/group"
    echo 'root:*:20000:0:99999:7:::' >"$image/etc/shadow"
    make_user="useradd --prefix $image ${1##*useradd }"
    echo "+ $make_user   (stands in for: RUN $1)" >&2
    $make_user
}

say "the Dockerfile's steps"
target='' folder=/ user=root environment='' port='' check='' signal='' command=''
sed -e ':next' -e '/\\$/ { N; s/\\\n *//; b next' -e '}' "$project/Dockerfile" >"$place/steps"
while IFS= read -r line; do
    # shellcheck disable=SC2086
    case $line in
    '' | '#'*) ;;
    "FROM rust:"*" AS build")
        target=$build
        echo "+ $line   (stands in: $(rustc --version))" >&2
        wanted=${line#FROM rust:}
        rustc --version | grep -q "^rustc ${wanted%%-*}\." || fail "the image is built with Rust ${wanted%%-*}"
        ;;
    "FROM debian:"*)
        target=$image folder=/
        echo "+ $line   (stands in: shared libraries of Debian $(cat /etc/debian_version))" >&2
        ;;
    "WORKDIR "*) folder=${line#WORKDIR } && mkdir -p "$target$folder" ;;
    "COPY --from=build "*)
        echo "+ $line" >&2
        source=$build copy ${line#COPY --from=build }
        ;;
    "COPY "*)
        echo "+ $line" >&2
        source=$project copy ${line#COPY }
        ;;
    "RUN "*)
        if [ "$target" = "$image" ]; then
            run_in_image "${line#RUN }"
        else
            echo "+ $line" >&2
            [ -z "${TARGET:-}" ] || { mkdir -p "$TARGET" && ln -s "$(realpath "$TARGET")" "$target$folder/target"; }
            (cd "$target$folder" && env -u CARGO_TARGET_DIR -u RUSTFLAGS sh -euc "${line#RUN }")
        fi
        ;;
    "USER "*) user=${line#USER } ;;
    "ENV "*) environment="$environment ${line#ENV }" ;;
    "EXPOSE "*) port=${line#EXPOSE } ;;
    "HEALTHCHECK "*) check=$(words "${line##*CMD }") ;;
    "STOPSIGNAL SIG"*) signal=${line#STOPSIGNAL SIG} ;;
    "CMD "*) command=$(words "${line#CMD }") ;;
    *) fail "this script does not know the instruction: $line" ;;
    esac
done <"$place/steps"
case " $environment " in *" PORT=$port "*) ;; *) fail "port $port is exposed, but PORT is another one" ;; esac

say "what the image holds"
chmod 755 "$place" "$image"
# The base image brings these.
ldd "$image/usr/local/bin/mana-auth" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$image$(dirname "$library")" && cp -L "$library" "$image$library"
done
ids=$(awk -F: -v user="$user" '$1 == user { print $3 ":" $4 }' "$image/etc/passwd")
[ -n "$ids" ] || fail "the image has no user $user"
[ "${ids%%:*}" != 0 ] || fail "the image's user is root"
find "$image/usr/local" "$image/var/lib" -exec ls -lnd {} + >&2

say "a PostgreSQL with the two roles of the README"
tools=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
mkdir "$server" && chown nobody "$server"
as_nobody="setpriv --reuid nobody --regid nogroup --clear-groups --"
$as_nobody "$tools/initdb" -D "$server/data" -U postgres --auth=trust --no-instructions >"$place/initdb.log"
# Its socket is the only way in, and is where the image can see it.
mkdir -p "$image/run/postgresql" && chown nobody "$image/run/postgresql"
$as_nobody "$tools/postgres" -D "$server/data" -h '' -k "$image/run/postgresql" 2>"$place/postgres.log" &
postgres=$!
tries=0
until "$tools/pg_isready" -q -h "$image/run/postgresql"; do
    tries=$((tries + 1))
    [ $tries -lt 150 ] || fail "PostgreSQL does not start: $(cat "$place/postgres.log")"
    sleep 0.2
done
"$tools/psql" -q -v ON_ERROR_STOP=1 -h "$image/run/postgresql" -U postgres postgres <<'SQL'
create role mana_auth_owner login;
create role mana_auth_app login nosuperuser nobypassrls;
grant mana_auth_app to mana_auth_owner;
create database mana_auth owner mana_auth_owner;
SQL

# in_image WORD...: becomes what the container would run, so it is called in a shell of its own. Another port, because
# this one shares the machine's network.
in_image() {
    # shellcheck disable=SC2086
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $environment \
        PORT=3999 MANA_AUTH_HOST=127.0.0.1 BASE_URL=https://auth.example.com \
        "DATABASE_URL=postgres://mana_auth_app@localhost/mana_auth?host=/run/postgresql" \
        "MANA_AUTH_MIGRATION_URL=postgres://mana_auth_owner@localhost/mana_auth?host=/run/postgresql" \
        BETTER_AUTH_SECRET="$secret" MANA_AUTH_KEK="$kek" MANA_SERVICE_KEY="$secret" SMTP_HOST=127.0.0.1 \
        chroot --userspec="$ids" --groups="${ids#*:}" "$image" "$@"
}
# check: what the health check answers; 0 and 1 are all that there is.
check() {
    # shellcheck disable=SC2086
    (in_image $check) && answer=0 || answer=$?
    [ $answer -le 1 ] || fail "the health check ended with $answer"
}
secret=$(head -c 24 /dev/urandom | base64)
kek=$(head -c 32 /dev/urandom | base64)

say "the health check before the service is there: $check"
check
[ $answer = 1 ] || fail "the health check is content with nothing"

say "the image's command: $command"
# shellcheck disable=SC2086
in_image $command &
service=$!
tries=0
until check 2>/dev/null && [ $answer = 0 ]; do
    tries=$((tries + 1))
    [ $tries -lt 150 ] && kill -0 "$service" 2>/dev/null || fail "the service does not get ready"
    sleep 0.2
done
grep -E '^(Name|Uid|Gid|Groups|CapEff)' "/proc/$service/status" >&2
awk -v ids="$ids" '
    BEGIN { split(ids, id, ":") }
    /^Uid:/ || /^Gid:/ { for (n = 2; n <= 5; n++) if ($n != id[$1 == "Uid:" ? 1 : 2]) wrong = 1 }
    /^CapEff:/ && $2 !~ /^0+$/ { wrong = 1 }
    END { exit wrong }' "/proc/$service/status" || fail "the service runs with other rights than the image's user has"

say "an account, made beside the running service"
echo "correct horse battery" | (in_image mana-auth user create ada@example.com --name Ada --password-stdin)
(in_image mana-auth events tail)

say "the image's signal: SIG$signal"
kill -s "$signal" "$service"
wait "$service" || fail "the service ended with $?"
service=
check
[ $answer = 1 ] || fail "the health check is content with a service that stopped"
say "the image's build, user, command, health check and signal work"
