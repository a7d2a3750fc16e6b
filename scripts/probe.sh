#!/bin/sh
# Says what a process can see of the container it is in: a line a fact, "fact<TAB>value".
# A value that begins with FAILED is never right, not even on both sides.
#
# Usage: probe.sh STAGE OUTSIDE [PID]
#
# OUTSIDE is what the caller, compare.sh, knows of itself: its namespaces, pid:PID, root:DEVICE:INODE of its
# root directory, and rootfs:DIR, the new root. With PID the probe looks at that process from outside, by the
# caller's /proc, and needs only the process's user, UTS and network namespaces. Without PID it runs inside, on a
# bare busybox or on Ubuntu base, which has no ps, ip or ping: proc(5) first, then programs.
set -eu

case ${1-} in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
esac
stage=$1 outside=" $2 "
proc=/proc/${3:-self} root=${3:+/proc/$3/root}
rootfs=${outside##* rootfs:} rootfs=${rootfs%% *} caller=${outside##* pid:} caller=${caller%% *}
PATH=$PATH:/usr/sbin:/sbin
have() { [ -n "$(command -v "$1")" ]; }
fact() { printf '%s\t%s\n' "$1" "$2"; }
# Not $(cat FILE), a process that "processes" would have to leave out; nor /dev/null, which
# may be missing here, and would be made as a file.
line() { [ -r "$1" ] && IFS= read -r REPLY <"$1" || REPLY='(none)'; }

line /proc/sys/kernel/hostname
fact hostname "$REPLY"

# The namespaces that are not the caller's (namespaces(7): the same link, the same namespace).
new=''
for name in cgroup ipc mnt net pid time user uts; do
    link=$(readlink "$proc/ns/$name") || link='(none)'
    case $outside in
        *" $link "*) ;;
        *) new="$new $name" ;;
    esac
done
fact 'new namespaces' "${new# }"

for map in uid_map gid_map; do
    while read -r inside above count; do
        fact "$map" "$inside $above $count"
    done <"$proc/$map"
done
line "$proc/setgroups"
fact setgroups "$REPLY"
while read -r name value; do
    case $name in
        Uid: | Gid:) value=${value#*[!0-9]}; fact "effective ${name%:}" "${value%%[!0-9]*}" ;;
        NSpid:) fact 'PID of the shell' "${value##*[!0-9]}" ;; # the last one is the innermost
        Groups: | Cap*: | NoNewPrivs: | Seccomp:) fact "${name%:}" "${value:-(none)}" ;;
    esac
done <"$proc/status"

# The host's come and go; what counts is that they can be seen, down to the caller.
if [ -d "$root/proc/$caller" ]; then
    fact processes "those of the host, with the caller"
else
    list=''
    for dir in "$root"/proc/[0-9]*; do
        line "$dir/comm"
        list="$list, ${dir##*/} $REPLY"
    done
    fact processes "${list#, }"
fi

# A shell at a terminal has descriptors of its own, and before stage 4 it may be in any directory.
if [ -z "$root" ]; then
    standard='' more=''
    for fd in /proc/self/fd/*; do
        case $fd in
            */[012]) standard="$standard ${fd##*/}" ;;
            *) [ ! -L "$fd" ] || more="$more ${fd##*/}" ;; # the one that listed them has gone
        esac
    done
    fact descriptors "${standard# }"
    [ -n "$more" ] || more=' none'
    fact 'more descriptors' "${more# }"
fi
if [ -z "$root" ] || [ "$stage" -ge 4 ]; then
    fact directory "$(readlink "$proc/cwd")"
fi
list=''
for entry in "$root"/* "$root"/.[!.]*; do
    [ ! -e "$entry" ] || list="$list ${entry#"$root/"}"
done
fact 'in /' "${list# }"
line "$root/tmp/leopard.txt"
fact /tmp/leopard.txt "$REPLY"

# Before pivot_root, the new root is a directory somewhere below.
new_root='is a directory' new_proc='not mounted'
case $outside in
    *" root:$(stat -Lc %d:%i "$root/") "*) ;;
    *) new_root='is /' rootfs='' ;;
esac
# proc_pid_mountinfo(5): optional fields (propagation) up to a "-", then type, source, options.
while read -r _ _ _ _ target options rest; do
    case ${rest%%- *} in
        *shared:*) options=$options,shared ;;
    esac
    case ${rest%%- *} in
        *master:*) options=$options,slave ;;
    esac
    rest=${rest#*- }
    case "$target $new_root ${rest%% *}" in
        "$rootfs is a directory "*) new_root='is a mount point' ;;
        "$rootfs/proc "*' proc') new_proc=mounted ;;
    esac
    fact "mount $target" "${rest%% *} $options (${rest##* })"
done <"$proc/mountinfo"
if [ "$stage" -ge 4 ]; then
    fact 'new root' "$new_root"
    fact 'new /proc' "$new_proc"
fi

# Before the links are looked at: by the time of the answer all of them are up.
[ "$stage" != 5 ] || for address in 172.20.1.2 172.20.1.3; do
    if [ "${new#* net}" = "$new" ]; then
        REPLY='not tried: the network is not a new one'
    elif have ping; then
        case $(ping -c1 -W2 "$address" 2>&1) in
            *', 0% packet loss'*) REPLY=answers ;;
            *) REPLY='FAILED: no answer' ;;
        esac
    elif have bash; then
        # No ping(8) in Ubuntu base. "Refused" is an answer as well: from whom else?
        case $(timeout 2 bash -c ": <>/dev/tcp/$address/9" 2>&1) in
            *refused*) REPLY='answers (a connection is refused)' ;;
            *) REPLY='FAILED: no answer' ;;
        esac
    else
        REPLY='(neither ping nor bash here)'
    fi
    fact "ping $address" "$REPLY"
done

# Of a link-local address only that there is one: it comes from the random hardware address of a
# veth. Left out: M-DOWN, which ip(8) finds by looking for the index of a peer in the wrong namespace.
if have ip; then
    ip -o link | while read -r _ name flags _ mtu _; do
        name=${name%:}
        flags=${flags%>}
        case $flags in
            *,M-DOWN*) flags=${flags%%,M-DOWN*}${flags#*,M-DOWN} ;;
        esac
        fact "link ${name%%@*}" "${flags#<} mtu $mtu"
    done
    ip -o addr | while read -r _ name family value; do
        case "$family $value" in
            'inet6 fe80:'*) fact "link-local of $name" yes ;;
            inet*) value=${value%%\\*}; fact "address $name" "${value%% "$name"*}" ;;
        esac
    done
    ip route | while read -r destination value; do
        fact "route $destination" "$value"
    done
else
    while read -r name _; do
        case $name in
            *:*) fact "link ${name%%:*}" '(no ip here to ask for its state)' ;;
        esac
    done </proc/net/dev
    address='' list='' # fib_trie has two tables, and an own address is in both
    while read -r first second third _; do
        case "$first $third" in
            '|-- '*) address=$second ;;
            '/32 LOCAL')
                case " $list " in
                    *" $address "*) ;;
                    *) list="$list $address" ;;
                esac
                ;;
        esac
    done </proc/net/fib_trie
    fact addresses "${list# }"
    while read -r name destination gateway _ _ _ _ mask _; do
        [ "$name" = Iface ] || fact "route $destination" "mask $mask gateway $gateway dev $name"
    done </proc/net/route
fi

fact probe complete
