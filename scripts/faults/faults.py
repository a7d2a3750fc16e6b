#!/usr/bin/env python3
# shellcheck disable=SC1071 # not a shell script
"""The tracer of faults.sh, which says what it is for: see there.

Fault injection as strace has it (strace -e inject=CALL:error=E:when=N), with one difference: strace
counts N for each process, but cannot be told which process is meant, and the stage's third close(2)
would fail before there is a container whose third it could be. Here a point is (process, call, N):

  stage      what the caller has started
  container  its child in the new namespaces, until it has become the command
  keeper     any other child: the process that makes the network

The call of a fault is not carried out: its number becomes -1, as with strace; but for close(2), which
closes whatever it returns. A short write is one: the kernel gets a smaller length. Where the kernel would
refuse less than all (a map), it is pretended.
"""
import ctypes, errno, os, re, signal, struct, subprocess, sys, time, zlib

LIMIT = 6  # seconds for one run; the longest wait of a stage is one for a link that does not come up
GRACE = 2  # seconds until nothing may be left
# The kernel makes and unmakes network namespaces one after the other, and on a busy machine that takes
# its time: seconds in which somebody waits for it (state D) do not count, up to this many.
PATIENCE = 60
TICK = 0.25
USER = 65533

# What the container sees of itself. Facts that must not change from run to run; no ids of mounts.
FACTS = r'''
exec 2>&1
cat /proc/sys/kernel/hostname /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
[ $$ -gt 1 ] || echo PID 1
ls /proc/$$/fd
grep -E '^(Sig(Blk|Ign)|Cap|NoNewPrivs|Seccomp|Groups|[UG]id)' /proc/self/status
while read -r _ _ _ root target rest; do echo "$root $target $rest"; done </proc/self/mountinfo
ls -a / /dev
head /tmp/leopard.txt /etc/passwd /etc/group /etc/hosts
cat /proc/net/route
grep -o '^ *[a-z0-9]*:' /proc/net/dev
'''
PING = "for n in 1 2 3; do ping -q -c1 -W1 172.20.1.2 | grep -o ' 0% packet loss' && break; done\n"

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
execve:s unlink:s rmdir:s mknod:s chown:s capset:- seccomp:n mmap:-n mprotect:-n munmap:-n signalfd4:n
unshare:n open_tree:-s move_mount:-s setns:fn dup2:fn statfs:s kill:nn'''.split())

# Calls that have no way to fail, or none that the caller would learn of.
NEVER = set('''getpid getppid gettid getuid geteuid getgid getegid umask set_tid_address exit exit_group
rt_sigreturn'''.split())
# Calls for which the kernel takes no memory; as for all, a filter may refuse them.
TAKES_NOTHING = set('''rt_sigaction rt_sigprocmask sigaltstack fcntl close_range prctl setsid capget capset
set_robust_list rseq arch_prctl kill'''.split())
OPENS = ['EMFILE']
MAKES = ['ENOSPC', 'EACCES']
WAITS = ['EINTR']
# Beside EPERM and ENOMEM. EPIPE is not among them: that the reader has gone is what a KILL of it tells.
ERRORS = {
    'openat': WAITS + OPENS, 'read': WAITS, 'recvfrom': WAITS, 'recvmsg': WAITS + ['ENOBUFS'],
    'sendto': WAITS + ['ENOBUFS'], 'write': WAITS + ['ENOSPC', 'EAGAIN'], 'wait4': WAITS,
    'waitid': WAITS, 'poll': WAITS, 'ppoll': WAITS, 'futex': WAITS, 'getrandom': WAITS,
    'clone': ['ENOSPC', 'EAGAIN'], 'clone3': ['ENOSPC', 'EAGAIN'], 'fork': ['EAGAIN'], 'unshare': ['ENOSPC'],
    'pipe2': OPENS, 'signalfd4': OPENS, 'socketpair': OPENS, 'socket': OPENS, 'eventfd2': OPENS,
    'memfd_create': OPENS, 'open_tree': OPENS, 'pidfd_open': OPENS, 'mount': ['ENOSPC', 'EBUSY'],
    'mount_setattr': ['ENOSPC'], 'move_mount': ['ENOSPC'], 'umount2': ['EBUSY'], 'pivot_root': ['EBUSY'],
    'mkdir': MAKES, 'symlink': MAKES, 'mknod': MAKES, 'statx': ['EACCES'], 'access': ['EACCES'],
    'execve': ['EACCES', 'EAGAIN'], 'bind': ['EADDRINUSE'],
}
# How a message names a call, where not by the kernel's own name for it.
NAMES = {
    'openat': ['open', 'opendir'], 'rt_sigprocmask': ['sigprocmask'], 'rt_sigaction': ['sigaction', 'signal'],
    'signalfd4': ['signalfd'], 'wait4': ['waitpid'], 'statx': ['stat', 'lstat'], 'readlink': ['realpath'],
    'newfstatat': ['stat', 'lstat', 'fstat', 'opendir'],
    'getdents64': ['getdents', 'readdir'], 'recvfrom': ['recv', 'read'], 'sendto': ['send', 'write'],
    'clone': ['fork'], 'symlinkat': ['symlink'],
}
RTM = {16: 'RTM_NEWLINK', 17: 'RTM_DELLINK', 18: 'RTM_GETLINK', 20: 'RTM_NEWADDR', 22: 'RTM_GETADDR', 108: 'RTM_NEWLINKPROP'}
# Others that make a container, in the form in which they leave least behind.
PEERS = {
    'unshare': '/usr/bin/unshare -uUrpfm --mount-proc --kill-child --'.split(),
    'bwrap': ('/usr/bin/bwrap --unshare-all --die-with-parent --hostname leopard --bind ROOT / --proc /proc '
              '--dev /dev --tmpfs /tmp --').split(),
}
STAGES = {'1': 'stage1-uts', '2': 'stage2-user', '3': 'stage3-pid', '4': 'stage4-mount', '5': 'stage5-net'}

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
DETACH, POKEUSER, SYSCALL, GETEVENTMSG, SEIZE, LISTEN, SYSCALL_INFO = 17, 6, 24, 0x4201, 0x4206, 0x4208, 0x420e
ORIG_RAX, RAX, RDX = 15 * 8, 10 * 8, 12 * 8
# TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, EXITKILL
OPTIONS = 1 | 2 | 4 | 8 | 16 | 1 << 20
EVENT_NEW, EVENT_EXEC, EVENT_STOP = (1, 2, 3), 4, 128
NEWUTS = 0x04000000  # CLONE_NEWUTS
WALL = 0x40000000  # __WALL
ALL = (1 << 64) - 1
HOST = set()  # what is there before the first run


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
                text = text[:min(args[2], 16)].replace('\n', '\\n')
            words.append('"' + re.sub(r'^/proc/\d+', '/proc/PID', text) + '"' if value else 'NULL')
        elif kind == 'f':
            try:
                path = f'/proc/{pid}/fd/{value}'
                name = re.sub(r'\d+', 'N', os.readlink(path)) + '/' * os.path.isdir(path)
            except OSError:
                name = '?'
            words.append(f'<{name}>')
        elif kind == 'n':
            words.append(str(value if value < 1 << 31 else ctypes.c_int(value & 0xffffffff).value))
    if call == 'brk':
        words = ['more' if args[0] else '0']
    creates = call == 'openat' and args[2] & os.O_CREAT
    return f'{call}({", ".join(words)})' + ' O_CREAT' * bool(creates)


class Run:
    """One run of a stage, with a fault at `point` if there is one, and what came of it."""

    def __init__(self, case, point=None, fault=None):
        self.case, self.point, self.fault = case, point, fault
        self.trace, self.shown, self.counts = [], {}, {}
        self.hit, self.hung, self.status, self.host = False, '', None, None
        self.idle, self.ticks, self.over = 0, 0, False
        self.roles, self.strangers = {}, {}  # by pid: who it is; the first stop of one not known yet
        self.flags, self.result = {}, {}  # by pid: of its last clone(2); what its call is to return
        self.doing, self.request = {}, {}  # by role: the last call, the last request of rtnetlink(7)
        self.out, self.err = os.memfd_create('out'), os.memfd_create('err')
        begin = time.monotonic()
        self.start()
        signal.signal(signal.SIGALRM, self.alarm)
        try:
            signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
            while self.status is None:
                self.turn(0)
        except TimeoutError:
            waits = sorted(f'{role} in {self.doing.get(role, "?")}' for role in self.roles.values())
            self.hung = ', '.join(waits) or 'the command'
        self.over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.took = time.monotonic() - begin
        self.left, self.settled = [], 0
        if not self.hung:
            self.settle()
        end_all()
        self.out, self.err = text(self.out), text(self.err)

    def alarm(self, *_):
        self.idle += 0 if busy() else TICK
        self.ticks += TICK
        if not self.over and (self.idle > LIMIT or self.ticks > PATIENCE):
            self.over = True  # the next tick would come while this one is dealt with
            raise TimeoutError

    def start(self):
        ready, go = os.pipe()
        self.stage = os.fork()
        if self.stage == 0:
            try:
                os.close(go)
                for number, descriptor in enumerate((os.open('/dev/null', os.O_RDONLY), self.out, self.err)):
                    os.dup2(descriptor, number)
                os.chdir('/')
                if self.case.user:
                    os.setgroups([])
                    os.setresgid(USER, USER, USER)
                    os.setresuid(USER, USER, USER)
                os.read(ready, 1)
                os.execve(self.case.argv[0], self.case.argv, {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'})
            finally:
                os._exit(99)
        os.close(ready)
        ptrace(SEIZE, self.stage, 0, OPTIONS)
        self.roles[self.stage] = ''  # nothing counts until it has become the stage
        os.write(go, b's')
        os.close(go)

    def turn(self, options):
        """Takes the next event of any process; False if there is none."""
        try:
            pid, status = os.waitpid(-1, WALL | options)
        except ChildProcessError:
            return False
        if pid == 0:
            return False
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self.strangers.pop(pid, None)
            self.roles.pop(pid, None)
            if pid == self.stage:
                self.status = os.waitstatus_to_exitcode(status)
        elif pid in self.roles:
            self.stopped(pid, status)
        else:
            self.strangers[pid] = status  # who it is will be known from its parent's next stop
        return True

    def stopped(self, pid, status):
        event, number = status >> 16, status >> 8 & 0xff
        role = self.roles[pid]
        if number == signal.SIGTRAP | 0x80:
            self.syscall(pid, role)
        elif event == 0 and number == signal.SIGABRT:
            # As PID 1 of its namespace a process survives it; in the end abort(3) makes a fault, which ends
            # PID 1 as well, but not one that is traced: force_sig_info_to_task of kernel/signal.c.
            os.kill(pid, signal.SIGKILL)
        elif event == EVENT_STOP and number != signal.SIGTRAP:
            ptrace(LISTEN, pid)
        elif event == EVENT_EXEC and role:
            # The command: what it and its children do is nobody's set-up.
            try:
                self.host = [f'namespace of its own: {kind}' for kind in sorted(os.listdir('/proc/self/ns'))
                             if os.readlink(f'/proc/{pid}/ns/{kind}') != os.readlink(f'/proc/self/ns/{kind}')]
            except FileNotFoundError:
                self.host = ['it was killed']
            self.host += network(self.stage)
            del self.roles[pid]
            ptrace(DETACH, pid)
        elif event in EVENT_NEW:
            message = ctypes.c_ulong()
            if ptrace(GETEVENTMSG, pid, 0, ctypes.addressof(message)):
                child = message.value
                name = 'container' if self.case.peer or self.flags[pid] & NEWUTS else 'keeper'
                while name in self.doing:
                    name += '+'
                self.roles[child] = name
                self.doing[name] = 'its first instruction'
                if child in self.strangers:
                    self.stopped(child, self.strangers.pop(child))
            ptrace(SYSCALL, pid)
        else:
            if event == EVENT_EXEC:
                self.roles[pid] = 'stage'
            ptrace(SYSCALL, pid, 0, 0 if event else number)

    def syscall(self, pid, role):
        info = ctypes.create_string_buffer(96)
        if libc.ptrace(SYSCALL_INFO, pid, len(info), ctypes.addressof(info)) <= 0:
            return  # killed
        if info.raw[0] == 1:
            number, *args = struct.unpack_from('=7Q', info.raw, 24)
            if role and not self.entered(pid, role, CALLS.get(number, f'call_{number}'), args):
                return
        elif pid in self.result:
            ptrace(POKEUSER, pid, RAX, self.result.pop(pid) & ALL)
        ptrace(SYSCALL, pid)

    def entered(self, pid, role, call, args):
        """The entry of a system call; False if it was the process's last."""
        count = self.counts[role, call] = self.counts.get((role, call), 0) + 1
        point = (role, call, count)
        self.doing[role] = f'{call} {count}'
        self.trace.append(point)
        if call in ('clone', 'clone3', 'fork', 'vfork'):
            structure = args[0] if call == 'clone3' else 0
            flags = struct.unpack('=Q', memory(pid, structure, 8))[0] if structure else args[0]
            self.flags[pid] = flags if call.startswith('clone') else 0
        if call == 'sendto':
            length, kind = struct.unpack('=IH', memory(pid, args[1], 6).ljust(6, b'\0'))
            self.request[role] = RTM.get(kind, f'RTM_{kind}') if length == args[2] else ''
        if self.point in (None, point):
            self.shown[point] = shown(pid, call, args)
            if call in ('sendto', 'recvmsg'):
                self.shown[point] += ' ' + self.request.get(role, '')
        if point != self.point:
            return True
        self.hit = True
        if self.fault == 'KILL':
            os.kill(pid, signal.SIGKILL)
            return False
        if self.fault == 'SHORT':
            return ptrace(POKEUSER, pid, RDX, 1)
        name, _, value = self.fault.partition('=')
        self.result[pid] = int(value) if name == 'RETVAL' else -getattr(errno, name)
        return call == 'close' or ptrace(POKEUSER, pid, ORIG_RAX, ALL)

    def settle(self):
        """Waits until nothing is left. What is left in the end is in self.left."""
        begin = last = time.monotonic()
        waited = 0
        while True:
            while self.turn(os.WNOHANG) and time.monotonic() - last < TICK:
                pass
            self.left = leftovers()
            now = time.monotonic()
            waited += now - last if self.left and not busy() else 0
            last, self.settled = now, now - begin
            if not self.left or waited > (0.1 if self.may_leave() else GRACE) or self.settled > PATIENCE:
                return
            time.sleep(0.002)

    def may_leave(self):
        """A bridge, and nothing else, where nobody is there to remove it."""
        return self.fault == 'KILL' and self.point[0].startswith('keeper') and self.left == ['link br0']

    def same(self, other):
        """Whether the same container has run, and the same was said."""
        return self.difference(other) == '' and self.err == other.err

    def difference(self, other):
        if self.status != other.status:
            return f'status {self.status}'
        here, there = facts(self), facts(other)
        for mark, lines in (('-', [line for line in there if line not in here]),
                            ('+', [line for line in here if line not in there])):
            if lines:
                return f'{mark}{lines[0]}' + (f' and {len(lines) - 1} more' if lines[1:] else '')
        return '' if here == there else 'another order'


def facts(run):
    return run.out.splitlines() + (run.host or [])


def text(descriptor):
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, 'rb') as file:
        return file.read().decode('utf-8', 'replace')


def read(path):
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            return file.read()
    except OSError:
        return ''


def links(process='self'):
    return sorted(line.split(':')[0].strip() for line in read(f'/proc/{process}/net/dev').splitlines()[2:])


def network(process):
    """What the stage has on its side: links, routes, addresses. An address has two lines there."""
    trie = read(f'/proc/{process}/net/fib_trie').splitlines()
    own = {above.split()[-1] for above, line in zip(trie, trie[1:]) if 'host LOCAL' in line}
    routes = read(f'/proc/{process}/net/route').splitlines()
    return ['host: ' + ' '.join(line.split()) for line in links(process) + sorted(routes) + sorted(own)]


def host():
    """What a stage must leave as it was, but for processes."""
    state = {'hostname ' + read('/proc/sys/kernel/hostname').strip()}
    state |= {'mount ' + line.split(' ', 3)[3] for line in read('/proc/self/mountinfo').splitlines()}
    state |= {f'link {name}' for name in links()}
    for place, below, names in os.walk('/tmp'):
        state |= {f'file {place}/{name}' for name in below + names}
    return state


def processes():
    return [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]


def busy():
    """Whether anybody waits for the kernel itself."""
    return any(read(f'/proc/{pid}/stat').rpartition(') ')[2][:1] == 'D' for pid in processes())


def leftovers():
    names = [read(f'/proc/{pid}/comm').strip() for pid in processes()]
    now = host()
    return [f'process {name}' for name in names if name] + sorted(now - HOST) + \
        [f'no more: {what}' for what in sorted(HOST - now)]


def end_all():
    while processes():
        for pid in processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, WALL | os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        time.sleep(0.001)


def restore():
    """After a run that was not clean: the next one shall find a host as it was."""
    for name in links():
        if name != 'lo':
            subprocess.run(['ip', 'link', 'del', name], check=False, stderr=subprocess.DEVNULL)
    for what in sorted(host() - HOST, reverse=True):
        if what.startswith('file '):
            path = what[5:]
            (os.rmdir if os.path.isdir(path) and not os.path.islink(path) else os.unlink)(path)
    subprocess.run(['hostname', 'host'], check=False)
    # A network namespace, and with it a link, goes a while after its last process.
    end = time.monotonic() + 5
    while leftovers() and time.monotonic() < end:
        time.sleep(0.01)


def faults(point, what):
    """What may happen to a call, beside a kill."""
    call = point[1]
    if call in NEVER or what == 'brk(0)':
        errors = []
    elif call == 'brk':
        errors = ['RETVAL=0']  # brk(2) as a system call: less than was asked for
    elif call in ('mmap', 'munmap', 'mprotect', 'mremap'):
        errors = ['ENOMEM']
    elif call == 'close':
        errors = ['EINTR'] + ['EIO'] * (not what.endswith('/>)'))  # a directory has nothing to write back
    else:
        errors = ['EPERM', 'ENOMEM'][:1 if call in TAKES_NOTHING else 2] + ERRORS.get(call, [])
    if call == 'openat' and what.endswith(' O_CREAT'):
        errors += ['ENOSPC']
    if call == 'write' and '</' in what or call == 'sendto' and not 'RTM_' in what:
        # The kernel takes a map whole or not at all. Nor does a pipe take less, if it is that short.
        errors += ['RETVAL=1' if '</proc/' in what else 'SHORT']
    return errors


def names(call, what):
    """How a message may begin that names this call."""
    if call in ('sendto', 'recvmsg') and 'RTM_' in what:
        return [what.split()[-1], 'recvmsg'] if call == 'recvmsg' else [what.split()[-1]]
    return [call] + NAMES.get(call, [])


def judge(run, usual, point, fault, what, start_up):
    """The kind of end, and what is wrong with it."""
    # Notes, which it has for its reader with and without the fault, are no messages about it.
    said = [line for line in run.err.splitlines() if line not in usual.err.splitlines()]
    wrong = []
    if run.hung:
        wrong.append(f'hangs: {run.hung}')
    if 'panicked' in run.err and not start_up:
        wrong.append('panics')
    if run.left:
        if run.may_leave():
            after = Run(run.case)
            if not after.same(usual) or after.left:
                wrong.append('left a bridge, and the next run did not remove it')
        else:
            wrong.append('left: ' + ', '.join(run.left[:4]))
    if run.hung:
        return 'hung', wrong
    if not run.hit:
        if not run.same(usual):
            wrong.append(f'not reached, but not the same: {run.difference(usual) or said}')
        return 'not-reached', wrong
    # A message that could not be written is no news, nor is what libc says before main.
    if run.same(usual) or ('memfd:err' in what or start_up) and not run.difference(usual):
        return 'harmless', wrong
    if run.status == 0:
        wrong.append(f'status 0, but: {run.difference(usual) or said}')
        return 'harmless', wrong
    if fault == 'KILL':
        return 'killed', wrong
    if run.case.peer:
        return 'refused', wrong  # in what words, is the peer's own affair
    if start_up:
        return 'panic' if 'panicked' in run.err else 'start-up', wrong
    if run.status < 0:
        wrong.append(f'ended by signal {-run.status}')
    first = said[0] if said else ''
    if not said:
        wrong.append(f'status {run.status} without a message')
    elif [line for line in said[1:2] if not line.startswith('hint: ')] or said[2:]:
        wrong.append('more than one message: ' + ' | '.join(said))
    elif not first.startswith(tuple(f'{run.case.name}: {name}(' for name in names(point[1], what))):
        wrong.append(f'names another call: {first}')
    elif fault[0] == 'E' and f': {fault}: ' not in first:
        wrong.append(f'another errno: {first}')
    return 'refused', wrong


class Case:
    """A stage, who calls it, in which network, on which root."""

    def __init__(self, words):
        self.words = words
        number, caller, net, root = words.split(':')
        self.name = STAGES.get(number, number)
        self.peer = number in PEERS
        self.user = caller == 'user'
        self.argv = PEERS.get(number, [f'/mnt/{self.name}'])
        if self.peer:
            self.argv = [word.replace('ROOT', f'/tmp/{caller}') for word in self.argv]
            self.argv += ['sh', '-c', FACTS + 'exit 0']
            return
        if net != '-':
            self.argv += ['--net', net]
        if root == 'busybox':
            self.argv += ['--rootfs', f'/tmp/{caller}']
        self.argv += ['--', 'sh', '-c', FACTS + PING * (number == '5') + 'exit 0']

    def points(self):
        """What happens usually, all points that were seen, and those of the language's start-up."""
        usual, *others = runs = [Run(self) for _ in range(3)]
        for run in runs:
            if run.hung or run.left or not run.same(usual):
                said = (run.err + usual.err).splitlines()
                raise RuntimeError(f'undisturbed, it is not clean, or not twice the same: {run.hung or run.left}, '
                                   f'{run.status} and {usual.status}, {run.difference(usual)}, {" | ".join(said)}')
        what = {point: shown for run in (*others, usual) for point, shown in run.shown.items()}
        if self.peer:
            return usual, what, set()
        # Before main, Rust installs its handlers for a stack overflow; SIGBUS (7) is the last.
        end = max(at for at, point in enumerate(usual.trace) if usual.shown[point] == 'rt_sigaction(7)')
        return usual, what, set(usual.trace[:end + 1])


def show(case, words):
    """One fault, and all that is known of it."""
    *point, fault = words.split()
    point = (point[0], point[1], int(point[2]))
    usual, what, start_up = case.points()
    run = Run(case, point, fault)
    what = run.shown.get(point, what.get(point, '?'))
    kind, wrong = judge(run, usual, point, fault, what, point in start_up)
    print(f'{" ".join(map(str, point))}: {what} {fault}: {kind}')
    print(f'status {run.status} (usually {usual.status}), {run.took:.3f} s, {run.settled:.3f} s until nothing was left')
    print(run.err, end='')
    if run.status == 0 and run.difference(usual):
        print('facts:', run.difference(usual))
    at = run.trace.index(point) if point in run.trace else len(run.trace)
    print('before:', ', '.join(f'{r} {c} {n}' for r, c, n in run.trace[max(0, at - 6):at]))
    print('after:', ', '.join(f'{r} {c} {n}' for r, c, n in run.trace[at + 1:at + 9]))
    print('\n'.join(f'UNCLEAN: {line}' for line in wrong) or 'clean')


def main():
    """faults.py WORKER OF SHORT UNTIL CASE...: its share of the faults. Or: faults.py at CASE POINT"""
    global HOST
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python; the stages would inherit it
        signal.signal(ignored, signal.SIG_DFL)
    HOST = host()
    if sys.argv[1] == 'at':
        return show(Case(sys.argv[2]), sys.argv[3])
    worker, of, short, until = map(int, sys.argv[1:5])
    for words in sys.argv[5:]:
        case = Case(words)
        try:
            usual, whats, start_up = case.points()
        except RuntimeError as error:
            print(words, 'unclean', 'none 0 none', 'not-reached', '', 0, 0, error, sep='\t', flush=True)
            restore()
            continue
        seen = {}
        # In no order, so that what there is no time for is not all of one kind.
        for hashed, point, what in sorted((zlib.crc32(repr(point).encode()), point, whats[point]) for point in whats):
            same = seen[what, point[0]] = seen.get((what, point[0]), 0) + 1
            if hashed % of != worker:
                continue
            tried = faults(point, what) + ['KILL']
            if short:
                sample = [tried[hashed // of % max(1, len(tried) - 1)], 'KILL'] if same < 3 else []
                print(words, 'short', len(tried) - len(set(sample)), sep='\t')
                tried = sorted(set(sample))
            for fault in tried:
                if time.time() > until:
                    print(words, 'late', 1, sep='\t')
                    continue
                for _ in range(3):
                    run = Run(case, point, fault)
                    kind, wrong = judge(run, usual, point, fault, what, point in start_up)
                    if run.hit or wrong:
                        break
                if run.left or run.hung:
                    restore()
                print(words, 'clean' if not wrong else 'unclean', ' '.join(map(str, (*point, fault))), kind,
                      what, f'{run.took:.3f}', f'{run.settled:.3f}', '; '.join(wrong)[:300], sep='\t', flush=True)
        print(words, 'done', len(whats), len(start_up), sep='\t', flush=True)
    return None


if __name__ == '__main__':
    main()
