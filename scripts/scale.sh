#!/bin/bash
# Starts many containers of stage 5 at once on one bridge, and prints how long that takes and what it costs.
#
# Usage: scale.sh [COUNT]...        (default: 250 on a /24 and 1000 on a /22; needs root)
#
# A container is up when the bridge has answered its ping; if the first ping is lost, it is counted as late. Then all
# end at once. Memory is that of the stage and of its janitor for one container: the proportional set size (PSS)
# and the private dirty pages. They run in network and PID namespaces of their own. Exits with 1 if a container gets
# no answer or no address, or if a link or a process is left.
set -eu

case ${1-} in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
esac
[ $# -gt 0 ] || set -- 250 1000
stage=${STAGE_BIN_DIR:-$(dirname -- "$0")/../target/release}/stage5-net
[ -x "$stage" ] || { echo "scale.sh: no $stage: run 'cargo build --release', or set STAGE_BIN_DIR" >&2; exit 1; }
if [ "${SCALE_HOST-}" != "$PPID" ]; then
    [ "$(id -u)" = 0 ] || { echo 'scale.sh: needs root: run it with sudo' >&2; exit 1; }
    # Two limits for all network namespaces stop a ping among a thousand containers; they are raised for this run.
    # gc_thresh3 (arp(7), 1024) limits the known neighbours. netdev_max_backlog (Documentation/admin-guide/sysctl/net.rst,
    # 1000) limits the packets that wait for a processor: a broadcast is one packet for each port of the bridge.
    neighbours=/proc/sys/net/ipv4/neigh/default/gc_thresh3 queue=/proc/sys/net/core/netdev_max_backlog
    old_neighbours=$(cat $neighbours) old_queue=$(cat $queue)
    trap 'echo "$old_neighbours" >$neighbours; echo "$old_queue" >$queue' EXIT
    ((old_neighbours > 16384)) || echo 16384 >$neighbours
    ((old_queue > 100000)) || echo 100000 >$queue
    # The sh that is PID 1 there reaps orphans, as an init does.
    # shellcheck disable=SC2016 # expanded inside
    unshare --net --pid --fork --mount-proc sh -c 'SCALE_HOST=$$ "$@"; exit $?' sh "$0" "$@"
    exit
fi
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
clean() { [ "$(grep -c : /proc/net/dev)" = 1 ] && ! pgrep -x stage5-net >/dev/null; }
now() { date +%s%3N; }

failed=0 row='| %10s | %6s | %9s | %4s | %11s | %6s | %16s |\n'
# shellcheck disable=SC2059 # the same format for each row
printf "$row" containers subnet 'all up ms' late 'all gone ms' 'PSS kB' 'private dirty kB' | sed 'p; s/[^|]/-/g; s/-|/:|/g'
for count; do
    if ((count <= 252)); then bridge=172.20.1.2/24; elif ((count <= 1020)); then bridge=172.20.4.2/22; else bridge=172.20.8.2/21; fi
    mkfifo "$tmp/up" "$tmp/end"
    exec 3<>"$tmp/up" 4<>"$tmp/end"
    begin=$(now)
    for ((i = 0; i < count; i++)); do
        # shellcheck disable=SC2016 # expanded inside
        "$stage" --net host --bridge-addr "$bridge" -- sh -c \
            'for n in first late late; do ping -q -c1 -W9 "$1" >/dev/null && break; done && echo "$n" || echo silent
             read -r _' sh "${bridge%/*}" <"$tmp/end" >&3 2>>"$tmp/errors" 4>&- &
    done
    up=0 late=0 silent=0
    while ((up < count)) && read -r -t 60 answer <&3; do
        case $answer in late) late=$((late + 1)) ;; silent) silent=$((silent + 1)) ;; esac
        up=$((up + 1))
    done
    all_up=$(($(now) - begin))
    # The host's end of each pair has the container's address in its alias: "alias 172.20.1.4 ...".
    ports=$(ip -o link show master br0 | wc -l)
    addresses=$(ip link show master br0 | grep -o 'alias .*' | grep -oE '[0-9]+(\.[0-9]+){3}' | sort -u | wc -l)
    memory=$(for pid in $(pgrep -x stage5-net); do cat "/proc/$pid/smaps_rollup"; done | awk -v count="$count" '
        $1 == "Pss:" { pss += $2 } $1 == "Private_Dirty:" { dirty += $2 } END { printf "%.0f %.0f", pss / count, dirty / count }')

    begin=$(now)
    exec 4>&- # the last writer of their standard input: all end
    wait
    until clean || (($(now) - begin > 60000)); do sleep 0.01; done
    # shellcheck disable=SC2059,SC2086 # the memory is two words
    printf "$row" "$count" "/${bridge#*/}" "$all_up" "$late" $(($(now) - begin)) $memory
    exec 3>&-
    if ! clean || ((up < count || silent || ports != count || addresses < count)); then
        echo "scale.sh: of $count containers $up answered, $silent without a ping; $ports links, $addresses addresses in their aliases;" \
            "left:$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr '\n' ' ')$(pgrep -x stage5-net | wc -l) processes" >&2
        sort "$tmp/errors" | uniq -c | sort -rn | head -n 5 >&2
        failed=1
    fi
    rm "$tmp"/*
done
exit $failed
