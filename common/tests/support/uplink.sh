# shellcheck shell=sh
# A host with an uplink: its eth0 leads to another network namespace, the world. Everything ends with the host.
mount -t tmpfs tmpfs /run && mkdir /run/netns
mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200
PATH=/usr/bin:/bin:/usr/sbin:/sbin
ip link set lo up
ip netns add world
ip link add eth0 type veth peer name eth0 netns world
ip addr add 198.51.100.9/25 dev eth0; ip link set eth0 up
ip route add default via 198.51.100.1
# The machine's setting in most distributions; a new network namespace starts without.
echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range
world() { ip netns exec world "$@"; }
world ip link set lo up
world ip addr add 198.51.100.1/25 dev eth0; world ip addr add 198.51.100.200/32 dev lo
world ip link set eth0 up
printf 'search example.test\nnameserver 198.51.100.1\nnameserver 127.0.0.53\n' >/run/resolv.conf
: >>/etc/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf
