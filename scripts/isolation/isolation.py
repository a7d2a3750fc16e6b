"""Starts the attempts of attempts.rs in containers, and prints the table: see isolation.sh.

For each run a process stands for the host: it has a file, shared memory and so on to be found. It starts
the container as a careless caller would: in its process group, on its terminal, with open descriptors
of / and /proc, a key, and a secret in the environment.
"""
import argparse, ctypes, fcntl, json, os, re, select, shutil, signal, socket, stat, struct, subprocess, sys, termios, tty

COLUMNS = ['host', 'stage 4', 'stage 5', 'stage 5, borrowed', 'stage 5 --map auto', 'stage 5 --bare', 'unshare', 'bwrap', 'runc']
LINKS = ['tmp .old_root', 'tmp proc/sys', 'proc .old_root', 'proc tmp', 'dev .old_root']
ON_TERMINAL = 'group,renice,sigio,tiocsti,tiocsti_high,tioclinux'
NO_SUCH_THING = ['', 'ENOSYS', 'ENOENT', 'ENODEV', 'ENXIO', 'EAFNOSUPPORT', 'not there']
UNKNOWN = '**no reason known**'
ADD_KEY, KEYCTL = {'x86_64': (248, 250), 'aarch64': (217, 219)}[os.uname().machine]
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def prepare(tmp, uid):
    """The user's directories: the host's, a root, and roots with a link where a stage expects a directory."""
    os.makedirs(f'{tmp}/{uid}/host')
    roots = [f'{tmp}/{uid}/root{number}' for number in range(len(LINKS) + 1)]
    for root, link in zip(roots, ['', *LINKS]):
        subprocess.run(['cp', '-a', f'{tmp}/root', root], check=True)  # with hard links
        if link:
            name, target = link.split()
            os.rmdir(f'{root}/{name}')
            os.symlink(f'/{target}', f'{root}/{name}')
    disks = [entry.path for entry in os.scandir('/dev') if stat.S_ISBLK(entry.stat().st_mode)]
    if uid == 0 and disks:  # a device node that was left there
        os.mknod(f'{roots[0]}/planted', stat.S_IFBLK | 0o600, os.stat(disks[0]).st_rdev)
    if uid != os.getuid():
        subprocess.run(['chown', '-Rh', f'{uid}:{uid}', f'{tmp}/{uid}'], check=True)
    return roots


def play_host(directory):
    """The facts for the attempts, and the sockets, which must stay open meanwhile."""
    token = f'isolation-{os.getpid()}'
    canary = f'{directory}/{token}'
    with open(canary, 'x', encoding='utf-8') as file:
        file.write(token)
    handle = ctypes.create_string_buffer(struct.pack('I', 128), 136)
    failed = libc.name_to_handle_at(-100, canary.encode(), handle, ctypes.byref(ctypes.c_int()), 0)
    length = 0 if failed else 8 + struct.unpack_from('I', handle)[0]
    memory = libc.shmget(0, 4096, 0o600)
    libc.shmat(memory, None, 0)
    libc.shmctl(memory, 0, None)  # IPC_RMID: deleted with its last process
    libc.mq_open(f'/{token}'.encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
    libc.syscall(KEYCTL, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
    libc.syscall(ADD_KEY, b'user', b'isolation-key', b'x', 1, -3)
    local, tcp = socket.socket(socket.AF_UNIX), socket.create_server(('', 0))
    local.bind(f'\0{token}')
    local.listen()
    disks = [line.strip() for line in read('/proc/filesystems').splitlines() if line[0] == '\t']
    return {
        'pid': os.getpid(), 'uid': os.getuid(), 'token': token, 'canary': canary, 'shm': memory, 'dir': '/bin',
        'handle': '-'.join(map(str, handle.raw[:length])), 'port': tcp.getsockname()[1],
        'net': os.stat('/proc/self/ns/net').st_ino, 'devtmpfs': os.stat('/dev/null').st_dev,
        'diskfs': disks[0] if disks else 'ext4',
        # The first socket of a family may load its module. There is no family 99.
        'vsock': 40 if 'AF_VSOCK' in read('/proc/net/protocols') else 99}, (local, tcp)


def command(column, tmp, uid, root, facts):
    """How the container is started."""
    if column.startswith('stage 5'):
        facts['gateway'] = '172.20.1.2'
    if column in ('host', 'stage 5, borrowed'):
        facts['root'] = 'borrowed'
    if column in ('host', 'unshare'):
        facts.update(dir=f'{tmp}/{uid}/host', where=column)
    inside = ['inside', *(f'{key}={value}' for key, value in facts.items())]
    if column == 'runc':
        bundle = f'{tmp}/{uid}/runc'
        shutil.rmtree(bundle, ignore_errors=True)
        os.mkdir(bundle)
        subprocess.run(['runc', 'spec', '--bundle', bundle, *['--rootless'][:uid]], check=True)
        spec = json.loads(read(f'{bundle}/config.json'))
        spec['process'].update(terminal=False, args=['/bin/attempts', *inside])
        spec['root']['path'] = root
        with open(f'{bundle}/config.json', 'w', encoding='utf-8') as file:
            json.dump(spec, file)
        return ['runc', '--root', f'{bundle}/state', 'run', '--bundle', bundle, f'isolation-{os.getpid()}']
    # The host's programs do not include the attempts: the empty /tmp takes them.
    copied = 'PATH=/usr/bin:/bin; cat >/tmp/attempts && chmod +x /tmp/attempts && exec /tmp/attempts "$@"'
    return {
        'host': [f'{tmp}/attempts'],
        'stage 4': [f'{tmp}/stage4-mount', '--rootfs', root, '--', '/bin/attempts'],
        'stage 5': [f'{tmp}/stage5-net', '--rootfs', root, '--', '/bin/attempts'],
        'stage 5, borrowed': [f'{tmp}/stage5-net', '--', '/bin/sh', '-c', copied, 'sh'],
        'stage 5 --map auto': [f'{tmp}/stage5-net', '--map', 'auto', '--overlay', '--rootfs', root, '--', '/bin/attempts'],
        'stage 5 --bare': [f'{tmp}/stage5-net', '--bare', '--rootfs', root, '--', '/bin/attempts'],
        'unshare': ['unshare', '-uUrpfmn', '--mount-proc', f'{tmp}/attempts'],
        'bwrap': ['bwrap', '--unshare-all', '--bind', root, '/',
                  *'--uid 0 --gid 0 --proc /proc --dev /dev --tmpfs /tmp /bin/attempts'.split()],
    }[column] + inside


def drain(file, seconds=0.0):
    data = b''
    while select.select([file], [], [], seconds)[0]:
        data += os.read(file, 4096)
    return data


def careless(tmp, uid, column, root, stdin, only=''):
    """Runs the attempts. Returns results, each an attempt, a state and a detail, and other output."""
    facts, _open = play_host(f'{tmp}/{uid}/host')
    master, slave = os.openpty()
    tty.setraw(slave)  # so that what is typed waits there as it is
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    facts['tty'] = f'{os.fstat(slave).st_dev}:{os.fstat(slave).st_rdev}'
    os.dup2(os.open('/', os.O_RDONLY), 17)
    os.dup2(os.open('/proc', os.O_RDONLY), 18)
    signals = {signal.SIGURG, signal.SIGCONT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    report = os.memfd_create('report')
    process = subprocess.Popen(
        command(column, tmp, uid, root, {**facts, 'only': only}),
        stdin=os.open(stdin, os.O_RDONLY) if '/' in stdin else slave, stdout=slave if stdin == 'tty' else report,
        stderr=slave, close_fds=False, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals),
        env={**os.environ, 'ISOLATION_SECRET': 'x', 'XDG_RUNTIME_DIR': f'{tmp}/{uid}'})
    output = b''
    while process.poll() is None:
        os.write(master, b'~')  # input, for `sigio`
        output += drain(master, 0.05)
    output += drain(master) + os.pread(report, 1 << 20, 0)
    arrived, typed = signal.sigpending(), drain(slave)
    libc.mq_unlink(f'/{facts["token"]}'.encode())
    # These are judged by their effect on the caller: in a session of its own a container may do them.
    effects = {'group': signal.SIGURG in arrived, 'renice': os.getpriority(os.PRIO_PROCESS, 0) != 0,
               'sigio': signal.SIGCONT in arrived, 'tiocsti': b't' in typed, 'tiocsti_high': b'h' in typed}
    lines = [line.rstrip('\r').partition('=> ') for line in output.replace(b'~', b'').decode().splitlines()]
    results = [result.split('\t') for _, mark, result in lines if mark]
    for result in results:
        if effects.get(result[0]):
            result[1:] = 'open', ''
        elif result[0] in ('group', 'renice', 'sigio') and result[1] == 'open':
            result[1:] = 'closed', 'no effect outside'
    return results, ' '.join(other for other, mark, _ in lines if not mark)


def run(tmp, uid, *words):
    """The same in a process and a session of its own, as the user."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if uid != os.getuid():
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: the change of the user has cleared it
        signal.alarm(120)
        try:
            os.write(writer, json.dumps(careless(tmp, uid, *words)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.wait()
    return json.loads(text or '[[], "failed"]')


def collect(tmp, uids, only):
    """The results by user, column and attempt, and the columns that there is nothing of."""
    found, left_out = {}, []
    for uid in uids:
        roots = prepare(tmp, uid)
        for column in [name for name in COLUMNS if only in name or name == 'host']:
            borrowed = column == 'stage 5, borrowed'
            absent = column in ('bwrap', 'runc') and not shutil.which(column)
            if absent or borrowed and uids[0] != 0 and os.path.isdir('/tmp/rootfs'):
                left_out.append(f'{column} ({"not installed" if absent else "there is a /tmp/rootfs"})')
                continue
            if column == 'stage 5 --map auto' and uid != 0:  # this user has no range of ids
                continue
            results, other = run(tmp, uid, column, roots[0], f'{tmp}/attempts' if borrowed else '-')
            if not results and (column == 'host' or column.startswith('stage')):
                sys.exit(f'isolation.sh: {column} as user {uid}: {other}')
            if not results:
                left_out.append(f'{column} as user {uid} ({other})')
                continue
            if not borrowed:  # then its standard input is in use, and nobody could have prepared its root
                results += run(tmp, uid, column, roots[0], 'tty', ON_TERMINAL)[0]
                refused = [['inherited_stdin', 'closed', 'refused'], ['links', 'closed', 'refused']]
                results += run(tmp, uid, column, roots[0], '/', 'inherited_stdin')[0] or refused[:1]
                for root in roots[1:] if column != 'unshare' else []:
                    results += run(tmp, uid, column, root, '-', 'links')[0] or refused[1:]
            for attempt, state, detail in results:
                if found.get((uid, column, attempt), ['', ''])[0] != 'open':
                    found[uid, column, attempt] = [state if state == 'open' or detail else '', detail]
    return found, left_out


def judge(attempt, text, uids, found):
    """The title of an attempt, why it is open in stage 5 or nowhere, and what must not be so."""
    title, _, nowhere = text.partition(' Closed: ')
    title, _, reason = title.partition(' Open: ')
    mine = {(uid, column): result for (uid, column, name), result in found.items() if name == attempt}
    is_open = [key for key, (state, _) in mine.items() if state == 'open']
    five = [(uid, column) for uid, column in is_open if column in ('stage 5', 'stage 5, borrowed', 'stage 5 --map auto')]
    for uid, column in five:
        runc = mine.get((uid, 'runc'), ['', 'not run'])
        if not reason or runc[0] == 'closed' and not reason.startswith('Docker'):
            return title, reason or UNKNOWN, f'open in {column} as user {uid}: {mine[uid, column][1]}; runc: {" ".join(runc)}'
    if is_open or uids[0] != 0:
        return title, reason if five else '', ''
    detail = mine.get((0, 'host'), ['', ''])[1]
    nowhere = 'this kernel has no such thing' if detail in NO_SUCH_THING else nowhere
    wrong = '' if nowhere else f'succeeds nowhere, not even on the host as root: {detail}'
    return title, f'closed everywhere: {nowhere or UNKNOWN}', wrong


def main():
    parser = argparse.ArgumentParser(prog='isolation.sh', add_help=False)
    parser.add_argument('tmp')
    parser.add_argument('--markdown', action='store_true')
    parser.add_argument('--only', default='')
    options = parser.parse_args()
    uids = [0, 65533] if os.getuid() == 0 else [os.getuid()]
    found, left_out = collect(options.tmp, uids, options.only)
    columns = list(dict.fromkeys(column for _, column, _ in found))
    rows, bad = [['attempt', *columns, 'why it is open in stage 5, or nowhere'], ['---'] * (len(columns) + 2)], False
    for line in subprocess.check_output([f'{options.tmp}/attempts', 'list'], text=True).splitlines():
        attempt, text = line.split('\t')
        title, why, wrong = judge(attempt, text, uids, found)
        if wrong:
            bad = True
            print(f'isolation.sh: {title}: {wrong}', file=sys.stderr)
        cells = []
        for column in columns:
            results = [found.get((uid, column, attempt), ['', '']) for uid in uids]
            texts = {'**open**' + f' ({detail})' * bool(detail) if state == 'open' else detail or '–': 0
                     for state, detail in results}
            cells.append(' / '.join(texts))
        rows.append([title, *cells, why])
    tools = [[tool, '--version'] for tool in ('bwrap', 'runc') if shutil.which(tool)]
    versions = [subprocess.check_output(tool, text=True).splitlines()[0] for tool in tools]
    if options.markdown:
        print(re.split('^Linux ', read(os.path.dirname(__file__) + '/README.md'), flags=re.M)[0], end='')
    print(', '.join([f'Linux {os.uname().release.split("-")[0]}', *versions]) + '.')
    print('Left out: ' + ', '.join(left_out) + '.\n' if left_out else '')
    widths = [0 if options.markdown else max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print('| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |')
    return bad


if __name__ == '__main__':
    sys.exit(main())
