#!/bin/sh
# Compares a stage with the slide's commands, with your own work, or with other programs that create containers.
#
# Usage: compare.sh [--rootfs DIR] [N] [-- COMMAND [ARG]...]
#        compare.sh [--rootfs DIR] N --pid PID
#        compare.sh [--rootfs DIR] N --program PROGRAM [ARG]...
#        compare.sh [--rootfs DIR] [5] --with runc|crun|bwrap|podman
#
#   N              only this stage, 1 to 5 (without it: all five)
#   --rootfs DIR   the new root for stages 4 and 5 (default: a busybox root, created and removed; with --pid and
#                  --program /tmp/rootfs, as on the slides)
#   COMMAND        compare what this prints and returns, instead of what scripts/probe.sh sees
#   --pid PID      look at your shell, in which you type the slide: what is done, and which line is next. PID is the
#                  shell's process id outside, or that of its unshare
#   --program ...  run your program. It starts the command that follows its arguments, or else a shell, which then
#                  reads the probe from stdin. The environment has the new root as ROOTFS
#   --with NAME    run the container of stage 5, with all that it closes, in another program
#   STAGE_BIN_DIR  (environment) where the stages are, instead of having cargo build them
#   COLUMNS        (environment) how wide the table may be (default 100)
#
# Without options it runs by-hand/N-*.sh and stageN-*. It prints a row a fact: same, different, or explained, which is
# different for a reason in compare/reasons. Exits with 1 if anything is different. Needs no root, except for stage 1,
# which must refuse without it.
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
fail() { echo "compare.sh: $*" >&2; exit 1; }
need() { [ -n "${2-}" ] || fail "$1 needs a value; see --help"; }

stages='1 2 3 4 5' rootfs='' inside='' probe=yes mode=hand pid=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit ;;
        --rootfs) need "$@"; rootfs=$2; shift ;;
        --inside) inside=yes ;; # not for users: see stage 5 below
        --pid) need "$@"; mode=pid pid=${2#*[!0-9]}; [ "$pid" = "$2" ] || fail "no process '$2'"; shift ;;
        --program) need "$@"; mode=program; shift; break ;;
        --with) need "$@"; mode=$2; shift ;;
        [1-5]) stages=$1 ;;
        --) shift; [ $# -eq 0 ] || probe=''; break ;;
        *) fail "no stage '$1'; see --help" ;;
    esac
    shift
done
case $mode in
    hand) ;;
    pid | program) [ ${#stages} = 1 ] || fail "--$mode needs the number of a stage"; : "${rootfs:=/tmp/rootfs}" ;;
    runc | crun | bwrap | podman)
        case $stages in 5 | '1 2 3 4 5') stages=5 ;; *) fail '--with compares stage 5' ;; esac
        PATH=$PATH:/usr/sbin:/sbin # an ordinary PATH may lack runc(8)
        command -v "$mode" >/dev/null || fail "$mode is not installed"
        ;;
    *) fail "--with knows runc, crun, bwrap and podman, not '$mode'" ;;
esac
scripts=$(cd -- "$(dirname -- "$0")" && pwd -P)
repo=${scripts%/*}
root=$([ "$(id -u)" != 0 ] || echo yes)

# An ordinary user may look at a checkout of somebody else's: then what is built must do.
if [ -n "${STAGE_BIN_DIR-}" ]; then
    bin=$STAGE_BIN_DIR
else
    target=${CARGO_TARGET_DIR:-$repo/target}
    bin=$target/debug
    if command -v cargo >/dev/null && [ -O "$repo" ]; then
        cargo build --quiet --manifest-path "$repo/Cargo.toml" || fail 'cargo build failed'
        case $mode in
            runc | crun) cargo build --quiet --manifest-path "$repo/stage5-net/Cargo.toml" --example oci_bundle ;;
        esac
    elif [ ! -x "$bin/stage1-uts" ]; then
        bin=$target/release
    fi
fi
[ -x "$bin/stage1-uts" ] || fail "no stages in $bin: run 'cargo build', or set STAGE_BIN_DIR"

tmp=$(mktemp -d) old_root='' child='' waiting=''
# shellcheck disable=SC2317,SC2329 # the trap calls it
cleanup() {
    trap '' HUP INT TERM
    for child in $child $waiting; do
        if kill "$child" 2>/dev/null; then wait "$child" || :; fi
    done
    [ -z "$old_root" ] || rmdir "$old_root" 2>/dev/null || :
    rm -rf --one-file-system "$tmp"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

case $stages in
    *[45]*)
        if [ -z "$rootfs" ]; then
            rootfs=$tmp/rootfs
            "$scripts/rootfs.sh" --from busybox "$rootfs" >"$tmp/log" 2>&1 ||
                { cat "$tmp/log" >&2; fail 'no root to compare in; --rootfs names one'; }
        fi
        [ -d "$rootfs" ] || fail "no directory '$rootfs': scripts/rootfs.sh creates it"
        rootfs=$(cd -- "$rootfs" && pwd -P)
        # Both sides would make it; only the script, like the slide, leaves it there.
        [ -d "$rootfs/.old_root" ] || old_root=$rootfs/.old_root
        ;;
esac

if [ "$mode" = pid ]; then
    # On the slide, $(pidof unshare) is the process id; with -f, the shell is its child.
    read -r comm 2>/dev/null <"/proc/$pid/comm" || fail "no process $pid"
    read -r shell _ <"/proc/$pid/task/$pid/children" || : # it ends without a newline
    [ "$comm" != unshare ] || pid=${shell:-$pid}
    readlink "/proc/$pid/ns/user" >/dev/null || fail "process $pid belongs to another user: use sudo"
fi

# side NAME PROGRAM [ARG]... fills $tmp/NAME with rows "row<TAB>value".
side() {
    side=$1; shift
    status=0
    begin=$(date +%s)
    # In the background, so that Ctrl-C does not have to wait; but sh(1) hides INT from there.
    env --default-signal=INT,QUIT \
        timeout -k 5 60 "$@" <"$tmp/stdin" >"$tmp/out" 2>"$tmp/err" &
    child=$!
    wait "$child" || status=$?
    child=''
    [ $(($(date +%s) - begin)) -lt 60 ] || status='FAILED: stopped after a minute'
    {
        if [ -z "$probe" ]; then
            awk '{ print "output " NR "\t" $0 }' "$tmp/out"
        elif grep -q '^probe	complete$' "$tmp/out"; then
            cat "$tmp/out"
        elif [ "$n $status $root" = '1 1 ' ]; then
            printf 'without root\trefused\nrefusal\t%s\n' "$(tr '\n' ' ' <"$tmp/err")"
            : >"$tmp/err"
        else
            cat "$tmp/out"
            printf 'probe\tFAILED\n'
        fi
        printf 'exit status\t%s\n' "$status"
        awk '{ print "message " ++n "\t" $0 }' "$tmp/err"
    } >"$tmp/$side"
}

# Whether the processes $2 and $3 share the namespace $1.
share() { [ "$(readlink "/proc/$2/ns/$1")" = "$(readlink "/proc/$3/ns/$1")" ]; }
# The options of nsenter(1) for the network, hostname and user of process $1, where they are not the caller's.
enter() {
    echo "-t $1 --preserve-credentials"
    for kind in net:-n uts:-u user:-U; do
        share "${kind%:*}" "$1" self || printf '%s\n' "${kind#*:}"
    done
}
# look NAME PID: the same as side(), with the probe outside.
# shellcheck disable=SC2046 # a list of options
look() {
    side "$1" nsenter $(enter "$2") sh "$scripts/probe.sh" "$n" "$outside" "$2"
    [ "$n" = 5 ] || return 0
    # The host is the nearest ancestor in another network.
    up=$2
    while share net "$up" "$2"; do
        up=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$up/status")
        [ "$up" != 0 ] || return 0
    done
    for link in br0 veth0; do
        { nsenter $(enter "$up") ip -o link show dev $link && nsenter $(enter "$up") ip -o -4 addr show dev $link; } \
            2>/dev/null | awk -v link=$link '
                $3 ~ /^</ { state = $3 ~ /[<,]UP[,>]/ ? "up" : "down"; if (match($0, / master [^ ]+/)) state = state substr($0, RSTART, RLENGTH) }
                $3 == "inet" { state = state " " $4 }
                END { if (state != "") print "host: " link "\t" state }'
    done >>"$tmp/$1"
}
# Starts the stage with a command that waits, and looks at it.
look_at_stage() {
    mkfifo "$tmp/in" "$tmp/ready"
    [ "$n$root" != 5yes ] || set -- unshare -n "$@" # as in the loop below
    "$@" sh -c 'echo ready; read -r _' <"$tmp/in" >"$tmp/ready" 2>"$tmp/err" &
    waiting=$!
    exec 3>"$tmp/in"
    read -r _ <"$tmp/ready" || { cat "$tmp/err" >&2; fail "stage $n does not start"; }
    read -r children <"/proc/$waiting/task/$waiting/children" || :
    for process in $children; do # the janitor is in the host's namespaces
        share uts "$process" self || look stage "$process"
    done
    exec 3>&-
    wait "$waiting" || :
    waiting=''
}

: >"$tmp/stdin"
result=0
for n in $stages; do
    case $n in
        1) name=1-uts ;;
        2) name=2-user ;;
        3) name=3-pid ;;
        4) name=4-mount ;;
        5) name=5-net ;;
    esac
    # No link and no packet may touch the network of this machine, so stage 5 as root gets
    # another host; one without root has a host of its own (--net private) to begin with.
    if [ "$n$root$inside" = 5yes ] && [ "$mode" != pid ]; then
        case $mode in
            hand) [ -n "$probe" ] || set -- -- "$@" ;;
            program) set -- --program "$@" ;;
            *) set -- --with "$mode" ;;
        esac
        STAGE_BIN_DIR=$bin unshare -n "$scripts/compare.sh" --inside --rootfs "$rootfs" 5 "$@" ||
            result=1
        continue
    fi

    options='' bare='' host=''
    case $n in
        [45]) options=yes ;;
    esac
    case $n$mode in
        5hand | 5pid | 5program) bare=yes ;; # stage 5 closes more than the slide does
    esac
    case $n$root$mode in
        5hand | 5program) host='unshare --map-current-user --keep-caps -Un' ;;
        5yesprogram) host='unshare -n' ;; # so that what it leaves behind is not in the stage's way
    esac
    outside=$(readlink /proc/self/ns/* | tr '\n' ' ')
    outside="$outside pid:$$ root:$(stat -Lc %d:%i /) rootfs:$rootfs"
    : >"$tmp/host"
    [ -z "$probe" ] || sh "$scripts/probe.sh" 0 "$outside" >"$tmp/host"
    left=$mode
    if [ "$mode" = pid ]; then
        left="process $pid"
        look left "$pid"
        look_at_stage "$bin/stage$name" ${bare:+--bare} ${options:+--rootfs "$rootfs"} --
    else
        words=$# text=$(cat "$scripts/probe.sh")
        [ -z "$probe" ] || set -- "$@" sh -c "$text" probe "$n" "$outside"
        # shellcheck disable=SC2086 # the words of $host
        case $mode in
            hand)
                left=by-hand/$name.sh
                side left $host "$scripts/by-hand/$name.sh" ${options:+--rootfs "$rootfs"} -- "$@"
                ;;
            program)
                left=${1##*/}
                printf "set -- %s '%s'\n%s\n" "$n" "$outside" "$text" >"$tmp/stdin"
                ROOTFS=$rootfs side left $host "$@"
                shift "$words" # what is left is the probe
                ;;
            *) side left "$scripts/compare/other.sh" "$mode" "$rootfs" "$tmp" "$bin/examples/oci_bundle" "$@" ;;
        esac
        side stage "$bin/stage$name" ${bare:+--bare} ${options:+--rootfs "$rootfs"} -- "$@"
        [ -z "$probe" ] || set --
    fi
    awk -v stage="$n" -v mode="$mode" -v left="$left" -v right="stage$name" -v width="${COLUMNS:-100}" \
        -f "$scripts/compare/table.awk" "$scripts/compare/reasons" "$scripts/compare/slides" \
        "$tmp/host" "$tmp/left" "$tmp/stage" || result=1
done
exit "$result"
