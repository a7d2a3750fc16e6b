#!/bin/bash
# Makes every system call of a stage's set-up fail, one at a time, and sees how the stage ends.
#
# Usage: faults.sh [--short] [--only TEXT] [STAGE|PEER]...   (default: stages 1 to 5; needs root)
#        faults.sh --at 'PROCESS CALL N FAULT' CASE
#
#   --short        for CI: one errno and one kill for each call, but of calls that are the same only two,
#                  each stage in one case, two minutes at most
#   --only TEXT    only cases with this in their name
#   --at ...       one fault of one case, in detail: what an unclean one is found by. Both are as the
#                  table has them, such as: --at 'container mount 3 ENOMEM' 4:user:-:busybox
#   PEER           unshare or bwrap, if installed. Of these a message is not judged, only whether they hang,
#                  leave something, or go on as if nothing had happened
#   STAGE_BIN_DIR  (environment) where the stages are (default: target/debug)
#   JOBS           (environment) how many runs at a time (default 3)
#
# A case is STAGE:CALLER:NETWORK:ROOT. A fault hits the Nth such call of one process (the stage, its
# container until it has become the command, the keeper of the network), from the first instruction
# to the last: an errno in place of the call, a short write, or a SIGKILL. faults.py injects it, and
# says why it is not strace that does; `strace -e inject=CALL:error=E:when=N` without -f is the same for
# the stage, with -f for a container or keeper if nobody else makes N such calls.
#
# A run is clean if nothing hangs or panics, nothing is left two seconds later (processes, mounts, links,
# files, the hostname), and one of these is true:
#   harmless   it ended as without the fault, and the container's view of itself was the same, line for line
#   refused    not with status 0, and with one message, which names the call and has the errno
#   start-up   it was a call of the language's start-up, before main, and it ended in any other way; this
#              may be a panic of Rust's own, which the last lines count
#   killed     it was a kill, and the status is not 0. If the keeper was killed, a bridge of ours may be
#              left, which the next run must remove
# Each run has a host of its own, in namespaces; the machine is not touched.
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
fail() { echo "faults.sh: $*" >&2; exit 1; }

# All cases; those that the short form has are marked.
cases=(+1:root:-:- 1:user:-:- 2:root:-:- +2:user:-:- +3:root:-:- 3:user:-:- 4:root:-:borrowed 4:root:-:busybox
    +4:user:-:borrowed 4:user:-:busybox +5:root:host:borrowed 5:root:host:busybox 5:root:private:borrowed
    +5:user:private:borrowed 5:user:private:busybox
    unshare:root:-:- unshare:user:-:- bwrap:root:-:busybox bwrap:user:-:busybox)
short=0 only='' at='' stages=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit ;;
        --short) short=1 ;;
        --only) [ $# -gt 1 ] || fail '--only needs a text'; only=$2; shift ;;
        --at) [ $# -gt 2 ] || fail '--at needs a point and a case'; at=$2; cases=("$3"); shift 2 ;;
        [1-5] | unshare | bwrap) stages+=" $1 " ;;
        *) usage >&2; exit 1 ;;
    esac
    shift
done
scripts=$(cd -- "$(dirname -- "$0")" && pwd -P)
bin=${STAGE_BIN_DIR:-$scripts/../target/debug}
[ "$(id -u)" = 0 ] || fail 'tracing and hosts of their own take root'
[ "$(uname -m)" = x86_64 ] || fail "it knows the system calls of x86-64 only, not of $(uname -m)"
[ -x "$bin/stage5-net" ] || fail "no stages in $bin: cargo build, or set STAGE_BIN_DIR"
for program in busybox python3 ip ping unshare; do
    command -v "$program" >/dev/null || fail "it takes $program"
done
chosen=() left_out=()
for case in "${cases[@]}"; do
    name=${case#+}
    [[ ${stages:- 1 2 3 4 5 } = *" ${name%%:*} "* && $name = *"$only"* ]] || continue
    if [ "$short" = 1 ] && [ "$name" = "$case" ]; then left_out+=("$name"); else chosen+=("$name"); fi
done
[ "${#chosen[@]}" != 0 ] || fail 'no such case'

# Copies, so that a build in the meantime does not matter, where everybody can read them.
tmp=$(mktemp -d)
pids=()
# shellcheck disable=SC2317,SC2329 # the trap calls it
cleanup() {
    trap '' HUP INT TERM
    # unshare(1) does not end by anything less; its child, PID 1 inside, then does, and all that is there.
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || :; done
    wait
    rm -rf --one-file-system "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM
chmod 755 "$tmp"
cp "$bin"/stage{1-uts,2-user,3-pid,4-mount,5-net} "$scripts/faults/faults.py" "$tmp"
STAGE_BIN_DIR='' "$scripts/rootfs.sh" --from busybox "$tmp/root" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; fail 'no root'; }

# A host: its names, processes, mounts and links, and a /tmp that has nothing but two roots in it.
# PID 1 there is the tracer, who also reaps what is orphaned, as an init does.
host() {
    # shellcheck disable=SC2016 # the shell inside expands it
    exec unshare --uts --net --pid --fork --kill-child --mount --mount-proc bash -euc '
        hostname host
        mount --bind "$0" /mnt
        mount -t tmpfs -o mode=1777 tmpfs /tmp
        cp -a /mnt/root /tmp/root
        cp -a /mnt/root /tmp/user
        chown -hR 65533:65533 /tmp/user
        cd /
        exec python3 /mnt/faults.py "$@"' "$tmp" "$@"
}

if [ -n "$at" ]; then
    (host at "${cases[0]}" "$at")
    exit
fi
until=$(($(date +%s) + (short ? 110 : 7200)))
jobs=${JOBS:-3}
for ((job = 0; job < jobs; job++)); do
    host "$job" "$jobs" "$short" "$until" "${chosen[@]}" >"$tmp/$job.result" &
    pids+=($!)
done
result=0
for pid in "${pids[@]}"; do wait "$pid" || result=1; done
pids=()

awk -F '\t' -v cases="${chosen[*]}" '
    $2 == "done" { finished[$1]++; if ($3 > points[$1]) points[$1] = $3; next }
    $2 == "short" || $2 == "late" { untried[$1, $2] += $3; total[$2] += $3; next }
    {
        runs[$1]++
        if ($2 == "clean") clean[$1, $4]++
        else {
            # One line a call, if all of its faults had the same end.
            unclean[$1]++; sum++
            fault = $3; sub(/.* /, "", fault); point = substr($3, 1, length($3) - length(fault))
            end = $8; gsub(/[A-Z]+: [A-Z][a-z ]+/, "E", end); gsub(/[0-9]+/, "N", end)
            if (!((key = $1 point end) in same)) { same[key] = ++lines; text[lines] = $5 ": " $8; what[lines] = $1 "  " point }
            what[same[key]] = what[same[key]] fault " "
        }
        if ($4 == "panic") panics++
        if ($6 > slowest) { slowest = $6; slow = $1 " " $3 }
        if ($7 > longest) { longest = $7; last = $1 " " $3 }
    }
    END {
        row = "%-24s %6s %6s %9s %8s %9s %7s %12s %8s\n"
        printf row, "case", "calls", "runs", "harmless", "refused", "start-up", "killed", "not reached", "unclean"
        for (n = split(cases, name, " "); i++ < n; ) {
            c = name[i]
            printf row, c, points[c], runs[c] + 0, clean[c, "harmless"] + 0, clean[c, "refused"] + 0,
                clean[c, "start-up"] + clean[c, "panic"], clean[c, "killed"] + 0, clean[c, "not-reached"] + 0, unclean[c] + 0
        }
        for (i = 1; i <= lines; i++) print "unclean: " what[i] "\n    " text[i]
        printf "%d unclean; slowest run %.1f s (%s), longest until nothing was left %.2f s (%s)\n", sum,
            slowest, slow, longest, last
        if (panics) print panics " ends in start-up were panics of Rust\047s own"
        if (total["short"]) print "left out: " total["short"] " faults of the same calls, since it is the short form"
        if (total["late"]) print "left out: " total["late"] " faults, for which there was no time"
        exit sum > 0
    }' "$tmp"/*.result || result=1
[ "${#left_out[@]}" = 0 ] || echo "left out: the cases ${left_out[*]}"
exit "$result"
