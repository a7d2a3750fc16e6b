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
# a stage makes more system calls than recorded (1 % more), or takes 5 % more instructions.
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

# A network, mounts and processes of its own: with this shell, the first process there, everything goes. The
# small environment, and the paths below, are the same on every machine: both are work for execve(2) and
# for whoever resolves a path.
if [ "${BENCH_HOST-}" != "$PPID" ]; then
    old_queue=''
    installed=$(mktemp -d /var/tmp/bench.XXXXXX)
    # shellcheck disable=SC2317,SC2329 # the trap calls it
    cleanup() {
        rm -rf "$installed"
        [ -z "$old_queue" ] || { echo "$old_neighbours" >"$neighbours"; echo "$old_queue" >"$queue"; }
    }
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # All on the disk that the peers are on, written as install(1) does, in order: the kernel has such a
    # file in larger pieces than one that a linker has just written, and maps it faster, by up to a tenth.
    mkdir "$installed/built"
    cc -O2 -o "$installed/built/floor" "$scripts/floor.c"
    cc -O2 -static -o "$installed/built/floor-static" "$scripts/floor.c" ||
        cp "$installed/built/floor" "$installed/built/floor-static"
    cp "$bin"/stage[1-5]-{uts,user,pid,mount,net} "$installed/built"/* "$installed" 2>/dev/null || :
    chmod 755 "$installed"
    sync -f "$installed"
    if [ "$mode" = growth ] || [ "$mode" = page ]; then
        # For a thousand containers two limits of the kernel, which hold for all network namespaces, are raised
        # for the time of the run, as in scale.sh, which tells more of them.
        neighbours=/proc/sys/net/ipv4/neigh/default/gc_thresh3 queue=/proc/sys/net/core/netdev_max_backlog
        old_neighbours=$(cat $neighbours) old_queue=$(cat $queue)
        ((old_neighbours > 16384)) || echo 16384 >$neighbours
        ((old_queue > 100000)) || echo 100000 >$queue
    fi
    # shellcheck disable=SC2016 # expanded inside
    env -i PATH="$PATH" LC_ALL=C STAGE_BIN_DIR="$installed" unshare --net --mount --pid --fork --kill-child --mount-proc \
        sh -c 'BENCH_HOST=$$ "$@"; exit $?' sh "$scripts/bench.sh" "$@"
    exit
fi
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/bin /mnt/work /mnt/root
mount --bind "$bin" /mnt/bin
cd /mnt/work
export TMPDIR=/mnt/work
report() { python3 "$scripts/bench/report.py" "$@"; }
rootfs=/mnt/root
"$scripts/rootfs.sh" --from busybox "$rootfs" >log 2>&1 || { cat log >&2; fail 'no root file system'; }

stages=('' /mnt/bin/stage1-uts /mnt/bin/stage2-user /mnt/bin/stage3-pid "/mnt/bin/stage4-mount --rootfs $rootfs"
    "/mnt/bin/stage5-net --rootfs $rootfs --net")
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
                    bundle=$PWD/$name-$n
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
                    # Some miss the end of a command that ends at once, and wait for ever.
                    for ((run = 0; run < (${#quick} ? 1 : 100); run++)); do
                        if ! timeout -k 1 5 $command </dev/null >out 2>error; then
                            echo "one of its first $((run + 1)) runs failed, or did not end" >error
                            break 2
                        fi
                    done
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
runc runc runc --root $PWD/run-runc
crun crun crun --root $PWD/run-crun
youki youki youki --root $PWD/run-youki
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
        hyperfined "race-$group-$round.json" -u LC_ALL LANG=C.UTF-8 "${arguments[@]}"
        # unshare(1) loads the locale for its messages, as of most who have one; here once more without.
        [ "${pairs[2]-}" != unshare ] || hyperfined "race-$group-$round+.json" LC_ALL=C -n "unshare, LC_ALL=C" "${pairs[3]}"
    done
}
hyperfined() { # hyperfined FILE ENVIRONMENT... -n NAME COMMAND...
    local file=$1 environment=() try
    shift
    until [ "$1" = -n ]; do environment+=("$1"); shift; done
    for try in 1 2 3; do
        timeout -k 5 100 env "${environment[@]}" hyperfine -N --style none -w 1 -r "$each" ${settle:+-p "sleep $settle"} \
            --export-json "$file" "$@" >log 2>&1 && return
        echo "bench.sh: $file: attempt $try failed: $(tail -n 1 log)" >&2
    done
    fail "$file"
}

true=$(type -P true)
times() {
    local n name
    rounds=20 each=$(((runs + 19) / 20)) settle=''
    if [ -n "$quick" ]; then rounds=1 each=$runs; fi
    for n in 1 2 3; do
        race $n stage "${stages[n]} $true" unshare "unshare ${flags[n]} $true" floor "/mnt/bin/floor $n / $true" \
            'floor, static' "/mnt/bin/floor-static $n / $true"
    done
    local rivals=()
    for name in bubblewrap bubblewrap+init hakoniwa; do
        [ -z "${peer[${name}4]-}" ] || rivals+=("$name" "${peer[${name}4]}")
    done
    # The command is the root file system's own, for unshare too, which leaves the root as it is.
    race 4 stage "${stages[4]} /bin/true" unshare "unshare ${flags[4]} $rootfs/bin/true" \
        floor "/mnt/bin/floor 4 $rootfs /bin/true" 'floor, static' "/mnt/bin/floor-static 4 $rootfs /bin/true" "${rivals[@]}"
    # What takes a hundred times as long, fewer times; and only after what the run before has left
    # to the kernel, which takes network namespaces down in the background, is done.
    rivals=()
    for name in bubblewrap bubblewrap+init hakoniwa runc crun youki; do
        [ -z "${peer[${name}5]-}" ] || rivals+=("$name" "${peer[${name}5]}")
    done
    rounds=20 each=$(((runs + 99) / 100)) settle=0.1
    if [ -n "$quick" ]; then rounds=1 each=$runs settle=''; fi
    local slow=()
    for name in runc crun youki; do
        [ -z "${peer[${name}4]-}" ] || slow+=("$name" "${peer[${name}4]}")
    done
    [ ${#slow[@]} = 0 ] || race 4-oci stage "${stages[4]} /bin/true" 'by hand' "${by_hand[4]} /bin/true" "${slow[@]}"
    race 5 'stage, host' "${stages[5]} host /bin/true" 'stage, private' "${stages[5]} private /bin/true" \
        'by hand' "${by_hand[5]} /bin/true" unshare "unshare ${flags[5]} $rootfs/bin/true" \
        'floor, host' "/mnt/bin/floor 5 $rootfs /bin/true" 'floor, static, host' "/mnt/bin/floor-static 5 $rootfs /bin/true" \
        'floor, private' "/mnt/bin/floor 6 $rootfs /bin/true" 'floor, static, private' "/mnt/bin/floor-static 6 $rootfs /bin/true" \
        "${rivals[@]}"
}

# weigh GROUP NAME COMMAND [IN_BUNDLE]: what the processes that wait for a container hold, its own not counted.
waiting="sh -c 'echo up; exec sleep 1000'"
weigh() {
    local group=$1 name=$2 answer pids
    # What bash says of processes that were killed is no news here.
    exec 4>&2 2>>log
    mkfifo up
    eval "exec env -u LC_ALL LANG=C.UTF-8 $3 ${4-$waiting}" >up 2>log 4>&- &
    exec 3<up
    if read -r -t 20 answer <&3 && [ "$answer" = up ]; then
        until pgrep -x sleep >/dev/null; do sleep 0.01; done
        sleep 1.3 # the keeper of the network has work to do still, and a stage waits for a second first
        pids=$(descendants $!)
        for pid in $pids; do
            [ "$(cat "/proc/$pid/comm")" = sleep ] || awk -v row="$group	$name" '
                $1 == "Rss:" { rss = $2 } $1 == "Pss:" { pss = $2 } $1 == "Private_Dirty:" { dirty = $2 }
                END { if (rss) print row "\t" rss "\t" pss "\t" dirty }' "/proc/$pid/smaps_rollup" 2>log || [ ! -e "/proc/$pid" ] # it has ended
        done >>memory
        pkill -KILL -x sleep || :
    else
        exec 2>&4
        cat log >&2
        fail "$name did not start a shell"
    fi
    exec 3<&-
    rm up
    wait $! || :
    exec 2>&4 4>&-
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
        weigh $n floor "/mnt/bin/floor $n / $(type -P sh)" "${waiting#sh}"
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
        report command "$PWD/$name-5/config.json" sh -c 'echo up; exec sleep 1000'
        weigh 5 $name "${peer[${name}5]}" ''
        report command "$PWD/$name-5/config.json" /bin/true
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
        calls $n floor "/mnt/bin/floor $n / $true"
        calls $n 'floor, static' "/mnt/bin/floor-static $n / $true"
    done
    calls 4 stage "${stages[4]} /bin/true"
    calls 4 unshare "unshare ${flags[4]} $rootfs/bin/true"
    calls 4 floor "/mnt/bin/floor 4 $rootfs /bin/true"
    calls 4 'floor, static' "/mnt/bin/floor-static 4 $rootfs /bin/true"
    for level in 5 6; do
        kind=$([ $level = 5 ] && echo host || echo private)
        calls 5 "stage, $kind" "${stages[5]} $kind /bin/true"
        calls 5 "floor, $kind" "/mnt/bin/floor $level $rootfs /bin/true"
        calls 5 "floor, static, $kind" "/mnt/bin/floor-static $level $rootfs /bin/true"
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
        stat -L -c "${n%-*}	stage	%s" "/mnt/bin/stage$n" >>sizes
    done
    for name in unshare bubblewrap=bwrap hakoniwa runc crun youki; do
        program=$(command -v "${name#*=}") || continue
        stat -L -c "0	${name%=*}	%s" "$program" >>sizes
    done
    stat -L -c '0	floor	%s' /mnt/bin/floor >>sizes
    stat -L -c '0	floor, static	%s' /mnt/bin/floor-static >>sizes
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

# The counts: of each stage, in a PID namespace of its own, so that its children's pids have the same digits.
# The library's choice among its versions of memcpy(3) is the processor's otherwise, and a "rep" instruction
# would count for each byte.
tunables=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-ERMS,-FSRM,-BMI2
tunables=$tunables:glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000
counted=(1-uts 2-user 3-pid 4-mount 5-net-host 5-net-private)
counts() {
    local at n pids=() command
    cc -O2 -o count "$scripts/bench/count.c"
    for at in "${!counted[@]}"; do
        n=$((at < 5 ? at + 1 : 5)) command=${stages[n]}
        [ $n != 5 ] || command="$command ${counted[at]##*-}"
        # shellcheck disable=SC2086 # a list of words
        unshare --net --pid --fork --kill-child --mount-proc timeout -k 1 300 \
            env -i PATH=/bin GLIBC_TUNABLES=$tunables "$PWD/count" $command /bin/true 3>"count-$at" 2>"count-$at.log" &
        pids[at]=$!
    done
    {
        echo '# What a stage does before its command runs: system calls, and instructions of its own (not the kernel'\''s).'
        echo '# Compared by "scripts/bench.sh --counts", written by "scripts/bench.sh --counts --update".'
        echo "# $(compiler)"
        for at in "${!counted[@]}"; do
            status=0
            wait "${pids[at]}" || status=$?
            [ $status = 0 ] || { cat "count-$at.log" >&2; fail "counting stage ${counted[at]} ended with $status"; }
            read -r instructions calls <"count-$at"
            printf '%-20s %4d system calls %8d instructions\n' "stage${counted[at]}" "$calls" "$instructions"
        done
    } >counts
}

# Where the time of a start goes: each system call's begin and end, and who runs when, from the kernel's own
# trace, whose cost is below a microsecond an event (strace(1) stops the process twice for each call).
where() {
    local at n name program trace=/mnt/trace/instances/bench-$$ events event
    mkdir -p /mnt/trace
    mount -t tracefs tracefs /mnt/trace 2>log || { cat log >&2; fail 'no trace without CONFIG_FTRACE'; }
    mkdir "$trace"
    # shellcheck disable=SC2064 # this one, whatever the variable is then
    trap "echo 0 >$trace/tracing_on; rmdir $trace" EXIT
    echo 0 >"$trace/tracing_on"
    echo 32768 >"$trace/buffer_size_kb"
    events=(raw_syscalls/sys_enter raw_syscalls/sys_exit sched/sched_switch sched/sched_process_fork sched/sched_process_exec)
    [ ! -d "$trace/events/exceptions/page_fault_user" ] || events+=(exceptions/page_fault_user)
    for event in "${events[@]}"; do echo 1 >"$trace/events/$event/enable"; done
    echo '#include <sys/syscall.h>' | cc -E -dM - | sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$/\2\t\1/p' >syscalls
    : >where-names
    for at in "${!counted[@]}" 6 7; do
        n=$((at < 5 ? at + 1 : 5)) name=stage${counted[at]-}
        program="${stages[n]} /bin/true"
        case $at in
            [0-2]) program="${stages[n]} $true" ;;
            4 | 5) program="${stages[n]} ${counted[at]##*-} /bin/true" ;;
            6) name='floor 4' program="/mnt/bin/floor 4 $rootfs /bin/true" ;;
            7) name='unshare 4' program="$(type -P unshare) ${flags[4]} $rootfs/bin/true" ;;
        esac
        for ((run = 0; run < 5; run++)); do $program 2>log; done
        echo >"$trace/trace"
        echo 1 >"$trace/tracing_on"
        # One after the other, each after the kernel has done what the one before has left to it.
        for ((run = 0; run < 60; run++)); do
            $program 2>log
            if ((at == 4 || at == 5)); then sleep 0.1; fi
        done
        echo 0 >"$trace/tracing_on"
        cat "$trace/trace" >"where-$at"
        printf '%s\t%s\t%s\n' "$at" "$name" "${program%% *}" >>where-names
    done
}

# grow KIND one|all COUNT
grow() {
    local command inside before after
    case $1 in
        stage4) command=${stages[4]} inside='echo up; read -r _; exit 0' ;;
        # A container is up when the bridge has answered its ping.
        host) command="${stages[5]} host --bridge-addr 172.20.4.2/22" inside=172.20.4.2 ;;
        private) command="${stages[5]} private" inside=172.20.1.2 ;;
    esac
    [ "$1" = stage4 ] || inside="ping -q -c1 -W9 $inside >/dev/null && echo up || echo silent; read -r _; exit 0"
    before=$(available)
    # shellcheck disable=SC2086 # a list of words
    ${recorder-} ./grow "$3" "$2" $command sh -c "$inside" <go >"grow-$1-$2-$3" 2>"grow-$1-$2-$3.log" &
    local pid=$!
    exec 3>go
    until grep -q started "grow-$1-$2-$3" || [ ! -e /proc/$pid ]; do sleep 0.05; done
    after=$(available)
    # The awk of few arguments: a thousand files do not go well into one command line for long.
    pgrep -x 'stage[45]-.*' | sed 's|.*|/proc/&/smaps_rollup|' | xargs -r cat 2>log | awk -v count="$3" -v gone="$((before - after))" '
        $1 == "Pss:" { pss += $2 } $1 == "Private_Dirty:" { dirty += $2 }
        END { printf "memory %.0f %.0f %.0f\n", pss / count, dirty / count, gone / count }' >"grow-$1-$2-$3.memory"
    echo >&3
    exec 3>&-
    wait $pid || { sort "grow-$1-$2-$3.log" | uniq -c | head -5 >&2; echo "bench.sh: growth: $1 $2 $3 failed" >&2; }
    for ((waited = 0; waited < 200; waited++)); do
        [ "$(grep -c : /proc/net/dev)" != 1 ] || break
        sleep 0.05
    done
    sleep 1 # the kernel takes network namespaces down in the background
}
available() { awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo; }

growth() {
    local count kind most=0
    cc -O2 -o grow "$scripts/bench/grow.c"
    rm -f go
    mkfifo go
    for count; do
        ((count <= most)) || most=$count
        for kind in stage4 host private; do
            grow $kind one "$count"
            grow $kind all "$count"
        done
    done
    # Why the curves bend: for which locks processes wait, and what the processors do.
    if command -v perf >/dev/null; then
        # Spinning is left out, which is short (flags 1); and who waits is wanted, so the callers are, too.
        recorder='perf record -q -a -e lock:contention_begin/call-graph=fp/ --filter flags!=1 -e lock:contention_end/call-graph=no/ -o contention.data --'
        mkdir measured
        mv grow-* measured
        if grow host all "$most" 2>log; then
            perf script -i contention.data -F tid,time,event,trace,ip,sym >contention 2>log || :
        fi
        recorder='perf record -q -a -k CLOCK_MONOTONIC -e cpu-clock -F 499 -o profile.data --'
        rm -f grow-*
        if grow host one "$most" 2>log; then
            perf script -i profile.data -F comm,time,ip,sym >profile 2>log || :
            mv "grow-host-one-$most" profiled
        fi
        recorder=''
        rm -f grow-* contention.data profile.data
        mv measured/* .
    fi
}

runs=${words[0]:-400}
[ -z "$quick" ] || runs=${words[0]:-3}
measure() {
    machine
    find_peers
    times
    memory
    all_calls
    sizes
    printf '%s\n' "${missing[@]}" >missing
}
[ ${#words[@]} -gt 0 ] && [ "$mode" = growth ] || words=(1 10 100 250 1000)
case $mode in
    times)
        measure
        report times "$runs" ${quick:+--quick}
        ;;
    counts)
        counts
        if [ -n "$update" ]; then
            cp counts "$scripts/bench/counts.txt"
            cat counts
        else
            report counts "$scripts/bench/counts.txt"
        fi
        ;;
    where)
        where
        report where
        ;;
    growth)
        machine
        growth "${words[@]}"
        report growth
        ;;
    page)
        measure
        where
        growth "${words[@]}"
        counts
        cp counts "$scripts/bench/counts.txt"
        report page "$runs" "$scripts/bench"
        ;;
esac
