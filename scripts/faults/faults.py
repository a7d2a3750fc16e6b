"""The faults of faults.sh, which says what they are and which ends are clean: see there.

strace injects them (-e inject=CALL:error=E:when=N). It counts the calls of each process, but with -f it
injects into all of them. So here a process is caught at its first instruction, by ptrace(2), and strace
is attached to that one only. The trace of the run tells whether and where the fault hit.

Not injected are an error of close(2), which strace then does not carry out although the kernel would,
and a write of which the kernel takes less: strace can only pretend it, which is done for maps.
"""
import argparse, collections, ctypes, json, os, re, signal, subprocess, sys, time, zlib

LIMIT, GRACE = 6, 2  # seconds for one run, and until nothing may be left
PATIENCE = 60  # the same while somebody waits for the kernel itself, which unmakes one network at a time
USER = 65533
STAGES = {'1': 'stage1-uts', '2': 'stage2-user', '3': 'stage3-pid', '4': 'stage4-mount', '5': 'stage5-net'}
PEERS = {  # in the form in which they leave least behind
    'unshare': '/usr/bin/unshare -uUrpfm --mount-proc --kill-child --',
    'bwrap': '/usr/bin/bwrap --unshare-all --die-with-parent --hostname leopard --bind ROOT / --proc /proc '
             '--dev /dev --tmpfs /tmp --'}
# Those of the short form are marked.
CASES = '''+1:root:-:- 1:user:-:- 2:root:-:- +2:user:-:- +3:root:-:- 3:user:-:- 4:root:-:borrowed 4:root:-:busybox
    +4:user:-:borrowed 4:user:-:busybox 5:root:host:borrowed +5:root:host:busybox 5:root:host:auto 5:root:private:borrowed
    5:user:private:borrowed +5:user:private:busybox
    unshare:root:-:- unshare:user:-:- bwrap:root:-:busybox bwrap:user:-:busybox'''.split()
# What the container sees of itself: facts that do not change from run to run. Then it waits.
FACTS = r'''exec 2>&1
cat /proc/sys/kernel/hostname /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
[ $$ -gt 1 ] || echo PID 1
ls /proc/$$/fd
grep -E '^(Sig(Blk|Ign)|Cap|NoNewPrivs|Seccomp|Groups|[UG]id)' /proc/self/status
while read -r _ _ _ root target rest; do echo "$root $target $rest"; done </proc/self/mountinfo
ls -a / /dev
head /tmp/leopard.txt /etc/passwd /etc/group /etc/hosts
cat /proc/net/route
grep -o '^ *[a-z0-9]*:' /proc/net/dev
[ "$1" != 5 ] || for n in 1 2 3 4 5; do ping -q -c1 -W1 172.20.1.2 | grep -o ' 0% packet loss' && break; done
echo ready
read -r _ || exit 0'''

# Calls that cannot fail, or that strace must carry out; calls for which the kernel takes no memory.
NEVER = set('''getpid getppid gettid getuid geteuid getgid getegid umask set_tid_address exit exit_group close
rt_sigreturn restart_syscall'''.split())
TAKES_NOTHING = set('''rt_sigaction rt_sigprocmask sigaltstack fcntl close_range prctl setsid capget capset
set_robust_list rseq arch_prctl kill'''.split())
# Beside EPERM and ENOMEM.
ERRORS = {
    'EINTR': 'openat read recvfrom recvmsg sendto write wait4 waitid poll ppoll futex getrandom',
    'EMFILE': 'openat pipe2 signalfd4 socketpair socket eventfd2 memfd_create open_tree pidfd_open',
    'ENOSPC': 'write clone clone3 unshare mount mount_setattr move_mount mkdir mkdirat symlink symlinkat mknod mknodat',
    'EACCES': 'mkdir mkdirat symlink symlinkat mknod mknodat statx access execve',
    'EAGAIN': 'write clone clone3 fork execve', 'EBUSY': 'mount umount2 pivot_root',
    'ENOBUFS': 'recvmsg sendto', 'EADDRINUSE': 'bind'}
# How a message may name a call, beside the kernel's own name for it.
NAMES = {'openat': 'open opendir read', 'rt_sigprocmask': 'sigprocmask', 'rt_sigaction': 'sigaction signal', 'wait4': 'waitpid',
         'signalfd4': 'signalfd', 'statx': 'stat lstat', 'readlink': 'realpath', 'newfstatat': 'stat lstat fstat opendir',
         'getdents64': 'getdents readdir', 'recvfrom': 'recv read', 'sendto': 'send write', 'clone': 'fork', 'clone3': 'fork clone',
         'symlinkat': 'symlink', 'execve': 'execvpe', 'rt_sigtimedwait': 'sigwaitinfo', 'uname': 'gethostname', 'mkdirat': 'mkdir', 'mknodat': 'mknod'}

# Where strace does not know a socket's protocol, since that is in another network namespace.
RTM = {'0x10': 'RTM_NEWLINK', '0x11': 'RTM_DELLINK', '0x12': 'RTM_GETLINK', '0x14': 'RTM_NEWADDR', '0x16': 'RTM_GETADDR', '0x1a': 'RTM_GETROUTE',
       '0x6c': 'RTM_NEWLINKPROP'}

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
CONT, DETACH, GETEVENTMSG, SEIZE = 7, 17, 0x4201, 0x4206
TRACE_NEW = 2 | 4 | 8  # PTRACE_O_TRACEFORK, VFORK, CLONE
WALL = 0x40000000
HOST = set()  # what is there before the first run


def read(path):
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            return file.read()
    except OSError:
        return ''


def calls(trace):
    """The calls of a trace, each with its name, in the words of strace."""
    found = (re.match(r'(\w+)\(', line) for line in trace.splitlines())
    return [(match[1], match.string) for match in found if match]


def network(process):
    """Links, routes and addresses. An address has two lines there."""
    links = [line.split(':')[0].strip() for line in read(f'/proc/{process}/net/dev').splitlines()[2:]]
    trie = read(f'/proc/{process}/net/fib_trie').splitlines()
    own = {above.split()[-1] for above, line in zip(trie, trie[1:]) if 'host LOCAL' in line}
    routes = read(f'/proc/{process}/net/route').splitlines()
    return ['host: ' + ' '.join(line.split()) for line in sorted(links) + sorted(routes) + sorted(own)]


def host():
    """What a stage must leave as it was, but for processes."""
    state = {'hostname ' + read('/proc/sys/kernel/hostname').strip()}
    state |= {'mount ' + line.split(' ', 3)[3] for line in read('/proc/self/mountinfo').splitlines()}
    state |= {'link ' + line.split(':')[0].strip() for line in read('/proc/net/dev').splitlines()[2:]}
    return state | {f'file {place}/{name}' for place, below, names in os.walk('/tmp') for name in below + names}


def namespaces(pid):
    try:
        return {os.readlink(f'/proc/{pid}/ns/{kind}') for kind in ('cgroup', 'ipc', 'mnt', 'net', 'pid', 'user', 'uts')}
    except OSError:
        return set()


def processes():
    return [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]


def leftovers():
    while True:  # as an init does
        try:
            if os.waitpid(-1, os.WNOHANG | WALL)[0] == 0:
                break
        except ChildProcessError:
            break
    names = [read(f'/proc/{pid}/comm').strip() for pid in processes()]
    now = host()
    return [f'process {name}' for name in names if name] + sorted(now - HOST) + [f'no more: {what}' for what in sorted(HOST - now)]


def busy():
    return any(read(f'/proc/{pid}/stat').rpartition(') ')[2][:1] == 'D' for pid in processes())


def patient(done, limit):
    """Waits until `done`, and returns how long. Time in which a process waits for the kernel does not count."""
    begin = last = time.monotonic()
    waited = 0.0
    while not done() and waited < limit and last - begin < PATIENCE:
        time.sleep(0.002 if last - begin < 0.2 else 0.05)
        now = time.monotonic()
        waited += 0 if last - begin > 0.2 and busy() else now - last
        last = now
    return last - begin


class Run:
    """One run of a stage, with a fault at `point` if there is one, and what came of it."""

    def __init__(self, case, point=None, fault=None):
        self.case, self.point, self.fault = case, point, fault
        self.status, self.view, self.strace, self.left, self.settled = None, [], None, [], 0
        out, err = os.memfd_create('out'), os.memfd_create('err')
        stdin, self.go = os.pipe()
        self.stage = os.fork()
        if self.stage == 0:
            self.become_stage(stdin, out, err)
        os.close(stdin)
        os.waitpid(self.stage, os.WUNTRACED)
        self.start()
        self.took = patient(lambda: self.ended(out), LIMIT)
        self.hung = self.status is None and 'hangs: ' + ', '.join(read(f'/proc/{pid}/comm').strip() for pid in processes())
        if self.go:
            os.close(self.go)
        # If the janitor was killed, there is no process to remove the bridge.
        self.may_leave = fault == 'KILL' and point[0].startswith('janitor')
        if not self.hung:
            self.settled = patient(lambda: self.left_over() in ([], ['link br0'] * self.may_leave), GRACE)
        while processes():
            for pid in processes():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            leftovers()
        self.out, self.err = (os.pread(file, 1 << 20, 0).decode('utf-8', 'replace') for file in (out, err))
        os.close(out)
        os.close(err)
        traces = {int(name[2:]): read(f'/run/{name}') for name in os.listdir('/run') if name.startswith('t.')}
        self.trace = traces.get(self.stage, '') if point is None else read('/run/trace')
        self.traces = self.by_role(traces)
        for name in os.listdir('/run'):
            os.unlink(f'/run/{name}')
        self.hit = '(INJECTED)' in self.trace or fault == 'KILL' and '+++ killed by SIGKILL' in self.trace

    def become_stage(self, *files):
        try:
            for number, file in enumerate(files):
                os.dup2(file, number)
            os.closerange(3, 256)
            os.chdir('/')
            if self.case.user:
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.execve(self.case.argv[0], self.case.argv, {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'})
        finally:
            os._exit(99)

    def start(self):
        if self.point is None:
            return self.attach(self.stage, ['-f', '-ff', '-o', '/run/t'])
        role, call, number = self.point
        what = {'KILL': 'signal=KILL'}.get(self.fault, ('' if '=' in self.fault else 'error=') + self.fault)
        inject = ['-b', 'execve'] * (role != 'stage') + ['-o', '/run/trace', '-e', f'inject={call}:{what}:when={number}']
        if role == 'stage':
            return self.attach(self.stage, inject)
        libc.ptrace(SEIZE, self.stage, None, TRACE_NEW)
        self.wanted, self.seen, self.inject = role, [], inject
        os.kill(self.stage, signal.SIGCONT)
        return None

    def event(self, status):
        """The stage has stopped for its tracer: perhaps since it has a child, which waits to be traced."""
        if status >> 16 in (1, 2, 3):
            message = ctypes.c_ulong()
            libc.ptrace(GETEVENTMSG, self.stage, None, ctypes.addressof(message))
            child = message.value
            os.waitpid(child, WALL)
            own = self.case.peer or namespaces(child) != namespaces(self.stage)
            name = 'container' if own else 'janitor'
            name += '+' * sum(other.strip('+') == name for other in self.seen)
            self.seen.append(name)
            if name == self.wanted:
                os.kill(child, signal.SIGSTOP)
            libc.ptrace(DETACH, child, None, None)
            if name == self.wanted:
                self.attach(child, self.inject)
                libc.ptrace(DETACH, self.stage, None, None)
                return
        stop = status >> 8 & 0xff
        libc.ptrace(CONT, self.stage, None, 0 if status >> 16 else stop)

    def attach(self, pid, options):
        while '\nState:\tT' not in (read(f'/proc/{pid}/status') or '\nState:\tT'):
            time.sleep(0.0005)
        self.strace = subprocess.Popen(['strace', '-qq', '-y', '-s', '48', *options, '-p', str(pid)])
        while '\nState:\tt' not in read(f'/proc/{pid}/status') and self.strace.poll() is None:
            time.sleep(0.0005)  # once it is a tracing stop, only strace ends it
        os.kill(pid, signal.SIGCONT)

    def ended(self, out):
        """Whether the stage has ended. Before, its command waits to be looked at."""
        if self.go and os.pread(out, 1 << 20, 0).endswith(b'ready\n'):
            own = {name for pid in processes() for name in namespaces(pid)} - namespaces('self')
            self.view = sorted({f'namespace of its own: {name.split(":")[0]}' for name in own}) + network(self.stage)
            os.close(self.go)
            self.go = None
        while self.status is None:
            pid, status = os.waitpid(self.stage, os.WNOHANG | WALL)
            if not pid:
                return False
            if os.WIFSTOPPED(status):
                self.event(status)
            else:
                self.status = os.waitstatus_to_exitcode(status)
        return True

    def by_role(self, traces):
        """Of the undisturbed run: the traces of the stage and of its children."""
        roles = {'stage': traces.get(self.stage, '')}
        for _, line in calls(roles['stage']):
            match = re.match(r'(clone3?|v?fork)\(.* = (\d+)', line)
            if match and int(match[2]) in traces:
                name = 'container' if self.case.peer or 'CLONE_NEW' in line else 'janitor'
                name += '+' * sum(role.strip('+') == name for role in roles)
                roles[name] = traces[int(match[2])]
        return roles

    def points(self):
        """(process, call, N) and what it is, from the stage's execve(2) until the command's."""
        for role, trace in self.traces.items():
            counts, begun = collections.Counter(), role != 'stage'
            for call, line in calls(trace):
                counts[call] += 1
                if begun:
                    yield (role, call, counts[call]), line
                begun = begun or call == 'execve'
                if role != 'stage' and call == 'execve' and line.endswith(' = 0'):
                    break

    def left_over(self):
        self.left = leftovers()
        return self.left

    def difference(self, other):
        if self.status != other.status:
            return f'status {self.status}'
        here, there = self.out.splitlines() + self.view, other.out.splitlines() + other.view
        changed = [f'-{line}' for line in there if line not in here] + [f'+{line}' for line in here if line not in there]
        return ' and '.join(changed[:2]) if changed or here == there else 'another order'

    def same(self, other):
        return not self.difference(other) and self.err == other.err


def faults(point, line):
    """What may happen to a call, beside a kill."""
    call = point[1]
    if call in NEVER or line.startswith('brk(NULL)'):
        return []
    if call == 'brk':
        return ['retval=0']  # brk(2) as a system call: less than was asked for
    if call in ('mmap', 'munmap', 'mprotect', 'mremap'):
        return ['ENOMEM']
    errors = ['EPERM', 'ENOMEM'][:1 if call in TAKES_NOTHING else 2]
    errors += [name for name, names in ERRORS.items() if call in names.split()]
    errors += ['ENOSPC'] * (call == 'openat' and 'O_CREAT' in line)
    return errors + ['retval=1'] * (call == 'write' and '</proc/' in line)  # the kernel takes a map whole or not at all


def request(run, point, line):
    """The name of the netlink request that is sent, or whose reply is awaited."""
    sent = [text for call, text in calls(run.trace.partition('(INJECTED)')[0]) if call in ('sendto', 'sendmsg')]
    for text in [line] if point[1].startswith('send') else sent[::-1] if point[1].startswith('recv') else []:
        match = re.search(r'nlmsg_type=(RTM_\w+|0x\w+)', text)
        if match:
            return RTM.get(match[1], match[1])
    return None


def judge(run, usual, point, fault, line, start_up):
    """The kind of end, and what is wrong with it."""
    # Notes, which it has for its reader with and without the fault, are no messages about it.
    said = [text for text in run.err.splitlines() if text not in usual.err.splitlines()]
    wrong = [run.hung] if run.hung else []
    if 'panicked' in run.err and not start_up:
        wrong.append('panics')
    if run.left == ['link br0'] and run.may_leave:
        after = Run(run.case)
        if not after.same(usual) or after.left:
            wrong.append('left a bridge, and the next run did not remove it')
    elif run.left:
        wrong.append('left: ' + ', '.join(run.left[:4]))
    if run.hung:
        return 'hung', wrong
    if not run.hit:
        return 'not reached', wrong + [f'not the same: {run.difference(usual) or said}'] * (not run.same(usual))
    # A message that could not be written is no news, nor is what libc says before main.
    if run.same(usual) or (line.startswith('write(2<') or start_up) and not run.difference(usual):
        return 'harmless', wrong
    # The same failure as without the fault, whose cause could not be looked for.
    if run.status == usual.status != 0 and said and all(text.startswith('hint: ') for text in said):
        return 'harmless', wrong
    if run.status == 0:
        return 'harmless', wrong + [f'status 0, but: {run.difference(usual) or said}']
    if fault == 'KILL':
        return 'killed', wrong
    if run.case.peer:
        return 'refused', wrong  # in what words, is the peer's own affair
    if start_up:
        return 'start-up', wrong
    if run.status < 0:
        wrong.append(f'ended by signal {-run.status}')
    name = request(run, point, line)
    names = [name] * bool(name) + ['recvmsg', 'recv'] * (name is not None and point[1].startswith('recv'))
    names = names or [point[1], *NAMES.get(point[1], '').split()]
    if not said:
        wrong.append(f'status {run.status} without a message')
    elif [text for text in said[1:2] if not text.startswith('hint: ')] or said[2:]:
        wrong.append('more than one message: ' + ' | '.join(said))
    elif not said[0].startswith(tuple(f'{run.case.name}: {name}(' for name in names)):
        wrong.append(f'names another call: {said[0]}')
    elif fault[0] == 'E' and f': {fault}: ' not in said[0]:
        wrong.append(f'another errno: {said[0]}')
    return 'refused', wrong


class Case:
    """A stage, who calls it, in which network, on which root."""

    def __init__(self, words):
        number, caller, net, root = words.split(':')
        self.words, self.name, self.peer, self.user = words, STAGES.get(number, number), number in PEERS, caller == 'user'
        self.argv = PEERS[number].replace('ROOT', f'/tmp/{caller}').split() if self.peer else [f'/mnt/{self.name}']
        if not self.peer:
            self.argv += ['--net', net] * (net != '-') + ['--rootfs', f'/tmp/{caller}'] * (root in ('busybox', 'auto'))
            self.argv += ['--map', 'auto', '--overlay'] * (root == 'auto') + ['--']
        self.argv += ['sh', '-c', FACTS, 'sh', number]

    def usual(self):
        """What happens undisturbed, all points, and those of the language's start-up."""
        runs = [Run(self) for _ in range(3)]
        usual = runs[-1]
        for run in runs:
            if run.hung or run.left or not run.same(usual):
                raise RuntimeError(f'undisturbed, it is not clean, or not twice the same: {run.hung or run.left} '
                                   f'{run.difference(usual)}, status {run.status}: {run.err} {usual.err}')
        points = {point: line for run in runs for point, line in run.points()}
        # Before main, Rust installs its handlers for a stack overflow; that of SIGBUS is the last.
        stage = [point for point, _ in usual.points() if point[0] == 'stage']
        ends = [at for at, point in enumerate(stage) if points[point].startswith('rt_sigaction(SIGBUS')]
        return usual, points, set() if self.peer or not ends else set(stage[:ends[-1] + 1])


def show(case, words):
    """One fault, and all that is known of it."""
    role, call, number, fault = words.split()
    point = (role, call, int(number))
    usual, points, start_up = case.usual()
    run = Run(case, point, fault)
    kind, wrong = judge(run, usual, point, fault, points.get(point, ''), point in start_up)
    print(f'{points.get(point, "not in the usual run")}\n{kind}, status {run.status} (usually {usual.status}), {run.took:.3f} s, '
          f'{run.settled:.3f} s until nothing was left\n{run.err}facts: {run.difference(usual) or "the same"}')
    lines = run.trace.splitlines()
    at = max([at for at, line in enumerate(lines) if '(INJECTED)' in line] or [len(lines)])
    print('\n'.join(lines[max(0, at - 6):at + 9]))
    print('\n'.join(f'UNCLEAN: {text}' for text in wrong) or 'clean')


def restore():
    """After a run that was not clean: the next one shall find a host as it was."""
    for what in sorted(host() - HOST, reverse=True):
        kind, name = what.split(' ', 1)
        if kind == 'link':
            subprocess.run(['ip', 'link', 'del', name], check=False, stderr=subprocess.DEVNULL)
        elif kind == 'file':
            (os.rmdir if os.path.isdir(name) and not os.path.islink(name) else os.unlink)(name)
    subprocess.run(['hostname', 'host'], check=False)
    patient(lambda: not leftovers(), 5)


def worker(number, of, short, until, cases):
    """Its share of the faults. Prints a line of JSON for each."""
    def report(*words):
        print(json.dumps(words), flush=True)
    for case in map(Case, cases):
        try:
            usual, points, start_up = case.usual()
        except RuntimeError as error:
            report(case.words, 'none', 'not reached', [str(error)], 0, 0)
            restore()
            continue
        report(case.words, len(points))
        seen = collections.Counter()
        # In no order, so that what there is no time for is not all of one kind.
        for hashed, point in sorted((zlib.crc32(repr(point).encode()), point) for point in points):
            line = points[point]
            same = (point[0], re.sub(r'0x[0-9a-f]+|\d+', 'N', line.split(' = ')[0]))
            seen[same] += 1
            if hashed % of != number:
                continue
            tried = all_of_it = faults(point, line) + ['KILL']
            if short:
                sample = {all_of_it[hashed // of % max(1, len(all_of_it) - 1)], 'KILL'}
                tried = sorted(sample) if seen[same] < 3 else []
                report('short', len(all_of_it) - len(tried))
            for fault in tried:
                if time.time() > until:
                    report('late', 1)
                    continue
                for _ in range(3):  # another time if it was not reached, or just slow
                    run = Run(case, point, fault)
                    kind, wrong = judge(run, usual, point, fault, line, point in start_up)
                    if run.left or run.hung:
                        restore()
                    if (run.hit or wrong) and not run.hung:
                        break
                report(case.words, f'{" ".join(map(str, point))} {fault}', kind, wrong, run.took, run.settled)


def start(words, **options):
    """This program in a host: its names, processes, mounts and links, and a /tmp with two roots in it."""
    script = '''hostname host
        mount --bind "$0" /mnt
        mount -t tmpfs -o mode=1777 tmpfs /tmp
        mount -t tmpfs tmpfs /run
        cp -a /mnt/root /tmp/root
        cp -a /mnt/root /tmp/user
        chown -hR 65533:65533 /tmp/user
        cd /
        exec python3 /mnt/faults.py "$@"'''
    own = 'unshare --uts --net --pid --fork --kill-child --mount --mount-proc bash -euc'.split()
    return subprocess.Popen([*own, script, os.path.dirname(__file__), *words], **options)


def main():
    global HOST
    parser = argparse.ArgumentParser(prog='faults.sh', add_help=False)
    parser.add_argument('--short', action='store_true')
    parser.add_argument('--only', default='')
    parser.add_argument('--at')
    parser.add_argument('--worker')
    parser.add_argument('what', nargs='*', default=list(STAGES))
    options = parser.parse_args()
    if options.worker:
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python; the stages would inherit it
            signal.signal(ignored, signal.SIG_DFL)
        HOST = host()
        words = json.loads(options.worker)
        return show(Case(words[0]), words[1]) if len(words) == 2 else worker(*words)
    if options.at:
        return start(['--worker', json.dumps([options.what[0], options.at])]).wait()
    cases = [case.strip('+') for case in CASES if case.strip('+').split(':')[0] in options.what
             and options.only in case and (case[0] == '+' or not options.short)]
    if not cases:
        sys.exit('faults.sh: no such case')
    jobs = int(os.environ.get('JOBS', 3))
    until = time.time() + (110 if options.short else 7200)
    workers = [start(['--worker', json.dumps([number, jobs, options.short, until, cases])], stdout=subprocess.PIPE, text=True)
               for number in range(jobs)]
    rows, points, left_out, unclean = {case: collections.Counter() for case in cases}, {}, collections.Counter(), {}
    slowest = longest = (0, '')
    for process in workers:
        for words in map(json.loads, process.stdout):
            if len(words) == 2:
                (points if words[0] in rows else left_out)[words[0]] = words[1] + (0 if words[0] in rows else left_out[words[0]])
                continue
            case, fault, kind, wrong, took, settled = words
            rows[case].update(['runs', kind if not wrong else 'unclean'])
            slowest, longest = max(slowest, (took, f'{case} {fault}')), max(longest, (settled, f'{case} {fault}'))
            if wrong:  # one line a call, if all of its faults had the same end
                point, _, fault = fault.rpartition(' ')
                text = f'{kind}: {"; ".join(wrong)[:300]}'
                unclean.setdefault((case, point, re.sub(r'E[A-Z]+: [A-Z][a-z ]+|\d+', 'N', text)), [text]).append(fault)
    failed = [process.wait() for process in workers]
    kinds = ['runs', 'harmless', 'refused', 'start-up', 'killed', 'not reached', 'unclean']
    print(f'{"case":24} {"calls":>6}', *(f'{kind:>{max(8, len(kind))}}' for kind in kinds))
    for case, row in rows.items():
        print(f'{case:24} {points.get(case, 0):6}', *(f'{row[kind]:{max(8, len(kind))}}' for kind in kinds))
    for (case, point, _), (text, *hits) in unclean.items():
        print(f'unclean: {case}  {point} {" ".join(hits)}\n    {text}')
    print(f'{sum(row["unclean"] for row in rows.values())} unclean; slowest run {slowest[0]:.1f} s ({slowest[1]}), '
          f'longest until nothing was left {longest[0]:.2f} s ({longest[1]})')
    for why, number in left_out.items():
        print(f'left out: {number} faults', {'short': 'of equal calls, since it is the short form', 'late': 'for lack of time'}[why])
    return any(failed) or bool(unclean)


if __name__ == '__main__':
    sys.exit(main())
