#!/usr/bin/env bash
# Makes machines that are sick in known ways, and checks what scripts/doctor.sh prints; --help shows more.
# Code for other shells stands in single quotes.
# shellcheck disable=SC2016
set -eu

case ${1-} in
-h | --help)
    cat <<'END'
Make machines that are sick in known ways, and check that scripts/doctor.sh finds out.

  sudo scripts/tests/doctor.sh              all cases
  sudo scripts/tests/doctor.sh 'seccomp'    the cases with this text in their names

  STAGE_BIN_DIR  (environment) directory of the stages (default: target/debug)

Needs root. Each case has its own mounts and network, so this machine stays as it is. Prints a line
for each case, and the output of those that fail. A case that this machine does not allow is skipped
with its reason; where CI is set, that is a failure.
END
    exit ;;
esac
only=${1-}
((EUID == 0)) || { echo 'doctor.sh: the tests need root' >&2; exit 1; }
export LC_ALL=C
umask 022
repo=$(cd "$(dirname "$0")/../.." && pwd -P)
# Not in /tmp, which each case has to itself.
top=$(mktemp -d /var/tmp/doctor-test.XXXXXX)
group=/sys/fs/cgroup/pids # of version 1: cgroups(7)
[[ -d $group ]] || group=/sys/fs/cgroup
group=$group/doctor-test-$$
trap '[[ ! -d $group ]] || rmdir "$group"; rm -rf --one-file-system "$top"' EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$top/checkout/scripts" "$top/checkout/target/debug"
cp "$repo/scripts/doctor.sh" "$top/checkout/scripts"
cp "$repo/Cargo.toml" "$top/checkout"
install -m 755 "${STAGE_BIN_DIR:-$repo/target/debug}"/stage[1-5]-*[a-z] "$top/checkout/target/debug"
chmod 755 "$top"
unset STAGE_BIN_DIR CARGO_TARGET_DIR
script=$top/checkout/scripts/doctor.sh

# Runs doctor.sh on a host of its own: $prepare is what its root does before, $under the words before it.
doctor() {
    unshare -nm --kill-child -f sh -euc 'ip link set lo up; mount -t tmpfs -o mode=1777 tmpfs /tmp; eval "$1"; shift
        ip -o link >/tmp/before; set +e; "$@"; status=$?; ip -o link | diff /tmp/before - || status=99; ls -d /tmp/tmp.* 2>/dev/null
        exit $status' sh "$prepare" env "PATH=$stubs:$PATH" timeout -k 1 120 "${under[@]}" "$script" "${arguments[@]}" \
        </dev/null >"$out" 2>&1 || status=$?
}
says() { grep -qE -- "$1" "$out" || { echo "does not print: $1"; return 1; }; }
says_not() { ! grep -E -- "$1" "$out" || { echo "prints: $1"; return 1; }; }
# Its problem, the line below with the hint, the exit status; the stages that fail for root and for users.
problem() {
    grep -E -A 1 -- "^PROBLEM  $1" "$out" | grep -qE -- "^ +hint: .*$2" || { echo "not: $1, hint: $2"; return 1; }
}
stages() { # the columns for root and for users: a letter each for works, no, untried
    local table
    table=$(tail -n 5 "$out" | awk -F '  +' '{ root = root substr($2, 1, 1); user = user substr($3, 1, 1) } END { print root, user }')
    [[ $table == "$1 $2" ]] || { echo "table: $table, not $1 $2"; return 1; }
}
stub() { # NAME, SCRIPT: a program in front of the real one, which is $real
    printf '#!/bin/sh\nreal=%s\n%s\n' "$(command -v "$1")" "$2" >"$stubs/$1"
    chmod 755 "$stubs/$1"
}
passed=0 failed=0 number=0
# NAME, PREPARATION, STATUS, the checks as code; in them $under and stubs come from SETUP.
try() {
    local name=$1 expected=$3 said
    [[ $name == *"$only"* ]] || return 0
    number=$((number + 1)) status=0 under=(env) arguments=() prepare=$2
    stubs=$top/$number out=$top/$number/out
    mkdir "$stubs"
    eval "${5-}"
    doctor
    if said=$({ ((status == expected)) || { echo "exit status $status"; exit 1; }; eval "$4"; } 2>&1); then
        passed=$((passed + 1))
        echo "ok $name"
    else
        failed=$((failed + 1))
        printf 'FAIL %s\n    %s\n' "$name" "$said"
        sed 's/^/    > /' "$out"
    fi
}
skip() { echo "skip $1"; [[ -z ${CI-} ]] || failed=$((failed + 1)); }
# A seccomp filter that refuses a call with an errno, as a container's runtime does: NUMBER, FLAGS, ERRNO.
cat >"$top/filter.pl" <<'END'
my ($number, $flags, $errno, @command) = @ARGV;
my @code = ([0x20, 0, 0, 0], [0x15, 0, 3, $number], [0x20, 0, 0, 16], hex $flags ? [0x45, 0, 1, hex $flags] : [0x45, 0, 0, 0], [6, 0, 0, 0x50000 | $errno], [6, 0, 0, 0x7fff0000]);
my $code = join "", map { pack "SCCL", @$_ } @code;
syscall(`uname -m` =~ /x86_64/ ? 317 : 277, 1, 0, pack "S x6 P", scalar @code, $code) == 0 or die "seccomp: $!";
exec @command or die
END
filter() { # CALL, FLAGS (0: always), ERRNO
    local call=$1
    case $(uname -m),$call in x86_64,clone) call=56 ;; x86_64,mount) call=165 ;; *,clone) call=220 ;; *,mount) call=40 ;; *) call=442 ;; esac
    under=(perl "$top/filter.pl" "$call" "$2" "$3")
}

healthy='says_not "^(PROBLEM|untried)" && says "ok +root: packets pass" && stages wwwww nwwww'
try 'nothing is wrong' : 0 "$healthy"
try 'nothing is wrong: an ordinary user calls' : 0 'says "^untried  packet filter" && stages uuuuu nwwww && says "untried: run this with sudo  no: needs root"' \
    'under=(setpriv --reuid=65520 --regid=65520 --clear-groups)'

for kind in user pid net; do
    case $kind in user) table='wnnnn nuuuu' ;; pid) table='wwnnn nuuuu' ;; net) table='wwwwn nuuuu' ;; esac
    try "limit: user.max_${kind}_namespaces is 0" : 1 "problem '.*ENOSPC' 'sysctl user.max_${kind}_namespaces=' && stages $table" \
        "under=(unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_${kind}_namespaces; exec \"\$@\"' sh)"
done
if mkdir "$group" 2>/dev/null && [[ -e $group/pids.max ]]; then
    echo 2 >"$group/pids.max"
    cp "$top/checkout/target/debug/stage5-net" "$top"
    printf '#!/bin/sh\n[ ! -w %s ] || echo $$ >%s\nexec %s/stage5-net "$@"\n' "$group/cgroup.procs" "$group/cgroup.procs" "$top" >"$top/wrapper"
    chmod 755 "$top/wrapper"
    try 'limit: processes of a control group' "mount --bind $top/wrapper $top/checkout/target/debug/stage5-net" 1 \
        'problem "root: stage5-net.*EAGAIN" "pids.max. allows 2 processes" && stages wwwwn nwwww'
else
    skip 'limit: processes of a control group: no such controller'
fi

sysctl() { echo "mkdir /tmp/kernel; echo $2 >/tmp/kernel/$1; mount --bind /tmp/kernel /proc/sys/kernel"; }
try 'AppArmor, by its sysctl and by a refused mount (simulated)' "$(sysctl apparmor_restrict_unprivileged_userns 1)" 1 \
    'says "^note +AppArmor" && problem "user: stage3-pid: mount.*EPERM" "AppArmor takes all capabilities.*_userns=0" && stages wwnnn nwnnn' 'filter mount ffffffff 1'
try 'user namespaces are for root only (simulated)' "$(sysctl unprivileged_userns_clone 0)" 1 \
    'problem "user: stage2-user.*EPERM" "unprivileged_userns_clone=1" && problem "root: stage2-user.*EPERM" seccomp && stages wnnnn nnnnn' 'filter clone 10000000 1'
try 'seccomp: no namespaces' : 1 'problem "root: stage1-uts.*EPERM" "seccomp=unconfined" && stages nnnnn nnnnn' 'filter clone 7e020000 1'
try 'an old kernel: no mount_setattr' : 1 'problem "root: stage4-mount: mount_setattr.*ENOSYS" "Linux 5.12" && stages wwwnn nwwnn' 'filter mount_setattr 0 38'
try 'no id is mapped' : 1 'problem "user: stage2-user.*EPERM" "not mapped"' 'under=(unshare -U)'
try 'root without CAP_SYS_ADMIN' : 0 'problem "root: stage1-uts" "cap-add SYS_ADMIN" && stages nwwww nwwww' 'under=(setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin)'
try 'root without CAP_NET_ADMIN' : 1 'problem "root: stage5-net" "CAP_NET_ADMIN.*--net private" && stages wwwwn nwwww' 'under=(setpriv --bounding-set=-net_admin --inh-caps=-net_admin)'
try 'a chroot' 'mkdir /tmp/new; for d in /*; do case $d in /tmp) mkdir -m 1777 /tmp/new/tmp ;; *) if [ -L $d ]; then cp -P $d /tmp/new; elif [ -d $d ]; then
    mkdir /tmp/new$d; mount --rbind $d /tmp/new$d; fi ;; esac; done' 1 'problem "root: stage2-user.*EPERM" chroot && stages wnnnn nnnnn' 'under=(chroot /tmp/new)'
try '/proc: a part is hidden' 'mount -t tmpfs tmpfs /proc/irq' 1 'problem "root: stage3-pid: mount.*EPERM" "/proc/irq.*systempaths=unconfined" && stages wwnnn nwnnn'
try '/proc: read-only' 'mount -o remount,bind,ro /proc' 1 'problem "root: stage2-user: .*EROFS" "outside of it" && stages wnnnn nnnnn'
try '/proc: of another PID namespace' 'unshare -pf mount -t proc proc /proc' 1 'problem "root: stage2-user.*ENOENT" "mount -t proc"'

try 'missing: brctl' "mount --bind /dev/null $(realpath "$(command -v brctl)")" 0 'problem "brctl is missing" "apt-get install bridge-utils.*dnf install"'
try 'missing: setpriv' "mount --bind /dev/null $(realpath "$(command -v setpriv)")" 0 'problem "setpriv is missing" util-linux && stages wwwww nuuuu'
try 'cargo: too old' : 0 'problem "cargo 1.63.0: this workspace needs Rust [0-9]" rustup' "stub cargo 'echo cargo 1.63.0'"
try 'cargo: missing' : 0 'problem "cargo: .*no toolchain" rustup' "stub cargo 'echo no toolchain; exit 1'"
try 'C linker: no C library' : 0 'problem "C linker.*crt1.o" "libc6-dev"' "stub cc 'echo ld: cannot find crt1.o; exit 1'"
try 'not built' "mount -t tmpfs tmpfs $top/checkout/target" 1 'says "untried: not built .cargo build." && stages uuuuu nuuuu && says_not "^PROBLEM"'
try 'the checkout: closed to others' "chmod 700 $top/checkout" 0 "$healthy"
chmod 755 "$top/checkout"
try 'the checkout: target belongs to root' : 0 'problem "$top/checkout/target belongs to uid 0" "chown -R 65520"' 'under=(setpriv --reuid=65520 --regid=65520 --clear-groups)'
try 'WSL 1 (simulated)' : 0 'problem "WSL1 has no" "set-version"' "stub uname 'case \$* in -r) echo 4.4.0-19041-Microsoft ;; *) exec \$real \"\$@\" ;; esac'"
try 'WSL 2 (simulated)' : 0 'says "^ok +here: .*, in WSL2$"' "stub uname 'case \$* in -r) echo 5.15.90.1-microsoft-standard-WSL2 ;; *) exec \$real \"\$@\" ;; esac'"

root='mkdir -p /tmp/rootfs; cd /tmp/rootfs; mkdir bin proc tmp dev .old_root etc; cp /bin/busybox bin/true; cp /bin/busybox bin/sh; cp /bin/busybox bin/sleep'
try 'root file system: a good one' "$root" 0 "$healthy"
try 'root file system: no program' "$root; rm bin/true" 1 'problem "root: stage4-mount: exec.*ENOENT" "." && stages wwwnn nwwnn'
try 'root file system: of another architecture' "$root; for f in bin/*; do printf '\050\000' | dd of=\$f bs=1 seek=18 conv=notrunc status=none; done" 1 \
    'problem "root: stage4-mount: exec.*ENOEXEC" processor'
try 'root file system: mounted noexec' "$root; mount -o remount,noexec /tmp" 1 'problem "root: stage4-mount: exec.*EACCES" "noexec" && stages wwwnn nwwnn'
try 'root file system: without .old_root' "$root; rmdir .old_root; chmod 755 ." 0 'says "."'

try "network: another program's br0" 'ip link add br0 type bridge' 1 'problem "root: stage5-net.*EEXIST" "--bridge" && stages wwwwn nwwww'
try 'network: an address in the subnet' 'ip link add x type bridge; ip addr add 172.20.0.1/16 dev x' 1 'problem "root: stage5-net" "--bridge-addr" && stages wwwwn nwwww'
try 'network: lo is down' 'ip link set lo down' 0 'problem "ping .*(unreachable|loss)" "lo up"'
try 'network: ping has no right' 'echo 1 0 >/proc/sys/net/ipv4/ping_group_range' 0 'problem "ping .*not permitted" ping_group_range' \
    'under=(setpriv --reuid=65520 --regid=65520 --clear-groups --no-new-privs)'
# What the hint prints must help.
helps='problem "root: the packet filter drops" . && prepare="$prepare; $(sed -n "s/^ *hint: sudo \(.*accept\|.*ACCEPT\) (undo.*/\1/Ip" "$out")" && doctor && '"$healthy"
if [[ -w /proc/sys/net/bridge/bridge-nf-call-iptables ]]; then
    netfilter='echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables'
    try 'packet filter: the policy of iptables' "$netfilter; iptables -P FORWARD DROP" 0 "$helps"
    try 'packet filter: a rule of iptables' "$netfilter; iptables -A FORWARD -p icmp -j DROP" 0 "$helps"
    try 'packet filter: nft' "$netfilter; nft add table inet f; nft 'add chain inet f forward {type filter hook forward priority 0; policy drop;}'" 0 "$helps"
else
    skip 'packet filter: br_netfilter is not loaded'
fi
try 'packet filter: nft, in the bridge' "nft add table bridge f; nft 'add chain bridge f forward {type filter hook forward priority -200; policy drop;}'" 0 "$helps"

uplink='ip link add eth0 type veth peer name far; ip addr add 198.51.100.9/24 dev eth0; ip link set eth0 up; ip link set far up; ip route add default via 198.51.100.1'
helps='problem "root: --nat: the packet filter drops" . && prepare="$prepare; $(sed -n "s/^ *hint: sudo \(.*\) (undo.*/\1/p" "$out")" && doctor && says "ok +root: --nat: packets get out"'
nat='arguments=(--nat)'
try 'the way out: nothing is wrong' "$uplink" 0 'says "ok +root: --nat: packets get out" && says_not "^PROBLEM"' "$nat"
try 'the way out: no default route' : 0 'problem "root: --nat: .*no default route" "ip route"' "$nat"
try 'the way out: the policy of iptables' "$uplink; iptables -P FORWARD DROP" 0 "$helps" "$nat"
try 'the way out: reject, by nft' "$uplink; nft add table inet f; nft 'add chain inet f forward {type filter hook forward priority 10;}'; nft add rule inet f forward reject" 0 "$helps" "$nat"

echo "doctor.sh: $passed passed, $failed failed"
((failed == 0))
