#!/bin/bash
# Measures the stages beside unshare, the slides by hand, bubblewrap, crun, runc, and the floor: a C program
# with the fewest system calls (scripts/floor.c). Programs that are not installed are left out.
#
# Usage: bench.sh [RUNS]               print times, ratios, memory and system calls (default: 400 runs each)
#        bench.sh --quick              check that every measurement works; the figures mean nothing
#        bench.sh --counts [--write]   compare system calls and memory with scripts/bench/counts.txt
#        bench.sh --page [RUNS]        measure everything; write scripts/bench/README.md and its charts
#
#   --write        write counts.txt instead
#   STAGE_BIN_DIR  (environment) directory of the stages (default: target/release)
#
# Needs root, hyperfine, strace, python3 and a C compiler. --page also needs matplotlib (package
# python3-matplotlib), and uses perf if it is installed. The programs run in network, mount and PID namespaces of their
# own, so the machine stays as it was. --counts exits with 1 if a stage makes more system calls than recorded
# (stage 5: 2 % more) or needs more private dirty memory (10 % and 16 kB more).
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
fail() { echo "bench.sh: $*" >&2; exit 1; }
scripts=$(cd -- "$(dirname -- "$0")" && pwd -P)
mode=times write='' runs=400
for word; do
    case $word in
        -h | --help) usage; exit ;;
        --quick | --counts | --page) mode=${word#--} ;;
        --write) write=yes ;;
        *[!0-9]* | '' | 0) usage >&2; exit 1 ;;
        *) runs=$word ;;
    esac
done
report() { python3 "$scripts/bench/report.py" "$@"; }

if [ "${BENCH_HOST-}" != "$PPID" ]; then
    bin=${STAGE_BIN_DIR:-$scripts/../target/release}
    [ -x "$bin/stage5-net" ] || fail "no stages in $bin: run 'cargo build --release', or set STAGE_BIN_DIR"
    [ "$(id -u)" = 0 ] || fail 'needs root: run it with sudo'
    for program in cc hyperfine python3 strace; do
        command -v "$program" >/dev/null || fail "please install $program"
    done
    [ "$mode" != page ] || python3 -c 'import matplotlib' 2>/dev/null || fail 'please install python3-matplotlib'
    tmp=$(mktemp -d /var/tmp/bench.XXXXXX)
    trap 'rm -rf "$tmp"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # The kernel maps a file that the linker has just written more slowly (up to a tenth) than a copy of it.
    mkdir "$tmp/bin" "$tmp/built"
    cc -O2 -o "$tmp/built/floor" "$scripts/floor.c"
    cc -O2 -static -o "$tmp/built/floor-static" "$scripts/floor.c" || fail 'the static C library is missing (package libc6-dev)'
    cp "$bin"/stage[1-5]-{uts,user,pid,mount,net} "$tmp/built"/* "$tmp/bin" 2>/dev/null || :
    chmod 755 "$tmp" "$tmp/bin"
    sync -f "$tmp"
    load=$(cut -d ' ' -f 1 /proc/loadavg)
    if [ "$mode" = page ]; then # outside of the namespaces below, because it raises two limits of the host
        STAGE_BIN_DIR=$tmp/bin "$scripts/scale.sh" 1 10 50 100 250 500 1000 | tee "$tmp/growth"
    fi
    # A small environment and short paths: both cost execve(2) time, and differ between machines.
    # shellcheck disable=SC2016 # expanded inside
    env -i PATH="$PATH" LC_ALL=C TMPDIR=/mnt BENCH_TMP="$tmp" BENCH_LOAD="$load" unshare --net --mount --pid --fork --kill-child --mount-proc \
        sh -c 'BENCH_HOST=$$ "$@"; exit $?' sh "$scripts/bench.sh" "$@"
    exit
fi
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/bin /mnt/work
mount --bind "$BENCH_TMP/bin" /mnt/bin
[ ! -e "$BENCH_TMP/growth" ] || cp "$BENCH_TMP/growth" /mnt/work
cd /mnt/work
rootfs=/mnt/root
"$scripts/rootfs.sh" --from busybox "$rootfs" >log 2>&1 || { cat log >&2; fail 'no root file system'; }
# crun refuses a machine where cgroup v1 and v2 are both mounted: show v2 only.
if [ -d /sys/fs/cgroup/unified ]; then mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; fi

# The groups of programs that are compared: a stage each, stage 5 with both kinds of network.
groups=(1 2 3 4 host private)
stages=([1]=stage1-uts [2]=stage2-user [3]=stage3-pid [4]=stage4-mount [5]=stage5-net)
flags=([1]=-u [2]=-uUr [3]='-uUrpf --mount-proc' [4]='-uUrpfm --mount-proc' [5]='-uUrpfmn --mount-proc')

# list GROUP COMMAND: prints "NAME<TAB>COMMAND LINE" for each program. COMMAND is a path in the root file system.
list() {
    local n=$1 level=$1 net='' inside=$2 options="--rootfs $rootfs" name bundle
    case $1 in
        [123]) options='' inside=$rootfs$2 ;;
        host) n=5 level=5 net='--net host' ;;
        private) n=5 level=6 net='--net private' ;;
    esac
    printf '%s\t%s\n' stage "/mnt/bin/${stages[n]} $options $net $inside" \
        floor "/mnt/bin/floor $level $rootfs $inside" 'static floor' "/mnt/bin/floor-static $level $rootfs $inside" \
        'by hand' "$scripts/by-hand/$n-${stages[n]#*-}.sh $options -- $inside"
    [ "$1" = host ] || printf '%s\t%s\n' unshare "unshare ${flags[n]} $rootfs$2"
    if command -v bwrap >/dev/null && [[ $1 = [4p]* ]]; then
        printf '%s\t%s\n' bubblewrap "bwrap --unshare-user --uid 0 --gid 0 --unshare-pid --as-pid-1 --unshare-uts --hostname leopard \
            $([ "$1" = 4 ] || echo --unshare-net) --bind $rootfs / --proc /proc --tmpfs /tmp $2"
    fi
    for name in crun runc; do
        if [ "$n" -lt 5 ] || ! command -v $name >/dev/null; then continue; fi
        bundle=$PWD/$name-$(basename "${2%% *}")
        if [ ! -d "$bundle" ]; then
            mkdir "$bundle"
            (cd "$bundle" && $name spec)
            # shellcheck disable=SC2086 # a list of words
            report bundle "$bundle/config.json" "$rootfs" $2
        fi
        printf '%s\t%s\n' $name "$name $([ $name = runc ] || echo --cgroup-manager=disabled) --root $PWD/run run -b $bundle bench"
    done
}

# race GROUP: hyperfine runs the programs one after the other, in rounds of a few runs each. A ratio is the median
# of the rounds' ratios, so what slows the machine down for a second slows both sides down.
race() {
    local round name line all=() unshare='' options=(-r $(((runs + 19) / 20)))
    # The kernel removes a network namespace in the background: the next run must not pay for that.
    [[ $1 = [1-4] ]] || options=(-r $(((runs + 99) / 100)) -p 'sleep 0.1')
    while IFS=$'\t' read -r name line; do
        all+=(-n "$name" "$line")
        [ "$name" != unshare ] || unshare=$line
    done < <(list "$1" /bin/true)
    for ((round = 0; round < rounds; round++)); do
        # unshare loads the locale for its messages, as it does for users who have one; and once more without.
        LC_ALL=C.UTF-8 timed "race-$1-$round.json" "${options[@]}" "${all[@]}"
        [ -z "$unshare" ] || timed "race-$1-$round+.json" "${options[@]}" -n 'unshare, LC_ALL=C' "$unshare"
    done
}
timed() { # timed FILE OPTION...
    hyperfine -N --style none -w 1 --export-json "$@" >log 2>&1 || { cat log >&2; fail "$1"; }
}

# weigh GROUP [NAME]: memory of the processes that wait for the container; the container's own is not counted.
weigh() {
    local name line pid
    while IFS=$'\t' read -r name line; do
        if [ "$name" = 'by hand' ] || [ "${2-$name}" != "$name" ]; then continue; fi
        case $line in unshare*) line="unshare --fork ${line#unshare}" ;; esac # without it no process waits
        ps -e -o pid= >before
        # shellcheck disable=SC2086 # a list of words
        LC_ALL=C.UTF-8 $line </dev/null >log 2>&1 &
        until pgrep -x sleep >pid; do [ -e /proc/$! ] || { cat log >&2; fail "$line"; }; done
        [ "$mode" = quick ] || sleep 1.3 # until the others have nothing to do but wait
        for pid in $(ps -e -o pid=); do
            if ! grep -qw "$pid" before pid && [ -e "/proc/$pid/exe" ]; then
                awk -v row="$1	$name" '$1 == "Rss:" { rss = $2 } $1 == "Private_Dirty:" { dirty = $2 }
                    END { if (rss) print row "\t" rss "\t" dirty }' "/proc/$pid/smaps_rollup" || :
            fi
        done 2>log >>memory
        { pkill -KILL -x -F pid sleep; wait $! || :; } 2>log # bash reports each process that is killed
    done < <(list "$1" '/bin/sleep 1000')
}

# count GROUP [NAME]: system calls of all processes, the command's own included; the fewest of three runs.
count() {
    local name line
    while IFS=$'\t' read -r name line; do
        [ "${2-$name}" = "$name" ] || continue
        for _ in 1 2 3; do
            # shellcheck disable=SC2086 # a list of words
            strace -f -c -o trace $line </dev/null >log 2>&1 || { cat log >&2; fail "strace $line"; }
            awk -v row="$1	$name" '$1 ~ /^[0-9.]+$/ && $NF != "total" { calls += $4 } END { print row "\t" calls }' trace
        done | sort -n -k 3 -t '	' | head -n 1 >>calls
    done < <(list "$1" /bin/true)
}

# where GROUP: how long each system call takes, by the kernel's tracepoints (perf-trace(1)), for 20 starts.
where() {
    local name line
    command -v perf >/dev/null || return 0
    read -r _ line < <(list "$1" /bin/true)
    for _ in {1..20}; do
        # shellcheck disable=SC2086 # a list of words
        perf trace -s -o trace $line </dev/null >log 2>&1 || return 0
        awk -v row="$1" '$2 ~ /^[0-9]+$/ && NF >= 7 { print row "\t" $1 "\t" $4 }' trace >>where
    done
}

{
    printf 'machine\t%s, %s processors, %s; load at the beginning %s\n' "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -srm)" "$BENCH_LOAD"
    printf 'versions\t%s\n' "$(rustc --version 2>/dev/null | cut -d ' ' -f 1-2)" "$(unshare --version | sed 's/unshare from //')" \
        "$(bwrap --version 2>/dev/null || :)" "$(crun --version 2>/dev/null | head -n 1)" "$(runc --version 2>/dev/null | head -n 1)"
    for name in stage1-uts stage2-user stage3-pid stage4-mount stage5-net floor floor-static unshare bwrap crun runc; do
        if file=$(PATH=/mnt/bin:$PATH command -v "$name"); then stat -L -c "size	$name	%s" "$file"; fi
    done
} >facts
touch memory calls where
rounds=20
[ "$mode" != quick ] || rounds=1 runs=3
for group in "${groups[@]}"; do
    if [ "$mode" = counts ]; then
        weigh "$group" stage
        count "$group" stage
    else
        race "$group"
        weigh "$group"
        count "$group"
        [ "$mode" != page ] || where "$group"
    fi
done
case $mode in
    counts) report counts "$scripts/bench/counts.txt" "$write" ;;
    page) report page "$scripts/bench" "$runs" ;;
    *) report tables "$mode" ;;
esac
