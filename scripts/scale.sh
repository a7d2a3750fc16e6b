#!/bin/bash
# Starts many containers of stage 5 at once on one bridge, and prints what they cost.
#
# Usage: scale.sh [COUNT]...        (250 and 1000; needs root)
#
# They run in a network and PID namespace that plays the host: up to 252 on the talk's /24, more on a
# subnet with room for them. A container is up when the bridge has answered its ping. That may take a
# second one: a request of arp(7) is a packet for each port of the bridge, a million if a thousand ask at
# the same time, and is given up after 3 seconds. Then all end at once. Memory is what the stage and the keeper of its network use for a container, its command not
# counted: the proportional set size (PSS), and what is theirs alone and written to (private dirty).
set -eu

case ${1-} in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
esac
[ $# -gt 0 ] || set -- 250 1000
stage=${STAGE_BIN_DIR:-$(dirname -- "$0")/../target/release}/stage5-net
[ -x "$stage" ] || { echo "scale.sh: no $stage: cargo build --release, or set STAGE_BIN_DIR" >&2; exit 1; }
if [ "${SCALE_HOST-}" != "$PPID" ]; then
    [ "$(id -u)" = 0 ] || { echo 'scale.sh: --net host takes root' >&2; exit 1; }
    # Two limits of the kernel, for all network namespaces, stop a ping among a thousand containers; both
    # are raised for the time of the run. Each of them and the host know each other's hardware address:
    # gc_thresh3 of arp(7), 1024 by default. And a broadcast is a packet for each port of the bridge, of
    # which a processor's queue holds netdev_max_backlog (Documentation/admin-guide/sysctl/net.rst), 1000.
    neighbours=/proc/sys/net/ipv4/neigh/default/gc_thresh3 queue=/proc/sys/net/core/netdev_max_backlog
    old_neighbours=$(cat $neighbours) old_queue=$(cat $queue)
    trap 'echo "$old_neighbours" >$neighbours; echo "$old_queue" >$queue' EXIT
    ((old_neighbours > 16384)) || echo 16384 >$neighbours
    ((old_queue > 100000)) || echo 100000 >$queue
    # The shell that is PID 1 there reaps what is orphaned, as an init does.
    unshare --net --pid --fork --mount-proc sh -c 'SCALE_HOST=$$ "$@"; exit $?' sh "$0" "$@"
    exit
fi
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
# What is left must be nothing: no link but lo, no process but this script.
clean() { [ "$(grep -c : /proc/net/dev)" = 1 ] && ! pgrep -x stage5-net >/dev/null; }
milliseconds() { date +%s%3N; }

failed=0
for count; do
    if ((count <= 252)); then bridge=172.20.1.2/24; elif ((count <= 1020)); then bridge=172.20.4.2/22; else bridge=172.20.8.2/21; fi
    mkfifo "$tmp/up" "$tmp/end"
    exec 3<>"$tmp/up" 4<>"$tmp/end"
    : >"$tmp/errors"
    begin=$(milliseconds)
    for ((i = 0; i < count; i++)); do
        # shellcheck disable=SC2016 # expanded inside
        "$stage" --net host --bridge-addr "$bridge" -- sh -c \
            'for n in first second third; do ping -q -c1 -W9 "$1" >/dev/null && break; done && echo "$n" || echo silent
             read -r _' sh "${bridge%/*}" \
            <"$tmp/end" >&3 2>>"$tmp/errors" 4>&- &
    done
    up=0 silent=0 late=0
    while ((up < count)) && read -r -t 60 answer <&3; do
        case $answer in first) ;; silent) silent=$((silent + 1)) ;; *) late=$((late + 1)) ;; esac
        up=$((up + 1))
    done
    all_up=$(($(milliseconds) - begin))
    ports=$(ip -o link show master br0 | wc -l)
    addresses=$(ip -o link show master br0 | grep -o 'altname [0-9.]*' | sort -u | wc -l)

    for pid in $(pgrep -x stage5-net); do cat "/proc/$pid/smaps_rollup"; done | awk -v count="$count" '
        $1 == "Pss:" { pss += $2 } $1 == "Private_Dirty:" { dirty += $2 }
        END { printf "%.0f kB PSS, %.0f kB private dirty", pss / count, dirty / count }' >"$tmp/memory"

    # All end when the last writer of their standard input has gone.
    begin=$(milliseconds)
    exec 4>&-
    wait
    until clean || (($(milliseconds) - begin > 60000)); do sleep 0.01; done
    all_gone=$(($(milliseconds) - begin))
    exec 3>&-
    rm "$tmp/up" "$tmp/end"
    clean || { echo "scale.sh: left: $(tail -n +3 /proc/net/dev | cut -d: -f1)" "$(pgrep -x stage5-net)" >&2; failed=1; }
    ((silent == 0 && up == count && ports == count && addresses >= count)) || failed=1
    sort "$tmp/errors" | grep -v 'lends its programs' | uniq -c | head -5 >&2 || :
    echo "$count containers on a /${bridge#*/}: $up up, $silent without an answer, $late not at the first ping, $ports links on the bridge, all up after $all_up ms" \
        "($((all_up * 1000 / count)) us each), all gone after $all_gone ms; a container: $(cat "$tmp/memory")"
done
exit $failed
