#!/busybox sh
# shellcheck shell=dash
# The first process of a machine of kernels.sh: mounts the disk, and starts itself there; then prepares
# what a host has, runs job.sh, and switches the machine off.
set -u
if [ -e /busybox ]; then
    /busybox mount -t devtmpfs dev /dev
    for module in /m/*; do /busybox insmod "$module"; done
    until [ -b /dev/vda ]; do /busybox sleep 0.1; done
    /busybox mount -t ext4 /dev/vda /root
    /busybox cp -r /opt /init /root
    /busybox mount --move /dev /root/dev
    exec /busybox switch_root /root /bin/sh /init
fi
export PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 STAGE_BIN_DIR=/opt/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
sed 's/[^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
for dir in /dev/shm /run /tmp; do mount -t tmpfs -o mode=1777 tmpfs $dir; done
for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sfn "${link#*:}" "/dev/${link%%:*}"; done
hostname host
ip link set lo up
echo 'user:x:1000:1000::/tmp:/bin/sh' >>/etc/passwd
for file in /etc/subuid /etc/subgid; do echo 'user:100000:65536' >$file; done
cd /opt || exit
setsid sh job.sh </dev/null
echo "status $?"
busybox poweroff -f
