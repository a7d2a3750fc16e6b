#!/bin/sh
# Finds out by trying what of the container stages will not work here; --help says more.
# Programs for awk and for shells in namespaces stand in single quotes.
# shellcheck disable=SC2016
set -eu
export LC_ALL=C # what the tools say is read below
PATH=$PATH:/usr/sbin:/sbin # an ordinary user's may lack ip(8) and pivot_root(8)

usage() {
	cat <<'END'
Find out what of the container stages will not work on this machine, why, and what helps.

  scripts/doctor.sh                    for you
  sudo scripts/doctor.sh               for root, and for an ordinary user (uid 65533)
  scripts/doctor.sh --rootfs ~/tiny    with a root of your own for stages 4 and 5

Usage: doctor.sh [--rootfs DIR]

  --rootfs DIR   the root for stages 4 and 5, as they have it (default: /tmp/rootfs, or none)
  STAGE_BIN_DIR  (environment) where the stages are, instead of target/debug or target/release

Everything is tried, in namespaces that go with it; the machine stays as it is. A line a check:
"ok", "PROBLEM" with its cause, a way out and how to undo that, or "untried" with the reason.
Then a table of what works for whom. Exits with 0 if stages 2 to 5 work for the caller.
END
}
fail() { echo "doctor.sh: $*" >&2; exit 1; }

rootfs='' given=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit ;;
	--rootfs) [ -n "${2-}" ] || fail '--rootfs needs a directory'; rootfs=$2 given=yes; shift ;;
	*) fail "unknown argument '$1'; see --help" ;;
	esac
	shift
done
[ "$(uname -s)" = Linux ] || fail "namespaces are Linux's, this is $(uname -s): a virtual machine with Linux has them"
repo=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
[ -z "$given" ] || { rootfs=$(cd -- "$rootfs" 2>/dev/null && pwd -P) || fail "--rootfs: no directory that can be entered"; }

tmp=$(mktemp -d) || fail "no temporary directory: is ${TMPDIR:-/tmp} writable?"
trap 'rm -r -- "$tmp"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE # doctor.sh | head
trap 'exit 143' TERM

# ---------------------------------------------------------------- what the checks use

uid=$(id -u)
if [ "$uid" = 0 ]; then caller=root; else caller=user; fi
who=$caller fails='' untried='' seen='' said='' cause='' way='' undo='' nothing_to_undo='nothing to undo'

# Where nobody reads any more (doctor.sh | head), it ends.
line() { printf '%-8s %s\n' "$1" "$2" 2>/dev/null || exit 141; }
more() { printf '         %s: %s\n' "$1" "$2" 2>/dev/null || exit 141; }
ok() { line ok "$who: $1"; }
# $1 is the check, $2 the stages that do not work without, $3 what was seen; see why() for the rest.
problem() {
	for stage in $2; do fails="$fails$who $stage $1
"; done
	case $seen in
	*"<$cause>"*) line PROBLEM "$who: $1: $3 (cause: as above)" ;;
	*)
		seen="$seen<$cause>"
		line PROBLEM "$who: $1: $3"
		more cause "$cause"
		more 'way out' "$way"
		more undo "$undo"
		;;
	esac
}
skip() { # check, stages, reason
	for stage in $2; do untried="$untried$who $stage $1
"; done
	line untried "$who: $1: $3"
}
has() { command -v "$1" >/dev/null; }
# The value of a sysctl; nothing where there is none.
value() { cat "/proc/sys/$1" 2>/dev/null || :; }
field() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status 2>/dev/null; }
# Whether the caller has the capability with this number.
capable() { [ $((0x0$(field CapEff) >> $1 & 1)) = 1 ]; }

as() {
	if [ "$who" = "$caller" ]; then
		"$@"
	else
		setpriv --reuid=65533 --regid=65533 --clear-groups -- "$@"
	fi
}
# Runs a command as $who. It has ten seconds: a shell may repeat a fork for long.
try() {
	code=0
	as timeout -k 1 10 "$@" </dev/null >"$tmp/said" 2>&1 || code=$?
	# The reason comes first; mount(8) has advice beneath.
	said=$(grep -m 1 . "$tmp/said" || echo "exit status $code")
	[ $code != 124 ] || said="no answer in ten seconds ($said)"
	[ $code = 0 ]
}

# Fields of mountinfo, see proc(5): 1 is the mount's number, 5 the mount point.
mounts() { awk "$1" "${2-/proc/self/mountinfo}" 2>/dev/null; }
list() { sort -u | head -n 4 | tr '\n' ' ' | sed 's/ $//'; }
# A chroot(2) to a directory that is no mount point leaves no mount at "/". Otherwise it is another
# than that of PID 1, if that has the same mounts, which only root is told.
in_chroot() {
	top=$(mounts '$5 == "/" { number = $1 } END { print number }')
	[ -n "$top" ] || return 0
	[ "$(readlink /proc/1/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ] &&
		[ "$(mounts '$5 == "/" { number = $1 } END { print number }' /proc/1/mountinfo)" != "$top" ]
}
# CAP_SYS_ADMIN (21) over the machine: the first user namespace has this number, PROC_USER_INIT_INO.
privileged() { [ "$who" = root ] && capable 21 && [ "$(readlink /proc/self/ns/user)" = 'user:[4026531837]' ]; }

# The container around, if there is one, and how it is told to leave namespaces alone.
around=''
surroundings() {
	release=$(uname -r)
	where="Linux $release on $(uname -m)"
	case $release in
	*WSL2*) around='WSL2' ;;
	*[Mm]icrosoft*) around='WSL1' ;;
	*)
		# Marks are left behind: an image of Docker's that was booted is no container. So first whether
		# these are the first namespaces: PROC_PID_INIT_INO, PROC_USER_INIT_INO of linux/proc_ns.h.
		space="$(readlink /proc/self/ns/pid) $(readlink /proc/self/ns/user)"
		mark=${container:-$(cat /run/systemd/container 2>/dev/null || tr '\0' '\n' 2>/dev/null </proc/1/environ | sed -n 's/^container=//p')}
		if [ "$space" = 'pid:[4026531836] user:[4026531837]' ] && [ "$(field Seccomp)" != 2 ]; then
			! in_chroot || around='a chroot'
		elif [ "$space" = "pid:[4026531836] ${space#* }" ] && [ "$(field Seccomp)" != 2 ]; then
			around='a user namespace'
		elif [ -e /.dockerenv ]; then
			around='a Docker container'
		elif [ -e /run/.containerenv ]; then
			around='a Podman container'
		elif [ -e /.flatpak-info ]; then
			around='a Flatpak sandbox'
		elif [ -n "$mark" ]; then
			around="a container ($mark)"
		elif [ "${space#pid:\[4026531836\]}" = "$space" ]; then
			around='a container (a PID namespace of its own)'
		fi
		;;
	esac
	[ -z "$around" ] || where="$where, in $around"
	[ "$(field Seccomp)" != 2 ] || where="$where, under a seccomp filter"
}
outside() { # the option of docker run that helps
	way='run the stages outside of it' undo=$nothing_to_undo
	case $around in
	*ocker* | *odman* | *container*)
		way="$way, or that container with docker run $1"
		undo='start that container without the option'
		;;
	esac
}
sysctl_off() { # name, value that helps, value that it has
	cause="$1 is $3${4:+: $4}"
	way="sudo sysctl -w $1=$2 (until the next boot)"
	undo="sudo sysctl -w $1=$3"
}

too_many() {
	undo=$nothing_to_undo
	# cgroups(7): version 2, and version 1 with a controller of its own.
	for base in "/sys/fs/cgroup /$(sed -n 's,^0::/*,,p' /proc/self/cgroup)" \
		"/sys/fs/cgroup/pids /$(sed -n 's,^[0-9]*:pids:/*,,p' /proc/self/cgroup)"; do
		path=${base#* } base=${base%% *}
		while :; do
			max=$(cat "$base$path/pids.max" 2>/dev/null || :)
			now=$(cat "$base$path/pids.current" 2>/dev/null || echo 0)
			case $max in
			'' | max) ;;
			*)
				if [ $((now + 40)) -gt "$max" ]; then
					cause="the cgroup $base$path may have $max processes (pids.max)"
					way="echo 1000 | sudo tee $base$path/pids.max; of a Docker container: docker run --pids-limit 1000"
					undo="echo $max | sudo tee $base$path/pids.max"
					return
				fi
				;;
			esac
			[ -n "${path%/}" ] || break
			path=${path%/*}
		done
	done
	max=$(awk '/^Max processes/ { print $3 }' /proc/self/limits)
	cause="a user may have $max processes (ulimit -u)"
	way='end some; or raise the limit in /etc/security/limits.conf, and log in again'
	undo='the line in limits.conf'
	[ "$max" != unlimited ] || cause='too many processes, or too little memory, on this machine'
}

# Why $said was said to $who: sets cause, way and undo.
why() {
	undo=$nothing_to_undo
	case $said in
	*'No space left on device'*)
		for kind in user uts pid mnt net ipc cgroup; do
			[ "$(value "user/max_${kind}_namespaces")" = 0 ] || continue
			sysctl_off "user.max_${kind}_namespaces" 1000 0 'no such namespace may be made'
			return
		done
		cause='a limit on namespaces is reached, here or outside of the container around; or 32 are nested (namespaces(7))'
		way='sysctl user shows the limits, lsns what there is; raise the one, or end the others'
		;;
	*'Resource temporarily unavailable'* | *'Cannot fork'* | *'Cannot allocate memory'*) too_many ;;
	*'root filesystem propagation: Invalid argument')
		cause='/ is no mount point: this is a chroot'
		way='run the stages outside of it; or: sudo mount --bind DIR DIR, then unshare and pivot_root instead of chroot'
		;;
	*'Function not implemented'* | *'unshare failed: Invalid argument'*)
		cause="this kernel was built without it: $said"
		way='a kernel of a distribution, with CONFIG_NAMESPACES, CONFIG_USER_NS, CONFIG_PID_NS and CONFIG_NET_NS'
		[ "$around" != WSL1 ] || {
			cause='WSL1 has no Linux kernel'
			way='in PowerShell: wsl --set-version DISTRIBUTION 2' undo='wsl --set-version DISTRIBUTION 1'
		}
		[ "$(field Seccomp)" != 2 ] || { seccomp; }
		;;
	*'Operation not permitted'* | *'ermission denied'* | *'Read-only file system'*) refused ;;
	*)
		cause='unknown'
		way='report this, with what it said'
		;;
	esac
}
seccomp() {
	cause="a seccomp filter is on this process (Seccomp: 2 in /proc/self/status), as in a Docker container: it is what refuses"
	outside '--security-opt seccomp=unconfined'
}
refused() {
	lsm=$(tr -d '\0' </proc/self/attr/current 2>/dev/null || :)
	if ! privileged && [ "$(value kernel/unprivileged_userns_clone)" = 0 ]; then
		sysctl_off kernel.unprivileged_userns_clone 1 0 'user namespaces are for root only'
	elif ! privileged && [ "$(value kernel/apparmor_restrict_unprivileged_userns)" = 1 ]; then
		sysctl_off kernel.apparmor_restrict_unprivileged_userns 0 1 \
			'AppArmor takes all capabilities from user namespaces that ordinary users make'
		way="$way; or run the stages with sudo; or a profile with 'userns,' for them (apparmor.d(5))"
	elif [ "${said%Read-only file system}" != "$said" ]; then
		cause='/proc is mounted read-only by a container around, and a new one would not be (dmesg: Mount too revealing)'
		outside '--security-opt systempaths=unconfined (Podman: unmask=ALL)'
	elif [ -z "$(cat /proc/self/uid_map)" ] || [ -z "$(cat /proc/self/gid_map)" ]; then
		cause='your own ids are not mapped: this is a user namespace without a map (unshare -U without -r)'
		way='leave it: exit'
	elif in_chroot; then
		cause='this is a chroot, in which no user namespace can be made (clone(2), EPERM)'
		way='run the stages outside of it; pivot_root instead of chroot has no such rule'
	elif [ "$(field Seccomp)" = 2 ]; then
		seccomp
	else
		case $lsm in
		'' | unconfined* | *unconfined_t*)
			cause="a security module (dmesg, ausearch -m avc), the container around, or a chroot refuses"
			way='run the stages outside of it'
			;;
		*)
			cause="the security profile '$lsm' is on this process"
			outside '--security-opt apparmor=unconfined'
			;;
		esac
	fi
}

# ---------------------------------------------------------------- for the caller: here, tools, program

packages() { # Debian's, Fedora's, Arch's
	way="Debian, Ubuntu: apt-get install $1; Fedora: dnf install $2; Arch: pacman -S $3"
	undo="apt-get remove $1; dnf remove $2; pacman -R $3"
}
tools() {
	missing=''
	while read -r program debian fedora arch for; do
		! has "$program" || continue
		missing=$program
		cause="not installed, or not in PATH: $for needs it"
		packages "$debian" "$fedora" "$arch"
		problem "$program" '' 'missing'
	done <<'END'
unshare     util-linux     util-linux      util-linux  this script
setpriv     util-linux     util-linux      util-linux  this script
pivot_root  util-linux     util-linux      util-linux  this script
ip          iproute2       iproute         iproute2    the slide of stage 5
ping        iputils-ping   iputils         iputils     the slide of stage 5
brctl       bridge-utils   bridge-utils    bridge-utils  the slide of stage 5
busybox     busybox-static busybox         busybox     scripts/rootfs.sh --from busybox
newuidmap   uidmap         shadow-utils    shadow      a map of more than one id (unshare --map-auto)
strace      strace         strace          strace      scripts/check.sh
END
	if has unshare && ! try unshare --kill-child -C --help; then
		missing=unshare
		cause="this unshare(1) is busybox's, or that of util-linux before 2.32"
		packages util-linux util-linux util-linux
		problem unshare '' "$said"
	fi
	[ -n "$missing" ] || ok 'tools of the slides and the scripts'
}

older() { # version, version that is needed
	[ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}
# Whether the stages can be built: nothing is missing, only the program is not there yet.
toolchain() {
	needed=''
	[ -n "$bin" ] || needed='1 2 3 4 5'
	wants=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repo/Cargo.toml" 2>/dev/null)
	try cargo --version || :
	version=$(sed -n 's/^cargo \([0-9.]*\).*/\1/p' "$tmp/said")
	packages 'cargo' 'cargo' 'rust'
	way="rustup, or from Rust ${wants:-1.89} on: $way"
	[ "$caller" = user ] || way="build as yourself, then: sudo target/debug/stage5-net; or $way"
	if [ -z "$version" ]; then
		cause='cargo is not installed, not in this PATH (sudo has one of its own), or without a toolchain'
		problem cargo "$needed" "$said"
	elif [ -n "$wants" ] && older "$version" "$wants"; then
		cause="this workspace is for Rust $wants or newer"
		problem cargo "$needed" "version $version"
	else
		ok "cargo $version"
	fi
	# Linking is what fails where the headers of libc, or its crt1.o, are not installed.
	echo 'int main(void) { return 0; }' >"$tmp/main.c"
	if try cc -o "$tmp/main" "$tmp/main.c"; then
		ok 'C linker'
	else
		cause='no C compiler, or no C library to link with: rustc calls cc as its linker'
		packages 'gcc libc6-dev' 'gcc glibc-devel' 'gcc'
		problem 'C linker' "$needed" "$said"
	fi
	target=${CARGO_TARGET_DIR:-$repo/target}
	for file in "$target" "$target/debug" "$target/debug/.cargo-lock" "$target/debug/deps"; do
		if [ -e "$file" ]; then :; elif [ "$file" = "$target" ]; then file=${target%/*}; else continue; fi
		[ ! -w "$file" ] || continue
		cause="$file belongs to uid $(stat -c %u "$file"): sudo cargo, or another user's checkout"
		way="CARGO_TARGET_DIR=~/target cargo run, or sudo chown -R $uid $file"
		undo="rm -r ~/target, or sudo chown -R $(stat -c %u "$file") $file"
		problem 'cargo target' "$needed" "$file: not writable"
		break
	done
}

# The stages themselves. Somebody else may not reach them: a home is often for its owner only.
program() {
	file=$bin/stage1-uts
	[ -n "$bin" ] || file=$repo/Cargo.toml
	if [ -z "$bin" ] && try test -r "$file"; then
		ok "program: not built yet (cargo build)"
	elif [ -n "$bin" ] && try "$file" --help; then
		ok "program: $bin"
	else
		stages='1 2 3 4 5'
		[ "$who" = "$caller" ] || stages='' # the user who comes may have a checkout of his own
		wall=''
		dir=$file
		while dir=${dir%/*} && [ -n "$dir" ]; do as test -x "$dir" || wall=$dir; done
		cause="$file cannot be executed"
		if [ -n "$wall" ]; then
			cause="$wall is not open to others (chmod +x), so neither is the checkout in it"
		elif findmnt -no OPTIONS -T "$file" 2>/dev/null | grep -q noexec; then
			cause="the file system of $file is mounted noexec"
		fi
		way='a checkout of their own; or CARGO_TARGET_DIR=/var/tmp/target cargo build, and run what is there'
		undo='rm -r /var/tmp/target'
		problem program "$stages" "$said"
	fi
}

# ---------------------------------------------------------------- for root and for an ordinary user

# Numbers are the same on all architectures but alpha. With arguments that make no sense, what is
# there says EINVAL (22) before it does anything; what is not says ENOSYS (38).
call() { # name, number, arguments for perl, for python, what to run it under
	name=$1 number=$2 for_perl=$3 for_python=$4 code=0
	shift 4
	if has perl; then
		set -- "$@" perl -e "my \$s = ''; syscall($number, $for_perl) < 0 and exit \$! + 0"
	elif has python3; then
		set -- "$@" python3 -c "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True)
libc.syscall($number, $for_python) < 0 and sys.exit(ctypes.get_errno())"
	fi
	try "$@" || :
	case $said in
	'exit status 1') said='Operation not permitted' ;;
	'exit status 38') said='Function not implemented' ;;
	esac
	[ $code = 22 ]
}
calls() { # name, number, its arguments as above, the first Linux with it, stages; what to run it under
	name=$1 linux=$5 stages=$6 release=$(uname -r | sed 's/[^0-9.].*//')
	if ! has perl && ! has python3; then
		older "$release" "$linux" || { ok "$name (by the version: perl and python3 are missing)"; return; }
		code=38 said="Linux $release"
	else
		number=$2 for_perl=$3 for_python=$4
		shift 6
		! call "$name" "$number" "$for_perl" "$for_python" "$@" || { ok "$name"; return; }
	fi
	case $said in unshare:*) return ;; esac # which another check will tell
	if older "$release" "$linux" || [ "$(field Seccomp)" != 2 ]; then
		cause="it is new in Linux $linux, this is $(uname -r)"
		way='a newer kernel' undo='boot the old one'
	else
		seccomp
	fi
	[ "$name" != mount_setattr ] || way="$way; stage 4 with --rootfs DIR, and stage 5 with --rootfs DIR --bare, do without"
	problem "$name" "$stages" "$said"
}

# What a small container and a build need at the same time.
processes() {
	# The shell must not end before the others: their number would count for what comes next.
	forks='trap wait EXIT; i=0; while [ $i -lt 40 ]; do sleep 0.3 & i=$((i + 1)); done; wait'
	# In a user namespace the limit is counted once more.
	if [ -n "$mapped" ]; then set -- unshare -Ur sh -c "$forks"; else set -- sh -c "$forks"; fi
	if try "$@"; then
		ok '40 processes at once'
	else
		too_many
		problem processes '1 2 3 4 5' "$said"
	fi
}

proc() {
	if try unshare -Urpfm --kill-child --mount-proc true; then
		ok '/proc in a PID namespace'
		return
	fi
	masks=$(mounts '$5 ~ "^/proc/" && $5 != "/proc/sys/fs/binfmt_misc" { print $5 }' | list)
	case $masks,$said in
	?*,*'mount /proc failed'*)
		cause="a container around hides parts of /proc, and who may not see them may not mount a new one (dmesg: Mount too revealing): $masks"
		outside '--security-opt systempaths=unconfined (Podman: unmask=ALL)'
		;;
	*) why ;;
	esac
	problem /proc '3 4 5' "$said"
}

pivot() {
	# Afterwards no program is in reach, only what the shell has built in.
	if try unshare -Urpfm --kill-child sh -euc '
		mount -t tmpfs tmpfs /tmp && mkdir /tmp/.old_root
		shared=$(awk "{ for (i = 7; \$i != \"-\"; i++) if (\$i ~ /^shared:/) print \$5 }" /proc/self/mountinfo | head -n 3)
		cd /tmp
		said=$(pivot_root . .old_root 2>&1) || { echo "$said${shared:+; shared: "$shared"}"; exit 1; }
		cd / && [ -d .old_root ]'; then
		ok 'mounts, and pivot_root'
		return
	fi
	case $said in
	*pivot_root*'Invalid argument'*)
		undo=$nothing_to_undo
		kind=$(mounts '$5 == "/" { for (i = 7; $i != "-"; i++); kind = $(i + 1) } END { print kind }')
		if [ "$kind" = rootfs ]; then
			cause='the root of this machine is its initial ramfs, which cannot be moved (pivot_root(2))'
			way='boot with a root file system (root=…), or in the ramfs: mount a tmpfs, copy everything there, switch_root'
		elif [ "${said#*shared:}" != "$said" ]; then
			cause="mounts are shared in the new namespace: ${said#*shared: }"
			way='unshare --propagation private, as it is by default; in a namespace of your own: mount --make-rprivate /'
		else
			cause='/ is no mount point here: this is a chroot'
			way='run the stages outside of it'
		fi
		;;
	*) why ;;
	esac
	problem pivot_root '4 5' "$said"
}

machine() { # of an ELF file: e_machine at 18, see elf(5) and linux/elf-em.h
	case $(od -An -tu1 -j 18 -N 2 -- "$1" 2>/dev/null | tr -s ' ') in
	' 62 0') echo x86-64 ;; ' 3 0') echo 'x86 (32 bits)' ;; ' 183 0') echo AArch64 ;; ' 40 0') echo 'ARM (32 bits)' ;;
	' 243 0') echo RISC-V ;; ' 0 22') echo s390x ;; ' 21 0' | ' 0 21') echo PowerPC ;; *) echo 'another architecture' ;;
	esac
}
# Which root stages 4 and 5 take, and whether a shell runs in it.
root() {
	root=$rootfs
	if [ -z "$root" ]; then
		root=/tmp/rootfs
		owner=$(stat -c %u "$root" 2>/dev/null || echo none)
		mine=$uid
		[ "$who" = "$caller" ] || mine=65533
		if [ "$owner" = none ]; then
			root=''
		elif [ -L "$root" ] || [ ! -d "$root" ] || { [ "$owner" != 0 ] && [ "$owner" != "$mine" ]; }; then
			cause="anybody can make one in /tmp, so the stages take only a directory of who calls them or of root, not of uid $owner"
			[ ! -L "$root" ] && [ -d "$root" ] || cause="it is no directory"
			way="sudo rm -rf --one-file-system $root, then scripts/rootfs.sh; or --rootfs DIR; or as it is, with the host's programs"
			undo=$nothing_to_undo
			problem rootfs '' "$root: left alone"
			root=''
		fi
	fi
	if [ -z "$root" ] && findmnt -no OPTIONS -T /tmp 2>/dev/null | grep -qwE 'noexec|nosuid'; then
		cause="/tmp is mounted $(findmnt -no OPTIONS -T /tmp | tr ',' '\n' | grep -xE 'noexec|nosuid' | list)"
		case $cause in
		*noexec*)
			way='scripts/rootfs.sh ~/rootfs, then --rootfs ~/rootfs; or: sudo mount -o remount,exec /tmp'
			undo='sudo mount -o remount,noexec /tmp'
			problem /tmp '' 'no program of a root in /tmp/rootfs could run'
			;;
		*) ok '/tmp is nosuid, which the stages do not mind: with one id inside, setuid changes nothing' ;;
		esac
	fi
	if [ -n "$root" ]; then
		set -- sh -euc '
			cd -- "$1"
			for d in proc tmp dev; do [ -d "$d" ] || { echo "no directory $1/$d"; exit 1; }; done
			[ -d .old_root ] || [ -w . ] || { echo "no directory $1/.old_root, and none can be made"; exit 1; }
			[ -e bin/sh ] || [ -L bin/sh ] || { echo "no file $1/bin/sh"; exit 1; }
			mount --rbind . "$1"
			exec chroot "$1" /bin/sh -c :' sh "$root"
	else
		# As stage 4 does: the host lends its programs, on top of a /tmp that nobody else sees.
		set -- sh -euc '
			mount -t tmpfs tmpfs /tmp
			for d in /usr /bin /sbin /lib*; do
				if [ -L "$d" ]; then cp -P "$d" /tmp; continue; fi
				[ -d "$d" ] || continue
				mkdir "/tmp$d" && mount --rbind "$d" "/tmp$d"
			done
			exec chroot /tmp /bin/sh -c :'
	fi
	if try unshare -Urm "$@"; then
		ok "root file system: ${root:-none in /tmp/rootfs, so the programs of the host}"
		return
	fi
	undo=$nothing_to_undo
	way="scripts/rootfs.sh --force $root makes a new one; or --rootfs DIR names another"
	[ -n "$root" ] || way='scripts/rootfs.sh makes a root of its own'
	case $said in
	*'Exec format error'*)
		sh=$(find "$root/bin/" "$root/usr/bin/" -type f -size +8 2>/dev/null | head -n 1)
		cause="$root is for $(machine "$sh"), this kernel runs $(machine /proc/self/exe)"
		;;
	*'/.old_root, '*)
		cause="$root belongs to another user, and root inside is an ordinary user outside"
		way="sudo mkdir $root/.old_root" undo="sudo rmdir $root/.old_root"
		;;
	'no '*) cause="$root is incomplete" ;;
	*'No such file'*)
		cause="$root is incomplete: /bin/sh, or what it asks for to be loaded, is missing"
		[ -n "$root" ] || cause='the programs of this machine do not run in a root with /usr, /bin, /sbin and /lib* alone'
		;;
	chroot:*'ermission denied'* | sh:*'ermission denied'*)
		cause="$root may not be entered"
		if findmnt -no OPTIONS -T "$root" 2>/dev/null | grep -qw noexec; then
			cause="the file system of $root is mounted noexec"
			mount=$(findmnt -no TARGET -T "$root")
			way="scripts/rootfs.sh ~/rootfs, then --rootfs ~/rootfs; or: sudo mount -o remount,exec $mount"
			undo="sudo mount -o remount,noexec $mount"
		fi
		;;
	*) why ;;
	esac
	stages='4 5'
	[ "$said" != "no directory $root/dev" ] || stages=5
	problem 'root file system' "$stages" "$said"
}

# Both sides of stage 5, one the host of the other: br0 and veth0 here, veth1 and a ping there.
# A kernel that has a bridge or veth as a module loads it now, as it would for the stage.
there='
i=0; until ip link show veth1 >/dev/null 2>&1; do i=$((i + 1)); [ $i -lt 50 ] || exit 1; sleep 0.1; done
ip link set lo up && ip addr add 172.20.1.4/24 dev veth1 && ip link set veth1 up || exit
! command -v ping >/dev/null || said=$(ping -c 1 -W 2 172.20.1.2 2>&1) ||
	{ echo "ping: $(echo "$said" | grep -m 1 -E "ping:|loss")"; exit 1; }'
here='
step() { name=$1; shift; said=$("$@" 2>&1) || { echo "$name: ${said:-failed}"; exit 1; }; }
step bridge ip link add br0 type bridge
step bridge ip addr add 172.20.1.2/24 dev br0
step bridge ip link set br0 up
unshare -Urn sh -c "$1" &
child=$! i=0
trap "kill $child 2>/dev/null" EXIT
while [ "$(readlink /proc/$child/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do
	i=$((i + 1)); [ $i -lt 50 ] || exit 1; sleep 0.1
done
step veth ip link add veth0 type veth peer name veth1 netns $child
step veth ip link set veth0 master br0
step veth ip link set veth0 up
wait $child'
network() {
	if ! has ip; then
		skip network 5 'ip is missing'
		return
	fi
	if [ "$who" = root ] && capable 21; then set -- -n; else set -- -Urn; fi # --net host, --net private
	if try unshare "$@" sh -c "$here" sh "$there"; then
		ok 'bridge, veth, and a ping through them'
		has ping || skip ping '' 'ping is missing'
		return
	fi
	case $said in
	bridge:*[Uu]nknown* | bridge:*'not supported'* | veth:*[Uu]nknown* | veth:*'not supported'*)
		what=${said%%:*}
		cause="this kernel has no $what"
		way="sudo modprobe $what; or a kernel with CONFIG_BRIDGE and CONFIG_VETH" undo="sudo modprobe -r $what"
		[ "$around" != WSL2 ] || way="in PowerShell: wsl --update; or $way"
		;;
	ping:*loss*)
		cause='packets do not pass a bridge here, in a network of its own without any rules'
		way='another kernel' undo=$nothing_to_undo
		;;
	*) why ;;
	esac
	problem network 5 "$said"
}

# ping(8) with the host's network, as from the second terminal.
ping_here() {
	has ping || return 0
	if try ping -c 1 -W 1 127.0.0.1; then
		ok 'ping'
		return
	fi
	said=$(grep -m 1 -E 'socket:|unreach' "$tmp/said" || echo "$said")
	case $said in
	*'failed to run'*)
		cause='ping has a capability of its own (getcap), CAP_NET_RAW, that this container may not have'
		outside '--cap-add NET_RAW'
		;;
	*unreachable* | PING*)
		cause='lo is down'
		way='sudo ip link set lo up' undo='sudo ip link set lo down'
		;;
	*)
		range=$(value net/ipv4/ping_group_range | tr '\t' ' ')
		cause="ping has no capability of its own (getcap), and its group is not in net.ipv4.ping_group_range, which is $range (icmp(7))"
		way="sudo sysctl -w net.ipv4.ping_group_range='0 2147483647' (until the next boot), or ping with sudo"
		undo="sudo sysctl -w net.ipv4.ping_group_range='$range'"
		;;
	esac
	problem ping '' "$said"
}

# What is ours is in a group that begins with 0x4c (76), see common/src/network.rs.
ours() {
	group=$(ip -o link show dev "$1" 2>/dev/null | sed -n 's/.* group \([0-9]*\) .*/\1/p')
	[ -n "$group" ] && [ $((group >> 24)) = 76 ]
}
# The host's own network, which stage 5 uses when root starts it. It is looked at, and not touched.
host_network() {
	if ! has ip; then
		skip "host's network" 5 'ip is missing'
		return
	fi
	before=$fails
	# A size that is the present one is set without effect, and takes CAP_NET_ADMIN as all others do.
	if ! try ip link set dev lo mtu "$(ip -o link show dev lo | sed 's/.* mtu \([0-9]*\) .*/\1/')"; then
		cause='root has no CAP_NET_ADMIN over this network: a container, whose network belongs to somebody else'
		outside '--cap-add NET_ADMIN'
		way="stage5-net --net private; or $way"
		problem "host's network" 5 "$said"
	fi
	for name in br0 veth0; do
		ip -o link show dev "$name" >/dev/null 2>&1 || continue
		! ours "$name" || continue
		cause="somebody else has made $name, and the stages leave it alone (ip -d link show $name)"
		way='stage5-net --bridge br1, or --net private'
		undo=$nothing_to_undo
		if [ $name = br0 ]; then
			problem br0 5 "is there already"
		else
			way="stage5-net, which takes another name; the slide's commands: unshare -n first"
			problem veth0 '' "is there already"
		fi
	done
	{
		ip -4 -o addr show | sed -n 's/^[0-9]*: *\([^ ]*\) *inet \([^ ]*\).*/address \1 \2/p'
		ip -4 route show | sed -n 's/^\([0-9][^ ]*\) .*dev \([^ ]*\).*/route \2 \1/p'
	} >"$tmp/addresses"
	known=''
	while read -r kind name cidr; do
		ours "$name" && continue
		overlaps "$cidr" || continue
		case $known in *"<$name>"*) continue ;; esac
		known="$known<$name>"
		cause="the $kind $cidr of $name is in the talk's subnet, whose traffic would go to the bridge"
		way='stage5-net --bridge-addr 172.20.2.2/24 (or any other that is free), or --net private'
		undo=$nothing_to_undo
		if [ "$kind" = address ]; then problem 'subnet 172.20.1.0/24' 5 'is in use'; else
			problem 'subnet 172.20.1.0/24' '' 'has a route'; fi
	done <"$tmp/addresses"
	forwarding
	[ "$fails" != "$before" ] || ok "host's network is free for br0 and 172.20.1.0/24"
}
overlaps() { # 172.20.1.0/24 is 2886992128 to 2886992383
	echo "$1" | awk -F '[./]' '{
		size = 1; for (bits = NF > 4 ? $5 : 32; bits < 32; bits++) size *= 2
		at = (($1 * 256 + $2) * 256 + $3) * 256 + $4
		at -= at % size
		exit !(at <= 2886992383 && at + size > 2886992128)
	}'
}
# Docker's policy, and the module that has bridges ask for it. A rule on trial would have to be in
# the machine's own network, so these are read. Asking the old tables would load their modules.
forwarding() {
	[ "$(value net/bridge/bridge-nf-call-iptables)" = 1 ] || return 0
	dropping=''
	for tables in iptables iptables-nft iptables-legacy; do
		has $tables || continue
		case $($tables -V 2>/dev/null) in *legacy*) grep -qsx filter /proc/net/ip_tables_names || continue ;; esac
		$tables -S FORWARD 2>/dev/null | grep -q '^-P FORWARD DROP' || continue
		$tables -C FORWARD -i br0 -o br0 -j ACCEPT 2>/dev/null || dropping=${dropping:-$tables}
	done
	if [ -z "$dropping" ] && ! has iptables && nft list chains 2>/dev/null | grep -q 'hook forward.*policy drop'; then
		dropping='iptables'
	fi
	[ -n "$dropping" ] || return 0
	cause='what br0 forwards passes the FORWARD chain (net.bridge.bridge-nf-call-iptables is 1), whose policy is DROP, as Docker sets it up'
	way="sudo $dropping -I FORWARD -i br0 -o br0 -j ACCEPT"
	undo="sudo $dropping -D FORWARD -i br0 -o br0 -j ACCEPT"
	problem forwarding '' 'two containers would not reach each other'
}

everything() {
	mapped=''
	program
	calls close_range 436 '1, 0, 0' '1, 0, 0' 5.9 '1 2 3 4 5'
	if ! try unshare --kill-child -C --help; then
		skip namespaces '2 3 4 5' "unshare(1) of util-linux is missing"
		return
	fi
	if [ "$who" = root ]; then
		if try unshare -u true; then
			ok 'UTS namespace'
		else
			why
			capable 21 || {
				cause='root has no CAP_SYS_ADMIN here: a container'
				outside '--cap-add SYS_ADMIN'
				way="stage2-user, which needs none; or $way"
			}
			problem 'UTS namespace' 1 "$said"
		fi
	fi
	# Step by step, so that the first one that fails is named.
	if ! try unshare -U true; then
		why
		problem 'user namespace' '2 3 4 5' "$said"
	elif ! try unshare -Ur true; then
		why
		case $said in
		*uid_map*permitted)
			# verify_root_map() of kernel/user_namespace.c
			if [ "$who" = root ] && ! capable 31; then
				cause='root has no CAP_SETFCAP here, and since Linux 5.12 it takes that to map root (user_namespaces(7))'
				outside '--cap-add SETFCAP'
				way="an ordinary user's account, which needs none; or $way"
			fi
			;;
		esac
		case "$cause $said" in
		*' is 0'* | *' is 1'*) ;;
		*gid_map* | *setgroups*) cause="without CAP_SETGID outside, gid_map is taken only after 'deny' to setgroups (user_namespaces(7)), and something here refuses: $cause" ;;
		esac
		problem 'map of ids' '2 3 4 5' "$said"
	elif ! try unshare -Uru sh -c 'if command -v hostname; then hostname doctor; else busybox hostname doctor; fi' &&
		{ has hostname || has busybox; }; then
		why
		problem 'hostname' '2 3 4 5' "$said"
	else
		mapped=yes
		ok 'user namespace, with uid_map, setgroups and gid_map'
	fi
	processes
	if [ -n "$mapped" ]; then
		# In the second it takes the right to mount to be told EINVAL.
		calls mount_setattr 442 '-1, $s, 0, 0, 0' '-1, b"", 0, 0, 0' 5.12 '4 5' unshare -Urm
		proc
		pivot
		root
		if ! try unshare -UrumpfniC --kill-child true; then
			why
			problem 'all namespaces' 5 "$said"
		else
			network
		fi
	else
		line untried "$who: /proc, pivot_root, root file system, network: they take a user namespace"
	fi
	ping_here
	[ "$who" = user ] || host_network
}

if [ ! -e /proc/self/mountinfo ]; then
	# A link to the reader's own pid, so it leads nowhere in the proc of another PID namespace.
	cause='/proc is not mounted' way='mount -t proc proc /proc' undo='umount /proc'
	[ ! -e /proc/version ] || {
		cause='the /proc of another PID namespace is mounted over that of this one, by a mount that was shared'
		way='sudo umount -l /proc' undo=$nothing_to_undo
	}
	problem /proc '2 3 4 5' '/proc/self: no such file'
	exit 1
fi
surroundings
line ok "here: $where"
bin=''
for dir in ${STAGE_BIN_DIR:+"$STAGE_BIN_DIR"} "${CARGO_TARGET_DIR:-$repo/target}/debug" "${CARGO_TARGET_DIR:-$repo/target}/release"; do
	[ -n "$bin" ] || [ ! -e "$dir/stage1-uts" ] || bin=$dir
done
tools
toolchain
everything
if [ "$caller" = root ]; then
	who=user
	if ! has setpriv; then
		skip 'ordinary user' '2 3 4 5' 'setpriv is missing'
	elif ! try true; then
		skip 'ordinary user' '2 3 4 5' "root cannot become user 65533 here ($said)"
	else
		everything
	fi
fi

# ---------------------------------------------------------------- what works for whom

cell() { # whom, stage
	result=$(printf '%s' "$fails" | sed -n "s/^$1 $2 //p" | list_of)
	[ -z "$result" ] || { echo "no: $result"; return; }
	result=$(printf '%s' "$untried" | sed -n "s/^$1 $2 //p" | list_of)
	[ -z "$result" ] || { echo "untried: $result"; return; }
	echo works
}
list_of() { awk '!seen[$0]++' | paste -sd , - | sed 's/,/, /g'; }
result=0
{
	printf '\troot\tordinary user\n'
	for stage in 1-uts 2-user 3-pid 4-mount 5-net; do
		n=${stage%%-*} for_root='untried: run this with sudo'
		for_user=$(cell user "$n")
		[ "$n" != 1 ] || for_user='no: takes root'
		if [ "$caller" = root ]; then for_root=$(cell root "$n") mine=$for_root; else mine=$for_user; fi
		printf 'stage%s\t%s\t%s\n' "$stage" "$for_root" "$for_user"
		[ "$n" = 1 ] || [ "$mine" = works ] || result=1
	done
} >"$tmp/table"
echo
awk -F '\t' 'NR == FNR { if (length($2) > width) width = length($2); next }
	{ printf "%-12s  %-" width "s  %s\n", $1, $2, $3 }' "$tmp/table" "$tmp/table"
exit $result
