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
trap 'jobs -p >"$tmp/jobs"; xargs -r kill <"$tmp/jobs" 2>/dev/null || :; wait; rm -r "$tmp"' EXIT
trap 'exit 130' HUP INT TERM
begin=$(date +%s) part=''
step() { # the end of a part, and the begin of the next
    now=$(date +%s)
    [ -z "$part" ] || printf '   %s s: %s\n' $((now - start)) "$part"
    start=$now part=$*
    printf '\n== %s\n' "$part"
}
# beside NAME COMMAND...: runs it beside the parts that follow. Its last output is its end.
beside() {
    name=$1; shift
    "$@" >"$tmp/$name" 2>&1 </dev/null &
    echo $! >"$tmp/$name.pid"
}
# join NAME: waits for it, and fails with its output if it has failed.
join() {
    wait "$(cat "$tmp/$1.pid")" || { cat "$tmp/$1"; exit 1; }
    tail -n 1 "$tmp/$1"
    printf '   %s s, beside others: %s\n' $(($(stat -c %Y "$tmp/$1") - $(stat -c %Y "$tmp/$1.pid"))) "$1"
    sed -n "s/^skip \(.*\): \(.*\)/$1 \1\t\2/p" "$tmp/$1" >>"$NOT_TRIED"
}
# A line for each test that was left out: the test, a tab, the reason.
export NOT_TRIED="$tmp/not-tried"
: >"$NOT_TRIED"

# What the tests call, and the package that has it.
missing=''
while read -r program package; do
    # Ubuntu's chromium is a snap; either browser will do.
    [ "$program" != chromium ] || ! command -v google-chrome >/dev/null || continue
    command -v "$program" >/dev/null || [ -e "$program" ] || missing="$missing $package"
done <<'END'
brctl bridge-utils
busybox busybox-static
bwrap bubblewrap
cc gcc
chromium chromium
crun crun
curl curl
debootstrap debootstrap
hyperfine hyperfine
ip iproute2
iptables iptables
jsonschema python3-jsonschema
mmdebstrap mmdebstrap
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
/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema/config-schema.json golang-github-opencontainers-specs-dev
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

if [ "$(id -u)" = 0 ]; then
    # Creating its root file system takes a minute; much of it is waiting.
    beside battery.sh nice scripts/battery.sh --make
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
step 'build of the tests'
cargo test --quiet --workspace --no-run
beside rootfs.sh scripts/tests/rootfs.sh
# It also builds the stages for release. The tests wait so often that both take little longer than one.
[ "$(id -u)" != 0 ] || beside kernels.sh scripts/kernels.sh --short
step tests
RUST_TEST_THREADS=$((2 * $(nproc))) cargo test --workspace --no-fail-fast
step 'tests of rootfs.sh'
join rootfs.sh

step 'beside the slides'
scripts/compare.sh
if [ "$(id -u)" = 0 ]; then
    beside doctor.sh scripts/tests/doctor.sh # most of it waits

    step 'beside the slides, as an ordinary user'
    # The checkout may be where an ordinary user cannot enter.
    chmod 755 "$tmp"
    mkdir "$tmp/copy"
    cp -r scripts target/debug/stage?-* "$tmp/copy"
    (cd "$tmp/copy" && STAGE_BIN_DIR=$tmp/copy setpriv --reuid=65533 --regid=65533 --clear-groups scripts/compare.sh)

    step 'replay.sh: the pages in a browser'
    scripts/tests/replay.py

    step 'many at once: the short form'
    STAGE_BIN_DIR=target/debug scripts/scale.sh 40
    beside stress.sh scripts/stress.sh 40

    step 'what is open inside'
    STAGE_BIN_DIR=target/debug scripts/isolation.sh >/dev/null
    step 'killed at any moment: the short form'
    join stress.sh

    step 'other kernels: the short form'
    join kernels.sh
    beside bench.sh scripts/bench.sh --quick
    join battery.sh
    beside battery env STAGE_BIN_DIR=target/debug scripts/battery.sh --short

    step 'each system call fails: the short form'
    scripts/faults.sh --short

    step 'sick machines: doctor.sh'
    join doctor.sh

    step 'programs of a Debian root: the short form'
    join battery

    step 'measurements: that they work, and what can be counted'
    join bench.sh
    scripts/bench.sh --counts
    cargo run --quiet --package stage5-net --example manuals "$tmp" >/dev/null
else
    for left_out in doctor.sh replay.sh stress.sh scale.sh isolation.sh faults.sh battery.sh bench.sh kernels.sh; do
        printf 'scripts/%s\tit needs root\n' "$left_out" >>"$NOT_TRIED"
    done
fi
step 'left out'
number=$(sort -u "$NOT_TRIED" | wc -l)
reasons=$(sort -u "$NOT_TRIED" | cut -f 2 | sort | uniq -c | sed 's/^ *\([0-9]*\) /; \1: /' | tr -d '\n')
echo "$(($(date +%s) - begin)) s in all"
echo "left out: $number tests$reasons"
[ "$number" = 0 ] || [ -z "${CI-}" ]
