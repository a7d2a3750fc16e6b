#!/bin/sh
# Stage 1 by hand: the slide "Isolating Hostname with UTS Namespace".
#
# Usage: 1-uts.sh [--] [COMMAND [ARG]...]
#
# Runs COMMAND (without one: /bin/sh, prompt "-> ") with a hostname of its own, as
# stage1-uts does. Needs root; 2-user.sh does not. See unshare(1), uts_namespaces(7).
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
case ${1-} in
    -h | --help) usage; exit ;;
    --) shift ;;
    -*) usage >&2; exit 1 ;;
esac
[ $# -gt 0 ] || set -- env PS1='-> ' /bin/sh

# unshare(2): every namespace but the user namespace asks for CAP_SYS_ADMIN.
if ! unshare -u true; then
    echo '1-uts.sh: a UTS namespace alone needs root; 2-user.sh makes one without' >&2
    exit 1
fi

# exec, here and below: the exit status is then the command's own.
exec unshare -u /bin/sh -euc '
    hostname leopard
    exec "$@"' sh "$@"
