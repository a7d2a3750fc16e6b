//! What the tests of all stages share: a host of their own to run on, and the two callers.
//!
//! A test runs its stage in a "host" that `unshare` makes for it: own hostname, mounts, links and
//! processes. So tests run side by side, the machine stays as it is, and what a stage leaves behind
//! can be told exactly: the host is compared before and after each run.
#![allow(dead_code, reason = "each stage uses its part")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs, reason = "tests")]

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, OnceLock},
};

/// Who runs the stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Caller {
    Root,
    User,
}

/// The id of an ordinary user who need not have an account.
pub(crate) const USER: u32 = 65533;

/// The callers that can be had: both if the tests run as root.
pub(crate) fn callers() -> Vec<Caller> {
    if geteuid().is_root() {
        return vec![Caller::Root, Caller::User];
    }
    assert!(env::var_os("CI").is_none(), "in CI the tests run as root, so that both callers are tried");
    eprintln!("NOT TRIED: root as the caller; run the tests as root for that");
    vec![Caller::User]
}

/// A copy of the stage where every user can reach it, wherever the checkout is.
pub(crate) fn reachable(program: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let copy = DIRECTORY.get_or_init(lasting_directory).join(Path::new(program).file_name().unwrap());
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
fn lasting_directory() -> PathBuf {
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
        let made = Command::new(script).args(["--from", "busybox"]).arg(&path).output().unwrap();
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
        let program = if program.contains('/') { reachable(program) } else { program.into() };
        Self { program, caller, prepare: String::new(), before: vec![] }
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
        command.args([
            "-k",
            "5",
            "60",
            "unshare",
            "--uts",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
        ]);
        if !geteuid().is_root() {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        command.args(["sh", "-c", HOST, "sh"]).env("PREPARE", &self.prepare);
        self.finish(command, arguments)
    }

    pub(crate) fn finish(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.env_remove("PS1").current_dir("/");
        if self.caller == Caller::User {
            let user = USER.to_string();
            match geteuid().is_root() {
                true => command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--"]),
                false => command.args(["setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--"]),
            };
        }
        command.args(&self.before).arg(&self.program).args(arguments).stdin(Stdio::null());
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
        assert!(output.status.success(), "{self:?} {arguments:?}: {output:?}");
        text(&output.stdout)
    }

    /// What the stage says when it fails with `status`: one message of the form
    /// `program: …`, perhaps a hint, and nothing else.
    pub(crate) fn failure(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(output.status.code(), Some(status), "{self:?} {arguments:?}: {output:?}");
        let message = text(&output.stderr);
        let name = format!("{}: ", self.program.file_name().unwrap().display());
        let lines = message
            .lines()
            .filter(|line| !line.contains("the host lends its programs, read-only"))
            .filter(|line| !line.contains("started by root, this container is open"))
            .collect::<Vec<_>>();
        assert!(lines[0].starts_with(&name), "{message}");
        assert!(lines.len() == 1 || lines.len() == 2 && lines[1].starts_with("hint: "), "{message}");
        assert!(!message.contains("panic"), "{message}");
        lines.join("\n")
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
        assert_eq!(run.output(&all(&["sh", "-c", "exit 7"])).status.code(), Some(7));
        let killed = run.output(&all(&["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]));
        assert_eq!(killed.status.code(), Some(143));

        // Not found, not executable.
        let message = run.failure(127, &all(&["no-such-command"]));
        assert!(message.contains("execve(\"no-such-command\"): ENOENT: "), "{message}");
        let message = run.failure(127, &all(&["/no/such/command", "x"]));
        assert!(
            message.contains("execve(\"/no/such/command\", [\"/no/such/command\", \"x\"], /* "),
            "{message}"
        );
        let message = run.failure(126, &all(&["/tmp"]));
        assert!(message.contains("EACCES: Permission denied\nhint: \"/tmp\" is a directory"), "{message}");
        let message = run.failure(126, &all(&["/proc/version"]));
        assert!(message.contains("EACCES: ") && message.contains("is not executable"), "{message}");

        // A shell with the talk's prompt if there is no command; the environment is kept.
        let mut shell = run.command(options);
        shell.env("LEOPARD", "spots").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        shell.stdin.take().unwrap().write_all(b"echo \"$0|$PS1|$LEOPARD\"\n").unwrap();
        assert_eq!(text(&shell.wait_with_output().unwrap().stdout), "/bin/sh|-> |spots\n");

        // No descriptor but 0, 1 and 2: the test's own 7 must not arrive.
        let open = &["sh", "-c", "exec 7</; [ -e /proc/self/fd/7 ] && exec \"$@\"", "sh"];
        let seen = run.clone().under(open).stdout(&all(&["sh", "-c", "echo /proc/self/fd/*"]));
        assert!(seen.contains("/2") && !seen.contains("/7"), "{seen}");

        // stdin closed; stdout a pipe that nobody reads, or a full disk.
        let closed = run.clone().under(&["sh", "-c", "exec \"$@\" <&-", "sh"]);
        assert_eq!(closed.stdout(&all(&["cat"])), "");
        let broken = run.clone().under(&["sh", "-c", "{ \"$@\"; echo $? >&2; } | :", "sh"]);
        let output =
            broken.output(&all(&["sh", "-c", "sh -c 'while :; do echo x || exit 3; done'; exit $?"]));
        assert_eq!(text(&output.stderr).lines().last(), Some("141"), "SIGPIPE is as it was: {output:?}");
        let full = run.clone().under(&["sh", "-c", "exec \"$@\" >/dev/full", "sh"]);
        assert_eq!(full.output(&["--help"]).status.code(), Some(1));
    }
}

/// `--help` is one screen, and names the command that the stage stands for.
pub(crate) fn helps(program: &str, unshare: &str) {
    for caller in callers() {
        let help = Run::new(program, caller).stdout(&["--help"]);
        assert!(help.contains(unshare), "{help}");
        assert!(
            help.lines().count() <= 50 && help.lines().all(|line| line.len() <= 100),
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
        assert!(run.failure(1, &["--hostname", "", "true"]).contains("at least one byte"));
        assert!(run.failure(1, &["--hostname", &long, "true"]).contains("at most 64 bytes, this one 65"));
        let longest = "x".repeat(64);
        assert_eq!(run.stdout(&["--hostname", &longest, "hostname"]).trim(), longest);
        let raw = run.clone().under(&["sh", "-c", "exec \"$@\" --hostname $(printf '\\377') true", "sh"]);
        assert!(raw.failure(1, &[]).contains("invalid UTF-8"));
    }
}

/// Signals to the stage: passed on, acted upon for a PID 1 that has no handler, and the container's
/// end when the stage is killed.
pub(crate) fn passes_signals_on(program: &str, callers: &[Caller], options: &[&str]) {
    for &caller in callers {
        let run = Run::new(program, caller);
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            let name = signal.as_str().strip_prefix("SIG").unwrap();
            // A loop of waits: PID 1 of its namespace, and with a handler.
            let handler = format!("trap 'echo arrived; exit 5' {name}; sleep 21.5 & while :; do wait; done");
            let words = [options, &["--", "sh", "-c", &handler]].concat();
            let mut stage = run.alone(&words).stdout(Stdio::piped()).spawn().unwrap();
            until_running(&["sleep", "21.5"]);
            kill(Pid::from_raw(stage.id().cast_signed()), signal).unwrap();
            assert_eq!(stage.wait().unwrap().code(), Some(5), "{signal}, {caller:?}");
            // The sleep in the background of stage 1 or 2 is nobody's child now, as without the
            // stage, and keeps the pipe open until it ends: so read one line, not all.
            let mut line = String::new();
            BufReader::new(stage.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "arrived\n", "{signal}, {caller:?}");
            for process in running(&["sleep", "21.5"]) {
                let _ = kill(process, Signal::SIGKILL);
            }
            within_a_moment(|| running(&["sleep", "21.5"]).is_empty());
        }
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGKILL] {
            let mut stage = run.alone(&[options, &["--", "sleep", "22.5"]].concat()).spawn().unwrap();
            until_running(&["sleep", "22.5"]);
            kill(Pid::from_raw(stage.id().cast_signed()), signal).unwrap();
            assert_eq!(stage.wait().unwrap().signal(), Some(signal as i32), "{caller:?}");
            within_a_moment(|| running(&["sleep", "22.5"]).is_empty());
        }
    }
}

fn until_running(words: &[&str]) {
    within_a_moment(|| !running(words).is_empty());
}

/// Waits until it is so, ten seconds at most.
fn within_a_moment(mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not even after ten seconds");
}

/// The processes that run this command line. A test has words that no other test program has at the
/// same time: those of one stage run one after another.
fn running(words: &[&str]) -> Vec<Pid> {
    let line = words.iter().map(|word| format!("{word}\0")).collect::<String>();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let found = processes
        .filter(|process| fs::read(process.path().join("cmdline")).is_ok_and(|is| is == line.as_bytes()));
    found.map(|process| Pid::from_raw(process.file_name().to_str().unwrap().parse().unwrap())).collect()
}

/// Stop, resume and interrupt a job of the container's shell, on a terminal, as outside.
pub(crate) fn controls_jobs(program: &str, callers: &[Caller], options: &[&str]) {
    for &caller in callers {
        let words = [options, &["--", "/bin/sh"]].concat();
        let mut command = Run::new(program, caller).alone(&words);
        command.env("PS1", "-> ").stdin(Stdio::inherit());
        let mut terminal = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        terminal.exp_string("-> ").unwrap();
        terminal.send_line("sleep 24.5").unwrap();
        until_running(&["sleep", "24.5"]);
        terminal.send_control('z').unwrap();
        terminal.exp_string("Stopped").unwrap();
        terminal.send_line("echo $((40 + 2)); fg").unwrap();
        terminal.exp_string("42\r\n").unwrap();
        terminal.exp_string("sleep 24.5\r\n").unwrap();
        terminal.send_control('c').unwrap();
        terminal.exp_string("-> ").unwrap();
        terminal.send_line("echo status=$?; exec true").unwrap();
        terminal.exp_string("status=130\r\n").unwrap();
        terminal.exp_eof().unwrap();
        assert!(running(&["sleep", "24.5"]).is_empty(), "{caller:?}");
    }
}

/// A command that stops itself, as a shell does with `suspend`, stops the stage, so that the shell
/// outside has its terminal back, and goes on with it.
pub(crate) fn stops_with_its_command(program: &str, callers: &[Caller]) {
    for &caller in callers {
        let run = Run::new(program, caller).under(&[
            "bash",
            "--norc",
            "--noprofile",
            "-ic",
            "\"$@\"; echo outside; fg",
            "bash",
        ]);
        let mut command = run.alone(&["--", "sh", "-c", "kill -STOP $$; echo inside"]);
        command.env("PS1", "").stdin(Stdio::inherit());
        let mut terminal = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        for line in ["outside\r\n", "inside\r\n"] {
            terminal.exp_string(line).unwrap();
        }
    }
}
