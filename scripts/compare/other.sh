#!/bin/sh
# Runs COMMAND in the container of stage 5, created by another program: for compare.sh --with.
#
# Usage: other.sh runc|crun|bwrap|podman ROOTFS DIR OCI_BUNDLE COMMAND [ARG]...
#
# DIR is for files that may go afterwards, and its name is the container's. OCI_BUNDLE is the program of
# stage5-net/examples/oci_bundle.rs. As root this adds br0 and veth0 to the network that it runs in, and deletes them.
set -eu

case ${1-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;; esac
name=$1 rootfs=$2 dir=$3 oci_bundle=$4
shift 4

user=''
[ "$(id -u)" = 0 ] || user=yes
case $name in
    runc | crun)
        "$oci_bundle" ${user:+--unshared} --rootfs "$rootfs" "$dir/bundle" "$@"
        set -- "$name" --root "$dir/state" run --bundle "$dir/bundle" "stage5-${dir##*/}"
        # crun 1.8 refuses a machine that has control groups of version 1 and 2.
        [ "$name$(stat -fc %T /sys/fs/cgroup)" != cruntmpfs ] ||
            set -- unshare -m sh -euc 'mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"' sh "$@"
        # An ordinary user cannot add links to the host's network, and gets one that simulates it.
        [ -z "$user" ] || set -- unshare -UrnmC --kill-child "$@"
        exec "$@"
        ;;
    bwrap)
        exec bwrap --unshare-all --die-with-parent --uid 0 --gid 0 --hostname leopard --bind "$rootfs" / --chdir / \
            --proc /proc --dev /dev --tmpfs /tmp "$@"
        ;;
    podman)
        # Podman leaves mounts, and its default limits are higher than an ordinary user's.
        printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n' >"$dir/containers.conf"
        CONTAINERS_CONF=$dir/containers.conf exec unshare -m podman --root "$dir/podman" --runroot "$dir/podman/run" \
            --runtime runc run --rm --network none --hostname leopard --uidmap 0:0:1 --gidmap 0:0:1 --cgroupns private \
            --security-opt no-new-privileges --tmpfs /tmp --rootfs "$rootfs" "$@"
        ;;
esac
