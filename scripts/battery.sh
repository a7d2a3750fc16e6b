#!/bin/sh
# Runs everyday programs of Debian in stage 5, and prints a table: which work, and why the others do not.
#
# Usage: battery.sh [--short] [--make] [--only TEXT] [--write FILE]...   (root, on Debian or Ubuntu)
#
#   --short         one case of each kind, and only those that take a few seconds: a part of check.sh
#   --make          only create the two roots
#   --only TEXT     only cases with TEXT in their name
#   --write FILE    write the table into FILE, between the lines <!-- battery: begin --> and
#                   <!-- battery: end -->, instead of printing it
#   STAGE_BIN_DIR   (environment) where stage5-net is (default: cargo builds it)
#   BATTERY_CACHE   (environment) where the roots are kept (default: /var/cache/stages-battery);
#                   remove this directory to get newer packages
#
# Each case of battery/battery.py runs as root and as an ordinary user, without and with --map auto, always
# with --overlay. All of them run on a host of their own: the account of the user exists only there.
# Exits with 1 if a case fails that should work, or if the host has changed, and with 3 if a root has changed.
set -eu
umask 022

fail() { echo "battery.sh: $*" >&2; exit 1; }

make='' files='' short='' only=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
        --short) short=--short ;;
        --make) make=yes ;;
        --only) [ -n "${2-}" ] || fail '--only needs a text'; only=$2; shift ;;
        --write) [ -f "${2-}" ] || fail '--write needs a file'; files="$files $2"; shift ;;
        *) fail "unknown argument '$1'; see --help" ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || fail 'it needs root, to create a root file system and to be another user'
for program in curl debian-archive-keyring mmdebstrap newuidmap python3; do
    { command -v $program >/dev/null || [ -e "/usr/share/keyrings/$program.gpg" ]; } && continue
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends curl debian-archive-keyring \
        mmdebstrap python3 uidmap
    break
done
export repo
repo=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
cache=${BATTERY_CACHE:-/var/cache/stages-battery}
mkdir -p "$cache"
chmod 700 "$cache" # the roots have setuid programs
exec 9>"$cache/lock"
flock 9

tmp=$(mktemp -d) child=''
trap '[ -z "$child" ] || { kill -KILL "$child"; wait; }; rm -rf --one-file-system "$tmp"' EXIT
trap 'exit 129' HUP INT TERM
chmod 755 "$tmp"

# apart [OPTION]... COMMAND: runs it in namespaces, all of whose processes end with this script.
apart() {
    # A shell ignores these signals in what it starts in the background.
    env --default-signal=INT,QUIT unshare --mount --pid --fork --kill-child=KILL --mount-proc "$@" &
    child=$! status=0
    wait "$child" || status=$?
    child=''
    return $status
}
export as_user='setpriv --reuid=65533 --regid=65532 --clear-groups --'
# Runs "$@" on a separate host. Its ordinary user has a range of ids.
on_a_host() {
    # shellcheck disable=SC2016 # for the inner shell
    apart --net --uts --ipc sh -euc '
        tmp=$1
        shift
        rm -rf "$tmp/etc"
        cp -a /etc "$tmp/etc"
        mount --bind "$tmp/etc" /etc
        echo "battery:x:65533:65532::/:/bin/sh" >>/etc/passwd
        echo "battery:x:65532:" >>/etc/group
        echo "battery:1000000000:65536" | tee /etc/subuid >/etc/subgid
        exec 9>&-
        "$@"' sh "$tmp" "$@"
}

# A package of the battery's own. Its file belongs to a user, and its script creates another one.
make_package() {
    mkdir -p "$tmp/deb/DEBIAN" "$tmp/deb/usr/bin" "$tmp/deb/var/lib/leopard"
    printf '%s\n' 'Package: leopard' 'Version: 1' 'Architecture: all' 'Maintainer: none <none@example.org>' \
        'Depends: adduser' 'Description: prints a word' >"$tmp/deb/DEBIAN/control"
    printf '%s\n' '#!/bin/sh -e' 'adduser --quiet --system --group leopard' \
        'chown leopard:leopard /var/lib/leopard' >"$tmp/deb/DEBIAN/postinst"
    printf '%s\n' '#!/bin/sh' 'stat -c "spots of %U" /var/lib/leopard' >"$tmp/deb/usr/bin/leopard"
    echo claws >"$tmp/deb/var/lib/leopard/games"
    chown games:games "$tmp/deb/var/lib/leopard/games"
    chmod 755 "$tmp/deb/DEBIAN/postinst" "$tmp/deb/usr/bin/leopard"
    mkdir "$1/opt" "$1/.old_root"
    dpkg-deb --build "$tmp/deb" "$1/opt/leopard.deb" >/dev/null
}

packages='adduser apt-utils bsdutils gcc git hostname libc6-dev libpython3.11-testsuite nginx-light openssh-client
    openssh-server passwd postgresql-15 python3 redis-server screen sudo tmux util-linux'

# A root of root's, without what is large and not needed here, and a copy of the user's.
make_roots() {
    echo 'battery.sh: creating a root file system' >&2
    rm -rf --one-file-system "$cache/root" "$cache/user" "$cache/recipe"
    mirror=$(apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' 'Label: Debian' | head -n 1)
    set -- bookworm "$tmp/new" "${mirror:-http://deb.debian.org/debian}"
    for path in '/usr/share/doc/*' '/usr/share/i18n/*' '/usr/share/locale/*' '/usr/share/man/*' \
        '/usr/share/zoneinfo/*' '/usr/lib/*/libLLVM*' '/usr/lib/*san.so*' '/usr/lib/gcc/*/lto1' '/usr/bin/*lto-dump*'; do
        set -- --dpkgopt="path-exclude=$path" "$@"
    done
    mkdir "$tmp/new" "$cache/root" "$cache/user"
    chown 65533:65532 "$cache/user"
    make_package "$cache/root"
    # In memory, because dpkg waits for the disk again and again.
    # shellcheck disable=SC2016 # for the inner shells
    apart sh -euc '
        tmp=$1 cache=$2
        shift 2
        mount -t tmpfs -o mode=755,size=4G new "$tmp/new"
        mmdebstrap "$@" >&2
        find "$tmp/new/dev" -mindepth 1 -delete
        cp -a "$tmp/new/." "$cache/root"' sh "$tmp" "$cache" --mode=root --variant=apt --include="$packages" \
        --dpkgopt=force-unsafe-io --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
        --essential-hook='
            mkdir "$1/etc/postgresql-common"
            echo create_main_cluster=false >"$1/etc/postgresql-common/createcluster.conf"' "$@"
    # shellcheck disable=SC2016 # for the inner shell
    on_a_host sh -euc 'cd "$1/user"; tar -C ../root -c . | $as_user unshare --map-auto --map-root-user tar -xp' sh "$cache"
    echo "$recipe" >"$cache/recipe"
}
# Another recipe, another root.
recipe=$(sed -n '/^on_a_host()/,/^}/p; /^make_package()/,/^}/p; /^packages=/,/^}/p' "$repo/scripts/battery.sh" | cksum)
[ "$(cat "$cache/recipe" 2>/dev/null)" = "$recipe" ] || make_roots
[ -z "$make" ] || exit 0

[ -n "${STAGE_BIN_DIR-}" ] || (cd "$repo" && cargo build --quiet --package stage5-net)
cp "${STAGE_BIN_DIR:-${CARGO_TARGET_DIR:-$repo/target}/debug}/stage5-net" "$tmp"
mkdir "$tmp/root" "$tmp/user"
status=0
# shellcheck disable=SC2016 # for the inner shell
on_a_host sh -euc '
    mount --bind "$1/root" "$2/root"
    mount --bind "$1/user" "$2/user"
    shift
    exec python3 "$repo/scripts/battery/battery.py" "$@"' sh "$cache" "$tmp" $short ${only:+--only "$only"} >"$tmp/table" || status=$?
[ $status != 3 ] || rm "$cache/recipe" # a root has changed: not to be used again
[ -n "$files" ] || cat "$tmp/table"
for file in $files; do
    sed -i -e '/<!-- battery: begin -->/,/<!-- battery: end -->/{//!d}' \
        -e "/<!-- battery: begin -->/r $tmp/table" "$file"
done
exit $status
