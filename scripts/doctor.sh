#!/bin/sh
# Tries the container stages on this machine, and prints what helps; --help shows more.
# shellcheck disable=SC2086 # some variables are lists of words
set -eu
export LC_ALL=C # the messages of tools are read below
PATH=$PATH:/usr/sbin:/sbin # an ordinary user's PATH may lack ip(8)

usage() {
    cat <<'END'
Find out which container stages work on this machine, and what helps where they fail.

  scripts/doctor.sh         try them as yourself
  sudo scripts/doctor.sh    try them as root and as an ordinary user (uid 65533)

Usage: doctor.sh [--nat] [--rootfs DIR]

  --nat          also try stage5-net --nat, and whether the packet filter lets its packets out
  --rootfs DIR   root file system for stages 4 and 5 (default: /tmp/rootfs, or the host's programs)
  STAGE_BIN_DIR  (environment) directory of the stages (default: target/debug or target/release)

Each line is a check: "ok", "note", "PROBLEM" with a hint, or "untried" with the reason. Then a table
shows who can run which stage. As root it also starts two containers on the host's network, and pings
one from the other; stage 5 removes what it creates. Exits with 0 if stages 2 to 5 work for the caller.
END
}
fail() { echo "doctor.sh: $*" >&2; exit 1; }

rootfs='' nat=''
[ "${1-}" != --nat ] || { nat=--nat; shift; }
case ${1-} in
-h | --help) usage; exit ;;
--rootfs) [ -n "${2-}" ] || fail '--rootfs needs a directory'; rootfs=$2; shift 2 ;;
esac
[ $# = 0 ] || fail "unknown argument '$1'; see --help"
[ "$(uname -s)" = Linux ] || fail "namespaces need Linux: use a virtual machine"
repo=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
tmp=$(mktemp -d) || fail "no temporary directory: is ${TMPDIR:-/tmp} writable?"
started=''
stop() { kill $started 2>/dev/null || :; wait; started=''; }
trap 'stop; rm -r -- "$tmp"' EXIT
trap 'exit 130' HUP INT PIPE TERM

line() { printf '%-8s %s\n' "$1" "$2"; }
hint() { case $shown in *"<$1>"*) line '' 'hint: as above' ;; *) line '' "hint: $1"; shown="$shown<$1>" ;; esac; }
problem() { line PROBLEM "$1"; hint "$2"; } # what failed, what helps
has() { command -v "$1" >/dev/null; }
try() { # runs a command for at most 20 seconds; $said is the first line that it printed
    code=0
    timeout -k 1 20 "$@" </dev/null >"$tmp/said" 2>&1 || code=$?
    said=$(grep -m 1 . "$tmp/said" || echo "exit status $code")
    [ $code != 124 ] || said="no answer in 20 seconds ($said)"
    [ $code = 0 ]
}
shown='' caller=user
[ "$(id -u)" != 0 ] || caller=root

# First what no stage can know.
here="Linux $(uname -r) on $(uname -m)"
case $here in *WSL2*) here="$here, in WSL2" ;; *Microsoft*) here="$here, in WSL1" ;; esac
# PROC_PID_INIT_INO of linux/proc_ns.h: the machine's first PID namespace.
[ "$(readlink /proc/self/ns/pid)" = 'pid:[4026531836]' ] || here="$here, in a container"
line ok "here: $here"
case $here in *WSL1*) problem 'WSL1 has no Linux kernel' 'in PowerShell: wsl --set-version DISTRIBUTION 2' ;; esac
if grep -qsx 1 /proc/sys/kernel/apparmor_restrict_unprivileged_userns; then
    line note 'AppArmor takes all capabilities from user namespaces of ordinary users (apparmor.d(5), "userns")'
    hint 'sudo, or until the next boot: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0 (=1 is the undo)'
fi

while read -r program debian fedora arch for; do
    has "$program" || problem "$program is missing: $for needs it" \
        "Debian, Ubuntu: apt-get install $debian; Fedora: dnf install $fedora; Arch: pacman -S $arch"
done <<'END_OF_TOOLS'
unshare    util-linux     util-linux   util-linux   the talk
setpriv    util-linux     util-linux   util-linux   this script
ip         iproute2       iproute      iproute2     the slide of stage 5
ping       iputils-ping   iputils      iputils      the slide of stage 5
brctl      bridge-utils   bridge-utils bridge-utils the slide of stage 5
busybox    busybox-static busybox      busybox      scripts/rootfs.sh --from busybox
newuidmap  uidmap         shadow-utils shadow       a map of more than one id (unshare --map-auto)
strace     strace         strace       strace       scripts/check.sh
END_OF_TOOLS
! has ping || try ping -c 1 -W 1 127.0.0.1 || problem "ping 127.0.0.1 fails: $(grep -m 1 -E 'socket|connect|loss' "$tmp/said")" \
    "sudo ip link set lo up; ping with sudo, or sudo sysctl net.ipv4.ping_group_range='0 2147483647' (icmp(7))"

wants=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repo/Cargo.toml")
try cargo --version || :
version=$(sed -n 's/^cargo \([0-9.]*\).*/\1/p' "$tmp/said")
if [ -z "$version" ]; then
    problem "cargo: $said" 'install Rust with rustup; sudo has its own PATH: build as yourself, then sudo the program'
elif [ "$(printf '%s\n' "$version" "$wants" | sort -V | head -n 1)" != "$wants" ]; then
    problem "cargo $version: this workspace needs Rust $wants" 'rustup update; a distribution can be too old'
fi
echo 'int main(void) { return 0; }' >"$tmp/main.c"
try cc -o "$tmp/main" "$tmp/main.c" || problem "C linker, which rustc calls: $said" \
    'Debian, Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc glibc-devel; Arch: pacman -S gcc'
target=${CARGO_TARGET_DIR:-$repo/target}
for path in "$target" "$target/debug" "$target/debug/.cargo-lock"; do
    if [ -w "$path" ] || [ ! -e "$path" ]; then continue; fi
    problem "$path belongs to uid $(stat -c %u "$path"): not writable" \
        "sudo chown -R $(id -u) $target, or CARGO_TARGET_DIR=~/target cargo build"
    break
done

bin=''
for dir in "$target/release" "$target/debug" "${STAGE_BIN_DIR-}"; do [ ! -e "$dir/stage5-net" ] || bin=$dir; done

results() { # for root or user: prints each result, and collects them for the table
    who=$1 as=''
    # setpriv(1) has root's rights until execve(2) has found the stage, so the checkout may be closed to others.
    [ "$who" = "$caller" ] || as='setpriv --reuid=65533 --regid=65533 --clear-groups --'
    for stage in 1-uts 2-user 3-pid 4-mount 5-net; do
        name=stage$stage result=works
        case $stage in [45]*) set -- ${rootfs:+--rootfs "$rootfs"} true ;; *) set -- true ;; esac
        if [ "$who $name" = 'user stage1-uts' ]; then
            result='no: needs root'
        elif [ ! -x "$bin/$name" ]; then
            result='untried: not built (cargo build)'
        elif ! try $as true; then
            result='untried: root cannot become user 65533'
        elif try $as "$bin/$name" "$@"; then
            line ok "$who: $name"
        else
            # A stage prints "program: call(...): ERRNO: text" and "hint: ...", perhaps a note before.
            result=$(sed -n "s/^$name: .*: \(E[A-Z0-9]*\): .*/no: \1/p" "$tmp/said" | head -n 1)
            said=$(grep -m 1 "$name: " "$tmp/said" || echo "$name: $said")
            way=$(sed -n 's/^hint: //p' "$tmp/said" | head -n 1)
            problem "$who: $said" "${way:-none known: please report this, with the whole output of this script}"
        fi
        echo "${result:-no: see above}" >>"$tmp/$who"
    done
}

container() { # the child of stage $1 in another network namespace
    ps -o pid= --ppid "$1" | while read -r process; do
        [ "$(readlink "/proc/$process/ns/net")" = "$(readlink /proc/self/ns/net)" ] || echo "$process"
    done
}
start() { # a container on the host's network, with its output in file $1; waits for its command
    : >"$1"
    "$bin/stage5-net" --net host sh -c 'echo ready; exec sleep 30' </dev/null >"$1" 2>&1 &
    started="$started $!" i=0
    until grep -q ready "$1" || [ $i = 100 ]; do i=$((i + 1)); sleep 0.1; done
}
# Each forward chain with the policy drop has to accept a packet, or else each one.
forward_chains() {
    nft list ruleset 2>/dev/null | awk '$1 == "table" { table = $2 " " $3 } $1 == "chain" { chain = $2 }
        /hook forward/ && table !~ /^ip stage5-/ { all = all table " " chain "\n"; if (/policy drop/) drops = drops table " " chain "\n" }
        END { printf "%s", drops ? drops : all }' >"$tmp/chains"
    [ -s "$tmp/chains" ] || echo 'ip filter FORWARD' >"$tmp/chains" # the older kind of iptables, or no nft(8)
    cat "$tmp/chains"
}
# With br_netfilter (Docker loads it) the packets that a bridge forwards pass the FORWARD chain too. Rules
# have many shapes, so this sends a packet.
packet_filter() {
    start "$tmp/first"; from=$(container $!)
    start "$tmp/second"; to=$(container $!)
    address=$(nsenter --net="/proc/$to/ns/net" ip -4 -o addr show dev veth1 | sed 's/.*inet \([0-9.]*\).*/\1/') || :
    if [ -z "$from" ] || [ -z "$address" ]; then
        line untried "packet filter: two containers do not start ($(cat "$tmp/first" "$tmp/second"))"
    elif try nsenter --net="/proc/$from/ns/net" ping -c 2 -W 1 "$address"; then
        line ok 'root: packets pass between two containers'
    else
        line PROBLEM 'root: the packet filter drops packets between two containers'
        forward_chains | while read -r chain; do
            rule='iifname br0 oifname br0'
            case $chain in bridge*) rule="iifname 'veth*' oifname 'veth*'" ;; esac # there, the ports
            if [ "$chain" = 'ip filter FORWARD' ] && has iptables; then
                hint 'sudo iptables -I FORWARD -i br0 -o br0 -j ACCEPT (undo: the same with -D)'
            else
                hint "sudo nft insert rule $chain $rule accept (undo: sudo nft delete rule $chain handle N; sudo nft -a list ruleset shows N)"
            fi
        done
    fi
    stop
}

# A packet to 192.0.2.1, which no machine has, gets as far as the table of --nat, behind the rules of others.
# Only that table answers "protocol unreachable".
way_out() {
    if ! try "$bin/stage5-net" --net host --nat bash -c 'exec 3<>/dev/udp/192.0.2.1/9
            for i in 1 2 3 4 5; do echo >&3 || exit 0; sleep 0.2; done; echo no answer'; then
        said=$(grep -m 1 'stage5-net: ' "$tmp/said" || echo "$said")
        problem "root: --nat: $said" "$(sed -n 's/^hint: //p' "$tmp/said" | grep . || echo 'none known')"
    elif grep -q 'Protocol not available' "$tmp/said"; then
        line ok 'root: --nat: packets get out'
    else
        line PROBLEM 'root: --nat: the packet filter drops packets from the bridge to other links'
        forward_chains | grep -v ^bridge | while read -r chain; do
            if [ "$chain" = 'ip filter FORWARD' ] && has iptables; then
                hint 'sudo iptables -I FORWARD -i br0 -j ACCEPT (undo: the same with -D)'
                hint 'sudo iptables -I FORWARD -o br0 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT (undo: the same with -D)'
            else
                for rule in 'iifname br0' 'oifname br0 ct state established,related'; do
                    hint "sudo nft insert rule $chain $rule accept (undo: sudo nft delete rule $chain handle N; sudo nft -a list ruleset shows N)"
                done
            fi
        done
    fi
}

[ "$caller" = user ] || results root
results user
if [ "$caller" = root ] && [ "$(tail -n 1 "$tmp/root")" = works ] && has ping && has ip; then
    packet_filter
else
    line untried 'packet filter: needs root, a working stage 5, ip and ping'
fi
if [ -n "$nat" ] && [ "$(tail -n 1 "$tmp/$caller")" != works ]; then
    line untried '--nat: stage 5 does not work'
elif [ -n "$nat" ] && [ "$caller" = root ]; then
    way_out
elif [ -n "$nat" ] && try "$bin/stage5-net" --nat true; then
    line ok 'user: --nat'
elif [ -n "$nat" ]; then
    problem "user: --nat: $said" "$(sed -n 's/^hint: //p' "$tmp/said" | grep . || echo 'none known')"
fi

[ "$caller" = root ] || yes 'untried: run this with sudo' | head -n 5 >"$tmp/root"
echo
printf '\troot\tordinary user\n' >"$tmp/table"
printf 'stage%s\n' 1-uts 2-user 3-pid 4-mount 5-net | paste - "$tmp/root" "$tmp/user" >>"$tmp/table"
awk -F '\t' 'NR == FNR { if (length($2) > width) width = length($2); next }
    { printf "%-12s  %-" width "s  %s\n", $1, $2, $3 }' "$tmp/table" "$tmp/table"
! tail -n 4 "$tmp/$caller" | grep -qv '^works$'
