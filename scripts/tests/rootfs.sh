#!/usr/bin/env bash
# Tests of scripts/rootfs.sh; --help says how.
# Code for other shells stands in single quotes.
# shellcheck disable=SC2016
set -euE

if [[ ${1-} == --help || ${1-} == -h ]]; then
	cat <<'END'
Test scripts/rootfs.sh on tarballs and a mirror made on the spot, without any network.

  scripts/tests/rootfs.sh           as root: every case as root and as an ordinary user
  scripts/tests/rootfs.sh --slow    and, as root, real runs of debootstrap from the apt mirror

Prints a line for each case, and the output of those that fail. A case that this machine does not
allow is skipped with its reason; where CI is set, that is a failure.
END
	exit
fi
slow='' limit=60
[[ ${1-} != --slow ]] || slow=yes limit=600

export LC_ALL=C no_proxy=127.0.0.1
umask 022
top=$(mktemp -d "${TMPDIR:-/tmp}/rootfs-test.XXXXXX")
server=''
left_mounted() { cut -d ' ' -f 5 /proc/self/mountinfo | grep -F "$top" | sort -r; }
sweep() { # removes what is named; chmod would follow a mount to the rest of the machine
	[[ -z $(left_mounted) ]] || left_mounted | xargs -r -d '\n' umount || return
	find "$@" -xdev -type d ! -perm -700 -exec chmod u+rwx {} \;
	rm -rf --one-file-system "$@"
}
finish() {
	[[ -z $server ]] || kill "$server"
	sweep "$top"
}
trap finish EXIT
chmod 755 "$top"
# A copy, since an ordinary user may not reach the checkout.
script=$top/rootfs.sh
install -m 755 "$(dirname "$0")/../rootfs.sh" "$script"

# ---------------------------------------------------------------- what the cases use

make() { # runs rootfs.sh
	status=0
	"${as[@]}" timeout "$limit" env "PATH=$stubs:$PATH" "$script" "$@" >"$t/log" 2>&1 </dev/null || status=$?
}
said() { grep -qE -- "$1" "$t/log"; }
not() { ! "$@"; }
mode_of() { stat -c %a "$1"; }
# These are chains, since "set -e" has no effect in a function that stands before "&&".
is_root() { # $1 is what the stages need
	local d
	for d in . dev proc sys tmp .old_root; do [[ -d $1/$d && ! -L $1/$d ]] || return; done
	[[ $(mode_of "$1") == 755 && $(mode_of "$1/tmp") == 1777 && -z $(ls -A "$1/dev") ]]
}
makes() { # DIR, then what makes it
	make "${@:2}" "$1" && ((status == 0)) && is_root "$1"
}
refuses() { # pattern, then arguments; says so in lines of the one form
	make "${@:2}" && ((status != 0)) && said "^rootfs.sh: .*: .*$1" &&
		not grep -vE '^(rootfs\.sh|hint): ' "$t/log"
}
refuses_new() { refuses "$1" "${@:2}" "$t/r" && [[ ! -e $t/r ]]; }
refuses_unread() { # before anything is unpacked
	stub tar 'case $1 in -xf) touch "$TOUCHED" ;; esac; exec "$real" "$@"'
	TOUCHED=$t/touched refuses_new "$@" && [[ ! -e $t/touched ]]
}
stub() { # name, then its script; it finds the real one as $real
	printf '#!/bin/sh\nreal=%s\n%s\n' "$(command -v "$1")" "$2" >"$stubs/$1"
	chmod 755 "$stubs/$1"
}
old_root() { # an earlier root at $1, with a directory that rm alone cannot empty
	"${as[@]}" mkdir -p "$1/.old_root" "$1/locked/in" "$1/mnt"
	"${as[@]}" chmod 555 "$1/locked"
	"${as[@]}" touch "$1/mine"
}
in_ns() { "${as[@]}" env "PATH=$stubs:$PATH" unshare "${ns[@]}" sh -euc "$@" >"$t/log" 2>&1; } # where mounts may be made
serve() { # file with a name in SHA256SUMS; adds it to the mirror in $t/mirror
	mkdir -p "$t/mirror"
	cp "$1" "$t/mirror/$2"
	(cd "$t/mirror" && sha256sum -b "$2") >>"$t/mirror/SHA256SUMS"
	chmod -R a+rX "$t/mirror"
}
machine_arch() {
	case $(uname -m) in
	x86_64) echo amd64 ;; aarch64) echo arm64 ;; armv*) echo armhf ;; ppc64le) echo ppc64el ;; *) uname -m ;;
	esac
}

passed=0 failed=0
tell() { printf '%s %s: %s\n' "$1" "$mode" "$2"; }
try() { # name of the case, its function and arguments
	local result
	t=$top/$mode.$((passed + failed)) stubs=$t/stubs
	mkdir "$t" "$stubs"
	[[ $mode == root ]] || ((EUID)) || chown 65533:65533 "$t"
	export ROOTFS_MIRROR="file://$t/mirror" # of which nothing exists unless the case makes it
	set +e
	(
		set -e
		trap 'echo "line $LINENO: $BASH_COMMAND"' ERR
		"${@:2}"
	) >"$top/out" 2>&1
	result=$?
	set -e
	{
		find "$top" -name '.rootfs.*' -prune -printf 'left behind: %p\n'
		left_mounted
		[[ $(stat -c '%a %U' "$outside") == "$outside_was" && -z $(ls -A "$outside") ]] || echo "written outside"
	} >"$top/left"
	sweep "$t"/.rootfs.* 2>/dev/null || true
	if ((result == 0)) && [[ ! -s $top/left ]]; then
		passed=$((passed + 1))
		tell ok "$1"
	else
		failed=$((failed + 1))
		tell FAIL "$1"
		sed 's/^/    /' "$top/out" "$top/left"
		[[ ! -e $t/log ]] || sed 's/^/    > /' "$t/log"
	fi
}
skip() {
	tell skip "$1"
	[[ -z ${CI-} ]] || failed=$((failed + 1))
}

# ---------------------------------------------------------------- tarballs

f=$top/fixtures outside=$top/outside
mkdir "$f" "$outside"
chmod 777 "$outside"
outside_was=$(stat -c '%a %U' "$outside")
tree=$top/tree
mkdir -p "$tree/usr/bin" "$tree/usr/dev/kept" "$tree/dev" "$tree/etc" "$tree/locked/in" "$tree/proc"
ln -s usr/bin "$tree/bin"
ln -s ../../usr/./bin/sh "$tree/usr/bin/again"
# Two links that lead to a file only with the new root as /.
ln -s /usr/bin/inside-only "$tree/usr/bin/sh"
printf '#!/bin/sh\n' >"$tree/usr/bin/inside-only"
chmod 755 "$tree/usr/bin/inside-only"
echo first >"$tree/etc/release"
echo x >"$tree/dev/something"
((EUID)) || mknod "$tree/dev/null" c 1 3
chmod 555 "$tree/locked" "$tree/proc"
owner=(--owner=12 --group=34 --numeric-owner)
# What lies in a directory without write permission comes last, long after it.
tar -C "$tree" "${owner[@]}" -cf "$f/good.tar" bin usr dev --no-recursion locked proc etc etc/release locked/in
gzip -k "$f/good.tar"
xz -k "$f/good.tar"
zstd -q "$f/good.tar"
cp "$f/good.tar.gz" "$f/od:d name.tar.gz"
chmod 700 "$tree"
tar -C "$tree" "${owner[@]}" -czf "$f/dot.tar.gz" .
chmod 755 "$tree"
head -c 300 "$f/good.tar.gz" >"$f/truncated.tar.gz"
: >"$f/empty.tar"
printf '<!DOCTYPE html>\n<html><body>Sign in</body></html>\n' >"$f/page.tar.gz"
echo no >"$f/text.tar"
with() { # name, then what tar appends to the good tarball
	cp "$f/good.tar" "$f/$1.tar"
	tar "${owner[@]}" --append -f "$f/$1.tar" "${@:2}"
}
e=$top/evil
mkdir -p "$e/a" "$e/link/x" "$e/special"
echo evil | tee "$outside.evil" "$e/evil" "$e/link/x/evil" >/dev/null
with dotdot -P -C "$e/a" ../evil
with dotdot-inside -P -C "$e" a/../evil
with absolute -P "$outside.evil" --transform "s,$outside.evil,$outside/evil,"
rm "$outside.evil"
link_to() { rm -f "$e/a/$2" && ln -s "$1" "$e/a/$2"; }
link_to "$outside" x
with escape -C "$e/a" x -C "$e/link" x/evil
link_to ../../outside x
with escape-relative -C "$e/a" x -C "$e/link" x/evil
for d in tmp .old_root proc; do
	link_to "$outside" "$d"
	tar -C "$tree" "${owner[@]}" -cf "$f/link-$d.tar" bin usr -C "$e/a" "$d"
done
((EUID)) || { mknod "$e/special/null" c 1 3 && with device -C "$e" special; }
mkdir "$e/bin"
sh_tar() { tar -C "$e" -cf "$f/$1.tar" bin && rm "$e/bin/sh"; }
ln -s /bin/cat "$e/bin/sh" && sh_tar sh-of-host
ln -s sh "$e/bin/sh" && sh_tar sh-loop
mkdir "$e/bin/sh" && tar -C "$e" -cf "$f/sh-directory.tar" bin && rmdir "$e/bin/sh"
touch "$e/bin/sh" && sh_tar sh-not-executable
touch "$e/bin/other" && tar -C "$e" -cf "$f/sh-missing.tar" bin
chmod -R a+rX "$f"

# ---------------------------------------------------------------- cases

good() {
	cd "$f" # a name without a slash may look like one of another host to tar
	makes "$t/r" --from "$1"
	[[ -e $t/r/usr/dev/kept ]]
	[[ $(cat "$t/r/etc/release") == first && $(readlink "$t/r/bin/sh") == /usr/bin/inside-only ]]
	if [[ $mode == root ]]; then
		[[ $(stat -c %u:%g "$t/r/etc/release") == 12:34 && $(mode_of "$t/r/locked") == 555 ]]
	else
		"${as[@]}" rm -r "$t/r"
	fi
	[[ ! -e $t/r || $(stat -c %u "$t/r") == "$EUID" ]]
}
checksum() {
	refuses_new 'its SHA-256 is' --from "$f/good.tar.gz" --sha256 "$(printf '0%.0s' {1..64})"
	makes "$t/r" --from "$f/good.tar.gz" --sha256 "$(sha256sum "$f/good.tar.gz" | cut -c -64 | tr a-f A-F)"
}
dir_refused() {
	local d
	ln -s "$f" "$t/link"
	echo kept >"$t/file"
	for d in "$t/link" "$t/link/"; do refuses 'symbolic link' --from "$f/good.tar" --force "$d"; done
	for d in / // "$t/../../../../../../.."; do refuses 'root of this machine' --from "$f/good.tar" --force "$d"; done
	refuses 'empty' --from "$f/good.tar" ''
	refuses 'not a directory' --from "$f/good.tar" --force "$t/file"
	refuses 'does not exist' --from "$f/good.tar" "$t/no/r"
	refuses 'control character' --from "$f/good.tar" "$t/"$'r\n'
	[[ $(cat "$t/file") == kept && -L $t/link ]]
}
arguments() {
	refuses 'no such option' --bogus
	refuses 'second DIR' "$t/a" "$t/b"
	refuses 'needs a value' --from
	refuses 'no such file' --from "$t/nothing" "$t/r"
	refuses 'is for --from TARBALL' --from busybox --sha256 0 "$t/r"
	make --help
	((status == 0 && $(wc -l <"$t/log") <= 24 && $(wc -L <"$t/log") <= 100))
}
non_empty() {
	old_root "$t/r"
	refuses 'has something in it' --from "$f/good.tar" "$t/r"
	[[ -e $t/r/mine && ! -e $t/r/etc ]]
}
empty_dir() {
	"${as[@]}" mkdir -m 700 "$t/r"
	makes "$t/r" --from "$f/good.tar"
}
force() {
	old_root "$t/r"
	makes "$t/r/" --from "$f/good.tar" --force
	[[ ! -e $t/r/mine ]]
	refuses 'is an HTML page' --from "$f/page.tar.gz" --force "$t/r"
	[[ -e $t/r/etc/release ]]
}
force_other() {
	"${as[@]}" mkdir "$t/r"
	"${as[@]}" touch "$t/r/mine"
	refuses 'not a root file system' --from "$f/good.tar" --force "$t/r"
	[[ -e $t/r/mine ]]
}
force_owner() {
	mkdir -p "$t/r/.old_root" "$t/r/mine"
	[[ $mode != root ]] || chown 65533 "$t/r"
	refuses 'another user' --from "$f/good.tar" --force "$t/r"
	[[ -e $t/r/mine ]]
}
force_remains() { # where an earlier container, run by another id, left something
	old_root "$t/r"
	mkdir -p "$t/r/mnt/foreign/in"
	chown 0:0 "$t/r/mnt"
	refuses 'not yours to remove' --from "$f/good.tar" --force "$t/r"
	is_root "$t/r"
	rm -r "$t"/.rootfs.*
}
in_use() {
	makes "$t/r" --from busybox
	local pid
	"${as[@]}" "${chroot[@]}" "$t/r" /bin/sleep 1000 &
	pid=$!
	sleep 0.2
	refuses 'a process has it as its root' --from busybox --force "$t/r"
	kill "$pid"
	wait "$pid" || true
	makes "$t/r" --from busybox --force
}
devices() {
	makes "$t/r" --from "$f/device.tar"
	[[ -d $t/r/special && ! -e $t/r/special/null ]]
}
mounted() { # name of DIR, where in it, what mount is given
	local r=$t/$1
	old_root "$r"
	"${as[@]}" mkdir "$t/source"
	in_ns 'mount $3 "$2"; touch "$2/precious"; if "$0" --from "$4" --force "$1"; then exit 1; fi; test -e "$2/precious"' \
		"$script" "$r" "$r$2" "$3" "$f/good.tar"
	said 'is mounted'
	[[ -e $r/mine && ($3 != --bind* || -e $t/source/precious) ]]
}
bind_mounted() { mounted r /mnt "--bind $t/source"; }
neighbour() {
	old_root "$t/r"
	"${as[@]}" mkdir "$t/r2"
	in_ns 'mount -t tmpfs t "$1"2; "$0" --from "$2" --force "$1"' "$script" "$t/r" "$f/good.tar"
	is_root "$t/r"
}
# In these two, tar brings the mount.
mounted_meanwhile() {
	old_root "$t/r"
	stub tar '"$real" "$@" || exit; case $1 in -xf) mount --bind "$SOURCE" "$TARGET/mnt" ;; esac'
	SOURCE=$f TARGET=$t/r in_ns 'if "$0" --from "$2" --force "$1"; then exit 1; fi' "$script" "$t/r" "$f/good.tar"
	said "$t/r/mnt is mounted"
	[[ -e $t/r/mine && -e $f/good.tar ]]
}
mounted_in_work() {
	"${as[@]}" mkdir "$t/source"
	"${as[@]}" touch "$t/source/precious"
	stub tar '"$real" "$@" || exit; case $1 in -xf) mount --bind "$SOURCE" "$4/proc"; exit 1 ;; esac'
	SOURCE=$t/source in_ns 'if "$0" --from "$2" "$1"; then exit 1; fi' "$script" "$t/r" "$f/good.tar"
	said 'left behind: .* is mounted'
	[[ -e $t/source/precious && ! -e $t/r ]]
	sweep "$t"/.rootfs.* # where there is no mount any more
}
put_back() {
	old_root "$t/r"
	stub mv 'case $3 in */root) echo mv: no luck >&2; exit 1 ;; esac; exec "$real" "$@"'
	refuses 'no luck' --from "$f/good.tar" --force "$t/r"
	[[ -e $t/r/mine && ! -e $t/r/etc ]]
}
single_id() { # root of a user namespace that cannot chown
	"${as[@]}" unshare -r "$script" --from "$f/good.tar" "$t/r" >"$t/log" 2>&1
	is_root "$t/r"
}
busybox_runs() {
	makes "$t/r" --from busybox
	[[ $("${as[@]}" "${chroot[@]}" "$t/r" /bin/sh -c 'echo hi; id -un; ls / | wc -l') == hi$'\n'root$'\n'* ]]
	for applet in bin/ls bin/ps sbin/ip bin/ping bin/hostname usr/bin/id bin/mount bin/cat; do
		"${as[@]}" "${chroot[@]}" "$t/r" "/$applet" --help >"$t/log" 2>&1
	done
}
busybox_umask() {
	umask 077
	makes "$t/r" --from busybox
	[[ $(mode_of "$t/r/bin") == 755 && $(mode_of "$t/r/etc/passwd") == 644 && $(mode_of "$t/r/root") == 700 ]]
}
busybox_dynamic() {
	cp "$(command -v env)" "$stubs/busybox"
	refuses_new 'not statically linked' --from busybox
}

mirror_good() {
	local version
	for version in .9 '' .1 .2 .3 .4 .5 .6 .7 .8; do
		echo "$version" >"$t/old"
		serve "$t/old" "ubuntu-base-24.04$version-base-$(machine_arch).tar.gz"
		[[ -n $version ]] || serve "$f/dot.tar.gz" "ubuntu-base-24.04.10-base-$(machine_arch).tar.gz"
	done
	serve "$f/page.tar.gz" "ubuntu-base-24.04.11-base-sparc.tar.gz"
	makes "$t/r" "$@"
	said "fetching file://$t/mirror/ubuntu-base-24.04.10-base-"
}
# Whatever is wrong with an answer is the end, also where another source could follow.
hard() { # pattern, then arguments
	refuses_new "$@" && not said trying
}
mirror_mismatch() {
	serve "$f/good.tar.gz" "ubuntu-base-24.04.1-base-$(machine_arch).tar.gz"
	cp "$f/dot.tar.gz" "$t/mirror/ubuntu-base-24.04.1-base-$(machine_arch).tar.gz"
	stub tar 'touch "$TOUCHED"'
	TOUCHED=$t/touched hard 'its SHA-256 is' "$@"
	[[ ! -e $t/touched ]] # so it was not even listed
}
mirror_page() {
	serve "$f/page.tar.gz" "ubuntu-base-24.04.1-base-$(machine_arch).tar.gz"
	hard 'HTML page, not a tarball' "$@"
	cp "$f/page.tar.gz" "$t/mirror/SHA256SUMS"
	hard 'HTML page, not a list' "$@"
}
mirror_names() { # a list that names files elsewhere
	mkdir "$t/mirror"
	printf '%064d *../ubuntu-base-1-base-%s.tar.gz\n' 0 "$(machine_arch)" >"$t/mirror/SHA256SUMS"
	hard 'names no base tarball' "$@"
}
no_debootstrap() { stub apt-get 'exit 0'; } # as root too, without its network
falls_back() {
	makes "$t/r"
	said '^rootfs.sh: ubuntu-base: .*curl.*; trying debootstrap'
	said '^rootfs.sh: debootstrap: .*; trying busybox'
	said "^rootfs.sh: $t/r: made from busybox"
	[[ $mode == root ]] || said 'debootstrap: it needs root'
}
mirror_404() {
	no_debootstrap
	export ROOTFS_MIRROR=$http/nothing
	refuses_new 'returned error: 404' --from ubuntu-base
	falls_back
	"${as[@]}" rm -rf "$t/r"
	export ROOTFS_MIRROR=http://127.0.0.1:1 # refused
	falls_back
}
mirror_listed_only() {
	no_debootstrap
	serve "$f/good.tar.gz" "ubuntu-base-24.04.1-base-$(machine_arch).tar.gz"
	rm "$t/mirror/"ubuntu*
	refuses_new 'curl' --from ubuntu-base
	falls_back
}
mirror_refused() {
	stub curl 'touch "$TOUCHED"'
	for url in http://mirror.invalid http://127.0.0.1:80@mirror.invalid http://127.0.0.1.mirror.invalid ftp://127.0.0.1 /etc; do
		ROOTFS_MIRROR=$url TOUCHED=$t/touched hard 'neither https:// nor on this machine'
	done
	[[ ! -e $t/touched ]]
}
https_only() {
	stub curl 'echo "$*" >"$TOUCHED"; exit 6'
	ROOTFS_MIRROR='' TOUCHED=$t/touched refuses_new 'curl failed' --from ubuntu-base
	grep -q -- '--proto =https .*https://cdimage.ubuntu.com/ubuntu-base/releases/[a-z]*/release/SHA256SUMS$' "$t/touched"
}
debootstrap_stub() { # what the mirror says and what debootstrap then does
	stub apt-get "echo 'Other http://127.0.0.1:1/'; echo 'Debian $http/apt/'"
	mkdir -p "$top/www/apt/dists/$suite"
	touch "$top/www/apt/dists/$suite/Release"
	stub debootstrap "$1"
}
debootstrap_fails() {
	debootstrap_stub 'echo "E: Release signed by unknown key"; exit 1'
	refuses_new 'Release signed by unknown key'
	not said 'trying busybox'
	rm -r "$top/www/apt"
	falls_back
}
debootstrap_killed() {
	debootstrap_stub 'for root; do [ ! -d "$root/../root" ] || break; done
		mkdir "$root/proc" && mount -t proc proc "$root/proc" && for _ in $(seq 1000); do echo >"$root/file"; sleep 0.01; done'
	interrupt TERM 143 'installing' --from debootstrap
}

interrupt() { # signal, status, what to wait for in $t/log or $t/ready, arguments
	local pid
	# A lock that all its processes inherit, to see when the last one has gone.
	exec 3>"$t/lock"
	flock 3
	"${as[@]}" setsid env "--default-signal=$1" "PATH=$stubs:$PATH" "$script" "${@:4}" "$t/r" >"$t/log" 2>&1 </dev/null &
	pid=$!
	exec 3>&-
	for _ in {1..100}; do
		! grep -qs "$3" "$t/log" "$t/ready" || break
		sleep 0.05
	done
	sleep 0.1
	grep -qs "$3" "$t/log" "$t/ready"
	not flock -n "$t/lock" true
	kill "-$1" "$pid"
	flock -w 5 "$t/lock" true || { kill -KILL -- "-$pid" && return 1; }
	status=0
	wait "$pid" || status=$?
	((status == $2))
	[[ ! -e $t/r ]]
}
interrupted_fetch() {
	serve "$f/good.tar.gz" "ubuntu-base-24.04.1-base-$(machine_arch).tar.gz"
	rm "$t/mirror/"ubuntu*
	mkfifo "$t/mirror/ubuntu-base-24.04.1-base-$(machine_arch).tar.gz" # curl waits there for ever
	interrupt "$1" "$2" fetching --from ubuntu-base
}
interrupted_unpack() {
	stub tar '"$real" "$@" || exit; case $1 in -xf) echo unpacked >"$READY"; exec sleep 1000 ;; esac'
	READY=$t/ready interrupt "$1" "$2" unpacked --from "$f/good.tar"
}

debootstrap_real() {
	makes "$t/r" --from debootstrap
	[[ $(chroot "$t/r" /bin/sh -c 'which ip ping ps' | wc -l) == 3 && ! -e $t/r/dev/null ]]
	set -- "$t/r/var/cache/apt/archives/"*.deb
	[[ ! -e $1 ]]
}
debootstrap_default() {
	makes "$t/r"
	said 'made from debootstrap'
}

# ---------------------------------------------------------------- the runs

command -v busybox >/dev/null && httpd=(busybox httpd) || httpd=()
mkdir "$top/www"
http=''
for port in $(shuf -i 20000-60000 -n 5); do
	((${#httpd[@]})) || break
	"${httpd[@]}" -f -p "127.0.0.1:$port" -h "$top/www" &
	server=$!
	sleep 0.2
	! kill -0 "$server" 2>/dev/null || { http=http://127.0.0.1:$port && break; }
	server=''
done
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')

all() {
	local s
	try 'gzip tarball' good good.tar.gz
	try 'plain tarball' good good.tar
	try 'xz tarball' good good.tar.xz
	try 'zstd tarball' good good.tar.zst
	try 'tarball with ./ in front' good dot.tar.gz
	try 'colon and blank in the name of the tarball' good 'od:d name.tar.gz'
	try 'checksum wrong, then right' checksum
	try 'truncated tarball' refuses_unread 'end of file' --from "$f/truncated.tar.gz"
	try 'HTML page' refuses_unread 'this is an HTML page, not a tarball' --from "$f/page.tar.gz"
	try 'text file' refuses_unread 'not look like a tar' --from "$f/text.tar"
	try 'empty file' refuses_unread 'not look like a tar' --from "$f/empty.tar"
	try 'member ../evil' refuses_unread 'member \.\./evil lies outside' --from "$f/dotdot.tar"
	try 'member a/../evil' refuses_unread 'member a/\.\./evil lies outside' --from "$f/dotdot-inside.tar"
	try 'absolute member' refuses_unread "member $outside/evil lies outside" --from "$f/absolute.tar"
	try 'member below a link to the outside' refuses_new 'x/evil' --from "$f/escape.tar"
	try 'member below a relative link to the outside' refuses_new 'x/evil' --from "$f/escape-relative.tar"
	for s in tmp .old_root proc; do
		try "/$s is a link to the outside" refuses_new "its /$s is a symbolic link" --from "$f/link-$s.tar"
	done
	for s in missing not-executable directory of-host loop; do
		try "/bin/sh: $s" refuses_new 'no executable /bin/sh' --from "$f/sh-$s.tar"
	done
	try 'DIR: links, /, nothing, a file' dir_refused
	try 'arguments' arguments
	try 'DIR with something in it' non_empty
	try 'empty DIR' empty_dir
	try '--force' force
	try '--force on what is no root file system' force_other
	((EUID)) || try "--force on another user's" force_owner
	[[ $EUID$mode != 0user ]] || try '--force where not all can be removed' force_remains
	((EUID)) || [[ $mode == user ]] || try 'device node elsewhere than in dev' devices
	try 'the old one comes back when the switch fails' put_back
	if [[ $mode == root ]]; then ns=(-m) chroot=(chroot); else ns=(-rm) chroot=(unshare -r chroot); fi
	if "${as[@]}" unshare "${ns[@]}" mount -t tmpfs t /mnt 2>/dev/null; then
		try 'mount in DIR' mounted r /mnt '-t tmpfs t'
		try 'mount on DIR' mounted r '' '-t tmpfs t'
		try 'bind mount of the same file system in DIR' bind_mounted
		try 'mount in DIR, blank and backslash in the names' mounted 'r o\o t' /mnt '-t tmpfs t'
		try 'mount in a neighbour whose name starts alike' neighbour
		try 'mount that comes meanwhile' mounted_meanwhile
		try 'mount in the temporary directory' mounted_in_work
	else
		skip 'mounts: this machine does not allow the namespaces for them'
	fi
	if "${as[@]}" unshare -r true 2>/dev/null; then
		try 'root of a user namespace with one id' single_id
	else
		skip 'root of a user namespace: not allowed here'
	fi
	if command -v busybox >/dev/null; then
		try 'busybox, and it runs' busybox_runs
		try 'busybox, whatever the umask' busybox_umask
		try '--force on a root in use' in_use
	else
		skip 'busybox: not installed (busybox-static)'
	fi
	try 'busybox that is not static' busybox_dynamic
	for s in '--from ubuntu-base' ''; do
		# shellcheck disable=SC2086
		{
			try "mirror ${s:-(default)}: newest of the list" mirror_good $s
			try "mirror ${s:-(default)}: wrong checksum" mirror_mismatch $s
			try "mirror ${s:-(default)}: HTML pages" mirror_page $s
			try "mirror ${s:-(default)}: names with a path" mirror_names $s
		}
	done
	if [[ -n $http ]]; then
		try 'mirror: 404 and no answer' mirror_404
		try 'mirror: tarball listed, but gone' mirror_listed_only
	else
		skip 'mirror over HTTP: no busybox httpd'
	fi
	try 'mirror: neither https nor local' mirror_refused
	try 'mirror: the default one, over https only' https_only
	for s in 'TERM 143' 'INT 130' 'HUP 129'; do
		# shellcheck disable=SC2086
		{
			try "${s% *} while it fetches" interrupted_fetch $s
			try "${s% *} while it unpacks" interrupted_unpack $s
		}
	done
	[[ $mode == root && -n $http ]] || return 0
	if ! command -v debootstrap >/dev/null; then
		skip 'debootstrap: not installed'
		return
	fi
	try 'debootstrap: failure is not hidden, no mirror is' debootstrap_fails
	try 'debootstrap: killed' debootstrap_killed
	[[ -n $slow ]] || return 0
	try 'debootstrap: really' debootstrap_real
	try 'debootstrap: by default' debootstrap_default
}

if ((EUID == 0)); then
	mode=root as=(env)
	all
	mode=user as=(setpriv --reuid=65533 --regid=65533 --clear-groups)
	all
else
	mode=user as=(env)
	all
fi
echo "rootfs.sh: $passed passed, $failed failed"
((failed == 0))
