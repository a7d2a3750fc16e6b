#!/bin/sh
# Stage 5 by hand: the slides "Network Namespace".
#
# Usage: 5-net.sh [--rootfs DIR] [--] [COMMAND [ARG]...]
#
#   --rootfs DIR   the new root (default: /tmp/rootfs; scripts/rootfs.sh creates it)
#
# Runs COMMAND (default: /bin/sh, prompt "-> ") in DIR with a network of its own, as stage5-net does,
# and deletes br0 and veth0 at its end, also after kill -9. Needs root; without root, put this before it:
# unshare --map-current-user --keep-caps -Un. See unshare(1), network_namespaces(7), veth(4), ip-link(8), brctl(8).
set -eu

fail() { echo "5-net.sh: $*" >&2; exit 1; }
rootfs=/tmp/rootfs
if [ "${1-}" = --rootfs ]; then rootfs=${2-}; shift $(($# < 2 ? $# : 2)); fi
case ${1-} in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
    --) shift ;;
    -*) fail "unknown option '$1'" ;;
esac
[ $# -gt 0 ] || set -- env PS1='-> ' /bin/sh
[ -d "$rootfs" ] || fail "no directory '$rootfs': run scripts/rootfs.sh, which creates it"
rootfs=$(cd -- "$rootfs" && pwd -P)
mkdir -p "$rootfs/.old_root"
path=$PATH PATH=$PATH:/usr/sbin:/sbin # where ip(8), brctl(8) and pivot_root(8) are
command -v ip >/dev/null || fail 'ip(8) is missing (package iproute2)'
for link in br0 veth0 veth1; do ! ip link show $link >/dev/null 2>&1 || fail "$link exists already"; done

host_terminal() {
    trap '' HUP TERM PIPE # only SIGKILL ends it before it has cleaned up
    exec 4<"$fifos/in" 5>"$fifos/wired"
    read -r ready <&4 || ready=''
    rm -r "$fifos"
    [ -n "$ready" ] || exit # no namespaces: unshare has printed the reason
    if command -v brctl >/dev/null; then brctl addbr br0; else ip link add br0 type bridge; fi
    trap 'ip link del br0' EXIT
    ip addr add 172.20.1.2/24 dev br0
    ip link set br0 up
    ip link add veth0 type veth peer name veth1
    trap 'ip link del veth0 2>/dev/null || :; ip link del br0' EXIT # veth0 may have gone with veth1
    # erratum: $(pidof unshare) finds every unshare on the machine; this is the script's own.
    UPID=$(pgrep -P $$ -x unshare)
    ip link set veth1 netns "$UPID"
    ip addr add 172.20.1.3/24 dev veth0
    # erratum: the slide never attaches veth0 to the bridge, so its pings get no answer.
    ip link set veth0 master br0
    ip link set veth0 up
    echo >&5
    cat <&4 # until unshare and this script have ended: only they have the other end open
}
# shellcheck disable=SC2016 # expanded in the namespaces
namespace_terminal='
    rootfs=$1 path=$2; shift 2
    hostname leopard
    echo ready >&4
    read -r _ <&5
    exec 4>&- 5<&-
    ip link set dev lo up
    # erratum: the slide adds this address in the host terminal, which veth1 has left.
    ip addr add 172.20.1.4/24 dev veth1
    ip link set veth1 up
    # As in 4-mount.sh, which gives the reasons.
    mount --make-rprivate /
    mount --rbind "$rootfs/" "$rootfs/"
    mount -t proc proc "$rootfs/proc"
    pivot_root "$rootfs/" "$rootfs/.old_root"
    cd /
    PATH=$path
    for tool in mount umount; do
        [ -n "$(command -v $tool)" ] || eval "$tool() { /.old_root/bin/busybox $tool \"\$@\"; }"
    done
    mount -t tmpfs tmpfs /tmp
    echo leopard >/tmp/leopard.txt
    mount --make-rprivate /.old_root
    umount -l /.old_root
    exec "$@"'

# The talk has two terminals. Here they wait for each other on two FIFOs: namespaces exist (4), wired (5).
fifos=$(mktemp -d)
mkfifo "$fifos/in" "$fifos/wired"
exec 4<>"$fifos/in" 5<>"$fifos/wired" # both ends, since opening one end waits for a process that opens the other
host_terminal &
exec 4>"$fifos/in" 5<"$fifos/wired"
trap : INT # Ctrl-C is for COMMAND
status=0
# If this script dies, unshare dies (--pdeathsig), then COMMAND (--kill-child), and the host terminal cleans up.
setpriv --pdeathsig KILL unshare -uUrpfmn --mount-proc --kill-child /bin/sh -euc "$namespace_terminal" \
    sh "$rootfs" "$path" "$@" || status=$?
exec 4>&- 5<&-
wait
exit "$status"
