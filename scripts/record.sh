#!/bin/sh
# Records a session of stage 5 for its README: stage5-net/session.svg.
#
# Usage: record.sh [SVG]
#
#   STAGE_BIN_DIR  (environment) where stage5-net is, instead of having cargo build it
#
# Runs stage5-net --explain at a terminal of script(1), with pings, on a host of its own; takes
# root, and the busybox that scripts/rootfs.sh makes a root of. What is seen is drawn as it is,
# wrapped at the terminal's width; only the pace is another one.
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
case ${1-} in
    -h | --help) usage; exit ;;
    -*) usage >&2; exit 1 ;;
esac
scripts=$(cd -- "$(dirname -- "$0")" && pwd -P)
svg=${1:-${scripts%/*}/stage5-net/session.svg}
if [ -z "${STAGE_BIN_DIR-}" ]; then
    cargo build --quiet --manifest-path "${scripts%/*}/Cargo.toml"
    STAGE_BIN_DIR=${CARGO_TARGET_DIR:-${scripts%/*}/target}/debug
fi
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
cp "$STAGE_BIN_DIR/stage5-net" "$tmp"
: >"$tmp/log"

# shellcheck disable=SC2016 # expanded there, not here
timeout -k 5 100 unshare --kill-child --uts --mount --net --pid --fork --mount-proc sh -euc '
    scripts=$1 tmp=$2
    mount --bind "$tmp" /mnt
    mount -t tmpfs tmpfs /tmp
    "$scripts/rootfs.sh" --from busybox /tmp/rootfs 2>/dev/null
    hostname host
    echo 7000 >/proc/sys/kernel/ns_last_pid
    PATH=/mnt:$PATH
    # A typist who waits for a prompt, and looks at the end of the log for it.
    type() {
        tries=0
        # (busybox asks the terminal where its cursor is, with ESC [6n.)
        until tail -n 1 /mnt/log | tr -d "\033" | sed "s/\[6n//g" | grep -qxe "$1"; do
            tries=$((tries + 1))
            [ $tries -lt 200 ] || exit 1
            sleep 0.1
        done
        sleep 0.3
        echo "$2"
        sleep 0.3
    }
    {
        type "# " "stage5-net --explain"
        type "-> " "hostname; id -u; echo \$\$"
        type "-> " "ping -c2 172.20.1.2"
        type "-> " "ping -c2 172.20.1.3"
        type "-> " exit
        type "# " exit
    } | env -i PATH="$PATH" TERM=dumb NO_COLOR=1 script -qefc "exec /bin/sh" /mnt/log >/dev/null' \
    sh "$scripts" "$tmp"
"$scripts/pictures.py" --session "$tmp/log" "$svg"
