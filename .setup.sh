# Sourced by start.sh and test.sh: installs from Debian's packages what is missing.
# need COMMAND PACKAGE...: makes sure that COMMAND can be found.

need() {
    command=$1
    shift
    if command -v "$command" >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/"$command" >/dev/null 2>&1; then
        return 0
    fi
    echo "installing $* ($command is missing)" >&2
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "error: $command is missing, and there is no apt-get to install it with: please install $*" >&2
        exit 1
    fi
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo=sudo
        if ! command -v sudo >/dev/null 2>&1; then
            echo "error: $command is missing: please run as root: apt-get install $*" >&2
            exit 1
        fi
    fi
    if [ -z "${apt_updated:-}" ]; then
        $sudo apt-get update -qq >&2
        apt_updated=yes
    fi
    if [ "$command" = postgres ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        # We start a cluster of our own: no other one has to run on this machine.
        $sudo mkdir -p /etc/postgresql-common
        echo "create_main_cluster = false" | $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >&2
}

if ! command -v cargo >/dev/null 2>&1; then
    echo "error: cargo is missing: please install Rust 1.95 or newer" >&2
    exit 1
fi
need cc gcc libc6-dev
need postgres postgresql
need setpriv util-linux
