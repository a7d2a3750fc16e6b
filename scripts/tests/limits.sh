#!/bin/sh
# Tests --memory, --pids and --cpus of stage 5 on cgroup v2, as root and as an ordinary user.
#
# Usage: limits.sh [--short]
#
#   --short         some cases only
#   STAGE_BIN_DIR   (environment) where the stages are (default: target/debug)
#
# Needs root, and the root of all groups as its own group, as in a machine of kernels.sh.
# Prints a line for what it has seen; exits with 1 where something is not as it should be.
set -eu
case ${1-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;; esac
short=${1-}
repo=$(cd -- "$(dirname -- "$0")/../.." && pwd -P)
PATH=$(realpath "${STAGE_BIN_DIR:-$repo/target/debug}"):$PATH
root=/sys/fs/cgroup user=/sys/fs/cgroup/of-user

tmp=$(mktemp -d) running=''
chmod 755 "$tmp"
# shellcheck disable=SC2317,SC2329 # the trap calls it
cleanup() {
    # shellcheck disable=SC2086 # a list of numbers
    [ -z "$running" ] || kill -9 $running 2>/dev/null || :
    rmdir $user 2>/dev/null || :
    rm -r "$tmp"
}
trap cleanup EXIT
fail() { echo "limits.sh: $*" >&2; exit 1; }
# check WHAT IS PATTERN
check() {
    # shellcheck disable=SC2254 # a pattern
    case $2 in $3) echo "ok: $1" ;; *) fail "$1: it is '$2' instead of '$3'" ;; esac
}
until_so() { # the limit of a minute is there for a hang only
    for _ in $(seq 600); do ! "$@" || return 0; sleep 0.1; done
    fail "not even after a minute: $*"
}
# Starts a command in a group: sh -c "$enter" sh GROUP COMMAND...
# shellcheck disable=SC2016 # expanded there
enter='echo 0 >"$1/cgroup.procs" && shift && exec "$@"'
# run COMMAND...: in the caller's group. Sets status and said.
run() {
    status=0
    # shellcheck disable=SC2086 # a list of words
    sh -c "$enter" sh $own $become "$@" >"$tmp/said" 2>&1 || status=$?
    said=$(grep -v -e 'no root file system' -e '^Killed$' "$tmp/said") || :
}
# start COMMAND...: a container that prints "up", and runs until `end`. Sets stage, janitor, container, group.
start() {
    mkfifo "$tmp/up" "$tmp/go"
    # shellcheck disable=SC2086 # a list of words
    sh -c "$enter" sh $own $become "$@" <"$tmp/go" >"$tmp/up" 2>"$tmp/said" &
    stage=$! running="$running $!" group=$own/leopard-$!
    exec 3>"$tmp/go" 4<"$tmp/up"
    rm "$tmp/up" "$tmp/go"
    read -r word <&4 || :
    [ "$word" = up ] || fail "$*: $(cat "$tmp/said")"
    read -r janitor container <"/proc/$stage/task/$stage/children" || :
}
end() { exec 3>&- 4<&-; status=0; wait "$stage" || status=$?; }
# What is left of the stages, and what would keep the caller from starting the next one.
left() {
    find "$own" -mindepth 1 -maxdepth 1 \( -name 'leopard-*' -o -name stage \)
    [ "$own" = $root ] || cat "$own/cgroup.procs" "$own/cgroup.subtree_control"
}
nothing_is_left() { [ -z "$(left)" ]; }
has_ended() { [ ! -e "/proc/$1" ]; }

[ ! -e $user ] || fail "there is $user, of an earlier run"
mkdir $user
chown 1000 $user $user/cgroup.procs $user/cgroup.subtree_control
net='stage5-net --net private'
for caller in root user; do
    case $caller in
        root) own=$root become='' ;;
        user) own=$user become='setpriv --reuid=1000 --regid=1000 --clear-groups' ;;
    esac
    # shellcheck disable=SC2086 # lists of words
    {
        if [ "$short$caller" != --shortroot ]; then
            start $net --memory 64M --pids 32 --cpus 0.5 -- sh -c 'echo up; cat /proc/self/cgroup; cat >/dev/null'
            files='memory.max memory.swap.max memory.oom.group pids.max cpu.max'
            check "$caller: the limits" "$(cd $group && cat $files | tr '\n' ' ')" '67108864 0 1 32 50000 100000 '
            check "$caller: the container is in its group" " $(tr '\n' ' ' <$group/cgroup.procs)" "* $container *"
            read -r word <&4
            check "$caller: inside, the group is /" "$word" 0::/
            end
            check "$caller: nothing is left" "$status$(left)" 0
            run $net --memory 32M -- tail /dev/zero
            check "$caller: out of memory" "$status $said" \
                '137 stage5-net: the kernel killed the container: out of memory, with --memory 32M'
        fi

        if [ "$short$caller" != --shortuser ]; then
            # This PID 1 has undone PR_SET_PDEATHSIG, so only the janitor ends it.
            undo='import ctypes, time; ctypes.CDLL(None).prctl(1, 0); print("up", flush=True); time.sleep(600)'
            start $net --pids 32 -- python3 -c "$undo"
            kill -9 "$stage"
            until_so nothing_is_left
            until_so has_ended "$container"
            end
            check "$caller: kill -9 of the stage leaves nothing" "$status" 137
        fi
        [ -z "$short" ] || continue

        run $net --memory 32M -- sh -c 'sh -c "kill -9 \$\$"'
        check "$caller: killed, but not by the kernel" "$status $said" '137 '
        run $net --pids 16 -- sh -c 'bomb() { bomb & bomb; }; bomb'
        check "$caller: a fork bomb ends" "$status $(grep -o 'Cannot fork' "$tmp/said" | sort -u)" '2 Cannot fork'
        check "$caller: nothing is left" "$(left)" ''
        start $net --cpus 0.2 -- sh -c 'echo up; timeout 60 sh -c "while :; do :; done" & cat >/dev/null'
        until_so grep -q '^nr_throttled [1-9]' "$group/cpu.stat"
        echo "ok: $caller: throttled"
        end

        # The explanation shows what strace sees.
        path='"/sys/fs/cgroup[^"]*"'
        calls="(mkdirat|unlinkat)\(AT_FDCWD, $path|$path, O_WRONLY\|O_CLOEXEC|\(CLONE_NEWCGROUP"
        strace -f -e trace=mkdirat,openat,unlinkat,unshare -o "$tmp/strace" \
            sh -c "$enter" sh $own $become $net --memory 64M --explain=calls true >"$tmp/explain" 2>&1 ||
            fail "$caller: $(cat "$tmp/explain")"
        for file in strace explain; do grep -oE "$calls" "$tmp/$file" | sort >"$tmp/$file-calls"; done
        check "$caller: the explanation" "$(diff "$tmp/strace-calls" "$tmp/explain-calls")" ''
        [ -s "$tmp/explain-calls" ] || fail 'it explains nothing'
        run "$repo/scripts/by-hand/7-limits.sh" --memory 32M --pids 32 --cpus 0.5 tail /dev/zero
        check "$caller: by hand" "$status $said" \
            '137 7-limits.sh: the kernel killed the container: out of memory, with --memory 32M'
        check "$caller: nothing is left" "$(left)" ''

        start $net --pids 32 -- sh -c 'echo up; cat >/dev/null'
        kill -9 "$janitor"
        end
        check "$caller: kill -9 of the janitor leaves the group" "$status $(left)" "0 *$group*"
        if [ $caller = root ]; then
            start $net --pids 32 -- sh -c 'echo up; cat >/dev/null'
            kill -9 "$janitor" "$stage"
            end
            until_so has_ended "$container"
            check "$caller: kill -9 of both leaves the group" "$(left)" "*$group"
            run $net --pids 32 true
            check "$caller: the next run removes it" "$status $(left)" '0 '
            start $net --pids 32 -- sh -c 'echo up; cat >/dev/null'
            run $net --pids 32 true
            check "$caller: the next run keeps those of others" "$status $(left)" "0 $group"
            end
        else
            rmdir "$group" $own/stage
            echo -pids >$own/cgroup.subtree_control
        fi
    }
done
[ -z "$short" ] || exit 0

delegate='systemd-run --scope -p Delegate=yes stage5-net ... gives the stage a group'
own=$user become=''
run sh -c 'stage5-net --pids 32 true; exit'
check 'other processes in the group' "$said" "stage5-net: other processes are in the stage's group \"$user\", too
hint: $delegate of its own"
echo -cpu >$root/cgroup.subtree_control
run stage5-net --pids 32 --cpus 0.5 true
echo +cpu >$root/cgroup.subtree_control
check 'a controller that is not enabled' "$said" \
    "stage5-net: write($user/cgroup.subtree_control, \"+pids +cpu\", 10): ENOENT: No such file or directory
hint: \"$user\" does not have the controller cpu: $delegate that has"
check 'nothing is left' "$(left)" ''
own=$root become='setpriv --reuid=1000 --regid=1000 --clear-groups'
run stage5-net --pids 32 true
check 'the group of others' "$said" "stage5-net: openat(*/cgroup.subtree_control*): EACCES: *
hint: systemd-run --user --scope *"

# The console blocks of the page, typed again. Numbers differ, and with them the columns.
awk '/^```console/ { on = 1; next } /^```/ { on = 0 } on' "$repo/docs/limits.md" >"$tmp/page"
(
    exec 2>&1
    set +e
    # shellcheck disable=SC2317,SC2329 # eval calls it
    last() { return "$last"; }
    last=0
    while IFS= read -r line; do
        case $line in '# '*) ;; *) continue ;; esac
        echo "$line"
        eval "last; ${line#??}"
        last=$?
    done <"$tmp/page"
) | grep -v 'no root file system' >"$tmp/typed"
for file in page typed; do sed -i 's/[0-9][0-9]*/N/g; s/  */ /g' "$tmp/$file"; done
check 'the page' "$(diff "$tmp/page" "$tmp/typed")" ''
