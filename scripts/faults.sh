#!/bin/bash
# Lets every system call of a stage's set-up fail, one at a time, and sees how the stage ends.
#
# Usage: faults.sh [--short] [--only TEXT] [STAGE|PEER]...   (default: stages 1 to 5; needs root)
#        faults.sh --at 'PROCESS CALL N FAULT' CASE
#
#   --short        for CI: one errno and one kill for each call, but of equal calls only two, each
#                  stage in one case or two, two minutes at most
#   --only TEXT    only cases with this in their name
#   --at ...       one fault of one case, in detail, to look into an unclean one. Both as in the table,
#                  such as: --at 'container mount 3 ENOMEM' 4:user:-:busybox
#   PEER           unshare or bwrap, if installed. Their messages are not judged, only whether they
#                  hang, leave something, or end with 0 although the container is another one
#   STAGE_BIN_DIR  (environment) where the stages are (default: target/debug)
#   JOBS           (environment) how many runs at a time (default 3)
#
# A case is STAGE:CALLER:NETWORK:ROOT. A fault hits the Nth such call of one process: the stage, the
# container until it has become the command, or the janitor, which deletes the network. It is an errno
# in place of the call, a write that is cut short, or a SIGKILL. strace injects it: faults.py says how.
#
# A run is clean if nothing hangs or panics, nothing is left two seconds later (processes, mounts, links,
# files, the hostname), and one of these is true:
#   harmless   it ended as without the fault, and the container's view of itself was the same, line for line
#   refused    not with status 0, and with one message, which names the call and has the errno
#   start-up   it was a call of the language's start-up, before main, and it ended in any other way; this
#              may be a panic of Rust's own
#   killed     it was a kill, and the status is not 0. If the janitor was killed, a bridge of ours may be
#              left, which the next run must remove
# Each run has a host of its own, in namespaces. The machine is not touched.
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
fail() { echo "faults.sh: $*" >&2; exit 1; }

case ${1-} in -h | --help) usage; exit ;; esac
scripts=$(cd -- "$(dirname -- "$0")" && pwd -P)
bin=${STAGE_BIN_DIR:-$scripts/../target/debug}
[ "$(id -u)" = 0 ] || fail 'needs root, for hosts of its own'
[ -x "$bin/stage5-net" ] || fail "no stages in $bin: cargo build, or set STAGE_BIN_DIR"
for program in busybox python3 ip ping strace unshare; do
    command -v "$program" >/dev/null || fail "needs $program"
done
# Copies where everybody can read them, so that a build in the meantime does not matter.
tmp=$(mktemp -d)
trap 'rm -rf --one-file-system "$tmp"' EXIT
trap 'exit 130' HUP INT TERM
chmod 755 "$tmp"
cp "$bin"/stage{1-uts,2-user,3-pid,4-mount,5-net} "$scripts/faults/faults.py" "$tmp"
STAGE_BIN_DIR='' "$scripts/rootfs.sh" --from busybox "$tmp/root" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; fail 'no root'; }
python3 "$tmp/faults.py" "$@"
