#!/bin/sh
# Tests --memory, --pids and --cpus of stage 5 on control groups of version 2.
#
# Usage: limits.sh [--short]
#
#   --short         without what takes more than a moment
#   STAGE_BIN_DIR   (environment) where the stages are
#
# Needs root, and that its own group is the root of all groups, as in a machine of kernels.sh.
# Prints what it has seen; exits with 1 if something is not as it should be.
set -eu
case ${1-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;; esac
short=${1-}
scripts=$(cd -- "$(dirname -- "$0")" && pwd -P)/scripts
[ -d "$scripts" ] || scripts=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
stage=$(realpath "${STAGE_BIN_DIR:-$scripts/../target/debug}/stage5-net")
root=/sys/fs/cgroup user=/sys/fs/cgroup/of-user

tmp=$(mktemp -d) running=''
chmod 755 "$tmp"
# shellcheck disable=SC2086 # a list of numbers
trap '[ -z "$running" ] || kill -9 $running 2>/dev/null || :; rm -rf "$tmp"' EXIT
fail() { echo "limits.sh: $*" >&2; exit 1; }
until_so() { # a minute: the limit is there for a hang only
    for _ in $(seq 600); do ! "$@" || return 0; sleep 0.1; done
    fail "not even after a minute: $*"
}
shows() { # shows WHAT IS SHOULD-BE
    case $2 in $3) echo "ok   $1" ;; *) fail "$1: '$2' instead of '$3'" ;; esac
}
# Starts a command in a group: "$enter" sh GROUP COMMAND...
# shellcheck disable=SC2016 # expanded there
enter='echo 0 >"$1/cgroup.procs" && shift && exec "$@"'
in_group() { sh -c "$enter" sh "$@"; }
as_user='setpriv --reuid=1000 --regid=1000 --clear-groups'
left() { find "$1" -mindepth 1 -maxdepth 1 -name 'leopard-*' -o -mindepth 1 -maxdepth 1 -name stage; }
nothing_is_left() { [ -z "$(left "$1")" ]; }

# start GROUP WORD...: a container that runs until `end`. Sets pid, janitor and inside.
start() {
    group=$1; shift
    mkfifo "$tmp/up" "$tmp/go"
    sh -c "$enter" sh "$group" "$@" <"$tmp/go" >"$tmp/up" 2>"$tmp/said" &
    pid=$! running="$running $!"
    exec 3>"$tmp/go" 4<"$tmp/up"
    rm "$tmp/up" "$tmp/go"
    read -r word <&4 || fail "$*: $(cat "$tmp/said")"
    [ "$word" = up ] || fail "$*: $word"
    read -r janitor inside <"/proc/$pid/task/$pid/children" || :
}
end() { exec 3>&- 4<&-; status=0; wait "$pid" || status=$?; }

who='' own=$root
mkdir -p "$user"
chown 1000 "$user" "$user/cgroup.procs" "$user/cgroup.subtree_control"
for caller in root user; do
    [ $caller = root ] || { who=$as_user own=$user; }
    run="$who $stage --net private"

    # shellcheck disable=SC2086 # lists of words
    {
        shows "$caller: the container's group is its /" \
            "$(in_group $own $run --memory 64M --pids 32 --cpus 0.5 -- cat /proc/self/cgroup)" 0::/
        nothing_is_left $own || fail "left: $(left $own)"

        start $own $run --memory 64M --pids 32 --cpus 0.5 -- sh -c 'echo up; cat >/dev/null'
        files="memory.max memory.swap.max memory.oom.group pids.max cpu.max"
        shows "$caller: limits" "$(cd $own/leopard-$pid && cat $files | tr '\n' ' ')" '67108864 0 1 32 50000 100000 '
        shows "$caller: the container is in its group" " $(tr '\n' ' ' <$own/leopard-$pid/cgroup.procs)" "* $inside *"
        end
        shows "$caller: its end" "$status $(left $own)" '0 '

        status=0
        in_group $own $run --memory 32M -- tail /dev/zero >"$tmp/said" 2>&1 || status=$?
        shows "$caller: out of memory" "$status $(grep -v Killed "$tmp/said")" \
            '137 stage5-net: the kernel killed the container, which needed more memory than --memory 32M'
        status=0
        in_group $own $run --memory 32M -- sh -c 'sh -c "kill -9 \$\$"' >"$tmp/said" 2>&1 || status=$?
        shows "$caller: killed, but not by the kernel" "$status $(grep -v Killed "$tmp/said")" '137 '

        status=0
        in_group $own $run --pids 16 -- sh -c 'bomb() { bomb & bomb; }; bomb' >"$tmp/said" 2>&1 || status=$?
        shows "$caller: a fork bomb" "$status $(sed 's/.*: //' "$tmp/said" | sort -u)" '2 Cannot fork'
        nothing_is_left $own || fail "left: $(left $own)"

        start $own $run --cpus 0.2 -- sh -c 'echo up; timeout 60 sh -c "while :; do :; done" & cat >/dev/null'
        until_so grep -q '^nr_throttled [1-9]' $own/leopard-$pid/cpu.stat
        echo "ok   $caller: throttled, $(grep nr_throttled $own/leopard-$pid/cpu.stat)"
        end

        # PID 1 has undone PR_SET_PDEATHSIG, so only the janitor ends it.
        undo='import ctypes, time; ctypes.CDLL(None).prctl(1, 0); print("up", flush=True); time.sleep(600)'
        start $own $run --pids 32 -- python3 -c "$undo"
        kill -9 "$pid"
        until_so nothing_is_left $own
        until_so [ ! -e "/proc/$inside" ]
        end
        shows "$caller: kill -9 of the stage" "$status" 137

        start $own $run --pids 32 -- sh -c 'echo up; cat >/dev/null'
        kill -9 "$janitor"
        end
        shows "$caller: kill -9 of the janitor leaves the group" "$status $(left $own)" "0 *leopard-$pid*"
        [ $caller = root ] || break
        start $own $run --pids 32 -- sh -c 'echo up; cat >/dev/null'
        kill -9 "$janitor" "$pid"
        end
        until_so [ ! -e "/proc/$inside" ]
        shows "$caller: kill -9 of both leaves the group" "$(left $own)" "*leopard-$pid"
        in_group $own $run --pids 32 true
        shows "$caller: the next run removes it" "$(left $own)" ''
    }
done
