#!/usr/bin/env python3
"""Runs the cases of battery.sh, which has prepared a host, and prints the table.

Usage: battery.py DIRECTORY [--short] [--only TEXT]

DIRECTORY holds stage5-net and two root file systems: root, of root's, and user, of the user's.
"""

import argparse
import dataclasses
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

LIMIT = 120  # seconds, against cases that hang
# The line that states the reason, rather than what followed from it.
REASON = re.compile(r"cannot open|failed: |Invalid argument|not permitted|Permission denied")
CALLERS = ("root", "user")


@dataclasses.dataclass
class Case:
    """A program, how to try it inside, and what must come out."""

    name: str
    script: str  # for sh -eu; may print "ready" for `outside`, and then waits for the end of stdin
    output: str  # a regular expression for all that it prints
    range: str = ""  # the callers that need --map auto for it
    outside: str = ""  # for bash on the host's side, once the script is ready
    short: bool = False  # also with --short


def python_test(module, but="", **more):
    """A module of Python's own tests, without the tests that the pattern `but` names."""
    script = rf"""
cd /tmp
python3 -m test -w {f"--ignore '{but}'" if but else ""} {module} >log 2>&1 &&
    ! grep -q '^1 test skipped' log && tail -n 1 log && exit
sed -nE 's/^(FAIL|ERROR): ([^ ]*) .*/\2/p' log | sort -u | xargs echo failed: >&2
cat log >&2
exit 1"""
    return Case(f"Python's `{module}`", script, "Tests result: (FAILURE then )?SUCCESS", **more)


INSTALL = """
%s >/tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
grep -E '^[WE]:|^E: |Can not' /tmp/log || leopard; stat -c %%U /var/lib/leopard/games
"""

# 172.20.1.4 is the address of the container.
CASES = [
    Case("`su`", "su -s /bin/sh redis -c 'id -un; id -Gn'", "redis\nredis", "root user", short=True),
    Case("`sudo`", "sudo -u redis id -un", "redis", "root user"),
    Case("`chown`", "touch /tmp/f; chown redis:www-data /tmp/f; stat -c %U:%G /tmp/f", "redis:www-data",
         "root user", short=True),
    Case("`useradd`", "useradd -m ada; stat -c %U:%G /home/ada", "ada:ada", "root user"),
    Case("`adduser`", "adduser --quiet --disabled-password --gecos '' ada; su - ada -c 'pwd; id -un'",
         "/home/ada\nada", "root user", short=True),
    Case("`apt-get install ./x.deb`", INSTALL % "cd /opt; apt-get install -qy ./leopard.deb", "spots of leopard\ngames",
         "root user", short=True),
    Case("`dpkg -i`", INSTALL % "dpkg -i /opt/leopard.deb", "spots of leopard\ngames", "root user"),
    python_test("test_subprocess", range="root user"),
    python_test("test_os", range="root user"),
    # Three of its tests give a file to user 2147483648. No range is so large.
    python_test("test_posix", but="test_*chown", range="root user", short=True),
    python_test("test_pty"),
    python_test("test_openpty", short=True),
    python_test("test_socket"),
    python_test("test_signal"),
    Case("Python's `multiprocessing`", """
cat >/tmp/m.py <<'END'
from multiprocessing import Lock, Pool, shared_memory
if __name__ == "__main__":
    with Pool(2) as pool, Lock():
        print(sum(pool.map(abs, [-20, -22])))
    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.buf[0] = 7
    again = shared_memory.SharedMemory(memory.name)
    print(again.buf[0])
    memory.unlink()
END
python3 /tmp/m.py""", "42\n7", short=True),
    Case("nginx, asked from the host", "nginx; echo ready; cat; ps -o user= -C nginx | sort -u | xargs",
         "ready\nroot www-data", "root user", "curl -sS http://172.20.1.4 | grep -q 'Welcome to nginx'", short=True),
    Case("redis, asked from the host", """
sed -i 's/^bind .*/bind 0.0.0.0/; s/^protected-mode .*/protected-mode no/' /etc/redis/redis.conf
service redis-server start >&2
until redis-cli ping >/dev/null 2>&1; do sleep 0.1; done
echo ready; cat; ps -o user= -C redis-server""", "ready\nredis", "root user",
         "exec 3<>/dev/tcp/172.20.1.4/6379; echo PING >&3; head -n 1 <&3 | grep -q PONG", short=True),
    Case("PostgreSQL", """
pg_createcluster 15 main --start >/tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
su postgres -c 'psql -Atc "select current_user, 6 * 7"'""", r"postgres\|42", "root user", short=True),
    Case("sshd, with a login", """
useradd -m -s /bin/sh ada
mkdir -p /run/sshd
install -d -m 700 -o ada /home/ada/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/key
install -o ada /root/key.pub /home/ada/.ssh/authorized_keys
/usr/sbin/sshd
ssh -tt -i /root/key -o ConnectionAttempts=60 -o StrictHostKeyChecking=no -o LogLevel=ERROR ada@localhost 'id -un; tty' """,
         "ada\r?\n/dev/pts/.*", "root user", short=True),
    Case("tmux", """
export LC_ALL=C.UTF-8 TERM=linux
tmux new-session -d 'tty >/tmp/out; tmux wait-for -S done; sleep 60'
tmux wait-for done
tmux kill-server
cat /tmp/out""", "/dev/pts/.*", short=True),
    Case("`script`", "script -qec tty /dev/null", "/dev/pts/.*"),
    Case("screen", """
TERM=linux script -qec 'screen sh -c "tty >/tmp/out"' /dev/null >/tmp/log
cat /tmp/out || { grep -aoE 'chown tty: [A-Za-z ]+' /tmp/log >&2; exit 1; }""", "/dev/pts/.*", "root user"),
    Case("git", """
cd /tmp; git init -q a; cd a; git config user.name ada; git config user.email ada@example.org; echo x >f
git add f; git commit -qm 'first one'; git clone -q /tmp/a /tmp/b; git -C /tmp/b log --format=%s""", "first one"),
    Case("gcc", r"""
printf '#include <stdio.h>\nint main(void) { puts("compiled"); }\n' >/root/c.c; gcc -o /root/c /root/c.c; /root/c""", "compiled"),
    Case("`lsblk`", "lsblk >/dev/null; echo $?", "0", short=True),
    Case("`hostname -f`", "hostname -f", "leopard", short=True),
]


@dataclasses.dataclass
class Run:
    """A case as one caller starts it."""

    case: Case
    caller: str
    auto: bool
    log: str = ""  # all that it printed
    problem: str = ""  # what is wrong, in a line
    seconds: float = 0

    def carry_out(self):
        """Starts the stage, lets the host ask it, and compares its output."""
        case = self.case
        words = ["unshare", "--net", "--uts", "--ipc"]  # becomes the stage: the process is the same
        words += os.environ["as_user"].split() if self.caller == "user" else []
        words += [f"{DIRECTORY}/stage5-net", "--rootfs", f"{DIRECTORY}/{self.caller}", "--overlay"]
        words += ["--map", "auto"] if self.auto else []
        begin = time.monotonic()
        with tempfile.TemporaryFile("w+", errors="replace") as errors:
            stage = subprocess.Popen([*words, "--", "sh", "-euc", case.script], cwd="/", text=True, errors="replace",
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                     start_new_session=True)
            # The container dies with the stage; the group has what else holds the pipe.
            timer = threading.Timer(LIMIT, os.killpg, [stage.pid, signal.SIGKILL])
            timer.start()
            output = ""
            if not case.outside:
                stage.stdin.close()
            for line in stage.stdout:
                output += line
                if case.outside and line == "ready\n":
                    command = ["nsenter", f"--net=/proc/{stage.pid}/ns/net", "timeout", "20", "bash", "-ec", case.outside]
                    if subprocess.run(command, stdout=errors, stderr=errors, check=False).returncode:
                        self.problem = "the host got no answer"
                    stage.stdin.close()
            stage.wait()
            timer.cancel()
            self.seconds = time.monotonic() - begin
            errors.seek(0)
            self.log = output + errors.read()
        if self.seconds > LIMIT:
            self.problem = f"not finished after {LIMIT} s"
        elif not self.problem and (stage.returncode or not re.fullmatch(case.output, output.strip())):
            lines = [line.strip() for line in self.log.splitlines() if line.strip() and not line.startswith("hint: ")]
            reason = next(filter(REASON.search, lines), lines[-1] if lines else f"status {stage.returncode}")
            self.problem = re.sub(r".* \[emerg\] \S+ ", "", reason)  # when nginx has said it, and which process
        return self

    def cell(self):
        """The result in the table."""
        return "`" + self.problem.replace("|", "/").replace("`", "'") + "`" if self.problem else "works"

    def should_work(self):
        """With a range of ids everything should."""
        return self.auto or self.caller not in self.case.range


def host_state():
    """What a run could leave: mounts, processes, and files in the roots."""
    processes = [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    roots = subprocess.run(["find", f"{DIRECTORY}/root", f"{DIRECTORY}/user", "-xdev", "-printf", "%p %C@ %s %M %U %G\n"],
                           stdout=subprocess.PIPE, check=True).stdout
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return {"mounts": mounts.read(), "processes": sorted(processes), "files in the roots": hash(roots)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    global DIRECTORY
    DIRECTORY = options.directory
    cases = [case for case in CASES if options.only in case.name and (case.short or not options.short)]
    if not cases:
        parser.error(f"no case has '{options.only}' in its name")
    # Those that take longest begin first.
    order = sorted(cases, key=lambda case: "test_s" not in case.name)
    runs = [Run(case, caller, auto) for case in order for caller in CALLERS for auto in (False, True)]
    before, begin = host_state(), time.monotonic()
    with ThreadPoolExecutor(2 * os.cpu_count()) as pool:
        results = {(run.case.name, run.caller, run.auto): run for run in pool.map(Run.carry_out, runs)}
    seconds = time.monotonic() - begin

    print("| program | without `--map auto` | with `--map auto` |\n|---|---|---|")
    for case in cases:
        cells = [[results[case.name, caller, auto].cell() for caller in CALLERS] for auto in (False, True)]
        cells = [root if root == user else f"root: {root}; user: {user}" for root, user in cells]
        print("|", " | ".join([case.name, *cells]), "|")

    wrong = 0
    for run in results.values():
        name = f"{run.case.name} as {run.caller}{', --map auto' if run.auto else ''}, {run.seconds:.1f} s"
        if run.seconds > LIMIT or run.problem and run.should_work():
            print(f"FAILED: {name}: {run.problem}\n{run.log[-4000:]}", file=sys.stderr)
        elif not run.problem and not run.should_work():
            print(f"FAILED: {name}: it works without --map auto, so say so in battery.py", file=sys.stderr)
        else:
            continue
        wrong += 1
    after = host_state()
    deadline = time.monotonic() + 30
    while after != before and time.monotonic() < deadline:  # a janitor may still be at work
        time.sleep(0.1)
        after = host_state()
    for what in before:
        if before[what] != after[what]:
            print(f"FAILED: the host has other {what}:\n{before[what]}\n{after[what]}", file=sys.stderr)
            wrong += 1
    slowest = max(results.values(), key=lambda run: run.seconds)
    print(f"battery.sh: {len(runs)} runs in {seconds:.0f} s, the longest {slowest.seconds:.0f} s ({slowest.case.name})",
          file=sys.stderr)
    return 3 if before["files in the roots"] != after["files in the roots"] else int(wrong != 0)


if __name__ == "__main__":
    sys.exit(main())
