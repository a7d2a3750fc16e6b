#!/bin/sh
# Beyond the talk, by hand: a way out for a container that runs already.
#
# Usage: 6-outside.sh PID
#
#   PID   the container's process, as the host numbers it: a child of 5-net.sh's unshare, or the number that
#         stage5-net shows above its prompt
#
# Does in a second terminal what stage5-net --nat does, waits until the process has ended, and takes it back.
# After kill -9 of this script that is left to you: nft delete table ip outside, and the sysctl that
# it has printed. Needs root. For a host that is simulated (without root) first give it an uplink:
# pasta --config-net --netns /proc/PID/ns/net --userns /proc/PID/ns/user, with the PID of the stage.
# See nft(8), ip-route(8), sysctl(8), pasta(1). IPv4 only.
set -eu

fail() { echo "6-outside.sh: $*" >&2; exit 1; }
case ${1-} in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
    '' | *[!0-9]*) fail 'one argument, the PID of a container; see --help' ;;
esac
[ $# = 1 ] || fail "unknown argument '$2'; see --help"
PATH=$PATH:/usr/sbin:/sbin
[ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ] || fail "process $1 has the host's network"
uplink=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
[ -n "$uplink" ] || fail 'the host has no default route'
container=$(nsenter -t "$1" -n ip -4 -o addr show dev veth1 | sed 's/.*inet \([0-9.]*\).*/\1/')
before=$(cat "/proc/sys/net/ipv4/conf/$uplink/forwarding")
undo() {
    nft delete table ip outside 2>/dev/null || :
    sysctl -w "net/ipv4/conf/$uplink/forwarding=$before"
}
trap undo EXIT
trap 'exit 130' HUP INT TERM

# Packets may pass between the bridge and the uplink. Not ip_forward: it would reset every link.
sysctl -w net.ipv4.conf.br0.forwarding=1
sysctl -w "net/ipv4/conf/$uplink/forwarding=1"
# What leaves gets the host's address, since nobody outside has a route to the container's.
nft add table ip outside
nft add chain ip outside post '{ type nat hook postrouting priority srcnat; }'
nft add rule ip outside post ip saddr "$container" oifname != br0 masquerade
# A neighbour of the host with a route to 172.20.1.0/24 must not get in.
nft add chain ip outside forw '{ type filter hook forward priority 1000; }'
nft add rule ip outside forw oifname br0 iifname != br0 ct state new drop
# Nor through the host to its other networks, if the host did not forward before.
[ "$before" = 1 ] || nft add rule ip outside forw iifname "$uplink" oifname != br0 ct state new 'ct status & dnat == 0' drop
# Inside: the way to all other addresses.
nsenter -t "$1" -n ip route add default via 172.20.1.2

echo "process $1 has a way out, until it ends"
tail --pid="$1" -f /dev/null
