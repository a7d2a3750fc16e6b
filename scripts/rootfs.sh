#!/bin/sh
# Makes a root file system for the container stages; --help says from what.
set -eu
umask 022
export LC_ALL=C # the messages of tar, ldd and debootstrap are read below
unset TAR_OPTIONS
ubuntu=https://cdimage.ubuntu.com/ubuntu-base/releases/resolute/release # 26.04 LTS

usage() {
	cat <<END
Make a root file system for the container stages.

  scripts/rootfs.sh                                    /tmp/rootfs, from the first source at hand
  scripts/rootfs.sh --from busybox ~/tiny              small, without network, without root
  sudo scripts/rootfs.sh --from debootstrap --force    replace the one in /tmp/rootfs
  scripts/rootfs.sh --from base.tar.gz --sha256 SUM    a tarball that is already here

Usage: rootfs.sh [--from SOURCE] [--sha256 SUM] [--force] [DIR]

  --from SOURCE  ubuntu-base (the current LTS, downloaded), debootstrap (this machine's Debian or
                 Ubuntu, from its apt mirror; needs root), busybox (this machine's, static), or a
                 local .tar, .tar.gz, .tar.xz or .tar.zst. Without it, the first three in this
                 order: the next one only where one cannot be had, a wrong checksum is the end.
  --sha256 SUM   unpack the tarball only if this is its SHA-256
  --force        replace DIR, if it is a root file system of yours (it has .old_root), and
                 no process has it as its root and nothing is mounted in it
  ROOTFS_MIRROR  (environment) the folder with SHA256SUMS and the tarballs, instead of
                 $ubuntu
                 https://, or, for local copies and tests, file:/// or http://127.0.0.1.
                 The checksums come from there too, so it must be one that you trust.
END
}

say() { printf 'rootfs.sh: %s\n' "$*" >&2; }
die() { # what, why, hint
	say "$1: $2"
	[ -z "${3-}" ] || printf 'hint: %s\n' "$3" >&2
	exit 1
}
# For a source that cannot be had, which another may replace; one that is broken dies.
lacks() { why=$1 hint=$2; return 1; }

# In the background, since a shell handles a signal only when its foreground command has ended.
run() {
	"$@" &
	child=$! result=0
	wait "$child" || result=$?
	child=''
	return "$result"
}

# Says what is mounted on or below $1. In mountinfo, blanks and backslashes are octal.
mounts_in() {
	at=$(printf '%s' "$1" | sed 's/\\/\\134/g; s/ /\\040/g')
	cut -d ' ' -f 5 /proc/self/mountinfo | while IFS= read -r point; do
		case $point in "$at" | "$at"/*) printf '%s\n' "$point is mounted" && break ;; esac
	done
}

cleanup() {
	status=$?
	trap '' HUP INT TERM
	set +e
	[ -z "$child" ] || { kill -KILL "$child"; wait "$child"; } 2>/dev/null
	[ -n "$work" ] || exit "$status"
	# rm --one-file-system alone walks into a bind mount of the same file system.
	mounted=$(mounts_in "$work")
	[ -z "$mounted" ] || { say "$work: left behind: $mounted"; exit 1; }
	$as_range find "$work" -type d ! -perm -700 -exec chmod u+rwx {} \; 2>/dev/null # or an ordinary user could not empty them
	$as_range rm -rf --one-file-system -- "$work" 2>/dev/null && exit "$status"
	say "$work: left behind: it holds what is not yours to remove"
	exit 1
}
work='' child=''
# An ordinary user with a range of ids unpacks with it, so that --map auto finds the right owners.
as_range=''
[ "$(id -u)" = 0 ] || ! unshare --map-root-user --map-auto true 2>/dev/null ||
	as_range='unshare --map-root-user --map-auto --'
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

check_dir() {
	mounted=$(mounts_in "$dir")
	[ -z "$mounted" ] || die "$dir" "$mounted" 'unmount it first'
	[ -e "$dir" ] || return 0
	[ -d "$dir" ] || die "$dir" 'is not a directory'
	[ -n "$(ls -A -- "$dir" 2>&1)" ] || return 0
	[ -n "$force" ] || die "$dir" 'has something in it' '--force replaces a root file system'
	[ "$(stat -c %u -- "$dir")" = "$(id -u)" ] || die "$dir" 'belongs to another user' 'name another DIR'
	[ -d "$dir/.old_root" ] || die "$dir" 'is not a root file system: no .old_root' 'empty it yourself'
	# A container's mounts are in a namespace of its own, but its root shows.
	! stat -L -c %d:%i /proc/[0-9]*/root 2>/dev/null | grep -qx "$(stat -c %d:%i -- "$dir")" ||
		die "$dir" 'a process has it as its root' 'leave the container first'
}

not_html() { # file, its name for the reader, what it should be
	! head -c 512 "$1" | grep -aqiE '<(!doctype )?html' ||
		die "$2" "this is an HTML page, not a $3" 'a proxy or sign-in page may have answered'
}

verify() { # file, SHA-256, its name
	not_html "$1" "$3" tarball
	got=$(sha256sum <"$1" | cut -c 1-64)
	[ "$got" = "$2" ] || die "$3" "its SHA-256 is $got, not $2" 'nothing was unpacked; fetch it again'
}

bad_tar() {
	! grep -q 'Cannot exec' "$work/log" || hint='install the package of that program (xz-utils, zstd)'
	! grep -q 'Not a directory' "$work/log" || hint='what lies below a link to the outside is not written'
	die "$1" "$(grep -m 1 . "$work/log" || echo 'tar failed')" "$hint"
}

unpack() { # file, its name
	file=$1 name=$2
	not_html "$file" "$name" tarball
	run tar -tf "$file" --force-local --quoting-style=escape >"$work/list" 2>"$work/log" || bad_tar "$name"
	outside=$(grep -m 1 -E '^/|(^|/)\.\.(/|$)' "$work/list") || :
	[ -z "$outside" ] || die "$name" "its member $outside lies outside of the root; nothing was unpacked"
	# Tried, not asked: root of a user namespace with a single id cannot give files away.
	set -- --no-same-owner --no-same-permissions
	: >"$work/owner"
	! $as_range chown 1:1 "$work/owner" 2>/dev/null || set -- --same-owner --same-permissions --numeric-owner
	# Only root can make devices, and the stages need an empty dev anyway.
	# shellcheck disable=SC2086 # a list of words
	run $as_range tar -xf "$file" -C "$root" --force-local "$@" --delay-directory-restore --anchored \
		--exclude='dev/*' --exclude='./dev/*' 2>"$work/log" || bad_tar "$name"
	# A device node opens the same device wherever it lies.
	$as_range find "$root" \( -type b -o -type c \) -exec rm -f {} +
	[ "$1" = --same-owner ] || find "$root" -type d ! -perm -700 -exec chmod u+rwx {} \;
}

fetch() { # URL, file, protocols
	command -v curl >/dev/null || lacks 'curl is missing' 'apt-get install curl' || return
	run curl -fsSL --proto "=$3" --connect-timeout 10 --max-time 900 -o "$2" -- "$1" 2>"$work/log" ||
		lacks "$1: $(grep -m 1 . "$work/log" || echo 'curl failed')" '--from busybox needs no network'
}

ubuntu_base() {
	url=${ROOTFS_MIRROR:-$ubuntu}
	url=${url%/}
	printf '%s\n' "$url" | grep -qE '^(https://.|file:///|http://127\.0\.0\.1(:[0-9]+)?(/|$))' ||
		die ROOTFS_MIRROR "$url is neither https:// nor on this machine"
	case $(uname -m) in
	x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; armv7* | armv8l) arch=armhf ;;
	ppc64le) arch=ppc64el ;; riscv64 | s390x) arch=$(uname -m) ;;
	*) lacks "Ubuntu has none for $(uname -m)" '' || return ;;
	esac
	fetch "$url/SHA256SUMS" "$work/sums" "${url%%:*}" || return
	not_html "$work/sums" "$url/SHA256SUMS" 'list of checksums'
	# The list decides: a point release is removed once newer ones are out.
	line=$(grep -E "^[0-9a-f]{64} [ *]ubuntu-base-[0-9.]+-base-$arch\.tar\.gz\$" "$work/sums" |
		sort -t - -k 3,3V | tail -n 1)
	[ -n "$line" ] || die "$url/SHA256SUMS" "names no base tarball for $arch"
	url=$url/${line#* ?}
	say "fetching $url"
	fetch "$url" "$work/tarball" "${url%%:*}" || return
	verify "$work/tarball" "${line%% *}" "$url"
	unpack "$work/tarball" "$url"
}

by_debootstrap() {
	[ "$(id -u)" = 0 ] || lacks 'it needs root' 'run it with sudo' || return
	command -v debootstrap >/dev/null || lacks 'it is not installed' 'apt-get install debootstrap' || return
	{ mknod "$work/null" c 1 3 && (: >"$work/null") && unshare -mpf true; } 2>/dev/null ||
		lacks "no device node in ${dir%/*}/, or no mount, can be made" 'DIR may be mounted nodev' || return
	suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')
	# shellcheck disable=SC2016 # apt fills these in, not the shell
	mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' "Codename: $suite" 'Component: main' 2>/dev/null |
		sed -nE 's,^(Debian|Ubuntu) (https?://.*[^/])/*$,\2,p' | head -n 1)
	[ -n "$mirror" ] || lacks 'apt knows no mirror of this release' 'apt-get update' || return
	fetch "$mirror/dists/$suite/Release" /dev/null http,https || return
	say "installing $suite from $mirror, which takes a minute"
	# It mounts /proc in the new root: in namespaces of its own, that ends with it, even when it is killed.
	run unshare -mpf --kill-child debootstrap --variant=minbase --force-check-gpg \
		--include=iproute2,iputils-ping,procps "$suite" "$root" "$mirror" >"$work/log" 2>&1 ||
		die debootstrap "$(grep -m 1 '^E: ' "$work/log" || tail -n 1 "$work/log")" '--from busybox needs no network'
	rm -f "$root"/var/cache/apt/archives/*.deb
}

by_busybox() {
	file=$(command -v busybox) || lacks 'it is not installed' 'apt-get install busybox-static' || return
	ldd "$file" 2>&1 | grep -qE 'not a dynamic|statically linked|ot a valid dynamic' ||
		lacks "$file is not statically linked" 'apt-get install busybox-static' || return
	(
		cd "$root" && mkdir bin etc usr && mkdir -m 700 root && cp -- "$file" bin/busybox && cd bin &&
			./busybox --install . && cd .. && # hard links, by one process
			ln -s bin sbin && ln -s ../bin ../sbin usr &&
			printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/: >etc/passwd &&
			printf '%s\n' root:x:0: nogroup:x:65534: >etc/group &&
			: >etc/resolv.conf # stage5-net --nat mounts its own over it
	) || die "$root" 'cannot be filled'
}

# Where $1 leads with $root as /, since a link in it is not meant for the root of this machine.
in_root() {
	rest=$1 path='' links=0
	while [ -n "$rest" ] && [ "$links" -le 40 ]; do
		part=${rest%%/*} && rest=${rest#"$part"} && rest=${rest#/}
		case $part in '' | .) continue ;; ..) path=${path%/*} && continue ;; esac
		target=$(readlink -- "$root$path/$part") || { path=$path/$part && continue; }
		case $target in /*) path='' ;; esac
		rest=$target/$rest links=$((links + 1))
	done
	printf '%s\n' "$root$path"
}

dir=/tmp/rootfs from='' sum='' force='' given='' hint=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage && exit ;;
	--force) force=yes ;;
	--from | --sha256)
		[ -n "${2-}" ] || die "$1" 'needs a value' 'see --help'
		if [ "$1" = --from ]; then from=$2; else sum=$(printf '%s' "$2" | tr A-F a-f); fi
		shift ;;
	-*) die "$1" 'no such option' 'see --help' ;;
	*) [ -z "$given" ] || die "$1" 'a second DIR' 'see --help'; dir=$1 given=yes ;;
	esac
	shift
done
case $from in
'' | ubuntu-base | debootstrap | busybox) [ -z "$sum" ] || die --sha256 'is for --from TARBALL' ;;
*) { [ -f "$from" ] && [ -r "$from" ]; } || die "$from" 'no such file, or none to be read' 'ubuntu-base, debootstrap and busybox are not files' ;;
esac
[ -r /proc/self/mountinfo ] || die /proc/self/mountinfo 'cannot be read, so mounts would go unseen'
while [ "$dir" != / ] && [ "$dir" != "${dir%/}" ]; do dir=${dir%/}; done # "link/" is no link
[ -n "$dir" ] || die DIR 'is empty'
[ ! -L "$dir" ] || die "$dir" 'is a symbolic link' 'name the directory itself'
real=$(realpath -- "$dir" 2>/dev/null) || die "$dir" 'the directory above it does not exist' 'make it first'
case $dir$real in *[[:cntrl:]]*) die DIR 'has a control character in its name' ;; esac
dir=$real
[ "$dir" != / ] || die / 'is the root of this machine'
check_dir

# Beside DIR, so that the last step is a rename.
work=$(mktemp -d "${dir%/*}/.rootfs.XXXXXX" 2>/dev/null) || die "$dir" "${dir%/*}/ cannot be written"
root=$work/root
mkdir "$root"

take() {
	source=$1
	case $1 in
	ubuntu-base) ubuntu_base ;;
	debootstrap) by_debootstrap ;;
	busybox) by_busybox ;;
	*) [ -z "$sum" ] || verify "$1" "$sum" "$1"; unpack "$1" "$1" ;;
	esac
}
if [ -n "$from" ]; then
	take "$from" || die "$from" "$why" "$hint"
else
	take ubuntu-base || { say "ubuntu-base: $why; trying debootstrap"; take debootstrap; } ||
		{ say "debootstrap: $why; trying busybox"; take busybox; } || die busybox "$why" "$hint"
fi

sh=$(in_root bin/sh)
{ [ -f "$sh" ] && [ -x "$sh" ]; } || die "$source" 'there is no executable /bin/sh in it'
rm -rf --one-file-system -- "${root:?}/dev"
for d in dev proc sys tmp .old_root; do
	[ ! -L "$root/$d" ] || die "$source" "its /$d is a symbolic link" # which mkdir and chmod would follow
	mkdir -p "$root/$d" 2>/dev/null || die "$source" "its /$d is not a directory"
done
# Stage 5 mounts its own files over these.
for f in hosts hostname resolv.conf; do
	[ ! -d "$root/etc" ] || [ -L "$root/etc" ] || [ -e "$root/etc/$f" ] || [ -L "$root/etc/$f" ] || : >"$root/etc/$f"
done
chmod 1777 "$root/tmp"
chmod 755 "$root"
chown "$(id -u):$(id -g)" "$root" # "./" in a tarball may say otherwise

check_dir # again, as a container may have been started in it meanwhile
trap '' HUP INT TERM # nothing may come between the two renames
if [ -n "$force" ] && [ -d "$dir" ]; then
	mv -T -- "$dir" "$work/old" 2>"$work/log" || die "$dir" "$(cat "$work/log")"
fi
if ! mv -T -- "$root" "$dir" 2>"$work/log"; then
	why=$(cat "$work/log")
	[ ! -d "$work/old" ] || mv -T -- "$work/old" "$dir" || { say "$dir: what it was is in $work/old"; work=''; }
	die "$dir" "$why"
fi
say "$dir: made from $source"
[ -z "$as_range" ] || say "to remove it: $as_range rm -rf $dir"
