#!/bin/sh
# The checks that kernels.sh makes in each machine, as root and as an ordinary user.
# Prints a line a check: "check", user, column of the table, result, command, end of the output.
set -eu
case ${1-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;; esac

result=0
check() { # check COLUMN COMMAND...
    column=$1 state=ok; shift
    # shellcheck disable=SC2086 # a list of words
    timeout -k 5 300 $as "$@" >/run/output 2>&1 </dev/null || state="status $?" result=1
    printf 'check\t%s\t%s\t%s\t%s\t' "$user" "$column" "$state" "$*"
    if [ "$state" = ok ]; then echo; return; fi
    # What went wrong stands in the last lines, or in the sums of compare.sh.
    { grep -E '^(stage|hint:|[a-z]+\.sh:)' /run/output || cat /run/output; } | grep -v ' 0 different$' | tail -n 2 |
        tr -s '\n\t ' ' '
    echo
    cat /run/output
}
version=$(uname -v | sed -n 's/.*Debian \([0-9.]*\).*/\1/p')
printf 'machine\t%s\t%s\t%s\n' "${version:-$(uname -r)}" "$(uname -m)" "$(getconf PAGESIZE)"
# isolation.sh has cargo build its attempts; here they are built already.
if [ -e bin/attempts ]; then
    mkdir -p target/debug/examples
    mv bin/attempts target/debug/examples/
    ln -s true /usr/bin/cargo
fi

for user in root user; do
    as='' own=/tmp/own-$user
    [ $user = root ] || as='setpriv --reuid=1000 --regid=1000 --clear-groups'
    # shellcheck disable=SC2086 # a list of words
    $as scripts/rootfs.sh --from busybox $own >/dev/null
    if [ $user = root ]; then
        check 'stage 1' bin/stage1-uts hostname
    else # it must refuse
        check 'stage 1' sh -c 'bin/stage1-uts true 2>&1 | grep CAP_SYS_ADMIN'
    fi
    check 'stage 2' bin/stage2-user id
    check 'stage 3' bin/stage3-pid ps
    check 'stage 4' bin/stage4-mount ls /
    check 'stage 4' bin/stage4-mount --rootfs $own ls /
    for net in host private; do
        # Only root can change the host's network.
        case "$SHORT $user $net" in *' user host' | 'yes root private') continue ;; esac
        for options in '' --bare "--rootfs $own" "--bare --rootfs $own"; do
            # shellcheck disable=SC2086 # a list of words
            check 'stage 5' bin/stage5-net --net $net $options -- ping -c 1 -W 5 172.20.1.2
        done
    done
    [ "$SHORT$user" = yesroot ] || check compare.sh scripts/compare.sh
    [ $user = user ] || check limits scripts/tests/limits.sh ${SHORT:+--short}
    if [ $user = root ] && [ -e target ]; then
        check isolation.sh env TMPDIR=/var/tmp scripts/isolation.sh --markdown --only 'stage 5'
    fi
done
# The janitor deletes the bridge a moment after the last container.
user=root as=''
check 'stage 5' timeout 60 sh -c 'while ip link show br0; do sleep 0.1; done 2>/dev/null'
exit "$result"
