#!/bin/sh
# Stage 5 by hand: the slides "Network Namespace".
#
# Usage: 5-net.sh [--rootfs DIR] [--] [COMMAND [ARG]...]
#
#   --rootfs DIR   the new root (default /tmp/rootfs; scripts/rootfs.sh makes one)
#
# Runs COMMAND (without one: /bin/sh, prompt "-> ") in DIR with a network of its own, as
# stage5-net does, and takes br0 and veth0 down again. Needs root, or a host to be root of:
#
#   unshare --map-current-user --keep-caps -Un 5-net.sh [...]
#
# See unshare(1), network_namespaces(7), veth(4), ip-link(8), brctl(8).
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
fail() { echo "5-net.sh: $*" >&2; exit 1; }
rootfs=/tmp/rootfs
if [ "${1-}" = --rootfs ]; then
    rootfs=${2-}
    shift $(($# < 2 ? $# : 2))
fi
case ${1-} in
    -h | --help) usage; exit ;;
    --) shift ;;
    -*) usage >&2; exit 1 ;;
esac
[ $# -gt 0 ] || set -- env PS1='-> ' /bin/sh
[ -d "$rootfs" ] || fail "no directory '$rootfs'; scripts/rootfs.sh DIR makes a root there"
rootfs=$(cd -- "$rootfs" && pwd -P)
mkdir -p "$rootfs/.old_root"

# An ordinary PATH may lack ip(8) and brctl(8); COMMAND gets its own back.
path=$PATH
PATH=$PATH:/usr/sbin:/sbin
command -v ip >/dev/null || fail 'ip(8) is missing (package iproute2)'
for link in br0 veth0 veth1; do
    ! ip link show $link >/dev/null 2>&1 || fail "$link is already there; it is left alone"
done

# Whatever happens, what was made here goes, and nothing else.
# (Each mark is set beforehand: a trap may run between a command and the next.)
fifos='' bridge='' veth='' ended=''
# shellcheck disable=SC2317,SC2329 # the trap calls it
cleanup() {
    trap '' HUP INT TERM
    # unshare(1) blocks TERM while it waits; --kill-child passes KILL on to PID 1.
    [ -n "$ended" ] || kill -KILL "${!-}" 2>/dev/null || :
    # veth0 may be gone: the kernel removes the pair with the namespace of veth1 (veth(4)).
    [ -z "$veth" ] || ip link del veth0 2>/dev/null || :
    [ -z "$bridge" ] || ip link del br0
    [ -z "$fifos" ] || rm -r "$fifos"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# The talk has two terminals and a person who looks from one to the other. Here they wait
# for each other on two pipes: "in" (the namespaces are there) and "wired" (veth1 is).
fifos=$(mktemp -d)
mkfifo "$fifos/in" "$fifos/wired"

# Namespace terminal.
# shellcheck disable=SC2016 # expanded there, not here
namespace_terminal='
    rootfs=$1 path=$2; shift 2
    hostname leopard
    echo >&4
    read -r _ <&5
    exec 4>&- 5<&-

    # The ip(8) of the host, as long as it is in sight: Ubuntu base has none.
    ip link set dev lo up
    # erratum: the slide adds this address in the host terminal, which veth1 has left.
    ip addr add 172.20.1.4/24 dev veth1
    ip link set veth1 up

    # As in 4-mount.sh, with the reasons.
    mount --make-rprivate /
    mount --rbind "$rootfs/" "$rootfs/"
    mount -t proc proc "$rootfs/proc"
    pivot_root "$rootfs/" "$rootfs/.old_root"
    cd /
    PATH=$path
    for tool in mount umount; do
        [ -n "$(command -v $tool)" ] ||
            eval "$tool() { /.old_root/bin/busybox $tool \"\$@\"; }"
    done
    mount -t tmpfs tmpfs /tmp
    echo leopard >/tmp/leopard.txt
    mount --make-rprivate /.old_root
    umount -l /.old_root

    exec "$@"'

# In the background, since sh(1) would put off its traps until a foreground command ends.
# That costs stdin and Ctrl-C, which sh takes from background commands: both are given back.
exec 3<&0
env --default-signal=INT,QUIT \
    unshare -uUrpfmn --mount-proc --kill-child /bin/sh -euc "$namespace_terminal" \
    sh "$rootfs" "$path" "$@" <&3 3<&- 4>"$fifos/in" 5<"$fifos/wired" &
# erratum: $(pidof unshare) finds every unshare on the machine, or none; this is ours.
UPID=$!
exec 3<&- 4<"$fifos/in" 5>"$fifos/wired"
rm -r "$fifos"
fifos=''

# Host terminal, once the namespaces are there; if they are not, unshare has said why.
if read -r _ <&4; then
    bridge=made
    if command -v brctl >/dev/null; then brctl addbr br0; else ip link add br0 type bridge; fi ||
        { bridge=''; fail 'cannot make br0; --help says who can'; }
    ip addr add 172.20.1.2/24 dev br0
    ip link set br0 up

    veth=made
    ip link add veth0 type veth peer name veth1 || { veth=''; exit 1; }
    ip link set veth1 netns "$UPID"

    ip addr add 172.20.1.3/24 dev veth0
    # erratum: the slide never attaches veth0, so br0 answers from a bridge without a port.
    ip link set veth0 master br0
    ip link set veth0 up
    echo >&5
fi
exec 4<&- 5>&-

status=0
wait "$UPID" || status=$?
ended=yes
exit "$status"
