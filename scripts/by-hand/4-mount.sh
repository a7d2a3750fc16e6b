#!/bin/sh
# Stage 4 by hand: the slides "Mount Namespace".
#
# Usage: 4-mount.sh [--rootfs DIR] [--] [COMMAND [ARG]...]
#
#   --rootfs DIR   the new root (default /tmp/rootfs; scripts/rootfs.sh makes one)
#
# Runs COMMAND (without one: /bin/sh, prompt "-> ") in DIR, as stage4-mount does.
# See unshare(1), mount_namespaces(7), pivot_root(8), pivot_root(2).
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
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
if [ ! -d "$rootfs" ]; then
    echo "4-mount.sh: no directory '$rootfs'; scripts/rootfs.sh DIR makes a root there" >&2
    exit 1
fi
rootfs=$(cd -- "$rootfs" && pwd -P)

# "Prepare the Base Image"; tar has been run by scripts/rootfs.sh.
mkdir -p "$rootfs/.old_root"

# "Isolate the Environment with Unshare", and what is typed into its shell.
# shellcheck disable=SC2016 # expanded there, not here
exec unshare -uUrpfm --mount-proc /bin/sh -euc '
    rootfs=$1; shift
    hostname leopard

    # "Modify the New Namespace". An ordinary PATH may lack pivot_root(8).
    path=$PATH
    PATH=$PATH:/usr/sbin:/sbin
    mount --make-rprivate /
    mount --rbind "$rootfs/" "$rootfs/"
    # erratum: the Go program mounts proc after pivot_root. Either works while the old root
    # is attached; without its whole /proc in sight a user namespace may mount none.
    mount -t proc proc "$rootfs/proc"
    pivot_root "$rootfs/" "$rootfs/.old_root"
    cd /
    # Setting PATH also makes the shell forget where the programs were in the old root.
    PATH=$path

    # "Validate Changes and Clean Up", with the programs of the new root. One that has no
    # mount(8) gets the static busybox of the host: others miss their libraries here.
    for tool in mount umount; do
        [ -n "$(command -v $tool)" ] ||
            eval "$tool() { /.old_root/bin/busybox $tool \"\$@\"; }"
    done
    mount -t tmpfs tmpfs /tmp
    echo leopard >/tmp/leopard.txt
    mount --make-rprivate /.old_root
    umount -l /.old_root

    exec "$@"' sh "$rootfs" "$@"
