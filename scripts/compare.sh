#!/bin/sh
# Compares the stages with the slides' commands, side by side.
#
# Usage: compare.sh [--rootfs DIR] [N] [-- COMMAND [ARG]...]
#
#   N              only this stage, 1 to 5 (without it: all five)
#   --rootfs DIR   the new root for stages 4 and 5 (default: a busybox root, made and removed)
#   COMMAND        compare what this prints and returns, instead of what scripts/probe.sh sees
#   STAGE_BIN_DIR  (environment) where the stages are, instead of having cargo build them
#   COLUMNS        (environment) how wide the table may be (default 100)
#
# Runs by-hand/N-*.sh and stageN-*, and prints a row a fact: same, different, or explained,
# which is different for a reason that this script knows and prints. Exits with 1 if anything
# is different. Needs no root, except for stage 1, which must refuse without it.
set -eu

# The reasons, all of them. One holds only for its stages and its row, and only if the words
# that one side has and the other has not are exactly these (ERE; "-": no word).
# A row that is missing on one side has the word "none" there.
#   stages | row | only by hand | only the stage | reason
reasons() {
    cat <<'END'
1         | refusal          | .*2-user.sh.*  | .*stage2-user.*     | each names the next one of its own kind
1 2       | PID of the shell | [0-9]+         | [0-9]+              | no PID namespace of its own, so it is the next free number
1 2 3 4 5 | more descriptors | [0-9,]+        | none                | unshare hands on what the caller left open; a stage only 0, 1, 2
5         | link-local of veth1 | yes       | none                | the stage gives the link no IPv6 address, which the talk does not use
4 5       | mount /proc      | -              | nosuid,nodev,noexec | the options of unshare --mount-proc; the mount of the slide has none
4 5       | mount /tmp       | -              | nosuid,nodev        | nothing in /tmp needs setuid or devices; the mount of the slide has no options
1 2 3 4 5 | message 1        | sh:,.*exec:.*  | stage[1-5]-.*       | it was not the command that said this, but who could not run it
1 2 3 4 5 | message 2        | none           | hint:.*             | the shell has no hints
END
}

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
fail() { echo "compare.sh: $*" >&2; exit 1; }

stages='1 2 3 4 5' rootfs='' inside='' probe=yes
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit ;;
        --rootfs) [ $# -gt 1 ] || fail '--rootfs needs a directory'; rootfs=$2; shift ;;
        --inside) inside=yes ;; # not for users: see stage 5 below
        [1-5]) stages=$1 ;;
        --) shift; [ $# -eq 0 ] || probe=''; break ;;
        *) fail "no stage '$1'; see --help" ;;
    esac
    shift
done
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
    elif [ ! -x "$bin/stage1-uts" ]; then
        bin=$target/release
    fi
fi
[ -x "$bin/stage1-uts" ] || fail "no stages in $bin: run 'cargo build', or set STAGE_BIN_DIR"

tmp=$(mktemp -d) old_root='' child=''
# shellcheck disable=SC2317,SC2329 # the trap calls it
cleanup() {
    trap '' HUP INT TERM
    if [ -n "$child" ] && kill "$child" 2>/dev/null; then wait "$child" || :; fi
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
        [ -d "$rootfs" ] || fail "no directory '$rootfs'"
        # Both sides would make it; only the script, like the slide, leaves it there.
        [ -d "$rootfs/.old_root" ] || old_root=$rootfs/.old_root
        ;;
esac

# side NAME PROGRAM [ARG]... fills $tmp/NAME with rows "row<TAB>value".
side() {
    side=$1; shift
    status=0
    begin=$(date +%s)
    # In the background, so that Ctrl-C does not have to wait; but sh(1) hides INT from there.
    env --default-signal=INT,QUIT \
        timeout -k 5 60 "$@" </dev/null >"$tmp/out" 2>"$tmp/err" &
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
    if [ "$n$root$inside" = 5yes ]; then
        [ -n "$probe" ] || set -- -- "$@"
        STAGE_BIN_DIR=$bin unshare -n "$scripts/compare.sh" --inside --rootfs "$rootfs" 5 "$@" ||
            result=1
        continue
    fi

    if [ -n "$probe" ]; then
        namespaces=$(readlink /proc/self/ns/* | tr '\n' ' ')
        set -- sh -c "$(cat "$scripts/probe.sh")" probe "$n" "$namespaces" $$
        sh "$scripts/probe.sh" 0 "$namespaces" $$ >"$tmp/host"
    else
        : >"$tmp/host"
    fi
    options='' bare=''
    case $n in
        [45]) options=yes ;;
    esac
    [ "$n" != 5 ] || bare=yes # stage 5 closes more than the slide does
    host=''
    [ "$n$root" != 5 ] || host=yes
    side hand ${host:+unshare --map-current-user --keep-caps -Un} \
        "$scripts/by-hand/$name.sh" ${options:+--rootfs "$rootfs"} -- "$@"
    side stage "$bin/stage$name" ${bare:+--bare} ${options:+--rootfs "$rootfs"} -- "$@"

    reasons >"$tmp/reasons"
    awk -v stage="$n" -v name="$name" -v width="${COLUMNS:-100}" '
        BEGIN {
            FS = "\t"
            column = int((width - 22 - 12 - 6) / 2)
            if (column < 20) column = 20
            printf "\n%-22s  %-*s  %-*s\n", "stage " stage, column, "by-hand/" name ".sh",
                column, "stage" name
        }
        FILENAME ~ /\/reasons$/ {
            split($0, part, / *\| */)
            if (index(part[1], stage)) {
                reason_row[++reasons] = part[2]
                reason_hand[reasons] = part[3]
                reason_stage[reasons] = part[4]
                reason[reasons] = part[5]
            }
            next
        }
        # A second mount on a target, a second address of a link: rows of their own.
        {
            row = $1
            value = substr($0, length($1) + 2)
            if ((times = ++seen[FILENAME, row]) > 1) row = row " (" times ")"
        }
        FILENAME ~ /\/host$/ { host[row] = value; next }
        FILENAME ~ /\/hand$/ { hand[row] = value }
        FILENAME ~ /\/stage$/ { ours[row] = value }
        !(row in known) { known[row]; order[++rows] = row }

        # The words of a that b has not, in order, with commas between.
        function only(a, b,    words, i, n, has, list) {
            n = split(b, words, /[ ,()]+/)
            for (i = 1; i <= n; i++) has[words[i]]
            n = split(a, words, /[ ,()]+/)
            for (i = 1; i <= n; i++)
                if (words[i] != "" && !(words[i] in has)) list = list "," words[i]
            return list == "" ? "-" : substr(list, 2)
        }
        function fits(words, pattern) { return words ~ "^(" pattern ")$" }
        # Takes from rest[i] what goes into a column, if possible up to a blank or comma.
        function piece(i, size,    text, at) {
            text = substr(rest[i], 1, size)
            if (length(rest[i]) > size)
                for (at = size; at > size / 3; at--)
                    if (substr(text, at, 1) ~ /[ ,]/) { text = substr(text, 1, at); break }
            rest[i] = substr(rest[i], length(text) + 1)
            return text
        }
        function show(row, a, b, verdict) {
            rest[0] = row; rest[1] = a; rest[2] = b
            do {
                printf "%-22s  %-*s  %-*s  %s\n", piece(0, 22), column, piece(1, column),
                    column, piece(2, column), verdict
                verdict = ""
            } while (rest[0] rest[1] rest[2] != "")
        }
        END {
            for (i = 1; i <= rows; i++) {
                row = order[i]
                a = row in hand ? hand[row] : "(none)"
                b = row in ours ? ours[row] : "(none)"
                why = ""
                verdict = a == b && a !~ /^FAILED/ ? "same" : "different"
                # Up to stage 3 all mounts of the host are still there: they get one row.
                inherited = a; sub(/,shared/, "", inherited)
                outer = host[row]; sub(/,shared/, "", outer)
                if (verdict == "same" && stage < 4 && row ~ /^mount / && inherited == outer) {
                    kept++
                    continue
                }
                if (verdict == "different" && (a b) !~ /FAILED/)
                    for (j = 1; j <= reasons; j++)
                        if (row == reason_row[j] && fits(only(a, b), reason_hand[j]) &&
                            fits(only(b, a), reason_stage[j])) {
                            verdict = "explained"
                            why = reason[j]
                        }
                count[verdict]++
                show(row, a, b, verdict)
                if (why != "") printf "%24s%s\n", "", "reason: " why
            }
            if (kept) {
                count["same"]++
                show("mounts of the host", kept " unchanged", kept " unchanged", "same")
            }
            printf "stage %d: %d same, %d explained, %d different\n", stage, count["same"],
                count["explained"], count["different"]
            exit count["different"] > 0
        }' "$tmp/reasons" "$tmp/host" "$tmp/hand" "$tmp/stage" || result=1
    [ -z "$probe" ] || set --
done
exit "$result"
