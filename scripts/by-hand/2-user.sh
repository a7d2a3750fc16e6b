#!/bin/sh
# Stage 2 by hand: the slide "User Namespace".
#
# Usage: 2-user.sh [--map root|none] [--] [COMMAND [ARG]...]
#
#   --map root   unshare -uUr (default): root inside is the caller outside
#   --map none   unshare -uU: nobody is mapped, so everybody is nobody
#
# Runs COMMAND (without one: /bin/sh, prompt "-> ") as stage2-user does.
# See unshare(1), user_namespaces(7).
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
map=root
if [ "${1-}" = --map ]; then
    map=${2-}
    shift $(($# < 2 ? $# : 2))
fi
case ${1-} in
    -h | --help) usage; exit ;;
    --) shift ;;
    -*) usage >&2; exit 1 ;;
esac
[ $# -gt 0 ] || set -- env PS1='-> ' /bin/sh

case $map in
    # erratum: the slide shows uid=65534(root) for -r; id(1) says uid=0(root). And -r maps
    # the effective ids of the caller, which are 0 (the Go program's HostID) only for root.
    # erratum: under sudo, root inside *is* root outside; this is no way to lock anybody in.
    root)
        exec unshare -uUr /bin/sh -euc '
            hostname leopard
            exec "$@"' sh "$@"
        ;;
    # erratum: uid=65534(nobody) belongs here, where the slide goes on as if it were root.
    # Without a map, execve(2) drops the capabilities (capabilities(7)), so hostname fails.
    none)
        exec unshare -uU /bin/sh -euc '
            hostname leopard || echo "2-user.sh: refused, as it must be without a map" >&2
            exec "$@"' sh "$@"
        ;;
    *) usage >&2; exit 1 ;;
esac
