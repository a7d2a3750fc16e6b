#!/bin/sh
# Limits by hand, on cgroup v2. This goes beyond the talk, which names control groups and stops there.
#
# Usage: 7-limits.sh [--memory BYTES] [--pids NUMBER] [--cpus NUMBER] [--] [COMMAND [ARG]...]
#
# Runs COMMAND (default: /bin/sh, prompt "-> ") in new namespaces and in a control group with these limits, such
# as 64M, 32 and 0.5. It needs root in the root of all groups, or a group of its own: put this before it, as an
# ordinary user with --user: systemd-run --scope -p Delegate=yes
# See cgroups(7), cgroup_namespaces(7) and Documentation/admin-guide/cgroup-v2.rst of the kernel.
set -eu

fail() { echo "7-limits.sh: $*" >&2; exit 1; }
memory='' pids='' cpus=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
        --memory) memory=${2-}; shift ;;
        --pids) pids=${2-}; shift ;;
        --cpus) cpus=${2-}; shift ;;
        --) shift; break ;;
        -*) fail "unknown option '$1'; see --help" ;;
        *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || set -- env PS1='-> ' /bin/sh
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup) # this script's group
own=${own%/} group=${own%/}/leopard-$$
[ -e "$own/cgroup.controllers" ] || fail 'no file system of cgroup v2 in /sys/fs/cgroup'

# A group that is divided must hold no process itself. Only the root of all groups may, and it has no cgroup.events.
if [ -e "$own/cgroup.events" ]; then
    mkdir "$own/stage"
    echo $$ >"$own/stage/cgroup.procs"
fi
echo "${memory:++memory} ${pids:++pids} ${cpus:++cpu}" >"$own/cgroup.subtree_control"
# shellcheck disable=SC2317,SC2329 # the trap calls it
cleanup() {
    echo 1 >"$group/cgroup.kill" # Linux 5.14
    while grep -q 'populated 1' "$group/cgroup.events"; do sleep 0.1; done
    rmdir "$group"
    [ -e "$own/stage" ] || return 0
    echo '-memory -pids -cpu' >"$own/cgroup.subtree_control"
    echo $$ >"$own/cgroup.procs"
    rmdir "$own/stage"
}
mkdir "$group"
trap cleanup EXIT
trap : INT # Ctrl-C is for COMMAND
if [ -n "$memory" ]; then
    echo "$memory" >"$group/memory.max"
    echo 0 >"$group/memory.swap.max"
    echo 1 >"$group/memory.oom.group"
fi
[ -z "$pids" ] || echo "$pids" >"$group/pids.max"
[ -z "$cpus" ] || awk "BEGIN { print $cpus * 100000, 100000 }" >"$group/cpu.max"

# The cgroup namespace begins at the group of the process that creates it, so the process enters the group first.
status=0
# shellcheck disable=SC2016 # expanded there
sh -c 'echo 0 >"$1/cgroup.procs"; shift; exec unshare -uUrpfmnC --mount-proc "$@"' sh "$group" "$@" || status=$?
[ -z "$memory" ] || ! grep -q '^oom_kill [1-9]' "$group/memory.events" ||
    echo "7-limits.sh: the kernel killed the container: out of memory, with --memory $memory" >&2
exit "$status"
