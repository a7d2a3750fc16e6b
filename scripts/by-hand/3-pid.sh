#!/bin/sh
# Stage 3 by hand: the slide "PID Namespace".
#
# Usage: 3-pid.sh [--] [COMMAND [ARG]...]
#
# Runs COMMAND (without one: /bin/sh, prompt "-> ") as PID 1 with a /proc of its own, as
# stage3-pid does. See unshare(1), pid_namespaces(7), proc(5).
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
case ${1-} in
    -h | --help) usage; exit ;;
    --) shift ;;
    -*) usage >&2; exit 1 ;;
esac
[ $# -gt 0 ] || set -- env PS1='-> ' /bin/sh

# -f: unshare(2) leaves the caller in its PID namespace; the first child is PID 1.
# --mount-proc: ps(1) reads /proc, and the old one would go on showing the host.
exec unshare -uUrpf --mount-proc /bin/sh -euc '
    hostname leopard
    exec "$@"' sh "$@"
