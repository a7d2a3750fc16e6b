#!/bin/sh
# Everything that must hold before a change goes in: format, lints, tests, scripts, and each stage
# beside its slide, as root and as an ordinary user.
#
# Usage: check.sh
#
# As root on Debian or Ubuntu it installs the packages that the tests need; otherwise it names
# those that are missing. Without root, what takes root is left out, and said so.
set -eu

case ${1-} in
    '') ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
    *) echo "check.sh: unknown argument '$1'; see --help" >&2; exit 1 ;;
esac
cd -- "$(dirname -- "$0")/.."
step() { printf '\n== %s\n' "$*"; }

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
hyperfine hyperfine
ip iproute2
iptables iptables
newuidmap uidmap
nft nftables
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
step tests
cargo test --workspace --no-fail-fast
step scripts
grep -rlE '^#!/bin/(ba)?sh' scripts .ci | xargs shellcheck
scripts/tests/rootfs.sh

step 'beside the slides'
cargo build --quiet
scripts/compare.sh
if [ "$(id -u)" = 0 ]; then
    step 'beside the slides, as an ordinary user'
    # The checkout may be where nobody else can look.
    copy=$(mktemp -d)
    trap 'rm -r "$copy"' EXIT
    chmod 755 "$copy"
    cp -r scripts target/debug/stage?-* "$copy"
    (cd "$copy" && STAGE_BIN_DIR=$copy setpriv --reuid=65533 --regid=65533 --clear-groups scripts/compare.sh)

    step 'killed at any moment, and many at once: the short form'
    scripts/stress.sh 40
    STAGE_BIN_DIR=target/debug scripts/scale.sh 40

    step 'what is open inside'
    STAGE_BIN_DIR=target/debug scripts/isolation.sh >/dev/null

    step 'each system call fails: the short form; and meanwhile, what doctor.sh says of sick machines'
    scripts/tests/doctor.sh >"$copy/doctor" 2>&1 &
    doctor=$!
    trap 'kill $doctor 2>/dev/null || :; wait; rm -r "$copy"' EXIT
    scripts/faults.sh --short

    step 'measurements: that they work, and what can be counted'
    cargo build --quiet --release
    scripts/bench.sh --quick >/dev/null
    scripts/bench.sh --counts
    scripts/manuals.sh "$copy" >/dev/null

    step 'what doctor.sh says of sick machines'
    wait $doctor || { cat "$copy/doctor"; exit 1; }
    tail -n 1 "$copy/doctor"
else
    echo 'LEFT OUT: all that takes root; run this as root for it' >&2
fi
