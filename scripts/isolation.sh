#!/bin/bash
# Tries to get out of a container, in a hundred ways, and compares with other programs that make them.
#
# Usage: isolation.sh [--markdown] [--only TEXT]         (ten seconds; root shows more)
#
#   --markdown     print what isolation/README.md is made of, instead of plain tables
#   --only TEXT    only columns with this in their name, such as 'stage 5'
#   STAGE_BIN_DIR  (environment) where the stages are (default: target/debug)
#
# isolation/attempts.c makes the attempts, and the same ones everywhere: on the host, in stages 4 and 5,
# under unshare, and under bwrap and runc where they are installed; as root, and as an ordinary user.
# Nothing of the host is written: see there. What is made goes into a directory in /tmp and into
# namespaces, and is gone afterwards.
#
# Exits with 1 if stage 5 leaves anything open without a reason that stands below, or with one that is
# not Docker's where runc has it closed; or if an attempt succeeds nowhere, not even on the host as
# root: then it may be the attempt that is wrong.
set -eu

# The attempts, by their names in attempts.c, in the order of the table.
#   name | what is attempted | why it may be open in stage 5 | why it may be closed everywhere
# A reason that starts with "Docker" holds where runc is closed, too, which has no network, fewer
# capabilities and a read-only root by default.
attempts() {
    sed '/^#/d; s/ *| */|/g' <<'END'
# What is the kernel's, as files
core_pattern | open `/proc/sys/kernel/core_pattern` for writing: the kernel runs what it names | |
sysrq | open `/proc/sysrq-trigger` for writing | |
proc_sys | open anything in `/proc/sys` for writing | |
proc_rest | open anything else in `/proc` for writing, but for that of processes | as in runc: `/proc/pressure`, where a trigger is its opener's own, and takes CAP_SYS_RESOURCE or 2 seconds |
sysfs | open anything in `/sys` for writing | |
cgroup | make a cgroup | |
release_agent | open a cgroup's `release_agent` for writing: the kernel runs what it names | |
kmsg | open `/dev/kmsg` for writing | |
dmesg | read the kernel's log: syslog(2) | |
kcore | read `/proc/kcore` | |
keys | read `/proc/keys` | |
timer_list | read `/proc/timer_list` | |
interrupts | read `/proc/interrupts` | |
kallsyms | learn the kernel's addresses from `/proc/kallsyms` | |
kpageflags | read `/proc/kpageflags` | as in runc and Docker: which pages of memory are in use, not what is in them |
devnull | change the mode of the host's `/dev/null` | |
node | make a device node, and open it | |
planted | open a device node that somebody left in the new root | |
disk | open a disk | |
# Mounts
mount_tmpfs | mount a tmpfs | |
mount_proc | mount a new `/proc`, with no masks | |
mount_sysfs | mount `/sys` | |
mount_disk | mount a disk's file system | |
unmask | unmount or remount what masks `/proc` | |
new_mount_api | fsopen(2), open_tree(2), mount_setattr(2) | |
pivot | pivot_root(2) | |
detach_root | unmount `/` to see what is below | |
nested | make a user namespace | |
nested_unmask | unmask `/proc`, or mount a new one, in a user namespace of its own | |
# The host's files
by_path | by their path | |
by_chroot | the classic break-out of a chroot | |
inherited_root | through a descriptor of `/` that the caller left open | |
inherited_stdin | through standard input, if that is a directory of the host | |
inherited_proc | its processes, through a descriptor of `/proc` | |
working_directory | from the caller's working directory upwards | |
other_processes | through `/proc/PID/root`, `cwd` and `fd` of every process that shows | |
all_mounts | below any mount that shows | |
links | the same, if the new root was made for it: `tmp`, `proc`, `dev` are links | |
by_handle | by number: open_by_handle_at(2) | |
lent | write to `/usr`, if the host lends it | |
setuid_file | leave a setuid program of root's in the new root, for others on the host | Docker leaves it open, too, below a directory that only root may enter: keep a root file system so |
# The host's processes
signals | kill(2) | |
trace | ptrace(2) | |
descriptors_of | pidfd_getfd(2) | |
join | setns(2) | |
group | a signal to the caller's process group: kill(0, ...) | |
sigio | the same by SIGIO: O_ASYNC on a terminal | |
renice | change the priority of that group: PRIO_PGRP | |
exe | write the program that made the container, through `/proc/PID/exe` | | the kernel lets nobody write a program that runs; with one linked dynamically, which a hostile loader can have opened before it ends, `runc` does more
environment | read the caller's environment | |
# The caller's terminal
tiocsti | type into it: TIOCSTI | |
tiocsti_high | the same, with the upper half of the request set | |
tioclinux | paste into it: TIOCLINUX reaches its driver | |
# What belongs to no file
shm | the host's System V shared memory | |
queue | a POSIX message queue of the host | |
session_key | a key in the caller's session keyring | |
keyrings | make a key of its own | |
abstract | an abstract socket of the host | |
loopback | a service on the host's 127.0.0.1 | |
bridge | a service on all addresses of the host, through the bridge | Docker's bridge leads there, too: the network is what stage 5 is for |
raw_host | raw packets in the host's network | |
raw_own | raw packets on its own end of the pair | Docker leaves CAP_NET_RAW, for ping; it can pose as a neighbour on the bridge (ARP) |
links_host | change the host's links | |
links_own | change its own links and addresses | |
vsock | a socket of the kind AF_VSOCK: to the hypervisor, whatever the network namespace | |
# Calls of the kernel
init_module | load a module: init_module(2) | |
finit_module | finit_module(2) | |
delete_module | unload one: delete_module(2) | |
kexec | kexec_load(2) | |
reboots | reboot(2); in a PID namespace that ends only this | |
bpf | bpf(2) | |
perf | perf_event_open(2), of the whole machine | |
perf_own | perf_event_open(2), of its own process | |
userfault | userfaultfd(2) | |
uring | io_uring_setup(2) | |
swapons | swapon(2) | |
accounting | acct(2) | |
quota | quotactl(2) | |
clock_set | set the clock: settimeofday(2) | |
clock_adjust | adjtimex(2) | |
ports | iopl(2) | |
fanotify | fanotify_init(2) | |
personalities | personality(2) that makes all memory executable | as in runc: it changes the process itself only |
trace_own | ptrace(2) of its own children | Docker, as in runc: its own processes only, and the filter holds for what it traces |
int80 | a call of another architecture: `int $0x80` | | the kernel has no 32-bit calls
x32 | a call of x32 | | the kernel has no x32
no_new_privs | gain privileges by a setuid program | |
capable | have CAP_SYS_ADMIN in the bounding set | |
# Limits
limit | raise a hard limit: setrlimit(2) | | it takes CAP_SYS_RESOURCE of the host, which was not there
priority | a priority above all others: setpriority(2) | | it takes CAP_SYS_NICE of the host, which was not there
realtime | SCHED_FIFO | | it takes CAP_SYS_NICE of the host, which was not there
oom | be spared when memory runs out: `oom_score_adj` | | it takes CAP_SYS_RESOURCE of the host, which was not there
END
}

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
fail() { echo "isolation.sh: $*" >&2; exit 1; }

markdown='' only='' words=("$@")
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit ;;
        --markdown) markdown=yes ;;
        --only) [ $# -gt 1 ] || fail '--only needs a text'; only=$2; shift ;;
        *) usage >&2; exit 1 ;;
    esac
    shift
done
scripts=$(cd -- "$(dirname -- "$0")" && pwd -P)
bin=${STAGE_BIN_DIR:-$scripts/../target/debug}
[ -x "$bin/stage5-net" ] || fail "no stages in $bin: cargo build, or set STAGE_BIN_DIR"
for program in busybox cc unshare; do command -v "$program" >/dev/null || fail "it takes $program"; done
uids=$(id -u)
if [ "$uids" = 0 ]; then
    if [ "${ISOLATION_HOST-}" != "$PPID" ]; then
        # A network, processes and System V objects that play the host's, and go when this ends.
        # shellcheck disable=SC2016 # for the inner shell
        exec unshare --net --pid --mount --ipc --fork --kill-child=TERM --mount-proc \
            sh -c 'ISOLATION_HOST=$$ "$@"; exit $?' sh "$0" ${words[@]+"${words[@]}"}
    fi
    command -v setpriv >/dev/null || fail 'it takes setpriv'
    # A number of a process of the host is then none inside. Where that cannot be set, it is likely so.
    echo 20000 2>/dev/null >/proc/sys/kernel/ns_last_pid || :
    ip link set lo up 2>/dev/null || busybox ifconfig lo up
    uids='0 65533'
    # Somebody's root, which the stages would take, is nobody's here.
    ! [ -d /tmp/rootfs ] || mount -t tmpfs -o uid=65534 tmpfs /tmp/rootfs
fi

tmp=$(mktemp -d) hosts=()
# shellcheck disable=SC2317,SC2329 # the trap calls it
cleanup() {
    trap '' HUP INT TERM
    # At the end of its standard input, the host that is played removes what it made.
    exec 8>&- 9>&-
    for host in ${hosts[@]+"${hosts[@]}"}; do wait "$host" 2>/dev/null || :; done
    rm -rf --one-file-system "$tmp"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$tmp"

cc -static -O2 -o "$tmp/attempts" "$scripts/isolation/attempts.c" || fail 'attempts.c does not compile'
cp "$bin/stage4-mount" "$bin/stage5-net" "$tmp"
"$scripts/rootfs.sh" --from busybox "$tmp/made" 2>/dev/null || fail 'scripts/rootfs.sh --from busybox failed'
cp "$tmp/attempts" "$tmp/made/bin"

# One that can be opened, which the kernel may refuse to all.
disk=''
for device in /dev/*; do
    ! [ -b "$device" ] || ! (: <"$device") 2>/dev/null || { disk=$device; break; }
done

# A root per user, as each would have made it; and those with a link where a directory is expected.
links='tmp:/.old_root tmp:/proc/sys proc:/.old_root proc:/tmp dev:/.old_root'
for uid in $uids; do
    own=$tmp/$uid
    mkdir -p "$own/host" "$own/runc"
    cp -a "$tmp/made" "$own/root"
    [ -z "$disk" ] || [ "$uid" != 0 ] || cp -a "$disk" "$own/root/planted"
    number=0
    for link in $links; do
        number=$((number + 1))
        cp -a "$tmp/made" "$own/link$number"
        rmdir "$own/link$number/${link%%:*}"
        ln -s "${link#*:}" "$own/link$number/${link%%:*}"
    done
    [ "$uid" = "$(id -u)" ] || chown -R -h "$uid:$uid" "$own"
done

as() { # as UID COMMAND...
    if [ "$1" = "$(id -u)" ]; then shift; "$@"; else
        setpriv --reuid="$1" --regid="$1" --clear-groups "${@:2}"
    fi
}

# What is to be found on the host, one set for each user.
declare -A facts
number=8
for uid in $uids; do
    mkfifo "$tmp/$uid/end" "$tmp/$uid/facts"
    chmod 666 "$tmp/$uid/end" "$tmp/$uid/facts"
    as "$uid" "$tmp/attempts" host "$tmp/$uid/host" <"$tmp/$uid/end" >"$tmp/$uid/facts" 8>&- 9>&- &
    hosts+=($!)
    if [ "$number" = 8 ]; then exec 8>"$tmp/$uid/end"; else exec 9>"$tmp/$uid/end"; fi
    number=9
    read -r "facts[$uid]" <"$tmp/$uid/facts" || fail 'the host for the attempts could not be set up'
done

# The columns: how each starts the attempts, in the root file system DIR.
runs() { # runs UID NAME DIR FACT...
    local uid=$1 name=$2 root=$3 arguments='' word kind=--rootless
    local inside=(/bin/attempts inside)
    shift 3
    # shellcheck disable=SC2206 # a list of words
    inside+=(${facts[$uid]} "$@")
    case $uid$name in
        '0stage 5, lent') ;; # it has none of ours
        0host | 0unshare) inside+=("planted=$root/planted") ;;
        0*) inside+=(planted=/planted) ;;
    esac
    case $name in
        host) command=("$tmp/attempts" "${inside[@]:1}" where=host root=lent "dir=$tmp/$uid/host") ;;
        'stage 4') command=("$tmp/stage4-mount" --rootfs "$root" -- "${inside[@]}") ;;
        'stage 5') command=("$tmp/stage5-net" --rootfs "$root" -- "${inside[@]}" gateway=172.20.1.2) ;;
        # The host's programs do not include the attempts: the empty /tmp takes them.
        'stage 5, lent')
            # shellcheck disable=SC2016 # for the shell inside
            command=("$tmp/stage5-net" -- /bin/sh -c
                'PATH=/usr/bin:/bin; cat >/tmp/attempts && chmod +x /tmp/attempts && exec /tmp/attempts "$@"' sh
                "${inside[@]:1}" root=lent gateway=172.20.1.2)
            ;;
        'stage 5 --bare')
            command=("$tmp/stage5-net" --bare --rootfs "$root" -- "${inside[@]}" gateway=172.20.1.2)
            ;;
        # It has no root of its own.
        unshare) command=(unshare -uUrpfmn --mount-proc "$tmp/attempts" "${inside[@]:1}" "dir=$tmp/$uid/host") ;;
        bwrap)
            command=(bwrap --unshare-all --uid 0 --gid 0 --bind "$root" / --proc /proc --dev /dev --tmpfs /tmp
                "${inside[@]}")
            ;;
        runc)
            for word in "${inside[@]}"; do arguments+="\"$word\", "; done
            [ "$uid" != 0 ] || kind=''
            rm -f "$tmp/$uid/runc/config.json"
            # shellcheck disable=SC2086 # perhaps none
            as "$uid" runc spec $kind --bundle "$tmp/$uid/runc"
            sed -i "s|\"terminal\": true|\"terminal\": false|; s|\"sh\"|${arguments%, }|; s|\"rootfs\"|\"$root\"|" \
                "$tmp/$uid/runc/config.json"
            command=(runc --root "$tmp/$uid/runc/state" run --bundle "$tmp/$uid/runc" "isolation-$uid-$$")
            ;;
    esac
}
attempt() { # attempt UID NAME INPUT: carries out `command`, whose lines are the results
    as "$1" env XDG_RUNTIME_DIR="$tmp/$1/runc" timeout -k 5 120 "$tmp/attempts" wrap "$3" "${command[@]}" \
        2>"$tmp/errors" >"$tmp/results" 8>&- 9>&- || :
}
declare -A found
record() { # record UID NAME
    local id state detail
    while IFS=$'\t' read -r id state detail; do found["$1 $2 $id"]="$state $detail"; done <"$tmp/results"
}

missing='' ran=()
columns=(host 'stage 4' 'stage 5' 'stage 5, lent' 'stage 5 --bare' unshare bwrap runc)
for uid in $uids; do
    for name in "${columns[@]}"; do
        [[ $name = *"$only"* || $name = host ]] || continue
        case $name in
            'stage 5, lent')
                # Then the stage takes that, and only root can hide it, as above.
                if [[ $uids != 0* ]] && [ -d /tmp/rootfs ]; then missing+=" $name (there is a /tmp/rootfs)"; continue; fi
                ;;
            bwrap | runc) command -v "$name" >/dev/null || { missing+=" $name (not installed)"; continue; } ;;
        esac
        root=$tmp/$uid/root input=-
        [ "$name" != 'stage 5, lent' ] || input=$tmp/attempts
        runs "$uid" "$name" "$root"
        attempt "$uid" "$name" "$input"
        if ! [ -s "$tmp/results" ]; then
            reason=$(grep -v -m 1 -e 'lends its programs' -e 'started by root' "$tmp/errors" || echo 'it does not start')
            case $name in
                stage* | host) fail "$name as user $uid: $reason" ;;
                *) missing+=" $name as user $uid ($reason)"; continue ;;
            esac
        fi
        record "$uid" "$name"
        ran+=("$uid $name")
        # Its standard input is taken, and it has no root that somebody could have prepared.
        [ "$name" != 'stage 5, lent' ] || continue
        runs "$uid" "$name" "$root" only=inherited_stdin
        attempt "$uid" "$name" /
        [ -s "$tmp/results" ] || printf 'inherited_stdin\tclosed\trefused\n' >"$tmp/results"
        record "$uid" "$name"
        [ "$name" != unshare ] || continue
        if [ "$name" = host ]; then found["$uid host links"]='open '; continue; fi
        result='closed refused' number=0
        for link in $links; do
            number=$((number + 1))
            runs "$uid" "$name" "$tmp/$uid/link$number" only=all_mounts
            attempt "$uid" "$name" -
            if grep -q '^all_mounts.open' "$tmp/results"; then
                result="open /${link%%:*} is ${link#*:}"
                break
            fi
            ! [ -s "$tmp/results" ] || result='closed not there'
        done
        found["$uid $name links"]=$result
    done
done

# What is said of a row, and whether it may be so.
bad=''
complain() { bad=yes; echo "isolation.sh: $*" >&2; }
judge() { # judge ID REASON NOWHERE: sets `note`
    local id=$1 column uid name result opened='' five='' runc
    note=''
    for column in "${ran[@]}"; do
        uid=${column%% *} name=${column#* } result=${found["$column $id"]-none}
        [ "${result%% *}" = open ] || continue
        opened=yes
        case $name in 'stage 5' | 'stage 5, lent') five=yes ;; *) continue ;; esac
        runc=${found["$uid runc $id"]-none}
        if [ -z "$2" ]; then
            complain "$name as user $uid: $id is open (${result#open }), and no reason is known; runc: $runc"
            note='**no reason known**'
        elif [ "${runc%% *}" = closed ] && [[ $2 != Docker* ]]; then
            complain "$name as user $uid: $id is open (${result#open }), and closed in runc"
        fi
    done
    [ -z "$five" ] || note=${note:-$2}
    # Only root of the host may do most of it.
    if [ -n "$opened" ] || [[ $uids != 0* ]]; then return; fi
    result=${found["0 host $id"]-none}
    case ${result#* } in
        none | ENOSYS | ENOENT | ENODEV | ENXIO | EAFNOSUPPORT | 'not in this kernel' | 'no such handles'*)
            note='closed everywhere: this kernel has no such thing'
            ;;
        *)
            note="closed everywhere: $3"
            [ -n "$3" ] || complain "$id succeeds nowhere, not even on the host as root: $result"
            ;;
    esac
}
declare -A notes
while IFS='|' read -r id _ reason nowhere; do
    judge "$id" "$reason" "$nowhere"
    notes[$id]=$note
done < <(attempts)

cell() { # cell UID NAME ID
    local result=${found["$1 $2 $3"]-none} detail
    detail=${result#* }
    case $result in
        open*) echo "${markdown:+**}OPEN${markdown:+**}${detail:+ ($detail)}" ;;
        closed*) echo "closed${detail:+ ($detail)}" ;;
        *) echo – ;;
    esac
}
table() { # table UID
    local mine=() column name line='| attempt |' rule='|---|' id title
    for column in "${ran[@]}"; do
        [ "${column%% *}" != "$1" ] || mine+=("${column#* }")
    done
    for name in "${mine[@]}"; do line+=" $name |" rule+='---|'; done
    printf '%s\n' "$line why it is open in stage 5, or nowhere |" "$rule---|"
    while IFS='|' read -r id title _; do
        line="| $title |"
        for name in "${mine[@]}"; do line+=" $(cell "$1" "$name" "$id") |"; done
        printf '%s\n' "$line ${notes[$id]} |"
    done < <(attempts)
}

versions="Linux $(uname -r | cut -d - -f 1)"
! command -v bwrap >/dev/null || versions+=", $(bwrap --version)"
! command -v runc >/dev/null || versions+=", $(runc --version | head -n 1)"
if [ -n "$markdown" ]; then
    cat <<'END'
# What gets out of a container

Namespaces separate what they are made for: names, users, processes, mounts, networks. A program that wants
out tries the rest: files through which the kernel takes orders, a descriptor that somebody forgot to close,
the terminal that it shares with its caller. Each row below is such an attempt, each column a way to make a
container. **OPEN** means that it succeeded, *closed* that it did not, with the kernel's answer or what was
there instead; – that there was nothing to try. `host` is no container at all: it shows that the attempt
works where nobody stops it.

What to look for:

- `stage 4` and `stage 5 --bare` as root are open in the first rows: root inside is root outside, and no
  namespace keeps root from writing to `/proc/sys`. As an ordinary user, the same container is closed there.
- `stage 5` closes what `--bare` leaves open: with mounts over `/proc`, without most capabilities, with a
  filter of system calls. `stage 5, lent` is the same where the host lends its programs.
- `unshare` has no root file system of its own: all files of the host are there. `bwrap` was given the same
  root as the stages. `runc` has what `runc spec` prints, but for the terminal: no filter of system calls, a
  read-only root, no network, and fewer capabilities than Docker's.
- The last column says why stage 5 leaves something open. Beyond the table, nothing limits memory or the
  number of processes, as in Docker without options: that is the work of cgroups.

That no row shows a way out does not mean that there is none. The attempts are in [attempts.c](attempts.c),
and change nothing: files are opened, and not written. This file is what the command prints:

```sh
sudo scripts/isolation.sh --markdown >scripts/isolation/README.md
```

END
    echo "Made on $versions."
else
    echo "$versions"
fi
[ -z "$missing" ] || echo "Left out:$missing"
for uid in $uids; do
    title='As root'
    [ "$uid" = 0 ] || title='As an ordinary user'
    if [ -n "$markdown" ]; then
        printf '\n## %s\n\n' "$title"
        table "$uid"
    else
        printf '\n== %s\n' "$title"
        table "$uid" | sed '/^|-/d; s/^| //; s/ |$//; s/`//g; s/ | /\t/g' | column -t -s "$(printf '\t')"
    fi
done
[ -z "$bad" ] || exit 1
