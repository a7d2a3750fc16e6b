#!/usr/bin/env bash
# Tests of scripts/doctor.sh; --help says how.
# Code for other shells stands in single quotes, and cases are called by name.
# shellcheck disable=SC2016,SC2317,SC2329
set -eu

if [[ ${1-} == --help || ${1-} == -h ]]; then
	cat <<'END'
Make the causes of what may go wrong, and check that scripts/doctor.sh names them.

  sudo scripts/tests/doctor.sh              all
  sudo scripts/tests/doctor.sh 'seccomp'    the cases whose names have this in them

Needs root, to make the causes, all of them in namespaces. Where the stages are built
(STAGE_BIN_DIR, or target/debug), they are run under the same circumstances, too, and the table
at the end of what doctor.sh prints must say what they did. "simulated" in the name of a case says
that this machine has no such cause, and that a program was told to fail in its place.

Prints a line for each case, and the output of those that fail. A case that this machine does not
allow is skipped with its reason; where CI is set, that is a failure.
END
	exit
fi
only=${1-}
((EUID == 0)) || { echo 'doctor.sh: the tests take root' >&2; exit 1; }

export LC_ALL=C
umask 022
repo=$(cd "$(dirname "$0")/../.." && pwd -P)
# Not in /tmp, which some of the cases hide.
top=$(mktemp -d /var/tmp/doctor-test.XXXXXX)
cgroup=/sys/fs/cgroup/pids # of version 1, see cgroups(7)
[[ -d $cgroup ]] || cgroup=/sys/fs/cgroup
cgroup=$cgroup/doctor-test-$$
finish() {
	[[ ! -d $cgroup ]] || rmdir "$cgroup"
	rm -rf --one-file-system "$top"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
chmod 755 "$top"

# A checkout that everybody reaches. One copy of the stages is enough for all cases.
mkdir -p "$top/checkout/scripts" "$top/checkout/target/debug"
cp "$repo/scripts/doctor.sh" "$top/checkout/scripts/"
cp "$repo/Cargo.toml" "$top/checkout/"
stages=${STAGE_BIN_DIR:-$repo/target/debug} built=''
if [[ -x $stages/stage5-net ]]; then
	built=yes
	install -s -m 755 "$stages"/stage[1-5]-{uts,user,pid,mount,net} "$top/checkout/target/debug/" 2>/dev/null || true
	[[ -x $top/checkout/target/debug/stage5-net ]] || { echo 'doctor.sh: cannot copy the stages' >&2; exit 1; }
else
	# What stands for them has nothing but --help.
	printf '#!/bin/sh\n' >"$top/checkout/target/debug/stage1-uts"
	chmod 755 "$top/checkout/target/debug/stage1-uts"
	echo "not built: $stages; the stages are not laid beside what doctor.sh says" >&2
fi
unset STAGE_BIN_DIR CARGO_TARGET_DIR
script=$top/checkout/scripts/doctor.sh

# ---------------------------------------------------------------- what the cases use

# What runs under the circumstances of a case: doctor.sh, then the stages.
cat >"$top/both" <<'END'
#!/bin/sh
# both CASE-DIR CHECKOUT [ARG]...
t=$1 checkout=$2; shift 2
# One with all its descendants, and bounded; what is left of it would be seen afterwards.
status=0
timeout -k 1 120 sh "$checkout/scripts/doctor.sh" "$@" >"$t/out" 2>&1 </dev/null || status=$?
if [ "$(id -u)" = 0 ]; then caller=root; else caller=user; fi
echo "doctor $caller $status" >"$t/status"
stage() { # whom, its prefix
	for stage in 2-user 3-pid 4-mount 5-net; do
		[ -x "$checkout/target/debug/stage$stage" ] || continue
		given=''
		case $stage in [45]*) [ -z "$*" ] || given=yes ;; esac
		code=0
		# $prefix is words
		timeout -k 1 20 $prefix "$checkout/target/debug/stage$stage" ${given:+"$@"} /bin/sh -c : \
			>>"$t/stages" 2>&1 </dev/null || code=$?
		echo "$who $stage $code" >>"$t/status"
	done
}
# The ordinary user first, since root could make a directory that the other may not.
if [ "$caller" = user ]; then
	who=user prefix='' && stage "$@"
elif setpriv --reuid=65533 --regid=65533 --clear-groups true 2>/dev/null; then
	who=user prefix='setpriv --reuid=65533 --regid=65533 --clear-groups' && stage "$@"
fi
[ "$caller" = user ] || { who=root prefix='' && stage "$@"; }
END
chmod 755 "$top/both"

as_user=(setpriv --reuid=65520 --regid=65520 --clear-groups)
# A network that is like a machine's, and a /tmp in which nobody else has anything.
host=(unshare -nm --kill-child -f sh -euc 'ip link set lo up; mount -t tmpfs -o mode=1777 tmpfs /tmp; exec "$@"' sh)
checkout=$top/checkout
runs() { # how, with $wrap around; the rest are arguments of doctor.sh
	(cd / && "${host[@]}" env "TMPDIR=$t/tmp" "PATH=$stubs:$PATH" "${wrap[@]}" "$top/both" "$t" "$checkout" "$@") >"$t/log" 2>&1
}
prepared() { wrap=(sh -euc "$1"$'\n''exec "$@"' sh "${@:2}"); } # what happens in the host's namespaces before
as_user() { wrap+=("${as_user[@]}"); }
says() { grep -qE -- "$1" "$t/out" || { echo "does not say: $1"; return 1; }; }
says_not() { ! grep -E -- "$1" "$t/out" || { echo "says: $1"; return 1; }; }
# That it has a PROBLEM of this kind with this cause, and says what to do and how to undo it.
names() { # check, cause; way out, undo
	awk -v check="$1" -v cause="$2" -v way="${3-.}" -v undo="${4-.}" '
		/^PROBLEM/ { seen = $0 ~ "^PROBLEM  " check; c = w = 0 }
		seen && /^ +cause: / { c = $0 ~ cause }
		seen && /^ +way out: / { w = $0 ~ way }
		seen && /^ +undo: / && $0 ~ undo && c && w { found = 1 }
		END { exit !found }' "$t/out" || { echo "does not name: $*"; return 1; }
}
# The table has a column for root and one for users, two blanks apart.
told() { # whom, stage
	awk -F '  +' -v stage="stage$2" -v column="$([[ $1 == root ]] && echo 2 || echo 3)" '$1 == stage { print $column }' "$t/out"
}
# The table says "works" where the stage worked, and nowhere else; and so does the exit status.
agrees() {
	local who stage code word result=0 caller='' mine=0 any=''
	while read -r who stage code; do
		if [[ $who == doctor ]]; then
			caller=$stage mine=$code
			continue
		fi
		any=yes
		word=$(told "$who" "$stage")
		case $word in
		works) ((code == 0)) || { echo "stage$stage does not work for $who: $code"; result=1; } ;;
		no:*) ((code != 0)) || { echo "stage$stage works for $who"; result=1; } ;;
		untried:*) ;;
		*) echo "nothing is said of stage$stage for $who"; result=1 ;;
		esac
		[[ $who != "$caller" || $code == 0 ]] || ((mine == 1)) || { echo "exit status $mine"; result=1; }
	done <"$t/status"
	[[ -z $built || -n $any ]] || { echo 'no stage was run'; result=1; }
	return $result
}
exits() { grep -qxE "doctor (root|user) $1" "$t/status" || { echo "exit status is not $1"; return 1; }; }
no_problem() { says_not '^(PROBLEM|untried)'; }

stub() { # name, its script; the real one is $real
	printf '#!/bin/sh\nreal=%s\n%s\n' "$(command -v "$1")" "$2" >"$stubs/$1"
	chmod 755 "$stubs/$1"
}
# Has unshare(1) of ordinary users end as the kernel would have it end.
refuse() { # call, how it is injected, pattern of unshare's arguments
	stub unshare '[ "$(id -u)" != 0 ] || exec $real "$@"
case " $* " in '"$3"') exec strace -qq -o /dev/null -e trace='"$1 -e inject=$1:$2"' $real "$@" ;; *) exec $real "$@" ;; esac'
}
# Files that are not executable any more, wherever they are in PATH: /dev/null over them.
hide() {
	local name dir file
	for name in "$@"; do
		while IFS= read -r dir; do
			[[ ! -e $dir/$name ]] || { file=$(realpath "$dir/$name"); printf 'mount --bind /dev/null %q\n' "$file"; }
		done < <(tr : '\n' <<<"$PATH:/usr/sbin:/sbin")
	done | sort -u
}
sysctl_file() { # name, value: a /proc/sys/kernel that has it, and nothing else
	mkdir "$t/kernel"
	echo "$2" >"$t/kernel/$1"
	prepared "mount --bind $t/kernel /proc/sys/kernel"
}
# A seccomp filter, as a container's: NAME=ERRNO refuses a call, NAME/MASK=ERRNO if it has a flag.
filtered() {
	printf '%s\n' '
use strict;
my %nr = do { my $m = `uname -m`; $m =~ /x86_64/
	? (unshare => 272, clone => 56, pivot_root => 155, mount_setattr => 442, close_range => 436, seccomp => 317, mount => 165)
	: (unshare => 97, clone => 220, pivot_root => 41, mount_setattr => 442, close_range => 436, seccomp => 277, mount => 40) };
my ($rules, @command) = @ARGV;
my @code = ([0x20, 0, 0, 0]);                                        # the number of the call
for (split " ", $rules) {
	my ($name, $mask, $errno) = m{^(\w+)(?:/(\w+))?=(\d+)$} or die;
	if ($mask) {
		push @code, [0x15, 0, 4, $nr{$name}], [0x20, 0, 0, 16], [0x45, 0, 1, hex $mask],
			[0x06, 0, 0, 0x50000 | $errno], [0x06, 0, 0, 0x7fff0000];
	} else {
		push @code, [0x15, 0, 1, $nr{$name}], [0x06, 0, 0, 0x50000 | $errno];
	}
}
push @code, [0x06, 0, 0, 0x7fff0000];
my $code = join "", map { pack "SCCL", @$_ } @code;
my $program = pack "S x6 P", scalar @code, $code;
syscall($nr{seccomp}, 1, 0, $program) == 0 or die "seccomp: $!";
exec @command or die' >"$t/filter.pl"
	wrap=(perl "$t/filter.pl" "$@")
}

links() { ip -o link; ip -4 -o addr; cat /proc/sys/net/bridge/* 2>/dev/null || true; }
passed=0 failed=0 number=0
try() { # name of the case, its function and arguments
	[[ $1 == *"$only"* ]] || return 0
	local result
	number=$((number + 1))
	t=$top/$number stubs=$t/stubs wrap=(env)
	mkdir "$t" "$stubs" "$t/tmp"
	chmod 1777 "$t/tmp" "$t"
	links >"$top/links"
	cut -d ' ' -f 4- /proc/self/mountinfo >"$top/mounts"
	set +e
	(
		set -e
		"${@:2}"
	) >"$top/said" 2>&1
	result=$?
	set -e
	{
		find "$t/tmp" -mindepth 1 -printf 'left behind: %p\n'
		links | diff "$top/links" -
		cut -d ' ' -f 4- /proc/self/mountinfo | diff "$top/mounts" -
		# Nothing runs on, once those that were told so (40 times sleep) have ended.
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			left=$(grep -lsaF "$t" /proc/[0-9]*/environ | grep -v "^/proc/$$/" || true)
			[[ -n $left ]] || break
			sleep 0.2
		done
		[[ -z $left ]] || echo "still running: $left"
	} >"$top/left" 2>&1 || true
	if ((result == 0)) && [[ ! -s $top/left ]]; then
		passed=$((passed + 1))
		echo "ok $1"
	else
		failed=$((failed + 1))
		echo "FAIL $1"
		sed 's/^/    /' "$top/said" "$top/left"
		for f in log out status stages; do [[ ! -e $t/$f ]] || sed "s/^/    $f> /" "$t/$f"; done
	fi
	rm -rf --one-file-system "$t"
}
skip() {
	[[ $1 == *"$only"* ]] || return 0
	echo "skip $1"
	[[ -z ${CI-} ]] || failed=$((failed + 1))
}
need() { # program, name of the case: whether it can be
	command -v "$1" >/dev/null || { skip "$2: $1 is missing"; return 1; }
}

# ---------------------------------------------------------------- without any cause

healthy() { # nothing is wrong here, and all stages work
	runs "$@" && exits 0 && no_problem && agrees && [[ $(told root 1-uts) == works ]]
}
healthy_user() {
	mine=$t/mine
	cp -r "$top/checkout" "$mine" && chown -R 65520:65520 "$mine"
	checkout=$mine
	stub cargo 'echo "cargo 1.99.0 (0 1970-01-01)"' # that of root may be out of reach
	as_user
	runs && exits 0 && no_problem && agrees && [[ $(told root 2-user) == untried* ]]
}
help() {
	for option in -h --help; do
		"$script" $option >"$t/out" && says '^Usage: doctor.sh' && ! grep -nE '.{101}' "$t/out" || return
	done
	! "$script" --no-such >"$t/out" 2>&1 && says "unknown argument '--no-such'" &&
		! "$script" --rootfs >"$t/out" 2>&1 && says 'needs a directory' &&
		! "$script" --rootfs "$t/none" >"$t/out" 2>&1 && says 'no directory'
}
interrupted() { # whatever ends it, its temporary directory goes
	TMPDIR=$t/tmp "${host[@]}" timeout -s "$1" 0.3 "$script" >"$t/out" 2>&1 || true
	[[ -z $(ls -A "$t/tmp") ]]
}

# ---------------------------------------------------------------- user namespaces

limit() { # kind of namespaces, stages that are left
	wrap=(unshare -Ur sh -euc 'echo 0 >/proc/sys/user/max_'"$1"'_namespaces; exec "$@"' sh)
	# Nothing else is to blame.
	runs && exits 1 && agrees && says_not 'it is new in Linux|unknown' || return
	names 'root: ' "^ *cause: user.max_$1_namespaces is 0" "sysctl -w user.max_$1_namespaces=1000" "max_$1_namespaces=0" || return
	[[ $(told root 2-user) == "$2" ]]
}
debian() {
	refuse unshare error=EPERM '*'
	sysctl_file unprivileged_userns_clone 0
	runs && says '^ok       root: user namespace' && [[ $(told user 2-user) == 'no: user namespace' ]] &&
		names 'user: user namespace: .*not permitted' 'unprivileged_userns_clone is 0' \
			'sysctl -w kernel.unprivileged_userns_clone=1' 'unprivileged_userns_clone=0'
}
apparmor() {
	refuse write error=EPERM:when=1 '*" -Ur"*'
	sysctl_file apparmor_restrict_unprivileged_userns 1
	runs && says '^ok       root: user namespace' && [[ $(told user 3-pid) == 'no: map of ids' ]] &&
		names 'user: map of ids: .*uid_map' 'AppArmor takes all capabilities' \
			'userns=0 .*userns,' 'userns=1'
}
group_map() {
	refuse write error=EPERM:when=3 '*" -Ur"*'
	runs && [[ $(told user 2-user) == 'no: map of ids' ]] && names 'user: map of ids: .*gid_map' "'deny' to setgroups"
}
unmapped() {
	wrap=(unshare -U)
	runs && exits 1 && agrees && names 'user: user namespace' 'your own ids are not mapped' 'exit'
}
half_mapped() { # "user" or "group", and who one is then
	wrap=(unshare -U "--map-$1=0")
	runs && exits 1 && agrees && names "$2: user namespace" 'your own ids are not mapped'
}
one_id() { # in which there is no ordinary user; the network is not its own, either
	wrap=(unshare -Ur)
	runs && agrees && exits 1 && says '^untried  user: .*cannot become user 65533' && says 'here: .*in a user namespace' &&
		names "root: host's network" 'no CAP_NET_ADMIN' 'net private' && [[ $(told root 4-mount) == works ]]
}
one_id_net() {
	wrap=(unshare -Urn sh -euc 'ip link set lo up; exec "$@"' sh)
	runs && agrees && exits 0
}
# A directory like / that is not /, neither by its inode nor, with "mount", as a mount point.
chrooted() { # "mount" or not, cause, what to run it under
	mkdir "$t/root"
	wrap=("${@:3}" sh -euc 't=$1 mount=$2; shift 2
		[ -z "$mount" ] || mount --bind $t/root $t/root
		for d in /*; do
			if [ -L "$d" ]; then cp -P "$d" $t/root
			elif [ "$d" = /tmp ]; then mkdir -m 1777 $t/root/tmp
			elif [ -d "$d" ]; then mkdir $t/root"$d"; mount --rbind "$d" $t/root"$d"; fi
		done
		chroot $t/root "$@"
		exit 0 # so that it is not this shell that changes its root' sh "$t" "$1")
	runs && exits 1 && agrees && names 'root: user namespace' "$2" outside
}
seccomp() { # rules, root's first stage that does not work, what is said; cause
	filtered "$1"
	runs && exits 1 && agrees && says 'under a seccomp filter' && names "$3" "${4-a seccomp filter is on this process}" &&
		[[ $(told root "$2") == no:* ]]
}
capability() { # that root has not, check, cause
	wrap=(setpriv --bounding-set="-$1" --inh-caps="-$1")
	runs && agrees && names "$2" "$3"
}

# ---------------------------------------------------------------- /proc, mounts, calls

masked() { # how, cause
	prepared "$1"
	runs && exits 1 && agrees && [[ $(told root 2-user) == works && $(told user 3-pid) == 'no: /proc'* ]] &&
		names 'root: /proc' "$2" 'docker run|outside'
}
read_only_proc() {
	prepared 'mount -o remount,bind,ro /proc'
	runs && exits 1 && agrees && names 'root: map of ids' '/proc is mounted read-only' outside
}
no_proc() {
	prepared 'umount -l /proc'
	runs && exits 1 && names 'root: /proc' '/proc is not mounted' 'mount -t proc'
}
stale_proc() { # of a PID namespace that has ended: what a shared mount leaves on the host
	prepared 'unshare -pf mount -t proc proc /proc'
	runs && exits 1 && names 'root: /proc' 'another PID namespace' 'umount -l /proc'
}
shared() { # as systemd has it; what is mounted in there must not come out
	wrap=(unshare -m --propagation shared sh -euc 'cut -d " " -f 1-6 /proc/self/mountinfo >'"$t"'/before; "$@"
		cut -d " " -f 1-6 /proc/self/mountinfo | diff '"$t"'/before - >'"$t"'/leak' sh)
	runs && exits 0 && no_problem && agrees && [[ -e $t/leak && ! -s $t/leak ]]
}
shared_inside() {
	stub unshare 'case " $* " in *" -Urpfm "*) exec $real --propagation shared "$@" ;; *) exec $real "$@" ;; esac'
	runs && exits 1 && names 'root: pivot_root: .*Invalid argument' 'mounts are shared' 'private' && [[ $(told user 4-mount) == *pivot_root ]]
}
ramfs() {
	printf '%s\n' '1 1 0:2 / / rw - rootfs rootfs rw' '20 1 0:21 / /proc rw,relatime - proc proc rw' >"$t/mountinfo"
	stub pivot_root 'echo "pivot_root: failed to change root from . to .old_root: Invalid argument" >&2; exit 1'
	stub awk 'for a; do shift; [ "$a" != /proc/self/mountinfo ] || a='"$t"'/mountinfo; set -- "$@" "$a"; done; exec $real "$@"'
	runs && exits 1 && names 'root: pivot_root: .*Invalid argument' 'initial ramfs' 'switch_root'
}
old_kernel() { # call, release, the first stage that it breaks
	filtered "$1=38"
	stub uname 'case $* in -r) echo '"$2"' ;; *) exec $real "$@" ;; esac'
	runs && exits 1 && agrees && names "root: $1: Function not implemented" "it is new in Linux .*, this is $2" 'a newer kernel' && [[ $(told root "$3") == "no: $1" ]]
}
bare_of_perl() { # with python alone, and with neither
	prepared "$(hide "$@")"
	runs && exits 0 && says_not '^PROBLEM' && agrees
}
python_finds() {
	filtered mount_setattr=38 sh -euc "$(hide perl)"$'\n''exec "$@"' sh # which perl makes, so it is hidden afterwards
	runs && exits 1 && agrees && says '^PROBLEM  root: mount_setattr'
}

# ---------------------------------------------------------------- tools, program

missing() { # tool, package
	prepared "$(hide "$1")"
	runs && names "root: $1: " 'not installed' "apt-get install .*$2.*dnf install.*pacman -S" 'apt-get remove' && ! says "not found"
}
no_setpriv() { # for the stages of ordinary users, too
	missing setpriv util-linux && exits 0 && says '^untried  user: .*setpriv'
}
cannot_try() { # tool that is needed to try
	missing "$@" && exits 1 && says '^untried' && agrees
}
busybox_unshare() {
	stub unshare 'exec busybox unshare "$@"'
	runs && exits 1 && names 'root: unshare' "busybox's" 'install util-linux' && says '^untried  root: namespaces' && agrees
}
old_cargo() {
	stub cargo 'echo "cargo 1.63.0 (0 1970-01-01)"'
	runs && exits 0 && names 'root: cargo: version 1.63.0' 'is for Rust [0-9.]+ or newer' 'rustup'
}
not_built() { # no stage and nothing to build it with
	mkdir -p "$t/mine/scripts"
	cp "$script" "$t/mine/scripts" && cp "$top/checkout/Cargo.toml" "$t/mine"
	checkout=$t/mine built=''
	"$@" && runs && exits 1 && [[ $(told root 2-user) == no:* ]]
}
without_cargo() { prepared "$(hide cargo)"; }
without_linker() { stub cc 'echo "ld: cannot find crt1.o: No such file or directory" >&2; exit 1'; }
cannot_link() {
	not_built without_linker && names 'root: C linker: .*crt1.o' 'no C library to link with' 'libc6-dev'
}
closed_home() {
	mkdir -m 700 "$t/home"
	cp -r "$top/checkout" "$t/home"
	checkout=$t/home/checkout built=''
	runs && exits 0 && names 'user: program' "$t/home is not open to others" 'target'
}
target_of_root() {
	cp -r "$top/checkout" "$t/mine" && chown 65520 "$t/mine"
	checkout=$t/mine
	as_user
	runs && exits 0 && agrees && names 'user: cargo target: .*not writable' 'target belongs to uid 0: sudo cargo' 'chown -R 65520' 'chown -R 0'
}
noexec_home() {
	prepared 'mount --bind '"$t $t"'; mount -o remount,bind,noexec '"$t"
	cp -r "$top/checkout" "$t/mine"
	checkout=$t/mine built=''
	runs && exits 1 && names 'root: program: .*ermission denied' 'mounted noexec'
}

# ---------------------------------------------------------------- the root file system

busybox_root() { # DIR, in the /tmp of the case
	mkdir -p "$1/bin" "$1/proc" "$1/tmp" "$1/dev" "$1/.old_root" "$1/etc"
	cp "$(command -v busybox)" "$1/bin/busybox"
	ln -s busybox "$1/bin/sh"
	ln -s busybox "$1/bin/true"
	chmod 755 "$1"
}
in_tmp() { # mount options, what to do in it, arguments
	busybox_root "$t/root"
	prepared 'mount -t tmpfs -o mode=1777'"$1"' tmpfs /tmp; cp -a '"$t"'/root /tmp/rootfs; cd /tmp/rootfs; '"$2"'; cd /'
	runs "${@:3}"
}
good_root() { in_tmp "$@" && exits 0 && no_problem && agrees && says '^ok       user: root file system: /tmp/rootfs'; }
bad_root() { # what to do in it, what is said, cause, way out
	in_tmp '' "$1" && exits 1 && agrees && names "root: root file system: $2" "$3" "${4-rootfs.sh}" &&
		[[ $(told root 4-mount) == 'no: root file system' && $(told root 3-pid) == works ]]
}
left_alone() { # what to do in it, for whom it is left alone, cause
	in_tmp '' "$1" && exits 0 && agrees && names "$2: rootfs: /tmp/rootfs: left alone" "$3" '--rootfs|rootfs.sh' && says "^ok       $2: root file system: none"
}
no_dev() { # which only stage 5 fills
	in_tmp '' 'rmdir dev' && exits 1 && names 'root: root file system: no directory .*/dev' incomplete rootfs.sh &&
		[[ $(told root 4-mount) == works && $(told root 5-net) == 'no: root file system' ]] && agrees
}
made_by_user() {
	left_alone 'chown 65533 .' root 'not of uid 65533' && says '^ok       user: root file system: /tmp/rootfs$'
}
no_old_root() { # which root may make, and nobody else
	in_tmp '' 'rmdir .old_root' && exits 0 && agrees &&
		names 'user: root file system: no directory .*/.old_root' 'belongs to another user' 'mkdir /tmp/rootfs/.old_root' 'rmdir' &&
		[[ $(told root 5-net) == works ]]
}
given_root() {
	busybox_root "$t/given"
	rmdir "$t/given/proc"
	runs --rootfs "$t/given" && exits 1 && agrees && names 'root: root file system: no directory .*/proc' 'incomplete'
}
noexec_tmp() {
	in_tmp ,noexec : && exits 1 && agrees && names 'root: root file system' 'mounted noexec' 'remount,exec /tmp' 'remount,noexec /tmp'
}
noexec_empty() { # then the stages work, and only a root there would not
	in_tmp ,noexec 'cd /; rm -r /tmp/rootfs' && exits 0 && agrees && names 'root: /tmp: ' 'mounted noexec' 'rootfs.sh ~/rootfs'
}
nosuid_tmp() { in_tmp ,nosuid 'cd /; rm -r /tmp/rootfs' && exits 0 && no_problem && agrees && says 'nosuid'; }

# ---------------------------------------------------------------- the network

network() { # what the host has, check, cause, way out, undo; "-" as the check: no problem
	prepared "$1"
	if [[ $2 == - ]]; then
		runs && exits 0 && no_problem && agrees
	else
		runs && agrees && names "$2" "$3" "${4-.}" "${5-.}"
	fi
}
refused_network() { network "$@" && exits 1 && [[ $(told root 5-net) == no:* && $(told user 5-net) == works ]]; }
docker='echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables; iptables -P FORWARD DROP'
no_kind() { # bridge or veth; how ip(8) says so
	stub ip 'case "$*" in *"type '"$1"'"*) echo "'"$2"'" >&2; exit 2 ;; *) exec $real "$@" ;; esac'
	built='' 
	runs && exits 1 && names "root: network: $1" "this kernel has no $1" "modprobe $1" "modprobe -r $1" && [[ $(told user 5-net) == 'no: network' ]]
}
no_pings() { # packets that vanish
	stub ping 'case "$*" in *172.20.1.2*) echo "1 packets transmitted, 0 received, 100% packet loss"; exit 1 ;; *) exec $real "$@" ;; esac'
	runs && exits 1 && names 'root: network: ping: .*loss' 'packets do not pass'
}
no_ping_right() {
	cp -r "$top/checkout" "$t/mine" && chown -R 65520 "$t/mine"
	checkout=$t/mine
	wrap=("${as_user[@]}" --no-new-privs)
	runs && exits 0 && agrees && names 'user: ping: .*not permitted' 'ping_group_range, which is ' "ping_group_range='0 2147483647'" "ping_group_range='"
}
bridge_netfilter() { [[ -w /proc/sys/net/bridge/bridge-nf-call-iptables ]]; }

# ---------------------------------------------------------------- containers, limits

in_runc() { # capabilities that it has beside its usual ones
	mkdir "$t/bundle"
	(
		cd "$t/bundle"
		runc spec
		python3 - "$t" "$checkout" "$top" "$1" <<'END'
import json, sys
t, checkout, top, added = sys.argv[1:]
spec = json.load(open("config.json"))
spec["root"] = {"path": t + "/root", "readonly": False}
spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] != "cgroup"]
process = spec["process"]
process.update(terminal=False, args=[top + "/both", t, checkout], cwd="/")
if added:
    for kind in ("bounding", "effective", "permitted"):
        process["capabilities"][kind] += added.split()
process["env"] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
process["env"] += ["TMPDIR=" + t + "/tmp"]
json.dump(spec, open("config.json", "w"))
END
	)
	mkdir "$t/root"
	"${host[@]}" sh -euc 'mount --rbind / '"$t/root"'; exec "$@"' sh runc --root "$t/runc" run --bundle "$t/bundle" "doctor-test-$$" >"$t/log" 2>&1 || true
	rm -rf "$t/runc"
	[[ -s $t/status ]] && exits 1 && agrees && says 'here: .*, in a ' &&
		names 'root: UTS namespace' 'no CAP_SYS_ADMIN' && { [[ -n $1 ]] || names 'root: map of ids' 'no CAP_SETFCAP' 'ordinary user'; } &&
		{ [[ -z $1 ]] || names 'root: /proc' 'hides parts of /proc.*: /proc/' 'docker run'; }
}
in_bwrap() { # options; then what is named
	wrap=("${as_user[@]}" bwrap --unshare-user --unshare-pid --dev-bind / / --proc /proc ${1:+"$1"} --)
	runs && agrees && says 'here: .*in a ' && { [[ -z $1 ]] || names "${@:2}"; }
}
processes() { # of a user: so many
	wrap=("${as_user[@]}" prlimit "--nproc=$1")
	built=''
	runs && exits 1 && names 'user: processes' "a user may have $1 processes .ulimit -u." 'limits.conf'
}
pids() {
	mkdir "$cgroup"
	echo 30 >"$cgroup/pids.max"
	wrap=(sh -euc 'echo $$ >'"$cgroup"'/cgroup.procs; exec "$@"' sh)
	built=''
	local result=0
	{ runs && exits 1 && names 'root: processes' "cgroup .*doctor-test.* may have 30 processes" 'pids-limit 1000' 'echo 30'; } || result=$?
	for _ in {1..50}; do rmdir "$cgroup" 2>/dev/null && return $result; sleep 0.1; done # the last may not be reaped yet
	echo "left: $cgroup"
	return 1
}
wsl() { # release, name
	stub uname 'case $* in -r) echo '"$1"' ;; *) exec $real "$@" ;; esac'
	runs && exits 0 && says "^ok       here: Linux .*, in $2\$" && says_not ^PROBLEM
}
wsl_1() {
	stub uname 'case $* in -r) echo 4.4.0-19041-Microsoft ;; *) exec $real "$@" ;; esac'
	stub unshare 'case $* in *--help) exec $real "$@" ;; esac; echo "unshare: unshare failed: Invalid argument" >&2; exit 1'
	runs && exits 1 && says 'in WSL1$' && names 'root: UTS namespace' 'WSL1 has no Linux kernel' 'set-version DISTRIBUTION 2' 'DISTRIBUTION 1'
}
wsl_bridge() {
	stub uname 'case $* in -r) echo 5.15.90.1-microsoft-standard-WSL2 ;; *) exec $real "$@" ;; esac'
	stub ip 'case "$*" in *"type bridge"*) echo "Error: Unknown device type." >&2; exit 2 ;; *) exec $real "$@" ;; esac'
	runs && exits 1 && names 'root: network' 'this kernel has no bridge' 'wsl --update'
}

# ---------------------------------------------------------------- all of it

try 'nothing is wrong: root and an ordinary user' healthy
try 'nothing is wrong: the user who calls' healthy_user
try '--help, and what is wrong with arguments' help
try 'interrupted: INT' interrupted INT
try 'interrupted: TERM' interrupted TERM

for kind in uts pid mnt net ipc cgroup; do try "limit: user.max_${kind}_namespaces is 0" limit $kind "$([[ $kind == uts ]] && echo no: hostname || echo works)"; done
try 'limit: user.max_user_namespaces is 0' limit user 'no: user namespace'
if need strace 'user namespaces: simulated refusals'; then
	try 'user namespaces: unprivileged_userns_clone is 0 (simulated)' debian
	try 'user namespaces: AppArmor (simulated)' apparmor
	try 'user namespaces: gid_map and setgroups (simulated)' group_map
fi
try 'user namespaces: no map' unmapped
try 'user namespaces: a map without a group' half_mapped user root
try 'user namespaces: a map without a user' half_mapped group user
try 'user namespaces: one id, the network of the machine' one_id
try 'user namespaces: one id, a network of its own' one_id_net
try 'chroot: a plain directory' chrooted '' 'this is a chroot'
try 'chroot: a mount point, which PID 1 tells' chrooted mount 'this is a chroot' unshare -pf --mount-proc
try 'chroot: a mount point' chrooted mount 'or a chroot refuses'

try 'seccomp: no namespaces, as Docker has it' seccomp 'unshare=1 clone/7e020000=1' 1-uts 'root: UTS namespace'
try 'seccomp: no user namespaces' seccomp 'unshare/10000000=1 clone/10000000=1' 2-user 'root: user namespace'
try 'seccomp: no user namespaces, which are unknown' seccomp 'unshare/10000000=38 clone/10000000=38' 2-user 'root: user namespace'
try 'seccomp: no mount' seccomp mount=1 3-pid 'root: /proc'
try 'seccomp: no pivot_root' seccomp pivot_root=1 4-mount 'root: pivot_root'
try 'seccomp: no mount_setattr' seccomp mount_setattr=1 4-mount 'root: mount_setattr'
try 'seccomp: no close_range' seccomp close_range=1 2-user 'root: close_range'
try 'root without CAP_SYS_ADMIN' capability sys_admin 'root: UTS namespace' 'no CAP_SYS_ADMIN'
try 'root without CAP_NET_ADMIN' capability net_admin "root: host's network" 'no CAP_NET_ADMIN'

try '/proc: a directory is hidden' masked 'mount -t tmpfs tmpfs /proc/acpi 2>/dev/null || mount -t tmpfs tmpfs /proc/irq' 'hides parts of /proc.*: /proc/'
try '/proc: a file is hidden' masked 'mount --bind /dev/null /proc/timer_list' 'hides parts of /proc.*: /proc/timer_list'
try '/proc: read-only' read_only_proc
try '/proc: not mounted' no_proc
try '/proc: of a PID namespace that has gone' stale_proc
try 'mounts: shared with the machine, no problem' shared
try 'mounts: shared inside' shared_inside
try 'mounts: an initial ramfs (simulated)' ramfs
try 'an old kernel: no mount_setattr' old_kernel mount_setattr 5.10.0-8-amd64 4-mount
try 'an old kernel: no close_range' old_kernel close_range 5.4.0-26-generic 2-user
try 'perl is missing, nothing else' bare_of_perl perl
try 'perl is missing, and python finds out' python_finds
try 'perl and python are missing' bare_of_perl perl python3

try 'missing: brctl' missing brctl bridge-utils
try 'missing: busybox' missing busybox busybox-static
try 'missing: newuidmap' missing newuidmap uidmap
try 'missing: strace' missing strace strace
try 'missing: ping' missing ping iputils-ping
try 'missing: ip' cannot_try ip iproute2
try 'missing: unshare' cannot_try unshare util-linux
if need busybox 'missing: unshare of util-linux'; then
	try 'missing: unshare of util-linux' busybox_unshare
fi
try 'missing: setpriv' no_setpriv
try 'missing: pivot_root' missing pivot_root util-linux
try 'missing: cargo' missing cargo cargo
try 'missing: cargo, and the stages are not built' not_built without_cargo
try 'cargo: too old' old_cargo
try 'C linker: no C library' cannot_link
try 'the checkout: in a home that is closed' closed_home
try 'the checkout: target belongs to root' target_of_root
try 'the checkout: mounted noexec' noexec_home

if need busybox 'root file system'; then
	try 'root file system: a good one' good_root '' :
	try 'root file system: that of --rootfs lacks /proc' given_root
	try 'root file system: no /proc' bad_root 'rmdir proc' 'no directory .*/proc' incomplete
	try 'root file system: no /tmp' bad_root 'rmdir tmp' 'no directory .*/tmp' incomplete
	try 'root file system: no /dev' no_dev
	try 'root file system: no /bin/sh' bad_root 'rm bin/sh' 'no file .*/bin/sh' incomplete
	try 'root file system: a link that leads nowhere' bad_root 'ln -sf nothing bin/sh' '.*No such file' incomplete
	try 'root file system: no loader' bad_root 'rm bin/sh; cp /bin/dash bin/sh' '.*No such file' 'loaded, is missing'
	try 'root file system: of another architecture' bad_root 'printf "\050\000" | dd of=bin/busybox bs=1 seek=18 conv=notrunc status=none' '.*Exec format' 'is for ARM .32 bits., this kernel runs '
	try 'root file system: no .old_root' no_old_root
	try 'root file system: another user made it' left_alone 'chown 1234 .' root 'not of uid 1234'
	try 'root file system: the ordinary user made it' made_by_user
	try 'root file system: a link' left_alone 'cd ..; mv rootfs else; ln -s else rootfs' root 'no directory'
	try 'root file system: a file' left_alone 'cd ..; rm -r rootfs; touch rootfs' root 'no directory'
	try '/tmp: noexec, with a root in it' noexec_tmp
	try '/tmp: noexec, empty' noexec_empty
	try '/tmp: nosuid' nosuid_tmp
fi

try "network: somebody else's br0" refused_network 'ip link add br0 type bridge' 'root: br0' 'somebody else has made br0' 'bridge br1'
try "network: a br0 that is no bridge" refused_network 'ip link add br0 type dummy || ip link add br0 type veth' 'root: br0' 'somebody else has made br0' 'bridge br1'
try 'network: our br0' network 'ip link add br0 group 1275068418 type bridge; ip addr add 172.20.1.2/24 dev br0' -
try "network: somebody else's veth0" network 'ip link add veth0 type veth peer name other' 'root: veth0' 'somebody else has made veth0'
try 'network: an address in the subnet' refused_network 'ip link add x type bridge; ip addr add 172.20.1.77/32 dev x' 'root: subnet' 'address 172.20.1.77/32 of x' 'bridge-addr 172'
try 'network: a subnet around it, as of Docker' refused_network 'ip link add x type bridge; ip addr add 172.20.0.1/16 dev x' 'root: subnet' 'address 172.20.0.1/16 of x' 'bridge-addr 172'
try 'network: subnets beside it' network 'ip link add x type bridge; ip link set x up; ip addr add 172.20.0.255/24 dev x; ip addr add 172.20.2.1/24 dev x; ip route add 172.20.2.0/23 dev x metric 9' -
try 'network: a route' network 'ip link add x type bridge; ip link set x up; ip route add 172.16.0.0/12 dev x' 'root: subnet .*route' 'route 172.16.0.0/12 of x'
if ! bridge_netfilter; then
	skip 'network: FORWARD: br_netfilter is not loaded'
elif need iptables 'network: FORWARD'; then
	try 'network: Docker drops what is forwarded' network "$docker" 'root: forwarding' 'policy is DROP' 'iptables -I FORWARD -i br0 -o br0 -j ACCEPT' 'iptables -D FORWARD'
	try 'network: Docker drops it, and the rule helps' network "$docker; iptables -I FORWARD -i br0 -o br0 -j ACCEPT" -
	try 'network: Docker drops it, bridges do not ask' network "$docker; echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables" -
	if need nft 'network: nft alone'; then
		try 'network: Docker drops it, and nft alone tells' network "$docker; $(hide iptables iptables-nft iptables-legacy)" 'root: forwarding' 'policy is DROP'
	fi
fi
try 'network: lo is down' network 'ip link set lo down' 'root: ping' 'lo is down' 'lo up' 'lo down'
try 'network: ping has no right' no_ping_right
try 'network: no bridge (simulated)' no_kind bridge 'RTNETLINK answers: Operation not supported'
try 'network: no bridge, in newer words (simulated)' no_kind bridge 'Error: Unknown device type.'
try 'network: no veth (simulated)' no_kind veth 'Error: Unknown device type.'
try 'network: packets vanish (simulated)' no_pings

if need runc 'a container of runc'; then
	try 'a container of runc' in_runc ''
	try 'a container of runc, with the capabilities of Docker' in_runc 'CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_SETFCAP'
fi
if need bwrap 'a sandbox of bwrap'; then
	try 'a sandbox of bwrap' in_bwrap ''
	try 'a sandbox of bwrap without user namespaces' in_bwrap --disable-userns 'user: user namespace' 'or outside of the container around'
fi
try 'limit: ulimit -u' processes 20
if grep -qsw pids /sys/fs/cgroup/cgroup.controllers || [[ -d /sys/fs/cgroup/pids ]]; then
	try 'limit: pids of a cgroup' pids
else
	skip 'limit: pids of a cgroup: no such controller'
fi
try 'WSL2 (simulated)' wsl 5.15.90.1-microsoft-standard-WSL2 WSL2
try 'WSL2 without a bridge (simulated)' wsl_bridge
try 'WSL1 (simulated)' wsl_1

echo "doctor.sh: $passed passed, $failed failed"
((failed == 0))
