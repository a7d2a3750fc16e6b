//! Every README is a test: what its console blocks show is typed again, and must be answered alike.
//!
//! A block is one session at a terminal. Its first prompt says whose: `#` root's, `$` an ordinary
//! user's; `->` is that of a shell in a container. What stands behind a prompt is typed once that
//! prompt is seen, and the whole transcript is compared, prompts included. After the word `console`
//! a block may say `second` (a second terminal, while the first one goes on) or `continued` (the
//! first terminal again). In what is expected, `...` on a line of its own stands for any lines and
//! `[..]` for any part of a line; [`VARIES`] is what is never the same twice, on both sides.
//!
//! Each README runs on a host of its own, named `host`, with an empty `/tmp`, without links, with
//! `root` and `you` as its users; the working directory is a copy of this repository. There `cargo`
//! is a stand-in that starts what has been built: `cargo run -q --bin NAME -- WORD…`. Process ids
//! begin at 7000, so that they can be told from other numbers.
//!
//! `SNAPSHOTS=overwrite cargo test --test readmes` writes what was seen into the READMEs.
#![allow(clippy::unwrap_used, reason = "tests")]

use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::geteuid;
use regex::Regex;
use rexpect::process::PtyProcess;
use snapbox::{Assert, Redactions};
use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a command may take until the next prompt.
const PATIENCE: Duration = Duration::from_secs(120);

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What varies: its name, and where it stands.
const VARIES: [(&str, &str); 14] = [
    ("[PID]", r"\b(?P<redacted>7\d{3})\b"),
    ("[INODE]", r"\b(?P<redacted>402\d{7})\b"),
    ("[MAC]", r"\b(?P<redacted>(?:[0-9a-f]{2}:){5}[0-9a-f]{2})\b"),
    ("[MS]", r"time=(?P<redacted>[0-9.]+) ms"),
    ("[TOTAL]", r", time (?P<redacted>\d+)ms"),
    ("[RTT]", r"(?:mdev|max) = (?P<redacted>[0-9./]+) ms"),
    // ps(1): %CPU %MEM VSZ RSS TTY STAT START TIME
    (
        "[USAGE]",
        r"(?m)^\w+ +\d+ (?P<redacted> *\d+\.\d +\d+\.\d +\d+ +\d+ +\S+ +\S+ +\S+ +\d+:\d\d)",
    ),
    // ps -f: STIME TTY TIME
    (
        "[START]",
        r"(?m)^\w+ +\d+ +\d+ +\d+ (?P<redacted>\d\d:\d\d \S+ +\d\d:\d\d:\d\d)",
    ),
    ("[BRIDGE]", r"8000\.(?P<redacted>[0-9a-f]{12})"),
    // A link's number, which is a part of its group, too.
    (
        "[LINK]",
        r"(?:@if|\bindex=|\bIFLA_MASTER=|1275)(?P<redacted>\d+ *)",
    ),
    ("[VERSION]", r"(?m)^BusyBox (?P<redacted>v.*)$"),
    // --explain in stage 4: the mounts of this machine.
    (
        "[MOUNTS]",
        r"(?m)^container     mount (?:/ -> /\.old_root|-/\.old_root), (?P<redacted>.*)$",
    ),
    ("[TTY]", r"(?P<redacted>pts/\d+)"),
    (
        "[ROWS]",
        r"stage \d: (?P<redacted>\d+ same, \d+ explained), 0 different",
    ),
];

/// Makes what the README's reader has: see above. Then the host lives until its stdin is closed.
const HOST: &str = r#"set -eu
    mount --bind "$1" /mnt
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    mount --bind /mnt/.host/passwd /etc/passwd
    mount --bind /mnt/.host/group /etc/group
    hostname host
    ip link set lo up
    eval "$2"
    echo 7000 >/proc/sys/kernel/ns_last_pid
    trap '' CHLD # whoever is left behind here is reaped by the kernel
    echo ready
    exec cat"#;

struct Host {
    process: Child,
    inside: String,
    _directory: tempfile::TempDir,
}

impl Host {
    fn new(further: &str) -> Self {
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        prepare(directory.path());
        let mut command = Command::new("unshare");
        let host = "--uts --mount --net --pid --fork --mount-proc --kill-child";
        command.args(host.split(' '));
        command.args(["sh", "-c", HOST, "sh"]).arg(directory.path());
        command.arg(further);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let stdout = process.stdout.as_mut().unwrap();
        stdout.read_exact(&mut ready).unwrap();
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let inside = fs::read_to_string(children).unwrap().trim().to_string();
        Self {
            process,
            inside,
            _directory: directory,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// A copy of what a README speaks of, where every user can reach it.
fn prepare(directory: &Path) {
    let at = |name: &str| directory.join(name);
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let copied = Command::new("cp")
        .args(["-r", "README.md", "Cargo.toml", "scripts"])
        .args(stages())
        .arg(directory)
        .current_dir(REPOSITORY)
        .status();
    assert!(copied.unwrap().success());

    // The other stages are not this package's, so cargo may not have built them.
    let built = Path::new(env!("CARGO_BIN_EXE_stage5-net"))
        .parent()
        .unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(REPOSITORY);
    cargo.arg("--target-dir").arg(built.parent().unwrap());
    if built.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    fs::create_dir_all(at("target/debug")).unwrap();
    for stage in stages() {
        fs::copy(built.join(stage), at("target/debug").join(stage)).unwrap();
    }

    fs::create_dir(at(".host")).unwrap();
    let write = |name: &str, text: &str| fs::write(at(".host").join(name), text).unwrap();
    write(
        "passwd",
        "root:x:0:0::/root:/bin/sh\nyou:x:1000:1000::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    );
    write(
        "group",
        "root:x:0:\nyou:x:1000:\nusers:x:100:you\nnogroup:x:65534:\n",
    );
    write(
        "cargo",
        "#!/bin/sh\n[ \"$1\" != build ] || exit 0\n\
         [ \"$1 $2 $3\" = 'run -q --bin' ] || { echo \"not here: cargo $*\" >&2; exit 1; }\n\
         name=$4; shift 4; [ \"${1-}\" != -- ] || shift; exec /mnt/target/debug/$name \"$@\"\n",
    );
    fs::set_permissions(at(".host/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../.host/cargo", at("target/cargo")).unwrap();
}

fn stages() -> [&'static str; 5] {
    [
        "stage1-uts",
        "stage2-user",
        "stage3-pid",
        "stage4-mount",
        "stage5-net",
    ]
}

/// A shell at a terminal of the host.
struct Terminal {
    /// Dropped, it ends the shell.
    _process: PtyProcess,
    /// The master of the pseudo-terminal.
    master: File,
    /// What it shows after its last line feed, when it waits.
    prompt: String,
}

impl Terminal {
    fn new(host: &Host, prompt: char) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["-t", &host.inside, "--mount", "--uts", "--net", "--pid"]);
        command.arg("--");
        if prompt == '$' {
            command.args([
                "setpriv",
                "--reuid=1000",
                "--regid=1000",
                "--groups=1000,100",
                "--",
            ]);
        }
        let path = "/mnt/target:/mnt/target/debug:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
        let variables = [
            format!("PATH={path}"),
            "HOME=/tmp".into(),
            "TERM=dumb".into(),
            "LC_ALL=C".into(),
            "NO_COLOR=1".into(),
        ];
        command.args(["env", "-i"]).args(variables).args([
            "sh",
            "-c",
            "cd /mnt; stty echo; exec /bin/sh 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-",
        ]);
        let process = PtyProcess::new(command).unwrap();
        let mut terminal = Self {
            master: process.get_file_handle().unwrap(),
            _process: process,
            prompt: String::new(),
        };
        terminal.prompt = terminal
            .until_prompt()
            .unwrap_or_else(|seen| panic!("no prompt: {seen}"));
        terminal
    }

    /// Types a line; returns what is shown until the next prompt.
    fn types(&mut self, line: &str) -> Result<String, String> {
        writeln!(self.master, "{line}").unwrap();
        let seen = self.until_prompt()?;
        let (echo, rest) = seen.split_once('\n').ok_or(&*seen)?;
        if echo != line {
            return Err(seen);
        }
        let (output, prompt) = rest
            .rsplit_once('\n')
            .map_or(("", rest), |(all, last)| (all, last));
        self.prompt = prompt.into();
        Ok(if output.is_empty() && rest == prompt {
            String::new()
        } else {
            format!("{output}\n")
        })
    }

    /// Everything up to a prompt that nothing follows.
    fn until_prompt(&mut self) -> Result<String, String> {
        let prompt = Regex::new(r"(?:^|\n)(?:#|\$|->|>) $").unwrap();
        let mut seen = vec![];
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.read(&mut seen) {
                Some(0) => break,
                Some(_) => {}
                None if prompt.is_match(&plain(&seen)) => return Ok(plain(&seen)),
                None => {}
            }
        }
        Err(plain(&seen))
    }

    /// How many bytes are read; 0 at the end; `None` if there are none for a moment.
    fn read(&mut self, seen: &mut Vec<u8>) -> Option<usize> {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, 20_u8).unwrap() == 0 {
            return None;
        }
        let mut buffer = [0; 4096];
        // EIO: the last process with this terminal has ended.
        let length = self.master.read(&mut buffer).unwrap_or(0);
        seen.extend(&buffer[..length]);
        Some(length)
    }

    /// Whether the shell that was started first is the one that is left, and ends.
    fn ends(mut self) -> bool {
        writeln!(self.master, "exit").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.read(&mut vec![]) == Some(0) {
                return true;
            }
        }
        false
    }
}

/// What a terminal shows of these bytes, one line under the other.
fn plain(bytes: &[u8]) -> String {
    let control = Regex::new(r"\x1b\[[0-9;?]*[A-Za-z]|\r").unwrap();
    control
        .replace_all(&String::from_utf8_lossy(bytes), "")
        .into_owned()
}

/// A fenced block.
struct Block {
    words: Vec<String>,
    /// The numbers of its first and of its last line.
    lines: (usize, usize),
    text: String,
    /// The line of text above it.
    above: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut open, mut above) = (vec![], None::<Block>, "");
    for (at, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(words), None) => {
                let words = words.split_whitespace().map(String::from).collect();
                open = Some(Block {
                    words,
                    lines: (at + 1, at + 1),
                    text: String::new(),
                    above: above.to_string(),
                });
            }
            (Some(_), Some(block)) => {
                block.lines.1 = at;
                blocks.extend(open.take());
            }
            (None, Some(block)) => writeln!(block.text, "{line}").unwrap(),
            (None, None) if !line.is_empty() => above = line,
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// What is typed, after which prompt.
fn typed(line: &str) -> Option<(&str, &str)> {
    let prompt = ["# ", "$ ", "-> ", "> "]
        .into_iter()
        .find(|prompt| line.starts_with(prompt))?;
    Some((prompt, &line[prompt.len()..]))
}

/// The lines of `--explain` come from processes that run at the same time, so here the host's come first.
fn in_order(text: &str) -> String {
    let mut lines = text.lines().collect::<Vec<_>>();
    let side = |line: &str| {
        let sides = ["host      ", "container "];
        sides.iter().position(|side| line.starts_with(side))
    };
    for run in lines.chunk_by_mut(|a, b| side(a).is_some() && side(b).is_some()) {
        run.sort_by_key(|line| side(line));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn redactions() -> Redactions {
    let mut redactions = Redactions::new();
    for (name, pattern) in VARIES {
        redactions
            .insert(name, Regex::new(pattern).unwrap())
            .unwrap();
    }
    redactions
}

/// What is seen where this block says what it does.
fn transcript(block: &Block, terminal: &mut Terminal) -> String {
    let mut seen = String::new();
    for (_, line) in block.text.lines().filter_map(typed) {
        let prompt = terminal.prompt.clone();
        match terminal.types(line) {
            Ok(output) => write!(seen, "{prompt}{line}\n{output}").unwrap(),
            Err(output) => {
                write!(
                    seen,
                    "{prompt}{line}\n{output}\n(no prompt for 20 seconds)\n"
                )
                .unwrap();
                break;
            }
        }
    }
    seen
}

fn left_open(place: &str, terminal: Terminal, failures: &mut String) {
    if !terminal.ends() {
        writeln!(failures, "{place}: the session before it is still open").unwrap();
    }
}

fn run(readme: &str) {
    run_on("", readme);
}

/// On a host that these commands of the shell prepare further.
fn run_on(further: &str, readme: &str) {
    if !geteuid().is_root() {
        // What another host would show differs in more than what varies: setgroups is denied there.
        assert!(env::var_os("CI").is_none(), "in CI the tests run as root");
        let file = env::var_os("NOT_TRIED").map(PathBuf::from);
        let line = format!("{readme}\tits host needs root\n");
        let append = |file| fs::File::options().append(true).create(true).open(file);
        if let Some(file) = file {
            std::io::Write::write_all(&mut append(file).unwrap(), line.as_bytes()).unwrap();
        }
        return;
    }
    let path = PathBuf::from(REPOSITORY).join(readme);
    let text = fs::read_to_string(&path).unwrap();
    let overwrite = env::var("SNAPSHOTS").is_ok_and(|action| action == "overwrite");
    let (redactions, host) = (redactions(), Host::new(further));
    let (mut terminal, mut failures, mut rewritten) = (None::<Terminal>, String::new(), vec![]);
    let mut second = None;
    for block in blocks(&text)
        .into_iter()
        .filter(|block| block.words.first().is_some_and(|word| word == "console"))
    {
        let place = format!("{readme}:{}", block.lines.0);
        let kind = block.words.get(1).map_or("", String::as_str);
        let prompt = block.text.chars().next().unwrap();
        if kind != "continued" {
            let used = if kind == "second" {
                &mut second
            } else {
                &mut terminal
            };
            if let Some(used) = used.take() {
                left_open(&place, used, &mut failures);
            }
            *used = Some(Terminal::new(&host, prompt));
        }
        let used = if kind == "second" {
            &mut second
        } else {
            &mut terminal
        };
        let seen = transcript(&block, used.as_mut().unwrap());
        let [actual, expected] =
            [&seen, &block.text].map(|text| redactions.redact(&in_order(text)));
        let assert = Assert::new()
            .normalize_paths(false)
            .redact_with(redactions.clone());
        if let Err(error) = assert.try_eq(Some(&place), actual.into(), expected.into()) {
            writeln!(failures, "{error}").unwrap();
            rewritten.push((block.lines, in_order(&seen)));
        }
    }
    for terminal in [terminal, second].into_iter().flatten() {
        left_open(readme, terminal, &mut failures);
    }
    if overwrite && !rewritten.is_empty() {
        let lines = text.lines().collect::<Vec<_>>();
        let (mut new, mut done) = (String::new(), 0);
        for ((first, last), seen) in rewritten {
            lines[done..first]
                .iter()
                .for_each(|line| writeln!(new, "{line}").unwrap());
            new.push_str(&seen);
            done = last;
        }
        lines[done..]
            .iter()
            .for_each(|line| writeln!(new, "{line}").unwrap());
        fs::write(&path, new).unwrap();
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn top() {
    run("README.md");
}

#[test]
fn stage1() {
    run("stage1-uts/README.md");
}

#[test]
fn stage2() {
    run("stage2-user/README.md");
}

#[test]
fn stage3() {
    run("stage3-pid/README.md");
}

#[test]
fn stage4() {
    run("stage4-mount/README.md");
}

#[test]
fn stage5() {
    run("stage5-net/README.md");
}

#[test]
fn outside() {
    let uplink = include_str!("../../common/tests/support/uplink.sh");
    let servers = include_str!("../../common/tests/support/servers.sh");
    run_on(&format!("{uplink}\n{servers}"), "docs/outside.md");
}

/// The pages for readers.
fn pages() -> Vec<String> {
    let mut pages = stages().map(|stage| format!("{stage}/README.md")).to_vec();
    pages.push("README.md".into());
    let docs = fs::read_dir(Path::new(REPOSITORY).join("docs")).unwrap();
    pages.extend(docs.map(|page| format!("docs/{}", page.unwrap().file_name().display())));
    pages
}

/// Lines have at most 120 columns, except what programs print. The first page has at most 150 lines.
#[test]
fn pages_are_narrow_and_the_first_one_is_short() {
    for page in pages() {
        let text = fs::read_to_string(Path::new(REPOSITORY).join(&page)).unwrap();
        let printed = blocks(&text);
        let kernels = text.split("<!-- kernels: ").nth(1).unwrap_or_default();
        for (at, line) in text.lines().enumerate() {
            let is_printed = printed
                .iter()
                .any(|block| (block.lines.0..block.lines.1).contains(&at))
                || kernels.contains(line);
            let columns = line.chars().count();
            assert!(
                is_printed || columns <= 120,
                "{page}:{}: {columns} columns",
                at + 1
            );
        }
        assert!(page != "README.md" || text.lines().count() <= 150);
    }
}

/// A block that looks like a session and is not run says so, and why; a link leads somewhere.
#[test]
fn what_is_not_run_says_so() {
    let link = Regex::new(r#"(?m)(?:\]\(|src="|^\[\w+\]: )([^)#":\s]+)(?:[)#"]|$)"#).unwrap();
    for readme in pages() {
        let path = Path::new(REPOSITORY).join(&readme);
        let text = fs::read_to_string(&path).unwrap();
        for block in blocks(&text) {
            let place = format!("{readme}:{}", block.lines.0);
            let language = block.words.first().map_or("", String::as_str);
            match language {
                "console" => {
                    let known = ["", "second", "continued"];
                    assert!(
                        known.contains(&block.words.get(1).map_or("", String::as_str)),
                        "{place}"
                    );
                    assert!(
                        block
                            .text
                            .lines()
                            .next()
                            .is_some_and(|line| typed(line).is_some()),
                        "{place}"
                    );
                }
                "diff" | "rust" => {}
                "text" | "sh" => {
                    let session =
                        language == "sh" || block.text.lines().any(|line| typed(line).is_some());
                    assert!(
                        !session || block.above.contains("Not run"),
                        "{place}: run it, or say why not"
                    );
                }
                _ => panic!("{place}: what is '{language}'?"),
            }
        }
        for found in link.captures_iter(&text) {
            let target = path.parent().unwrap().join(&found[1]);
            assert!(target.exists(), "{readme}: there is no {}", &found[1]);
        }
    }
}

/// What scripts write into the READMEs, and the pictures, are as the sources have them.
#[test]
fn what_is_generated_is_fresh() {
    for script in ["diff-stages.sh", "pictures.py"] {
        let script = Path::new(REPOSITORY).join("scripts").join(script);
        let output = Command::new(script).arg("--check").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
