#!/bin/sh
# Everything that must hold before a change goes in: format, lints, tests, scripts, and each stage
# beside its slide, as root and as an ordinary user.
#
# Usage: check.sh [--packages]
#
# As root on Debian or Ubuntu it installs the packages that the tests need; otherwise it names
# those that are missing. After each part it prints the seconds that the part took, and at the end how
# many tests were left out, and why. As an ordinary user these are the tests that need root. Where CI
# is set, none may be left out. --packages only prints the packages that are missing.
set -eu

case ${1-} in
    '' | --packages) ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
    *) echo "check.sh: unknown argument '$1'; see --help" >&2; exit 1 ;;
esac
cd -- "$(dirname -- "$0")/.."
tmp=$(mktemp -d)
doctor=''
trap '[ -z "$doctor" ] || kill "$doctor" 2>/dev/null || :; wait; rm -r "$tmp"' EXIT
trap 'exit 130' HUP INT TERM
begin=$(date +%s) part=''
step() { # the end of a part, and the begin of the next
    now=$(date +%s)
    [ -z "$part" ] || printf '   %s s: %s\n' $((now - start)) "$part"
    start=$now part=$*
    printf '\n== %s\n' "$part"
}
# A line for each test that was left out: the test, a tab, the reason.
export NOT_TRIED="$tmp/not-tried"
: >"$NOT_TRIED"

# What the tests call, and the package that has it.
missing=''
while read -r program package; do
    command -v "$program" >/dev/null || missing="$missing $package"
done <<'END'
brctl bridge-utils
busybox busybox-static
bwrap bubblewrap
cc gcc
curl curl
debootstrap debootstrap
hyperfine hyperfine
ip iproute2
iptables iptables
newuidmap uidmap
nft nftables
pasta passt
ping iputils-ping
ps procps
runc runc
python3 python3
script bsdutils
shellcheck shellcheck
strace strace
unshare util-linux
xz xz-utils
END
[ "${1-}" != --packages ] || { echo "$missing"; exit; }
if [ -n "$missing" ]; then
    step "packages:$missing"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q
        # shellcheck disable=SC2086 # a list of words
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
    else
        echo "check.sh: please install (the names are Debian's):$missing" >&2
        exit 1
    fi
fi

step format
cargo fmt --check
step lints
cargo clippy --quiet --workspace --all-targets -- -D warnings
RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps --document-private-items
grep -rlE '^#!/bin/(ba)?sh' scripts .ci | xargs shellcheck
# clippy's incompatible_msrv finds library calls that are too new; the toolchain itself finds the rest.
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if cargo metadata --no-deps --format-version 1 | grep -q '"rust_version":null'; then
    echo 'check.sh: a package without rust-version.workspace = true' >&2
    exit 1
fi
if rustup toolchain list 2>/dev/null | grep -q "^$rust"; then
    cargo "+$rust" check --quiet --workspace --target-dir target/rust-version
else
    echo "Rust $rust is not installed: built with $(rustc --version) only"
fi
if command -v cargo-deny >/dev/null; then
    cargo deny --offline --log-level error check licenses bans sources
else
    echo 'cargo-deny is not installed: licences and duplicate packages are not checked'
fi
step tests
cargo test --workspace --no-fail-fast
step 'rootfs.sh'
scripts/tests/rootfs.sh

step 'beside the slides'
cargo build --quiet
scripts/compare.sh
if [ "$(id -u)" = 0 ]; then
    # Most of it waits, so it runs beside the others.
    scripts/tests/doctor.sh >"$tmp/doctor" 2>&1 &
    doctor=$!

    step 'beside the slides, as an ordinary user'
    # The checkout may be where an ordinary user cannot enter.
    chmod 755 "$tmp"
    mkdir "$tmp/copy"
    cp -r scripts target/debug/stage?-* "$tmp/copy"
    (cd "$tmp/copy" && STAGE_BIN_DIR=$tmp/copy setpriv --reuid=65533 --regid=65533 --clear-groups scripts/compare.sh)

    step 'killed at any moment, and many at once: the short form'
    scripts/stress.sh 40
    STAGE_BIN_DIR=target/debug scripts/scale.sh 40

    step 'what is open inside'
    STAGE_BIN_DIR=target/debug scripts/isolation.sh >/dev/null

    step 'each system call fails: the short form'
    scripts/faults.sh --short

    step 'sick machines: doctor.sh'
    wait "$doctor" || { cat "$tmp/doctor"; exit 1; }
    doctor=''
    tail -n 1 "$tmp/doctor"
    sed -n 's/^skip \(.*\): \(.*\)/doctor.sh \1\t\2/p' "$tmp/doctor" >>"$NOT_TRIED"

    step 'measurements: that they work, and what can be counted'
    cargo build --quiet --release
    scripts/bench.sh --quick >/dev/null
    scripts/bench.sh --counts
    cargo run --quiet --package stage5-net --example manuals "$tmp" >/dev/null

    step 'other kernels: the short form'
    scripts/kernels.sh --short
else
    for left_out in doctor.sh stress.sh scale.sh isolation.sh faults.sh bench.sh kernels.sh; do
        printf 'scripts/%s\tit needs root\n' "$left_out" >>"$NOT_TRIED"
    done
fi
step 'left out'
number=$(sort -u "$NOT_TRIED" | wc -l)
reasons=$(sort -u "$NOT_TRIED" | cut -f 2 | sort | uniq -c | sed 's/^ *\([0-9]*\) /; \1: /' | tr -d '\n')
echo "$(($(date +%s) - begin)) s in all"
echo "left out: $number tests$reasons"
[ "$number" = 0 ] || [ -z "${CI-}" ]
