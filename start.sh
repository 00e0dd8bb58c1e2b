#!/bin/sh
# Sets up what is missing, builds and starts the service on http://localhost:3001.
# Arguments go to `mana-auth serve`; settings come from the environment (see README.md).
set -eu
cd "$(dirname "$0")"
. ./.setup.sh
cargo build --locked --bin mana-auth
# In place of this shell, so that Ctrl-C and signals reach the service itself.
exec "${CARGO_TARGET_DIR:-target}/debug/mana-auth" serve "$@"
