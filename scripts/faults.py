#!/usr/bin/env python3
# shellcheck disable=SC1071 # not a shell script
"""The tracer of faults.sh, which says what it is for: see there.

Fault injection as strace has it (strace -e inject=CALL:error=E:when=N), with one difference: strace
counts N for each process, but cannot be told which process is meant, and the stage's third close(2)
would fail before there is a container whose third it could be. Here a point is (process, call, N):

  stage      what the caller has started
  container  its child in the new namespaces, until it has become the command
  keeper     any other child: the process that makes the network

The call of a fault is not carried out: its number becomes -1, as with strace. A short write is one:
the kernel gets a smaller length. Where the kernel would refuse less than all (a map), it is pretended.
"""
import ctypes, errno, os, re, resource, signal, struct, subprocess, sys, time, zlib

LIMIT = 6  # seconds for one run; the longest wait of a stage is one for a link that does not come up
GRACE = 2  # seconds until nothing may be left
USER = 65533

# What the container sees of itself. Facts that must not change from run to run; no ids of mounts.
FACTS = r'''
cat /proc/sys/kernel/hostname /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
echo "pid $$" $(ls /proc/$$/fd)
grep -E '^(Sig(Blk|Ign|Cgt)|Cap|NoNewPrivs|Seccomp|Groups|[UG]id)' /proc/$$/status
while read -r _ _ _ root target rest; do echo "$root $target $rest"; done </proc/self/mountinfo
ls -la /proc/self/ns | sed 's/.* \([a-z_]* -> [a-z]*\):.*/\1/'
ls -a / /dev
cksum /tmp/leopard.txt /etc/passwd /etc/group /etc/hosts
cat /proc/net/route
grep -o '^ *[a-z0-9]*:' /proc/net/dev
'''
PING = 'ping -q -c1 -W1 172.20.1.2 >/dev/null && echo answered'

# x86-64, those that a stage makes or may come to make. Another one shows by its number.
CALLS = {int(n): name for name, n in (pair.split(':') for pair in '''
read:0 write:1 open:2 close:3 stat:4 fstat:5 lstat:6 poll:7 lseek:8 mmap:9 mprotect:10 munmap:11 brk:12
rt_sigaction:13 rt_sigprocmask:14 rt_sigreturn:15 ioctl:16 pread64:17 pwrite64:18 readv:19 writev:20 access:21
pipe:22 mremap:25 madvise:28 dup:32 dup2:33 nanosleep:35 getpid:39 socket:41 connect:42 sendto:44 recvfrom:45
sendmsg:46 recvmsg:47 shutdown:48 bind:49 getsockname:51 socketpair:53 setsockopt:54 getsockopt:55 clone:56
fork:57 vfork:58 execve:59 exit:60 wait4:61 kill:62 uname:63 fcntl:72 ftruncate:77 getdents:78 getcwd:79
chdir:80 fchdir:81 rename:82 mkdir:83 rmdir:84 creat:85 link:86 unlink:87 symlink:88 readlink:89 chmod:90
fchmod:91 chown:92 fchown:93 umask:95 getuid:102 getgid:104 setuid:105 setgid:106 geteuid:107 getegid:108
getppid:110 setsid:112 setgroups:116 setresuid:117 setresgid:119 capget:125 capset:126 sigaltstack:131
mknod:133 statfs:137 fstatfs:138 pivot_root:155 prctl:157 arch_prctl:158 setrlimit:160 chroot:161 mount:165
umount2:166 sethostname:170 setdomainname:171 gettid:186 tkill:200 futex:202 sched_setaffinity:203
sched_getaffinity:204 getdents64:217 set_tid_address:218 clock_gettime:228 clock_nanosleep:230 exit_group:231
epoll_wait:232 epoll_ctl:233 tgkill:234 waitid:247 keyctl:250 openat:257 mkdirat:258 mknodat:259 fchownat:260
newfstatat:262 unlinkat:263 symlinkat:266 readlinkat:267 fchmodat:268 faccessat:269 ppoll:271 unshare:272
set_robust_list:273 timerfd_create:283 accept4:288 signalfd4:289 eventfd2:290 epoll_create1:291 dup3:292
pipe2:293 prlimit64:302 sendmmsg:307 setns:308 seccomp:317 getrandom:318 memfd_create:319 statx:332 rseq:334
pidfd_send_signal:424 open_tree:428 move_mount:429 fsopen:430 fsconfig:431 fsmount:432 pidfd_open:434 clone3:435
close_range:436 faccessat2:439 mount_setattr:442 landlock_restrict_self:446'''.split())}

# Their arguments as far as they tell a reader which call it is: s a string, f a descriptor, n a number.
SHOWN = dict(pair.split(':') for pair in '''
read:f write:fsn close:f fcntl:f openat:-s statx:-s newfstatat:-s stat:s lstat:s access:s readlink:s mount:sss
mkdir:s symlink:ss chdir:s umount2:s pivot_root:ss mount_setattr:-s getdents64:f sethostname:s rt_sigaction:n
rt_sigprocmask:n prctl:nn socket:nn setsockopt:fnn sendto:f recvmsg:f recvfrom:f bind:f poll:-n wait4:n
execve:s unlink:s rmdir:s mknod:s chown:s capset:- seccomp:n brk:n mmap:nn mprotect:nn munmap:nn signalfd4:n
unshare:n open_tree:-s move_mount:-s setns:fn dup2:fn statfs:s kill:nn'''.split())

# Calls that have no way to fail, or none that the caller would learn of.
NEVER = set('''getpid getppid gettid getuid geteuid getgid getegid umask set_tid_address exit exit_group
rt_sigreturn'''.split())
OPENS = ['EMFILE']
MAKES = ['ENOSPC', 'EACCES']
WAITS = ['EINTR']
# Beside EPERM, since a filter may refuse anything, and ENOMEM.
ERRORS = {
    'openat': WAITS + OPENS, 'read': WAITS, 'recvfrom': WAITS, 'recvmsg': WAITS + ['ENOBUFS'],
    'sendto': WAITS + ['ENOBUFS', 'EPIPE'], 'write': WAITS + ['ENOSPC', 'EAGAIN', 'EPIPE'], 'wait4': WAITS,
    'waitid': WAITS, 'poll': WAITS, 'ppoll': WAITS, 'futex': WAITS, 'getrandom': WAITS, 'close': WAITS,
    'clone': ['ENOSPC', 'EAGAIN'], 'clone3': ['ENOSPC', 'EAGAIN'], 'fork': ['EAGAIN'], 'unshare': ['ENOSPC'],
    'pipe2': OPENS, 'signalfd4': OPENS, 'socketpair': OPENS, 'socket': OPENS, 'eventfd2': OPENS,
    'memfd_create': OPENS, 'open_tree': OPENS, 'pidfd_open': OPENS, 'mount': ['ENOSPC', 'EBUSY'],
    'mount_setattr': ['ENOSPC'], 'move_mount': ['ENOSPC'], 'umount2': ['EBUSY'], 'pivot_root': ['EBUSY'],
    'mkdir': MAKES, 'symlink': MAKES, 'mknod': MAKES, 'statx': ['EACCES'], 'access': ['EACCES'],
    'execve': ['EACCES', 'EAGAIN'], 'bind': ['EADDRINUSE'],
}
# How a message names a call, where not by the kernel's own name for it.
NAMES = {
    'openat': ['open'], 'rt_sigprocmask': ['sigprocmask'], 'rt_sigaction': ['sigaction', 'signal'],
    'signalfd4': ['signalfd'], 'wait4': ['waitpid'], 'statx': ['stat', 'lstat'], 'newfstatat': ['stat', 'lstat'],
    'getdents64': ['getdents', 'readdir'], 'recvfrom': ['recv', 'read'], 'sendto': ['send', 'write'],
    'clone': ['fork'], 'symlinkat': ['symlink'],
}
RTM = {16: 'NEWLINK', 17: 'DELLINK', 18: 'GETLINK', 20: 'NEWADDR', 21: 'DELADDR', 22: 'GETADDR', 108: 'NEWLINKPROP'}
LENT = 'the host lends its programs'

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
CONT, DETACH, POKEUSER, SYSCALL, GETEVENTMSG, SEIZE, LISTEN, SYSCALL_INFO = \
    7, 17, 6, 24, 0x4201, 0x4206, 0x4208, 0x420e
ORIG_RAX, RAX, RDX = 15 * 8, 10 * 8, 12 * 8
# TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, EXITKILL
OPTIONS = 1 | 2 | 4 | 8 | 16 | 1 << 20
EVENT_EXEC, EVENT_STOP = 4, 128
NEWUTS = 0x04000000


def ptrace(request, pid, address=0, data=0):
    """False if the process has gone meanwhile: killed."""
    if libc.ptrace(request, pid, address, data) == -1:
        if ctypes.get_errno() != errno.ESRCH:
            raise OSError(ctypes.get_errno(), f'ptrace({request})')
        return False
    return True


def memory(pid, address, length):
    try:
        with open(f'/proc/{pid}/mem', 'rb', 0) as file:
            file.seek(address)
            return file.read(length)
    except (OSError, OverflowError, ValueError):
        return b''


def shown(pid, call, args):
    """The call with those of its arguments that tell which one it is."""
    words = []
    for kind, value in zip(SHOWN.get(call, ''), args):
        if kind == 's':
            text = memory(pid, value, 4096 - value % 4096).split(b'\0')[0].decode('utf-8', 'replace')
            if call == 'write':
                text = text[:args[2]][:16]
            words.append(f'"{text}"' if value else 'NULL')
        elif kind == 'f':
            try:
                name = re.sub(r'\d+', 'N', os.readlink(f'/proc/{pid}/fd/{value}'))
            except OSError:
                name = '?'
            words.append(f'<{name}>')
        elif kind == 'n':
            words.append(str(value if value < 1 << 31 else ctypes.c_int(value & 0xffffffff).value))
    return f'{call}({", ".join(words)})'


class Run:
    """One run of a stage, with a fault at `point` if there is one, and what came of it."""

    def __init__(self, case, point=None, fault=None, describe=False):
        self.case, self.point, self.fault, self.describe = case, point, fault, describe
        self.trace, self.shown, self.counts = [], {}, {}
        self.hit = self.hung = self.request = self.host = None
        self.deaths, self.left, self.now = {}, [], {}
        self.roles, self.unknown, self.inject, self.flags = {}, {}, {}, {}
        self.begin = time.monotonic()
        self.out, self.err = os.memfd_create('out'), os.memfd_create('err')
        self.start()
        signal.signal(signal.SIGALRM, self.alarm)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        try:
            while self.stage not in self.deaths or self.roles:
                self.turn(0)
                if self.stage in self.deaths:
                    break
        except TimeoutError:
            self.hung = ', '.join(f'{role} in {self.now.get(role)}' for role in sorted(self.roles.values())) or 'the command'
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.took = time.monotonic() - self.begin
        self.status = self.deaths.get(self.stage)
        if self.hung:
            self.left = leftovers()
        else:
            self.settle()
        clear()
        self.out, self.err = text(self.out), text(self.err)

    def alarm(self, *_):
        raise TimeoutError

    def start(self):
        ready, go = os.pipe()
        self.stage = os.fork()
        if self.stage == 0:
            os.close(go)
            for number, descriptor in enumerate((os.open('/dev/null', os.O_RDONLY), self.out, self.err)):
                os.dup2(descriptor, number)
            os.chdir('/')
            if self.case.user:
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
            os.read(ready, 1)
            try:
                os.execve(self.case.argv[0], self.case.argv, {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'})
            finally:
                os._exit(99)
        os.close(ready)
        ptrace(SEIZE, self.stage, 0, OPTIONS)
        os.write(go, b's')
        os.close(go)
        self.roles[self.stage] = 'caller'  # nothing counts until it is the stage

    def turn(self, options):
        """Waits for the next event of any process; False if there is none."""
        try:
            pid, status = os.waitpid(-1, 0x40000000 | options)  # __WALL
        except ChildProcessError:
            return False
        if pid == 0:
            return False
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self.unknown.pop(pid, None)
            role = self.roles.pop(pid, None)
            if role:
                self.deaths[role] = status
            if pid == self.stage:
                self.deaths[pid] = status
        elif pid not in self.roles:
            self.unknown[pid] = status  # its parent's event tells who it is
        else:
            self.stopped(pid, status)
        return True

    def stopped(self, pid, status):
        event, number = status >> 16, status >> 8 & 0xff
        role = self.roles[pid]
        if number == signal.SIGTRAP | 0x80:
            self.syscall(pid, role)
        elif event == EVENT_STOP and number != signal.SIGTRAP:
            ptrace(LISTEN, pid)
        elif event == EVENT_EXEC and role != 'caller':
            self.host = network(self.stage)
            del self.roles[pid]
            ptrace(DETACH, pid)
        elif event == EVENT_EXEC:
            self.roles[pid] = 'stage'
            ptrace(SYSCALL, pid)
        elif event in (1, 2, 3):
            message = ctypes.c_ulong()
            if ptrace(GETEVENTMSG, pid, 0, ctypes.addressof(message)):
                child = message.value
                name = 'container' if self.flags.get(pid, 0) & NEWUTS else 'keeper'
                name = name if role == 'stage' else f'{role}\'s-{name}'
                while name in self.roles.values() or name in self.deaths:
                    name += '+'
                self.roles[child] = name
                if child in self.unknown:
                    self.stopped(child, self.unknown.pop(child))
                ptrace(SYSCALL, pid)
        else:
            ptrace(SYSCALL, pid, 0, number if event == 0 else 0)

    def syscall(self, pid, role):
        info = ctypes.create_string_buffer(96)
        if libc.ptrace(SYSCALL_INFO, pid, 96, ctypes.addressof(info)) <= 0:
            return
        if info.raw[0] == 1:
            number, *args = struct.unpack_from('=7Q', info.raw, 24)
            if role != 'caller' and not self.entered(pid, role, CALLS.get(number, f'call_{number}'), args):
                return
        elif pid in self.inject:
            ptrace(POKEUSER, pid, RAX, self.inject.pop(pid) & (1 << 64) - 1)
        ptrace(SYSCALL, pid)

    def entered(self, pid, role, call, args):
        """False if the process is not to go on."""
        count = self.counts[role, call] = self.counts.get((role, call), 0) + 1
        point = (role, call, count)
        self.trace.append(point)
        if self.describe or point == self.point:
            self.shown[point] = shown(pid, call, args)
            if call == 'mmap' and ctypes.c_int(args[4] & 0xffffffff).value >= 0:
                self.shown[point] += ' of a file'
            if call == 'openat' and args[2] & os.O_CREAT:
                self.shown[point] += ' O_CREAT'
        self.now[role] = f'{call}#{count}'
        if call in ('clone', 'fork', 'vfork', 'clone3'):
            flags = args[0] if call == 'clone' else 0
            if call == 'clone3':
                flags, = struct.unpack('=Q', memory(pid, args[0], 8) or bytes(8))
            self.flags[pid] = flags
            if self.describe:
                self.shown[point] = f'{call}({"CLONE_NEW*" if flags & NEWUTS else ""})'
        if call == 'sendto' and point[0] == (self.point or point)[0] and self.hit is None:
            length, kind = struct.unpack('=IH', memory(pid, args[1], 6).ljust(6, b'\0'))
            self.request = RTM.get(kind, str(kind)) if length == args[2] else None
        if (call == 'sendto' or call == 'recvmsg') and point in self.shown and self.request:
            self.shown[point] += f' RTM_{self.request}'
        if point != self.point or self.hit:
            return True
        self.hit = True
        if self.fault == 'KILL':
            os.kill(pid, signal.SIGKILL)
            return False
        if self.fault == 'SHORT':
            return ptrace(POKEUSER, pid, RDX, 1)
        self.inject[pid] = int(self.fault[7:]) if self.fault.startswith('RETVAL=') else -getattr(errno, self.fault)
        return ptrace(POKEUSER, pid, ORIG_RAX, (1 << 64) - 1)

    def settle(self):
        """Waits until nothing is left; what is left in the end stays in self.left."""
        begin = time.monotonic()
        while True:
            while self.turn(os.WNOHANG):
                pass
            self.left = leftovers()
            self.settled = time.monotonic() - begin
            if not self.left or self.settled > GRACE:
                return
            time.sleep(0.002)

    def same(self, other):
        return (self.status, self.out, self.host) == (other.status, other.out, other.host) \
            and messages(self.err) == messages(other.err)


def text(descriptor):
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, 'rb') as file:
        return file.read().decode('utf-8', 'replace')


def messages(err):
    return [line for line in err.splitlines() if LENT not in line]


def read(path):
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            return file.read()
    except OSError:
        return ''


def links(process='self'):
    return sorted(line.split(':')[0].strip() for line in read(f'/proc/{process}/net/dev').splitlines()[2:])


def network(process):
    """The bridge's side: links, routes, and the addresses that are this host's."""
    trie = read(f'/proc/{process}/net/fib_trie').splitlines()
    local = {above.split()[-1] for above, line in zip(trie, trie[1:]) if 'host LOCAL' in line}
    return links(process), sorted(read(f'/proc/{process}/net/route').splitlines()), sorted(local)


def files():
    return {os.path.join(place, name) for place, below, names in os.walk('/tmp') for name in below + names}


def host():
    mounts = sorted(line.split(' ', 3)[3] for line in read('/proc/self/mountinfo').splitlines())
    return {'hostname': read('/proc/sys/kernel/hostname'), 'mounts': mounts, 'links': links(), 'files': files()}


def processes():
    return [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]


def leftovers():
    """What is there and was not before, as words."""
    left = []
    for pid in processes():
        stat = read(f'/proc/{pid}/stat')
        if stat:
            left.append(f'process {stat.split("(", 1)[1].rsplit(")", 1)[0]}')
    for kind, before in HOST.items():
        after = now[kind] if (now := {kind: FRESH[kind]()}) else None
        if kind == 'hostname':
            left += [f'hostname {after.strip()}'] if after != before else []
        elif kind == 'mounts':
            left += [f'mount {mount}' for mount in after if mount not in before]
            left += [f'lost mount {mount}' for mount in before if mount not in after]
        else:
            left += [f'{kind[:-1]} {name}' for name in sorted(set(after) - set(before))]
            left += [f'lost {kind[:-1]} {name}' for name in sorted(set(before) - set(after))]
    return left


FRESH = {kind: (lambda kind=kind: host()[kind]) for kind in ('hostname', 'mounts', 'links', 'files')}


def clear():
    """Ends whatever runs, and removes links, so that the next run has a host as it was."""
    for _ in range(200):
        for pid in processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, 0x40000000 | os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        if not processes():
            break
        time.sleep(0.005)
