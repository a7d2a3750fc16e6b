#!/bin/bash
# Kills stage5-net at random moments, and counts what is left.
#
# Usage: stress.sh [RUNS [SEED]]        (500 runs; needs root)
#
# Each run starts a container with --net host, in a network and PID namespace that play the host, and
# sends SIGKILL to the stage, to the container's first process, to both, to any process inside, or to
# the janitor of the network; while it starts, runs, or ends. Every other run has a neighbour on the same
# bridge, which must go on undisturbed. What is left two seconds later is counted by kind; a bridge only
# if the next run does not remove it.
set -eu

case ${1-} in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
esac
runs=${1:-500}
seed=${2:-$$}
stage=${STAGE_BIN_DIR:-$(dirname -- "$0")/../target/debug}/stage5-net
[ -x "$stage" ] || { echo "stress.sh: no $stage: cargo build, or set STAGE_BIN_DIR" >&2; exit 1; }
if [ "${STRESS_HOST-}" != "$PPID" ]; then
    [ "$(id -u)" = 0 ] || { echo 'stress.sh: --net host needs root' >&2; exit 1; }
    # The shell that is PID 1 there reaps what is orphaned, as an init does.
    exec unshare --net --pid --fork --mount-proc sh -c 'STRESS_HOST=$$ "$@"; exit $?' sh "$0" "$runs" "$seed"
fi
RANDOM=$seed

links() { sed -n 's/^ *\(.*\):.*/\1/p' /proc/net/dev | grep -vx lo || :; }
# The pids of the container's processes: those in another PID namespace than ours.
here=$(readlink /proc/self/ns/pid)
inside() {
    for process in /proc/[0-9]*; do
        space=$(readlink "$process/ns/pid") || continue
        [ "$space" = "$here" ] || echo "${process#/proc/}"
    done
}
# Those of the stage, container included, but for the neighbour's; a zombie is the caller's to reap.
processes() {
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        [[ " $known " != *" $pid "* ]] || continue
        read -r _ name state _ <"$process/stat" || continue
        [ "$state" != Z ] || continue
        case $name in
            '(stage5-net)' | '(sleep)' | '(true)') echo "$pid" ;;
        esac
    done
}
child() { # child STAGE inside|outside: its container, or its janitor
    read -r -a children <"/proc/$1/task/$1/children" || :
    for pid in "${children[@]}"; do
        space=$(readlink "/proc/$pid/ns/pid") || continue
        if [ "$space" = "$here" ]; then kind=outside; else kind=inside; fi
        [ "$kind" != "$2" ] || echo "$pid"
    done
}
end() { [ -z "$1" ] || kill -KILL "$1" || :; }
# What bash says of processes that were killed is no news here.
exec 2>/dev/null

mounts=$(wc -l </proc/self/mountinfo)
declare -A left=([processes]=0 [links]=0 [mounts]=0 [bridges]=0 [neighbours]=0) aimed=()
adopted=0 longest=0
for ((run = 1; run <= runs; run++)); do
    known='' neighbour=''
    if ((run % 2)); then
        "$stage" --net host -- sleep 60 &
        neighbour=$!
        until grep -q veth /proc/net/dev && [ "$(inside | wc -l)" = 1 ]; do sleep 0.01; done
        sleep 0.02
        known="$neighbour $(child "$neighbour" inside) $(child "$neighbour" outside)"
    fi
    expected=$(links)
    case $((RANDOM % 4)) in
        0) words=('true') ;;
        1) words=(sleep 0.02) ;;
        2) words=(sleep 60) ;;
        3) words=(sh -c 'sleep 60 & sleep 60') ;;
    esac
    "$stage" --net host -- "${words[@]}" &
    victim=$!
    sleep "0.0$((RANDOM % 90 + 10))"
    kinds=(stage container both inside janitor)
    aim=${kinds[RANDOM % 5]}
    aimed[$aim]=$((${aimed[$aim]-0} + 1))
    case $aim in
        stage) end "$victim" ;;
        container) end "$(child "$victim" inside)" ;;
        both)
            container=$(child "$victim" inside)
            end "$victim"
            end "$container"
            ;;
        inside)
            for pid in $(inside | shuf --random-source=<(yes "$run $seed")); do
                [[ " $known " = *" $pid "* ]] || { end "$pid"; break; }
            done
            ;;
        janitor) end "$(child "$victim" outside)" ;;
    esac
    # What survives that is ended from outside.
    sleep 0.02
    ((run % 3)) || end "$victim"
    kill -TERM "$victim" || :
    wait "$victim" || :

    begin=$(date +%s%3N)
    while :; do
        waited=$(($(date +%s%3N) - begin))
        if [ -z "$(processes)" ] && [ "$(links)" = "$expected" ]; then break; fi
        ((waited < 2000)) || break
        [ "$(links)" != br0 ] || [ "$aim" != janitor ] || break
        sleep 0.01
    done
    ((waited <= longest)) || longest=$waited
    left[processes]=$((left[processes] + $(processes | wc -l)))
    left[mounts]=$((left[mounts] + $(wc -l </proc/self/mountinfo) - mounts))
    for link in $(links); do
        [[ " ${expected//$'\n'/ } " != *" $link "* ]] || continue
        if [ "$link" = br0 ]; then
            # The one thing that may wait for the next run.
            "$stage" --net host -- true || :
            if [ "$(links)" = "$expected" ]; then adopted=$((adopted + 1)); continue; fi
            kind=bridges
        else
            kind=links
        fi
        left[$kind]=$((left[$kind] + 1))
        echo "run $run (seed $seed): $aim killed, $link left"
    done
    if [ -n "$neighbour" ]; then
        pid=$(child "$neighbour" inside)
        nsenter -t "${pid:-0}" -n ping -q -c1 -W2 172.20.1.2 >/dev/null ||
            { left[neighbours]=$((left[neighbours] + 1)); echo "run $run (seed $seed): $aim killed, neighbour cut off"; }
        kill -TERM "$neighbour"
        wait "$neighbour" || :
        [ -z "$(links)" ] || { left[bridges]=$((left[bridges] + 1)); echo "run $run (seed $seed): $(links) left by the last"; }
    fi
done

for aim in "${!aimed[@]}"; do echo "killed: $aim, ${aimed[$aim]} times"; done
echo "bridges that the next run removed: $adopted"
echo "left: ${left[processes]} processes, ${left[links]} links, ${left[mounts]} mounts, ${left[bridges]} bridges;" \
    "neighbours cut off: ${left[neighbours]}; longest wait $longest ms, $runs runs, seed $seed"
for kind in "${!left[@]}"; do ((left[$kind] == 0)) || exit 1; done
