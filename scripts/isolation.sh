#!/bin/bash
# Tries to get out of a container, in many ways, and compares with other programs that create them.
#
# Usage: isolation.sh [--markdown] [--only TEXT]         (some 15 seconds; root shows more)
#
#   --markdown     print isolation/README.md with a new table
#   --only TEXT    only columns with this in their name, such as 'stage 5'
#   STAGE_BIN_DIR  (environment) where the stages are (default: target/debug)
#
# common/examples/attempts.rs carries out the attempts: the same ones on the host, in stages 4 and 5,
# under unshare, and, where they are installed, under bwrap and runc; as root and as an ordinary user.
# They write nothing of the host. isolation/isolation.py starts them and judges the results.
#
# Exits with 1 if stage 5 leaves anything open without a reason in attempts.rs, or with a reason other
# than Docker's where runc has it closed; or if an attempt succeeds nowhere, not even on the host as
# root: then the attempt itself may be wrong.
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
fail() { echo "isolation.sh: $*" >&2; exit 1; }

case ${1-} in -h | --help) usage; exit ;; esac
root=$(dirname -- "$(realpath -- "$0")")/..
bin=$(realpath -- "${STAGE_BIN_DIR:-$root/target/debug}")
cd -- "$root"
[ -x "$bin/stage5-net" ] || fail "no stages in $bin: cargo build, or set STAGE_BIN_DIR"
for program in busybox cargo python3 unshare; do command -v "$program" >/dev/null || fail "needs $program"; done
tmp=$(mktemp -d)
trap 'rm -rf --one-file-system "$tmp"' EXIT
trap 'exit 129' HUP INT TERM
chmod 755 "$tmp"
# Statically linked, the attempts run in a root that has nothing else.
cargo rustc --quiet --package common --example attempts -- -C target-feature=+crt-static
scripts/rootfs.sh --from busybox "$tmp/root" 2>/dev/null || fail 'scripts/rootfs.sh --from busybox failed'
cp "$bin/stage4-mount" "$bin/stage5-net" "${CARGO_TARGET_DIR:-target}/debug/examples/attempts" "$tmp"
cp "$tmp/attempts" "$tmp/root/bin"
host=()
if [ "$(id -u)" = 0 ]; then
    # A network, processes and System V objects that play the host's, and end with this script. A
    # process of the host gets a number that no process inside has. The stages would take /tmp/rootfs.
    # shellcheck disable=SC2016 # for the inner shell
    host=(unshare --net --pid --mount --ipc --fork --kill-child=KILL --mount-proc sh -euc '
        echo 20000 2>/dev/null >/proc/sys/kernel/ns_last_pid || :
        busybox ip link set lo up
        ! [ -d /tmp/rootfs ] || mount -t tmpfs -o uid=65534 tmpfs /tmp/rootfs
        "$@"' sh)
fi
${host[@]+"${host[@]}"} python3 scripts/isolation/isolation.py "$tmp" "$@"
