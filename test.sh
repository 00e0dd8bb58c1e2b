#!/bin/sh
# Sets up what is missing and runs every check: format, lints, docs, tests, and the end-to-end tests
# with the official client, a real SMTP server, PostgreSQL and Chromium.
#   ./test.sh         all of it
#   ./test.sh long    the long forms of the crash, adversary and rewrap tests as well
set -eu
cd "$(dirname "$0")"
. ./.setup.sh
need node nodejs
need npm npm
need openssl openssl
need chromium chromium

step() {
    printf '\n== %s\n' "$*" >&2
    "$@"
}

step cargo fmt --all --check
step cargo clippy --locked --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --locked --workspace --no-deps
step cargo test --locked --workspace
if [ "${1:-}" = long ]; then
    MANA_AUTH_LONG=1 step cargo test --locked --test log
    MANA_AUTH_LONG=1 step cargo test --locked --test cli -- s72
fi
step cargo build --locked --bin mana-auth
binary=$(realpath "${CARGO_TARGET_DIR:-target}")/debug/mana-auth
cd tests/e2e
step npm ci --no-audit --no-fund
MANA_AUTH_BIN=$binary step npm test
