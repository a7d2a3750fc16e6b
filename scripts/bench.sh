#!/bin/bash
# Measures the stages beside unshare, bubblewrap, runc, crun, youki and hakoniwa, those that are installed,
# and beside the floor: the program of the fewest system calls, scripts/floor.c.
#
# Usage: bench.sh [--quick] [RUNS]     times, memory, sizes and system calls, and the targets (400 runs)
#        bench.sh --counts [--update]  each stage's instructions and system calls against the recorded ones
#        bench.sh --growth [COUNT]...  many containers, one after another and at once (1 10 100 250 1000)
#        bench.sh --where              a start, system call by system call
#        bench.sh --page [RUNS]        all of that, into scripts/bench/README.md and its charts
#
#   --quick        a smoke run: shows that everything works, and judges no times
#   --update       writes what was counted to scripts/bench/counts.txt
#   STAGE_BIN_DIR  (environment) where the stages are, instead of target/release
#
# Takes root, hyperfine, strace, python3 and a C compiler; --page also python3's matplotlib. The commands of
# a group run in turn, in rounds of a few runs each, and a ratio is the median of the rounds' ratios: what
# makes the machine slow for a second then slows both sides. All of it happens in namespaces of its own,
# so no link, mount or process of this machine is touched, and nothing is left. --counts exits with 1 if
# a stage makes more system calls than recorded, or takes 5 % more instructions.
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
fail() { echo "bench.sh: $*" >&2; exit 1; }
scripts=$(cd -- "$(dirname -- "$0")" && pwd -P)
mode=times quick='' update='' words=()
for word; do
    case $word in
        -h | --help) usage; exit ;;
        --quick) quick=yes ;;
        --update) update=yes ;;
        --counts | --growth | --where | --page) mode=${word#--} ;;
        *[!0-9]* | '') usage >&2; exit 1 ;;
        *) words+=("$word") ;;
    esac
done
bin=${STAGE_BIN_DIR:-$scripts/../target/release}
[ -x "$bin/stage5-net" ] || fail "no stages in $bin: cargo build --release, or set STAGE_BIN_DIR"
bin=$(cd -- "$bin" && pwd -P)
[ "$(id -u)" = 0 ] || fail 'stage 1 and --net host take root'
needed=(cc python3)
case $mode in times | page) needed+=(hyperfine strace) ;; esac
for program in "${needed[@]}"; do
    command -v "$program" >/dev/null || fail "$program is missing"
done
case $mode in
    page) python3 -c 'import matplotlib' 2>/dev/null || fail 'python3 has no matplotlib (package python3-matplotlib)' ;;
esac

# A network, mounts and processes of its own: with this shell, the first process there, everything goes.
if [ "${BENCH_HOST-}" != "$PPID" ]; then
    # Every program gets the same, small environment: its size is work for execve(2).
    tmp=$(mktemp -d)
    trap 'rm -rf --one-file-system "$tmp"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # shellcheck disable=SC2016 # expanded inside
    env -i PATH="$PATH" LC_ALL=C TMPDIR="$tmp" STAGE_BIN_DIR="$bin" \
        unshare --net --mount --pid --fork --kill-child --mount-proc \
        sh -c 'BENCH_HOST=$$ "$@"; exit $?' sh "$scripts/bench.sh" "$@"
    exit
fi
tmp=$TMPDIR
cd -- "$tmp"
report() { python3 "$scripts/bench/report.py" "$@"; }
cc -O2 -o floor "$scripts/floor.c"
cc -O2 -static -o floor-static "$scripts/floor.c" || cp floor floor-static
rootfs=$tmp/rootfs
"$scripts/rootfs.sh" --from busybox "$rootfs" >log 2>&1 || { cat log >&2; fail 'no root file system'; }

stages=('' "$bin/stage1-uts" "$bin/stage2-user" "$bin/stage3-pid" "$bin/stage4-mount --rootfs $rootfs" "$bin/stage5-net --rootfs $rootfs --net")
flags=('' -u -uUr '-uUrpf --mount-proc' '-uUrpfm --mount-proc' '-uUrpfmn --mount-proc')

# The peers. Each must run /bin/true once to take part.
missing=()
declare -A peer # by name and by whether with a network of its own: 4 or 5
declare -A by_hand=([4]="$scripts/by-hand/4-mount.sh --rootfs $rootfs --" [5]="$scripts/by-hand/5-net.sh --rootfs $rootfs --")
find_peers() {
    # Where cgroup v1 and v2 are both mounted, crun and youki refuse: they are shown v2 only.
    if [ -d /sys/fs/cgroup/unified ]; then mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; fi
    local n name program command bundle
    for n in 4 5; do
        net=$([ $n = 4 ] || echo --unshare-net)
        hakoniwa_net=$([ $n = 4 ] || echo --unshare-network)
        bubblewrap="bwrap --unshare-user --uid 0 --gid 0 --unshare-pid --unshare-uts --hostname leopard $net --bind $rootfs / --proc /proc --tmpfs /tmp"
        while read -r name program command; do
            if ! command -v "$program" >/dev/null; then
                [ $n = 5 ] || missing+=("$name (not installed)")
                continue
            fi
            case $name in
                runc | crun | youki)
                    bundle=$tmp/$name-$n
                    mkdir "$bundle"
                    if ! (cd "$bundle" && "$program" spec) >/dev/null 2>error; then
                        missing+=("$name ($(tail -n 1 error))")
                        continue
                    fi
                    report bundle "$bundle/config.json" "$rootfs" $n
                    # What cannot make a cgroup here runs without.
                    variants=("$command run -b $bundle bench-$name-$n")
                    [ "$name" != crun ] || variants+=("$command --cgroup-manager=disabled run -b $bundle bench-$name-$n")
                    ;;
                *) variants=("$command /bin/true") ;;
            esac
            for command in "${variants[@]}"; do
                # shellcheck disable=SC2086 # a list of words
                if timeout 20 $command </dev/null >out 2>error; then
                    peer[$name$n]=$command
                    break
                fi
                rmdir "/sys/fs/cgroup/bench-$name-$n" 2>/dev/null || :
            done
            [ -n "${peer[$name$n]-}" ] || missing+=("$name, stage $n ($(tail -n 1 error | tr -d '\n'))")
        done <<END
bubblewrap bwrap $bubblewrap --as-pid-1
bubblewrap+init bwrap $bubblewrap
hakoniwa hakoniwa hakoniwa run $hakoniwa_net --rootfs $rootfs --hostname leopard --tmpfs /tmp --
runc runc runc --root $tmp/run-runc
crun crun crun --root $tmp/run-crun
youki youki youki --root $tmp/run-youki
END
    done
}

# race GROUP NAME COMMAND [NAME COMMAND]... runs the commands in turn, $rounds times $each runs.
race() {
    local group=$1 round i at arguments
    shift
    local pairs=("$@")
    for ((round = 0; round < rounds; round++)); do
        arguments=()
        # Each round begins with another one, so that none profits from its place.
        for ((i = 0; i < ${#pairs[@]}; i += 2)); do
            at=$(((i + 2 * round) % ${#pairs[@]}))
            arguments+=(-n "${pairs[at]}" "${pairs[at + 1]}")
        done
        hyperfine -N --style none -w 1 -r "$each" ${settle:+-p "sleep $settle"} \
            --export-json "race-$group-$round.json" "${arguments[@]}" >log 2>&1 || { cat log >&2; fail "group $group"; }
    done
}

true=$(type -P true)
times() {
    local n name
    rounds=20 each=$(((runs + 19) / 20)) settle=''
    if [ -n "$quick" ]; then rounds=1 each=$runs; fi
    for n in 1 2 3; do
        race $n stage "${stages[n]} $true" unshare "unshare ${flags[n]} $true" floor "$tmp/floor $n / $true" \
            'floor, static' "$tmp/floor-static $n / $true"
    done
    local rivals=()
    for name in bubblewrap bubblewrap+init hakoniwa; do
        [ -z "${peer[${name}4]-}" ] || rivals+=("$name" "${peer[${name}4]}")
    done
    # The command is the root file system's own, for unshare too, which leaves the root as it is.
    race 4 stage "${stages[4]} /bin/true" unshare "unshare ${flags[4]} $rootfs/bin/true" \
        floor "$tmp/floor 4 $rootfs /bin/true" 'floor, static' "$tmp/floor-static 4 $rootfs /bin/true" "${rivals[@]}"
    # What takes a hundred times as long, fewer times; and only after what the run before has left
    # to the kernel, which takes network namespaces down in the background, is done.
    rivals=()
    for name in bubblewrap bubblewrap+init hakoniwa runc crun youki; do
        [ -z "${peer[${name}5]-}" ] || rivals+=("$name" "${peer[${name}5]}")
    done
    rounds=20 each=$(((runs + 99) / 100)) settle=0.05
    if [ -n "$quick" ]; then rounds=1 each=$runs settle=''; fi
    local slow=()
    for name in runc crun youki; do
        [ -z "${peer[${name}4]-}" ] || slow+=("$name" "${peer[${name}4]}")
    done
    [ ${#slow[@]} = 0 ] || race 4-oci stage "${stages[4]} /bin/true" 'by hand' "${by_hand[4]} /bin/true" "${slow[@]}"
    race 5 'stage, host' "${stages[5]} host /bin/true" 'stage, private' "${stages[5]} private /bin/true" \
        'by hand' "${by_hand[5]} /bin/true" unshare "unshare ${flags[5]} $rootfs/bin/true" \
        'floor, host' "$tmp/floor 5 $rootfs /bin/true" 'floor, static, host' "$tmp/floor-static 5 $rootfs /bin/true" \
        'floor, private' "$tmp/floor 6 $rootfs /bin/true" 'floor, static, private' "$tmp/floor-static 6 $rootfs /bin/true" \
        "${rivals[@]}"
}

# weigh GROUP NAME COMMAND [IN_BUNDLE]: what the processes that wait for a container hold, its own not counted.
waiting="sh -c 'echo up; exec sleep 1000'"
weigh() {
    local group=$1 name=$2 answer pids
    mkfifo up
    eval "exec $3 ${4-$waiting}" >up 2>log &
    exec 3<up
    if read -r -t 20 answer <&3 && [ "$answer" = up ]; then
        until pgrep -x sleep >/dev/null; do sleep 0.01; done
        sleep 0.2 # the keeper of the network has work to do still
        pids=$(descendants $!)
        for pid in $pids; do
            [ "$(cat "/proc/$pid/comm")" = sleep ] || cat "/proc/$pid/smaps_rollup" 2>/dev/null | awk -v row="$group	$name" '
                $1 == "Rss:" { rss = $2 } $1 == "Pss:" { pss = $2 } $1 == "Private_Dirty:" { dirty = $2 }
                END { if (rss) print row "\t" rss "\t" pss "\t" dirty }'
        done >>memory
        pkill -KILL -x sleep || :
    else
        cat log >&2
        fail "$name did not start a shell"
    fi
    exec 3<&-
    rm up
    wait $! || :
}
descendants() {
    local pid
    echo "$1"
    for pid in $(pgrep -P "$1"); do descendants "$pid"; done
}

memory() {
    local n name
    : >memory
    for n in 1 2 3; do
        weigh $n stage "${stages[n]}"
        # Without --fork, unshare(1) itself becomes the command: nobody waits, and nobody passes on its end.
        weigh $n unshare "unshare ${flags[n]} --fork"
        weigh $n floor "./floor $n / $(type -P sh)" "${waiting#sh}"
    done
    weigh 4 stage "${stages[4]}"
    weigh 4 unshare "unshare ${flags[4]} --fork"
    for name in bubblewrap bubblewrap+init hakoniwa; do
        [ -z "${peer[${name}4]-}" ] || weigh 4 $name "${peer[${name}4]% /bin/true}"
    done
    weigh 5 'stage, host' "${stages[5]} host"
    weigh 5 'stage, private' "${stages[5]} private"
    weigh 5 unshare "unshare ${flags[5]} --fork"
    for name in runc crun youki; do
        [ -n "${peer[${name}5]-}" ] || continue
        report command "$tmp/$name-5/config.json" sh -c 'echo up; exec sleep 1000'
        weigh 5 $name "${peer[${name}5]}" ''
        report command "$tmp/$name-5/config.json" /bin/true
    done
}

# calls GROUP NAME COMMAND: system calls of everything that is started, the command's own included.
calls() {
    # shellcheck disable=SC2086 # a list of words
    strace -f -c -o trace $3 </dev/null >log 2>&1 || { cat log >&2; fail "strace $3"; }
    awk -v row="$1	$2" '$1 ~ /^[0-9.]+$/ && $NF != "total" { calls += $4 } END { print row "\t" calls }' trace >>calls
}

all_calls() {
    local n name kind level
    : >calls
    for n in 1 2 3; do
        calls $n stage "${stages[n]} $true"
        calls $n unshare "unshare ${flags[n]} $true"
        calls $n floor "./floor $n / $true"
        calls $n 'floor, static' "./floor-static $n / $true"
    done
    calls 4 stage "${stages[4]} /bin/true"
    calls 4 unshare "unshare ${flags[4]} $rootfs/bin/true"
    calls 4 floor "./floor 4 $rootfs /bin/true"
    calls 4 'floor, static' "./floor-static 4 $rootfs /bin/true"
    for level in 5 6; do
        kind=$([ $level = 5 ] && echo host || echo private)
        calls 5 "stage, $kind" "${stages[5]} $kind /bin/true"
        calls 5 "floor, $kind" "./floor $level $rootfs /bin/true"
        calls 5 "floor, static, $kind" "./floor-static $level $rootfs /bin/true"
    done
    calls 5 unshare "unshare ${flags[5]} $rootfs/bin/true"
    calls 5 'by hand' "${by_hand[5]} /bin/true"
    for n in 4 5; do
        for name in bubblewrap bubblewrap+init hakoniwa runc crun youki; do
            [ -z "${peer[$name$n]-}" ] || calls $n $name "${peer[$name$n]}"
        done
    done
}

sizes() {
    local n name program
    : >sizes
    for n in 1-uts 2-user 3-pid 4-mount 5-net; do
        stat -L -c "${n%-*}	stage	%s" "$bin/stage$n" >>sizes
    done
    for name in unshare bubblewrap=bwrap hakoniwa runc crun youki; do
        program=$(command -v "${name#*=}") || continue
        stat -L -c "0	${name%=*}	%s" "$program" >>sizes
    done
    stat -L -c '0	floor	%s' floor >>sizes
    stat -L -c '0	floor, static	%s' floor-static >>sizes
}

machine() {
    {
        printf 'machine\t%s, %s processors, %s GiB\n' \
            "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | sort | uniq -c | sed 's/^ *[0-9]* //' | head -1)" "$(nproc)" \
            "$(awk '$1 == "MemTotal:" { print int($2 / 1048576 + 0.5) }' /proc/meminfo)"
        printf 'virtual\t%s\n' "$(systemd-detect-virt 2>/dev/null || :)"
        printf 'kernel\t%s\n' "$(uname -srm)"
        printf 'load\t%s\n' "$(cut -d ' ' -f 1-3 /proc/loadavg)"
        printf 'compiler\t%s\n' "$(compiler)"
        printf 'unshare\t%s\n' "$(unshare --version)"
        printf 'bubblewrap\t%s\n' "$(bwrap --version 2>/dev/null || :)"
        for name in hakoniwa runc crun youki; do
            printf '%s\t%s\n' $name "$($name --version 2>/dev/null | head -1 || :)"
        done
    } >machine
}
# What decides how many instructions a source becomes.
compiler() {
    printf '%s, %s, glibc %s' "$(uname -m)" "$(rustc --version 2>/dev/null | cut -d ' ' -f 1-2 || echo rustc unknown)" \
        "$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d ' ' -f 2 || echo unknown)"
}

runs=${words[0]:-400}
[ -z "$quick" ] || runs=${words[0]:-3}
case $mode in
    times)
        machine
        find_peers
        times
        memory
        all_calls
        sizes
        printf '%s\n' "${missing[@]}" >missing
        report times "$runs" ${quick:+--quick}
        ;;
esac
