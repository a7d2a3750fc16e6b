#!/bin/sh
# Runs the stages under other kernels and on other processors: boots Debian's kernels in QEMU.
#
# Usage: kernels.sh [--short] [--arm64] [--write FILE]... [SUITE/PACKAGE]...    (root, on Debian or Ubuntu)
#
#   SUITE/PACKAGE   a kernel, such as bookworm/linux-image-cloud-amd64 or trixie/linux-image-arm64-16k
#                   (default: Linux 5.10, 6.1, 6.12 and 7.x on x86-64)
#   --short         two kernels and fewer checks: a part of check.sh
#   --arm64         also the default kernels for arm64; the stages are cross-compiled
#   --write FILE    write the table into FILE, between the lines <!-- kernels: begin --> and
#                   <!-- kernels: end -->, instead of printing it
#   STAGE_BIN_DIR   (environment) where the static stages for x86-64 are (default: cargo builds them)
#   JOB             (environment) run this script in each machine, as root, instead of kernels/job.sh,
#                   and print what it prints, instead of the table
#   KERNELS_CACHE   (environment) where downloads and disks are kept (default: /var/cache/stages-kernels);
#                   remove this directory to get newer kernels
#   LIMIT           (environment) after how many seconds a machine is stopped (default: 900)
#
# QEMU emulates the processor, so KVM is not needed. Installs QEMU and the other tools if they are missing.
# Exits with 1 if a check fails. A check may fail if its message names a newer kernel that it needs, as in
# "Linux 5.12 or newer".
set -eu
umask 022

fail() { echo "kernels.sh: $*" >&2; exit 1; }

amd64='bullseye/linux-image-cloud-amd64 bookworm/linux-image-cloud-amd64 trixie/linux-image-cloud-amd64
    trixie-backports/linux-image-cloud-amd64'
arm64='bookworm/linux-image-cloud-arm64 trixie/linux-image-arm64-16k trixie-backports/linux-image-cloud-arm64'
wanted='' short='' also='' files=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
        --short) short=yes amd64='bookworm/linux-image-cloud-amd64 trixie-backports/linux-image-cloud-amd64' ;;
        --arm64) also=$arm64 ;;
        --write) [ -f "${2-}" ] || fail '--write needs a file'; files="$files $2"; shift ;;
        */*) wanted="$wanted $1" ;;
        *) fail "unknown argument '$1'; see --help" ;;
    esac
    shift
done
# shellcheck disable=SC2086 # a list of words
set -- ${wanted:-$amd64} $also
[ "$(id -u)" = 0 ] || fail 'it needs root, to install packages and to unpack root file systems'

for program in cpio mke2fs modprobe qemu-system-aarch64 qemu-system-x86_64 xz zstd; do
    command -v $program >/dev/null && continue
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends cpio debian-archive-keyring \
        e2fsprogs kmod qemu-system-arm qemu-system-x86 xz-utils zstd
    break
done
repo=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
cache=${KERNELS_CACHE:-/var/cache/stages-kernels}
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
apt=$cache/apt new=$cache/new # removed at the end

tmp=$(mktemp -d) children=''
# shellcheck disable=SC2317,SC2329 # the trap calls it
cleanup() {
    trap '' HUP INT TERM
    # shellcheck disable=SC2086 # a list of words
    [ -z "$children" ] || kill $children 2>/dev/null || :
    wait
    rm -rf --one-file-system "$tmp" "$apt" "$new"
}
trap cleanup EXIT
trap 'exit 129' HUP INT TERM

# The programs of a machine, beside Debian's essential packages. Another list, another cache.
packages='bridge-utils bubblewrap busybox-static iproute2 iptables iputils-ping kmod mount nftables procps
    python3 strace uidmap'
[ "$(cat "$cache/packages" 2>/dev/null)" = "$packages" ] || rm -rf "${cache:?}"/*/
echo "$packages" >"$cache/packages"

# apt_for SUITE ARCHITECTURE [FOREIGN]: apt then works on an empty system of its own.
apt_for() {
    echo "kernels.sh: unpacking packages of Debian $1 for $2" >&2
    rm -rf "$apt" "$new"
    mkdir -p "$apt/lists/partial" "$new/debs"
    : >"$apt/status"
    mirror=$(apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' 'Label: Debian' | head -n 1)
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] ${mirror:-http://deb.debian.org/debian} $1 main" >"$apt/sources"
    cat >"$apt/conf" <<END
Dir::State "$apt"; Dir::State::status "$apt/status"; Dir::Cache "$apt"; Dir::Etc::sourcelist "$apt/sources";
Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferencesparts "/dev/null"; Acquire::Check-Valid-Until "false";
APT::Architecture "$2"; APT::Architectures { "$2"; ${3:+\"$3\";} }; APT::Sandbox::User "root";
END
    in_apt apt-get -qq update
}
in_apt() { APT_CONFIG=$apt/conf "$@"; }
# needs PACKAGE...: prints these and all packages that they depend on.
needs() { in_apt apt-get -s install --no-install-recommends "$@" | awk '$1 == "Inst" { print $2 }'; }
# unpack PACKAGE...: into $new. It runs none of their scripts, which may be for another processor.
unpack() {
    (cd "$new/debs" && in_apt apt-get -qq download "$@") || fail "cannot download $*"
    for deb in "$new"/debs/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -C "$new" --keep-directory-symlink -xpf - || fail "cannot unpack $deb"
    done
    rm -r "$new/debs"
}

make_root() { # make_root ARCHITECTURE
    apt_for trixie "$1"
    # shellcheck disable=SC2046,SC2086 # lists of words
    unpack $(needs '?essential' $packages)
    # The scripts of the packages would have created these.
    ln -s mawk "$new/usr/bin/awk"
    ln -s xtables-nft-multi "$new/usr/sbin/iptables"
    for name in passwd group; do cp "$new/usr/share/base-passwd/$name.master" "$new/etc/$name"; done
    mv "$new" "$cache/root-$1"
}

# make_kernel SUITE/PACKAGE ARCHITECTURE: a kernel, an archive with the modules for its start, a disk.
make_kernel() {
    apt_for "${1%/*}" "$2"
    # The package depends on the image; newer ones are split into image, binary, modules and base.
    # shellcheck disable=SC2046 # a list of words
    unpack $(in_apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "${1#*/}" | grep -E '^linux-(image|binary|modules|base)-[0-9]')
    mkdir -p "$new/usr/lib" "$new/kept" "$new/early/m" "$new/early/root" "$new/early/dev"
    mv "$(find "$new" -name 'vmlinuz*' -type f)" "$new/kept/vmlinuz"
    [ ! -d "$new/lib/modules" ] || mv "$new/lib/modules" "$new/usr/lib/"
    rm -rf "${new:?}/lib"
    ln -s usr/lib "$new/lib"
    version=$(ls "$new/usr/lib/modules")
    depmod -b "$new" "$version" 2>/dev/null
    position=100 # the order in which they are loaded
    for module in virtio_pci virtio_blk ext4; do modprobe -d "$new" -S "$version" --show-depends "$module"; done |
        awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
        position=$((position + 1))
        cp "$path" "$new/early/m/$position-${path##*/}"
    done
    find "$new/early/m" -name '*.xz' -exec xz -d {} +
    cp "$cache/root-$2/usr/bin/busybox" "$new/early"
    (cd "$new/early" && find . | cpio -o -H newc --quiet | gzip -1) >"$new/kept/initrd"
    cp -al "$cache/root-$2" "$new/disk"
    cp -r "$new/usr/lib/modules" "$new/disk/usr/lib/"
    truncate -s 2G "$new/kept/disk"
    mke2fs -qF -t ext4 -O '^has_journal' -d "$new/disk" "$new/kept/disk"
    mv "$new/kept" "$cache/kernel-${1%/*}-${1#*/}"
}

attempts='' # of isolation.sh
[ -n "$short${JOB-}" ] || [ ! -e "$repo/common/examples/attempts.rs" ] || attempts='--example attempts'
build_amd64() { # build_amd64 DIRECTORY
    target=$(realpath -m "${CARGO_TARGET_DIR:-$repo/target}")
    [ -n "${STAGE_BIN_DIR-}" ] || (cd "$repo" && cargo build --quiet --release)
    cp "${STAGE_BIN_DIR:-$target/release}"/stage?-*[a-z][a-z] "$1"
    [ -n "$attempts" ] || return 0
    # shellcheck disable=SC2086 # a list of words
    (cd "$repo" && cargo rustc --quiet --release --package common $attempts -- -C target-feature=+crt-static)
    cp "$target/release/examples/attempts" "$1"
}
# In a newer Debian, whose rustc has a standard library for arm64.
build_arm64() { # build_arm64 DIRECTORY
    rust=$cache/rust
    if [ ! -d "$rust" ]; then
        apt_for forky amd64 arm64
        # shellcheck disable=SC2046 # a list of words
        unpack $(needs base-files cargo coreutils dash gcc-aarch64-linux-gnu libc6-dev-arm64-cross rustc) \
            libstd-rust-dev:arm64
        cp -a /dev/null /dev/urandom "$new/dev/"
        mv "$new" "$rust"
    fi
    rm -rf "$rust/src"
    mkdir -p "$rust/src/.cargo"
    (cd "$repo" && cp -a Cargo.toml Cargo.lock common stage?-* "$rust/src")
    printf '[source]\ncrates-io.replace-with = "vendor"\nvendor.directory = "/src/vendor"\n' \
        >"$rust/src/.cargo/config.toml"
    (cd "$repo" && cargo vendor --quiet --locked "$rust/src/vendor")
    # shellcheck disable=SC2086 # a list of words
    unshare --mount --pid --fork --kill-child --root "$rust" --mount-proc --wd /src env PATH=/usr/bin HOME=/ \
        CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc RUSTFLAGS='-C target-feature=+crt-static' \
        cargo build --quiet --release --offline --bins $attempts --target aarch64-unknown-linux-gnu --target-dir /target
    built=$rust/target/aarch64-unknown-linux-gnu/release
    cp "$built"/stage?-*[a-z][a-z] "$1"
    [ -z "$attempts" ] || cp "$built/examples/attempts" "$1"
}

# boot NUMBER SUITE/PACKAGE ARCHITECTURE: the console goes to a file. The kernel hands SHORT to init.
boot() {
    case $3 in
        arm64) qemu='qemu-system-aarch64 -machine virt -cpu max,pauth-impdef=on' console=ttyAMA0 ;;
        amd64) qemu='qemu-system-x86_64 -cpu max' console=ttyS0 ;;
    esac
    kept=$cache/kernel-${2%/*}-${2#*/} log=$tmp/console-$1
    # In the short form the newer kernel has no IPv6: the stages must not need it.
    case $short$2 in yes*-backports/*) extra=ipv6.disable=1 ;; *) extra='' ;; esac
    cat "$tmp/$3.cpio" "$kept/initrd" >"$tmp/initrd-$1"
    printf 'wanted\t%s\n' "$2" >"$log"
    # shellcheck disable=SC2086 # a list of words
    TMPDIR=$tmp exec timeout -k 5 "${LIMIT:-900}" $qemu -accel tcg,thread=multi -smp 2 -m 1536 -nodefaults \
        -display none -serial stdio -no-reboot -kernel "$kept/vmlinuz" -initrd "$tmp/initrd-$1" \
        -append "console=$console loglevel=1 panic=-1 SHORT=$short $extra" \
        -drive "file=$kept/disk,format=raw,if=virtio,snapshot=on,cache=unsafe" </dev/null >>"$log" 2>&1 9>&-
}

number=0
for want; do
    number=$((number + 1))
    case $want in *arm64*) arch=arm64 ;; *) arch=amd64 ;; esac
    [ -d "$cache/root-$arch" ] || make_root $arch
    [ -d "$cache/kernel-${want%/*}-${want#*/}" ] || make_kernel "$want" $arch
    if [ ! -e "$tmp/$arch.cpio" ]; then
        mkdir -p "$tmp/$arch/opt/bin"
        build_$arch "$tmp/$arch/opt/bin"
        cp -r "$repo/docs" "$repo/scripts" "$repo/Cargo.toml" "$tmp/$arch/opt/"
        cp "${JOB:-$repo/scripts/kernels/job.sh}" "$tmp/$arch/opt/job.sh"
        cp "$repo/scripts/kernels/init.sh" "$tmp/$arch/init"
        (cd "$tmp/$arch" && find . | cpio -o -H newc --quiet >"$tmp/$arch.cpio")
    fi
    boot $number "$want" $arch &
    children="$children $!"
    # Two at a time: each keeps a little more than one core busy.
    if [ $((number % 2)) = 0 ] || [ $number = $# ]; then
        for child in $children; do wait "$child" || :; done
        children=''
    fi
done

if [ -n "${JOB-}" ]; then
    cat "$tmp"/console-* | tr -d '\r' | tee "$tmp/all"
    [ "$(grep -c '^status 0$' "$tmp/all")" = $# ] || fail 'the job failed'
    exit
fi
awk -v bad="$tmp/bad" -f "$repo/scripts/kernels/table.awk" "$tmp"/console-* >"$tmp/table"
[ -n "$files" ] || cat "$tmp/table"
for file in $files; do
    sed -i -e '/<!-- kernels: begin -->/,/<!-- kernels: end -->/{//!d}' \
        -e "/<!-- kernels: begin -->/r $tmp/table" "$file"
done
[ ! -e "$tmp/bad" ] || { xargs cat <"$tmp/bad" >&2; fail 'a check failed; the consoles are above'; }
