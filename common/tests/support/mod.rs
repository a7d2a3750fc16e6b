//! What the tests of all stages share: a host of their own to run on, and the two callers.
//!
//! A test runs its stage in a "host" that `unshare` makes for it: own hostname, mounts, links and
//! processes. So tests run side by side, the machine stays as it is, and what a stage leaves behind
//! can be told exactly: the host is compared before and after each run.
#![allow(dead_code, reason = "each stage uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "tests"
)]

use nix::{
    fcntl::OFlag,
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use rexpect::session::PtySession;
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Who runs the stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Caller {
    Root,
    User,
}

/// The id of an ordinary user who need not have an account.
pub(crate) const USER: u32 = 65533;
/// The user's group. Its number is another one, so that a mix-up of the two shows.
pub(crate) const GROUP: u32 = 65532;

/// What runs a program as [`Caller::User`].
pub(crate) fn as_the_user() -> Vec<String> {
    let words = match geteuid().is_root() {
        true => format!("setpriv --reuid {USER} --regid {GROUP} --clear-groups --"),
        false => "setpriv --inh-caps=-all --ambient-caps=-all --".to_string(),
    };
    words.split(' ').map(String::from).collect()
}

/// The callers that can be had: both if the tests run as root.
pub(crate) fn callers() -> Vec<Caller> {
    if geteuid().is_root() {
        return vec![Caller::Root, Caller::User];
    }
    assert!(
        env::var_os("CI").is_none(),
        "in CI the tests run as root, so that both callers are tried"
    );
    not_tried("root as the caller: run the tests as root");
    vec![Caller::User]
}

/// Reports what this test leaves out. libtest hides the line where the test passes, so it also goes to the file
/// that `NOT_TRIED` names, with the test's name: libtest gives it to the test's thread.
pub(crate) fn not_tried(what: &str) {
    eprintln!("NOT TRIED: {what}");
    if let Some(path) = env::var_os("NOT_TRIED") {
        let test = std::thread::current().name().map(String::from);
        let program = env::current_exe().unwrap();
        let program = program.file_stem().unwrap().to_string_lossy();
        let line = format!("{program} {}\t{what}\n", test.unwrap_or_default());
        let file = fs::File::options().append(true).create(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// A copy of the stage where every user can reach it, wherever the checkout is.
pub(crate) fn reachable(program: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let copy = DIRECTORY
        .get_or_init(lasting_directory)
        .join(Path::new(program).file_name().unwrap());
    static COPIED: OnceLock<()> = OnceLock::new();
    COPIED.get_or_init(|| fs::copy(program, &copy).map(drop).unwrap());
    copy
}

/// A temporary directory that every user can enter.
pub(crate) fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// The same for as long as the test program runs: what a static holds is never dropped.
pub(crate) fn lasting_directory() -> PathBuf {
    static ALL: Mutex<Vec<tempfile::TempDir>> = Mutex::new(vec![]);
    extern "C" fn remove() {
        ALL.lock().unwrap().clear();
    }
    let directory = open_directory();
    let path = directory.path().into();
    // SAFETY: the handler is a function of this program, and does not unwind.
    assert_eq!(unsafe { nix::libc::atexit(remove) }, 0);
    ALL.lock().unwrap().push(directory);
    path
}

/// A busybox root made by the project's own script, once a test program.
pub(crate) fn busybox() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let path = lasting_directory().join("rootfs");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/rootfs.sh");
        let made = Command::new(script)
            .args(["--from", "busybox"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        path
    })
}

/// Compares the host before and after "$@", and passes its status on; 99 if something was left.
/// The stage is not the first process of the host, whose signals are special.
const HOST: &str = r#"
state() {
    hostname; cat /proc/self/mountinfo /proc/net/dev | cut -d: -f1 | sed 's/^[0-9]* [0-9]* //'
    for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) ;; *) [ ! -e $p/exe ] || readlink $p/exe;; esac; done | grep stage
    ls -A /tmp/leopard.txt 2>/dev/null
}
eval "$PREPARE"
before=$(state); 
"$@"; status=$?
after=$(state)
[ "$before" = "$after" ] || { echo "THE HOST HAS CHANGED: $before BECAME $after" >&2; status=99; }
exit $status
"#;

/// A run of a stage, or of another program, as `caller` on a host of its own.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    program: PathBuf,
    caller: Caller,
    prepare: String,
    before: Vec<String>,
}

impl Run {
    pub(crate) fn new(program: &str, caller: Caller) -> Self {
        let program = if program.contains('/') {
            reachable(program)
        } else {
            program.into()
        };
        Self {
            program,
            caller,
            prepare: String::new(),
            before: vec![],
        }
    }

    /// Shell commands that make the host what the test needs; as root of the host.
    pub(crate) fn prepare(mut self, script: &str) -> Self {
        self.prepare = script.into();
        self
    }

    /// Words that stand before the stage on the command line, such as a tracer.
    pub(crate) fn under(mut self, words: &[&str]) -> Self {
        self.before = words.iter().map(|word| (*word).to_string()).collect();
        self
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        let host = "-k 5 300 unshare --uts --mount --net --pid --fork --mount-proc";
        command.args(host.split(' '));
        if !geteuid().is_root() {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        command
            .args(["sh", "-c", HOST, "sh"])
            .env("PREPARE", &self.prepare);
        self.finish(command, arguments)
    }

    pub(crate) fn finish(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.env_remove("PS1").current_dir("/");
        if self.caller == Caller::User {
            command.args(as_the_user());
        }
        command
            .args(&self.before)
            .arg(&self.program)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// The same without watching the host, so that the process started is the stage itself.
    pub(crate) fn alone(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--uts", "--mount", "--net"]);
        if !geteuid().is_root() {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        self.finish(command, arguments)
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What the stage prints when all goes well.
    pub(crate) fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(
            output.status.success(),
            "{self:?} {arguments:?}: {output:?}"
        );
        text(&output.stdout)
    }

    /// What the stage says when it fails with `status`: one message of the form
    /// `program: …`, perhaps a hint, and nothing else.
    pub(crate) fn failure(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{self:?} {arguments:?}: {output:?}"
        );
        let message = text(&output.stderr);
        let name = format!("{}: ", self.program.file_name().unwrap().display());
        let lines = message.lines().collect::<Vec<_>>();
        assert!(lines[0].starts_with(&name), "{message}");
        assert!(
            lines.len() == 1 || lines.len() == 2 && lines[1].starts_with("hint: "),
            "{message}"
        );
        assert!(!message.contains("panic"), "{message}");
        lines.join("\n")
    }
}

/// Each of these parts is in the text.
#[track_caller]
pub(crate) fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What every stage does with its command, whatever namespaces it is in. `options` come first, as
/// `--rootfs`. `callers` are those that the stage works for.
pub(crate) fn runs_its_command(program: &str, callers: &[Caller], options: &[&str]) {
    for &caller in callers {
        let run = Run::new(program, caller);
        let all = |words: &'static [&'static str]| [options, &["--"], words].concat();

        // Exit statuses, a death by signal; 143 is how the shell of the test's host shows it.
        assert_eq!(run.output(&all(&["true"])).status.code(), Some(0));
        assert_eq!(
            run.output(&all(&["sh", "-c", "exit 7"])).status.code(),
            Some(7)
        );
        let killed = run.output(&all(&["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]));
        assert_eq!(killed.status.code(), Some(143));

        // Not found, not executable.
        let message = run.failure(127, &all(&["no-such-command"]));
        has(
            &message,
            &["execvpe(\"no-such-command\", [\"no-such-command\"], /* "],
        );
        let message = run.failure(127, &all(&["/no/such/command", "x"]));
        has(
            &message,
            &["execvpe(\"/no/such/command\", [\"/no/such/command\", \"x\"], /* "],
        );
        let message = run.failure(126, &all(&["/tmp"]));
        has(
            &message,
            &["EACCES: Permission denied\nhint: \"/tmp\" is a directory"],
        );
        let message = run.failure(126, &all(&["/proc/version"]));
        has(&message, &["EACCES: ", "is not executable"]);

        // A shell with the talk's prompt, and no other, if there is no command; the environment is kept.
        let mut shell = run.command(options);
        shell
            .env("LEOPARD", "spots")
            .env("PS1", "outside")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        shell
            .stdin
            .take()
            .unwrap()
            .write_all(b"echo \"$0|$PS1|$LEOPARD\"; tr '\\0' '\\n' </proc/$$/environ | grep PS1\n")
            .unwrap();
        assert_eq!(
            text(&shell.wait_with_output().unwrap().stdout),
            "/bin/sh|-> |spots\nPS1=-> \n"
        );

        // No descriptor but 0, 1 and 2: the test's own 7 must not arrive.
        let open = &[
            "sh",
            "-c",
            "exec 7</; [ -e /proc/self/fd/7 ] && exec \"$@\"",
            "sh",
        ];
        let seen = run
            .clone()
            .under(open)
            .stdout(&all(&["sh", "-c", "echo /proc/self/fd/*"]));
        assert!(seen.contains("/2") && !seen.contains("/7"), "{seen}");

        // What the caller hands on: closed descriptors, ignored signals. stdout a pipe without a
        // reader, or a full disk.
        let closed = run
            .clone()
            .under(&["sh", "-c", "exec \"$@\" <&- >&-", "sh"]);
        let output = closed.output(&all(&["sh", "-c", "cat || echo lost"]));
        let said = text(&output.stderr);
        assert!(
            output.status.code() != Some(0) && said.contains("Bad file"),
            "{output:?}"
        );
        for (signal, bit) in [("PIPE", 12), ("CHLD", 16)] {
            let ignoring = format!("--ignore-signal={signal}");
            let ignoring = run.clone().under(&["env", &ignoring]);
            let seen = ignoring.stdout(&all(&["grep", "SigIgn", "/proc/self/status"]));
            let seen = u64::from_str_radix(seen.split_whitespace().nth(1).unwrap(), 16).unwrap();
            assert_eq!(seen & (1 << 12 | 1 << 16), 1 << bit, "{signal}");
        }
        let broken = run
            .clone()
            .under(&["sh", "-c", "{ \"$@\"; echo $? >&2; } | :", "sh"]);
        let output = broken.output(&all(&[
            "sh",
            "-c",
            "sh -c 'while :; do echo x || exit 3; done'; exit $?",
        ]));
        assert_eq!(
            text(&output.stderr).lines().last(),
            Some("141"),
            "SIGPIPE is as it was: {output:?}"
        );
        let full = run
            .clone()
            .under(&["sh", "-c", "exec \"$@\" >/dev/full", "sh"]);
        assert_eq!(full.output(&["--help"]).status.code(), Some(1));
    }
}

/// `--help` is one screen, and names the command that the stage stands for.
pub(crate) fn helps(program: &str, unshare: &str) {
    for caller in callers() {
        let help = Run::new(program, caller).stdout(&["--help"]);
        assert!(help.contains(unshare), "{help}");
        assert!(
            help.lines().count() <= 50 && help.lines().all(|line| line.len() <= 80),
            "one screen: {help}"
        );
        let message = Run::new(program, caller).failure(1, &["--no-such-option"]);
        assert!(message.contains("'--no-such-option'"), "{message}");
    }
}

/// Bad values of `--hostname`.
pub(crate) fn refuses_hostnames(program: &str, callers: &[Caller]) {
    for &caller in callers {
        let run = Run::new(program, caller);
        let long = "x".repeat(65);
        assert!(
            run.failure(1, &["--hostname", "", "true"])
                .contains("at least one byte")
        );
        assert!(
            run.failure(1, &["--hostname", &long, "true"])
                .contains("at most 64 bytes, this one 65")
        );
        let longest = "x".repeat(64);
        assert_eq!(
            run.stdout(&["--hostname", &longest, "hostname"]).trim(),
            longest
        );
        let raw = run.clone().under(&[
            "sh",
            "-c",
            "exec \"$@\" --hostname $(printf '\\377') true",
            "sh",
        ]);
        assert!(raw.failure(1, &[]).contains("invalid UTF-8"));
    }
}

/// A number that no other test run has, as `sleep` takes it: the mark of a test's own processes.
pub(crate) fn mark() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    format!("60.{:07}{number:04}", std::process::id())
}

/// Signals to the stage: passed on, acted upon for a PID 1 that has no handler, and the container's
/// end when the stage is killed.
pub(crate) fn passes_signals_on(program: &str, callers: &[Caller], options: &[&str]) {
    for &caller in callers {
        let run = Run::new(program, caller);
        let send =
            |stage: &Child, signal| kill(Pid::from_raw(stage.id().cast_signed()), signal).unwrap();
        // A shell in a loop of waits, with a handler; and an init, which waits for signals.
        let shell = "trap 'echo arrived; exit 5' NAME; sleep MARK & while :; do wait; done";
        let init = "import os, signal, subprocess, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGNAME])
subprocess.Popen(['sleep', 'MARK'])
signal.sigwait([signal.SIGNAME]); time.sleep(0.1)
print('arrived', flush=True); os._exit(5)";
        let signals = [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ];
        let commands = [("sh", shell), ("python3", init)];
        for (signal, (program, script)) in signals.iter().flat_map(|s| commands.map(|c| (*s, c))) {
            let mark = mark();
            let name = signal.as_str().strip_prefix("SIG").unwrap();
            let script = script.replace("NAME", name).replace("MARK", &mark);
            let command = [program, "-c", &script];
            let words = [options, &["--"], &command].concat();
            let mut stage = run.alone(&words).stdout(Stdio::piped()).spawn().unwrap();
            within_a_minute(|| !running(&mark).is_empty());
            send(&stage, signal);
            assert_eq!(
                stage.wait().unwrap().code(),
                Some(5),
                "{signal}, {command:?}, {caller:?}"
            );
            // The sleep in the background of stage 1 or 2 has lost its parent now, as without the
            // stage, and keeps the pipe open until it ends: so read one line, not all.
            let mut line = String::new();
            BufReader::new(stage.stdout.take().unwrap())
                .read_line(&mut line)
                .unwrap();
            assert_eq!(line, "arrived\n", "{signal}, {command:?}, {caller:?}");
            for process in running(&mark) {
                let _ = kill(process, Signal::SIGKILL);
            }
            within_a_minute(|| running(&mark).is_empty());
        }
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGKILL,
        ] {
            let mark = mark();
            let mut stage = run
                .alone(&[options, &["--", "sleep", &mark]].concat())
                .spawn()
                .unwrap();
            within_a_minute(|| !running(&mark).is_empty());
            send(&stage, signal);
            assert_eq!(
                stage.wait().unwrap().signal(),
                Some(signal as i32),
                "{caller:?}"
            );
            within_a_minute(|| running(&mark).is_empty());
        }
    }
}

/// Waits until it is so. The limit is there for a hang only.
pub(crate) fn within_a_minute(mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not even after a minute");
}

/// The processes that run `sleep MARK`.
pub(crate) fn running(mark: &str) -> Vec<Pid> {
    let line = format!("sleep\0{mark}\0");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let found = processes.filter(|process| {
        fs::read(process.path().join("cmdline")).is_ok_and(|is| is == line.as_bytes())
    });
    found
        .map(|process| Pid::from_raw(process.file_name().to_str().unwrap().parse().unwrap()))
        .collect()
}

/// The state of a process in proc_pid_stat(5): `T` if it is stopped.
pub(crate) fn state(process: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// A number in proc_pid_status(5).
pub(crate) fn in_status(process: Pid, field: &str, radix: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let number = status.lines().find_map(|line| line.strip_prefix(field))?;
    u64::from_str_radix(number.trim(), radix).ok()
}

/// A shell with the stage in it at a terminal, and in that the command.
pub(crate) fn at_a_terminal(run: &Run, arguments: &[&str]) -> PtySession {
    let mut command = run.alone(arguments);
    command
        .env("PS1", "-> ")
        .env("NO_COLOR", "1")
        .stdin(Stdio::inherit());
    rexpect::session::spawn_command(command, Some(300_000)).unwrap()
}

/// Stop, resume and interrupt a job of the container's shell, on a terminal, as outside.
pub(crate) fn controls_jobs(program: &str, callers: &[Caller], options: &[&str]) {
    for &caller in callers {
        let run = Run::new(program, caller);
        let mut terminal = at_a_terminal(&run, &[options, &["--", "/bin/sh"]].concat());
        terminal.exp_string("-> ").unwrap();
        let mark = mark();
        terminal.send_line(&format!("sleep {mark}")).unwrap();
        within_a_minute(|| !running(&mark).is_empty());
        terminal.send_control('z').unwrap();
        terminal.exp_string("Stopped").unwrap();
        terminal.send_line("echo $((40 + 2)); fg").unwrap();
        terminal.exp_string("42\r\n").unwrap();
        terminal.exp_string(&format!("sleep {mark}\r\n")).unwrap();
        terminal.send_control('c').unwrap();
        terminal.exp_string("-> ").unwrap();
        terminal.send_line("echo status=$?; exec true").unwrap();
        terminal.exp_string("status=130\r\n").unwrap();
        terminal.exp_eof().unwrap();
        assert!(running(&mark).is_empty(), "{caller:?}");
    }
}

/// A bash outside, with job control.
pub(crate) fn job_of_bash(
    program: &str,
    caller: Caller,
    script: &str,
    words: &[&str],
) -> PtySession {
    let run =
        Run::new(program, caller).under(&["bash", "--norc", "--noprofile", "-ic", script, "bash"]);
    at_a_terminal(&run, words)
}

/// A command that stops itself, as a shell does with `suspend`, stops the stage, so that the shell
/// outside has its terminal back, and goes on with it.
pub(crate) fn stops_with_its_command(program: &str, callers: &[Caller]) {
    for &caller in callers {
        for signal in ["STOP", "TSTP"] {
            let inside = format!("kill -{signal} $$; echo inside");
            let words = ["--", "sh", "-c", &inside];
            let mut terminal = job_of_bash(program, caller, "\"$@\"; echo outside; fg", &words);
            for line in ["outside\r\n", "inside\r\n"] {
                terminal.exp_string(line).unwrap();
            }
        }
    }
}

/// A stop that nobody at a terminal has asked for, and that `fg` will not end, does not stop the stage.
pub(crate) fn goes_on_when_only_the_command_is_stopped(program: &str, callers: &[Caller]) {
    for &caller in callers {
        let mark = mark();
        // In the foreground of a terminal, but no job: this shell has no job control.
        let around = ["sh", "-c", "\"$@\"; echo status $?", "sh"];
        let run = Run::new(program, caller).under(&around);
        let mut terminal = at_a_terminal(&run, &["--", "sleep", &mark]);
        within_a_minute(|| !running(&mark).is_empty());
        let sleep = running(&mark)[0];
        let stage = Pid::from_raw(in_status(sleep, "PPid:", 10).unwrap().try_into().unwrap());
        kill(sleep, Signal::SIGSTOP).unwrap();
        within_a_minute(|| state(sleep) == Some('T'));
        // It has taken its SIGCHLD, and waits again.
        let is_pending = || in_status(stage, "ShdPnd:", 16).unwrap() >> 16 & 1 == 1;
        within_a_minute(|| !is_pending() && matches!(state(stage), Some('S' | 'T')));
        assert_eq!(state(stage), Some('S'), "{caller:?}");
        kill(sleep, Signal::SIGKILL).unwrap();
        terminal.exp_string("status 137\r\n").unwrap();
    }
}

/// The stage leads a session (`ssh -t`, a window of tmux), and its terminal is closed: the hangup, which
/// the kernel sends to the session's leader only, reaches the command.
pub(crate) fn passes_a_hangup_on(program: &str, callers: &[Caller], options: &[&str]) {
    for &caller in callers {
        let directory = open_directory();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let said = directory.path().join("said");
        fs::write(&said, "").unwrap();
        fs::set_permissions(&said, fs::Permissions::from_mode(0o666)).unwrap();
        let mark = mark();
        let script = format!(
            "trap 'echo bye >&2; exit' HUP; echo ready; sleep {mark} & while :; do wait; done"
        );
        let words = [options, &["--", "sh", "-c", &script]].concat();
        let redirect = format!("exec \"$@\" 2>>{}", said.display());
        let run = Run::new(program, caller).under(&["sh", "-c", &redirect, "sh"]);
        // Its other end must not reach the processes of other tests.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = nix::pty::posix_openpt(flags).unwrap();
        nix::pty::unlockpt(&master).unwrap();
        let slave = nix::pty::ptsname_r(&master).unwrap();
        let slave = fs::File::options()
            .read(true)
            .write(true)
            .open(slave)
            .unwrap();
        let mut command = run.alone(&words);
        command.stdin(slave.try_clone().unwrap()).stdout(slave);
        // SAFETY: two system calls between fork(2) and execve(2).
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0);
                Ok(())
            })
        };
        let mut stage = command.spawn().unwrap();
        drop(command); // it has the other end
        let mut screen = BufReader::new(master);
        let mut line = String::new();
        if screen.read_line(&mut line).is_err() {
            panic!("{}", fs::read_to_string(said).unwrap());
        }
        assert_eq!(line, "ready\r\n");
        drop(screen); // the terminal is closed
        within_a_minute(|| stage.try_wait().unwrap().is_some());
        for process in running(&mark) {
            let _ = kill(process, Signal::SIGKILL);
        }
        assert!(
            fs::read_to_string(said).unwrap().contains("bye"),
            "{caller:?}"
        );
    }
}
