//! The proof of `--explain`: each stage under strace, and what it told beside what strace saw.
//!
//! strace shows the calls of each process in the order in which it made them, and in between, as
//! writes to stderr, the lines in which it told them. So nothing depends on how the output of two
//! processes mixes: each call is followed by the line that tells it, and each line told follows its
//! call, in every process of the stage.
#![allow(dead_code, reason = "each stage uses its part")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs, reason = "tests")]

use crate::support::{Caller, Run, USER, busybox, open_directory, reachable, text};
use nix::unistd::geteuid;
use rexpect::{ReadUntil, session::PtySession};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt, fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

/// A system call in the words of the explanation; without a result, one that is about to be made.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    call: String,
    result: Option<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.call, self.result.as_deref().unwrap_or("…"))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Event {
    /// strace saw it.
    Made(Step),
    /// The stage told it.
    Told(Step),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made(step) => write!(f, "made {step}"),
            Self::Told(step) => write!(f, "told {step}"),
        }
    }
}

/// A process of the stage, from its clone(2) to its execve(2).
struct Process {
    side: &'static str,
    events: Vec<Event>,
    /// How often it made which system call, of any kind.
    counts: BTreeMap<String, usize>,
    /// How many lines of its narration it wrote.
    narration: Vec<String>,
    /// The number of its writes before that to the map of users.
    writes: usize,
}

/// A run of a stage under strace.
pub(crate) struct Watched {
    output: Output,
    processes: Vec<Process>,
}

/// Runs the stage on a host prepared so, under strace with these options of its own.
fn watch(program: &str, caller: Caller, prepare: &str, options: &[&str], arguments: &[&str]) -> Watched {
    let directory = open_directory();
    let (log, stage, user) = (directory.path().join("log"), reachable(program), USER.to_string());
    let (log, stage) = (log.to_str().unwrap(), stage.to_str().unwrap());
    let strace = ["-fqq", "-s", "65536", "-e", "write=all", "-o", log];
    // Inside of strace, not outside: an ordinary user may not look into a process that is not dumpable.
    let becomes: &[&str] = match caller {
        Caller::Root => &["--"],
        Caller::User if geteuid().is_root() => {
            &["--", "setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--"]
        }
        Caller::User => &["--", "setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--"],
    };
    let run = Run::new("strace", Caller::Root).prepare(prepare);
    let output = run.output(&[&strace[..], options, becomes, &[stage], arguments].concat());
    let log = fs::read_to_string(log).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let mut lines = lines(&log);
    let started = format!("execve({stage:?}, ");
    let started =
        lines.iter().position(|line| line.call.starts_with(&started) && line.result == "0").unwrap();
    let host = lines.drain(..=started).next_back().unwrap().process;
    let mut processes = vec![];
    follow(host, "host", &HashMap::new(), &lines, &mut processes);
    Watched { output, processes }
}

/// A line of strace's: a call, its result, and the bytes that it wrote.
struct Line {
    process: u32,
    call: String,
    result: String,
    bytes: Vec<u8>,
}

/// The calls in the order in which they returned; those of one process are in its own order.
fn lines(log: &str) -> Vec<Line> {
    let (mut lines, mut unfinished) = (Vec::<Line>::new(), HashMap::new());
    for line in log.lines() {
        // ` | 00010  73 69 64 65 22 3a 22 63  6f 6e 74 61 69 6e 65 72  side":"container |`
        if let Some(dump) = line.strip_prefix(" | ") {
            let bytes = dump[7..56].split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
            lines.last_mut().unwrap().bytes.extend(bytes);
            continue;
        }
        let (process, rest) = line.split_once(' ').unwrap();
        let (process, rest) = (process.parse().unwrap(), rest.trim_start());
        let whole = if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, begun);
            continue;
        } else if let Some((_, end)) = rest.strip_prefix("<... ").and_then(|r| r.split_once(" resumed>")) {
            format!("{}{end}", unfinished.remove(&process).unwrap())
        } else {
            rest.into()
        };
        // Not a signal's arrival, nor a process's end, nor what that cut short.
        if let Some((call, result)) = whole.rsplit_once(" = ").filter(|(_, result)| !result.starts_with('?'))
        {
            lines.push(Line { process, call: call.trim_end().into(), result: result.into(), bytes: vec![] });
        }
    }
    lines
}

/// Reads what a process of the stage did, with these descriptors from its parent, and its children.
fn follow<'a>(
    process: u32,
    side: &'static str,
    inherited: &HashMap<&'a str, &'a str>,
    all: &'a [Line],
    processes: &mut Vec<Process>,
) {
    let mut files = inherited.clone();
    let mut this = Process { side, events: vec![], counts: BTreeMap::new(), narration: vec![], writes: 0 };
    let (mut request_at, mut writes) = (None, 0);
    for line in all.iter().filter(|line| line.process == process) {
        let (name, arguments) = line.call.split_once('(').unwrap();
        *this.counts.entry(name.into()).or_default() += 1;
        let words = arguments.trim_end_matches(')').split(", ").collect::<Vec<_>>();
        match name {
            "openat" => drop(files.insert(&line.result, words[1].trim_matches('"'))),
            "socket" | "signalfd4" => drop(files.insert(&line.result, words[0])),
            "fcntl" if words[1].starts_with("F_DUPFD") => drop(files.insert(&line.result, files[words[0]])),
            "pipe2" => files.extend(words[..2].iter().map(|end| (end.trim_matches(['[', ']']), "pipe"))),
            "socketpair" => {
                files.extend(words[3..].iter().map(|end| (end.trim_matches(['[', ']']), "socketpair")))
            }
            _ => {}
        }
        let file = files.get(words[0]).copied().unwrap_or_default();
        let call = match name {
            "clone" => {
                let flags = arguments.split_once("flags=").unwrap().1.split([',', ')']).next().unwrap();
                let inside = flags.contains("CLONE_NEW");
                if let Ok(child) = line.result.parse() {
                    follow(child, if inside { "container" } else { side }, &files, all, processes);
                }
                if inside { format!("clone({flags})") } else { "fork()".into() }
            }
            "pipe2" => format!("pipe2({}", arguments.rsplit_once(", ").unwrap().1),
            "openat" if ["O_WRONLY", "O_RDWR", "O_PATH"].iter().any(|mode| arguments.contains(mode)) => {
                flags_sorted(&line.call)
            }
            "mount_setattr" => line.call.replace(" /* MS_??? */", ""),
            "write" => {
                writes += 1;
                if words[0] == "2" {
                    let said = text(&line.bytes);
                    if said.starts_with('{') {
                        this.events.extend(told(&said, side));
                        this.narration.push(said.trim_end().into());
                    }
                    continue;
                }
                // What the keeper says to the stage, and its half of the container's read(pipe) = 5.
                if file == "socketpair" || file == "pipe" && line.result == "5" {
                    continue;
                }
                if file.ends_with("/uid_map") {
                    this.writes = writes;
                }
                match file {
                    "pipe" => "write(pipe)".into(),
                    _ => format!("write({file}, {}", arguments.split_once(", ").unwrap().1),
                }
            }
            "read" if file == "pipe" => "read(pipe)".into(),
            "socket" if words[0] == "AF_NETLINK" => line.call.clone(),
            "bind" => {
                assert!(
                    arguments.contains("{sa_family=AF_NETLINK, nl_pid=0, nl_groups=0x000001}"),
                    "{arguments}"
                );
                "bind(RTMGRP_LINK)".into()
            }
            "sendto" | "sendmsg" if file == "AF_NETLINK" => {
                let call = request(&line.bytes);
                agrees_with_strace(&call, &line.call);
                request_at = Some((this.events.len(), number_at::<4>(&line.bytes, 8)));
                this.events.push(Event::Made(Step { call, result: None }));
                continue;
            }
            "recvmsg" => {
                if let Some((at, sequence)) = request_at
                    && let Some(result) = acknowledged(&line.call, sequence)
                    && let Event::Made(step) = &mut this.events[at]
                {
                    (step.result, request_at) = (Some(result), None);
                }
                continue;
            }
            // `execve("/bin/true", ["true"], 0x7ffc98 /* 35 vars */)`: where they are, nobody tells.
            "execve" => {
                let (call, environment) = line.call.rsplit_once(", 0x").unwrap();
                format!("{call}, {}", environment.split_once(' ').unwrap().1)
            }
            "prctl" => match arguments.split_once("0x") {
                Some((option, unknown)) if unknown.ends_with("/* CAP_??? */)") => {
                    format!("prctl({option}CAP_?)")
                }
                _ => line.call.clone(),
            },
            "capget" => "capget()".into(),
            // `capset({version=…, pid=0}, {effective=1<<CAP_KILL, permitted=1<<CAP_KILL, inheritable=0})`
            "capset" => {
                let set = |name| arguments.split_once(name).unwrap().1.split([',', '}']).next().unwrap();
                let permitted = set("permitted=");
                assert_eq!((set("effective="), set("inheritable=")), (permitted, "0"));
                format!("capset({})", permitted.trim_start_matches('0').replace("1<<CAP_", ""))
            }
            "seccomp" => format!("{}}})", line.call.split(", filter=").next().unwrap()),
            _ if STEPS.split(' ').any(|step| step == name) => line.call.clone(),
            _ => continue,
        };
        let result = line.result.strip_suffix(" (INJECTED)").unwrap_or(&line.result);
        let is_last = name == "execve" && result == "0";
        this.events.push(Event::Made(Step { call, result: Some(result.into()) }));
        if is_last {
            break;
        }
    }
    processes.push(this);
}

/// Further calls that change something; of these the explanation has strace's own words. A stage
/// that makes one of them has to tell it.
const STEPS: &str = "chdir chmod chown chroot clone3 close_range fchdir fchmod fchmodat fchown fchownat \
    fork fsconfig fsmount fsopen ftruncate link linkat mkdir mkdirat mknod mknodat mount move_mount open_tree \
    pivot_root rename renameat2 rmdir setdomainname setgid setgroups setresgid setresuid setuid sethostname \
    setns symlink symlinkat umount umount2 unlink unlinkat unshare vfork";

/// The flags of openat(2) are a set, and O_RDONLY is 0.
fn flags_sorted(call: &str) -> String {
    let Some((start, rest)) = call.split_once(", O_").filter(|_| call.starts_with("openat(")) else {
        return call.into();
    };
    let end = rest.find([',', ')']).unwrap();
    let mut flags = rest[..end].split("|O_").filter(|flag| *flag != "RDONLY").collect::<Vec<_>>();
    flags.sort_unstable();
    format!("{start}, {}{}", flags.join("|"), &rest[end..])
}

/// A line of `--explain=json`: has the documented fields, and no other; the step, if it tells one.
fn told(line: &str, side: &str) -> Option<Event> {
    let fields = serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let field = |name: &str| fields[name].as_str().unwrap_or_else(|| panic!("{name}: {line}"));
    let names = match field("kind") {
        "step" => ["kind", "side", "call", "result", "shell", "does"].as_slice(),
        "change" => &["kind", "side", "what", "before", "after"],
        other => panic!("{other}: {line}"),
    };
    let found = fields.as_object().unwrap().keys().map(String::as_str).collect::<HashSet<_>>();
    assert_eq!(found, names.iter().copied().collect(), "{line}");
    let null = fields["result"].is_null();
    names
        .iter()
        .filter(|name| **name != "result" || !null)
        .for_each(|name| assert!(fields[name].is_string()));
    assert_eq!(field("side"), side, "{line}");
    if field("kind") == "change" {
        return None;
    }
    let call = field("call");
    let result = (!null).then(|| match field("result") {
        // Of a refused request strace shows the errno's name only.
        refused if call.starts_with("RTM_") => refused.split(" (").next().unwrap().into(),
        result => result.into(),
    });
    Some(Event::Told(Step { call: flags_sorted(call), result }))
}

/// How the value of an attribute is shown.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Text,
    Number,
    Byte,
    Ipv4,
    Mac,
    Nested,
    /// First an `ifinfomsg`.
    Link,
}

/// The attributes of a request: within what, number, name, value. From `linux/if_link.h`,
/// `linux/if_addr.h`, `linux/veth.h`, written down once more, so that the code is not its own proof.
const ATTRIBUTES: [(&str, u16, &str, Shown); 17] = [
    ("link", 1, "IFLA_ADDRESS", Shown::Mac),
    ("link", 3, "IFLA_IFNAME", Shown::Text),
    ("link", 10, "IFLA_MASTER", Shown::Number),
    ("link", 18, "IFLA_LINKINFO", Shown::Nested),
    ("link", 19, "IFLA_NET_NS_PID", Shown::Number),
    ("link", 26, "IFLA_AF_SPEC", Shown::Nested),
    ("link", 27, "IFLA_GROUP", Shown::Number),
    ("link", 29, "IFLA_EXT_MASK", Shown::Number),
    ("link", 52, "IFLA_PROP_LIST", Shown::Nested),
    ("IFLA_LINKINFO", 1, "IFLA_INFO_KIND", Shown::Text),
    ("IFLA_LINKINFO", 2, "IFLA_INFO_DATA", Shown::Nested),
    ("IFLA_INFO_DATA", 1, "VETH_INFO_PEER", Shown::Link),
    ("IFLA_AF_SPEC", 10, "AF_INET6", Shown::Nested),
    ("AF_INET6", 8, "IFLA_INET6_ADDR_GEN_MODE", Shown::Byte),
    ("IFLA_PROP_LIST", 53, "IFLA_ALT_IFNAME", Shown::Text),
    ("address", 1, "IFA_ADDRESS", Shown::Ipv4),
    ("address", 2, "IFA_LOCAL", Shown::Ipv4),
];

/// A request's bytes in the words of the explanation. strace does not know the protocol of a socket
/// in another network namespace than its own, so its bytes are taken, not its words.
fn request(bytes: &[u8]) -> String {
    assert_eq!(number_at::<4>(bytes, 0), bytes.len(), "nlmsg_len");
    let kind = number_at::<2>(bytes, 4);
    let body = &bytes[16..];
    let (name, attributes) = match kind {
        16 => ("RTM_NEWLINK", "link"),
        17 => ("RTM_DELLINK", "link"),
        18 => ("RTM_GETLINK", "link"),
        20 => ("RTM_NEWADDR", "address"),
        22 => ("RTM_GETADDR", "address"),
        108 => ("RTM_NEWLINKPROP", "link"),
        other => panic!("nlmsg_type={other}"),
    };
    let index = number_at::<4>(body, 4);
    let mut parts = vec![];
    let rest = if attributes == "link" {
        // ifinfomsg: family, padding, type, index, flags, change
        let (flags, change) = (number_at::<4>(body, 8), number_at::<4>(body, 12));
        assert_eq!((number_at::<4>(body, 0), flags == change, flags <= 1), (0, true, true), "{body:?}");
        parts.extend((index != 0).then(|| format!("index={index}")));
        parts.extend((flags == 1).then(|| "IFF_UP".into()));
        &body[16..]
    } else {
        // ifaddrmsg: family, prefixlen, flags, scope, index
        assert_eq!((body[0], body[2], body[3]), (2, 0, 0), "{body:?}");
        parts.extend((index != 0).then(|| format!("index={index}")));
        parts.extend((body[1] != 0).then(|| format!("prefixlen={}", body[1])));
        &body[8..]
    };
    parts.extend(decoded(attributes, rest));
    format!("{name}({})", parts.join(", "))
}

fn decoded(within: &str, mut bytes: &[u8]) -> Vec<String> {
    let mut parts = vec![];
    while !bytes.is_empty() {
        let (length, kind) = (number_at::<2>(bytes, 0), number_at::<2>(bytes, 2) & 0x7fff);
        let value = &bytes[4..length];
        bytes = &bytes[length.next_multiple_of(4)..];
        let known = ATTRIBUTES.iter().find(|known| (known.0, usize::from(known.1)) == (within, kind));
        let (_, _, name, shown) = known.unwrap_or_else(|| panic!("attribute {kind} of {within}"));
        let inner = |within, value| format!("{{{}}}", decoded(within, value).join(", "));
        let value = match shown {
            Shown::Text => format!("{:?}", text(value.strip_suffix(b"\0").unwrap_or(value))),
            Shown::Number => number_at::<4>(value, 0).to_string(),
            Shown::Byte => value[0].to_string(),
            Shown::Ipv4 => value.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
            Shown::Mac => value.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
            Shown::Nested => inner(name, value),
            Shown::Link => inner("link", value.strip_prefix(&[0; 16]).unwrap()),
        };
        parts.push(format!("{name}={value}"));
    }
    parts
}

/// A number of N bytes in the machine's byte order.
fn number_at<const N: usize>(bytes: &[u8], at: usize) -> usize {
    let mut number = [0; size_of::<usize>()];
    let start = if cfg!(target_endian = "little") { 0 } else { number.len() - N };
    number[start..start + N].copy_from_slice(&bytes[at..at + N]);
    usize::from_ne_bytes(number)
}

/// Where strace knows the words, they are the same.
fn agrees_with_strace(call: &str, strace: &str) {
    let words = |name: &'static str| strace.split(name).skip(1);
    let names =
        words("nlmsg_type=").chain(words("nla_type=").map(|word| word.trim_start_matches("NLA_F_NESTED|")));
    let mut rest = call;
    for name in
        names.map(|word| word.split([',', '}']).next().unwrap()).filter(|word| !word.starts_with("0x"))
    {
        rest = rest.split_once(name).unwrap_or_else(|| panic!("{name} of {strace} in {call}")).1;
    }
}

/// The kernel's acknowledgement of the request with this number, if it is among these messages.
fn acknowledged(strace: &str, sequence: usize) -> Option<String> {
    strace.split("{nlmsg_len=").find_map(|message| {
        let (header, body) = message.split_once("}, ")?;
        let ends = ["=NLMSG_ERROR,", "=NLMSG_DONE,"].iter().any(|kind| header.contains(kind));
        (ends && header.contains(&format!("nlmsg_seq={sequence},"))).then(|| {
            let errno = body.trim_start_matches("{error=").split([',', ']', '}']).next().unwrap();
            errno.strip_prefix('-').map_or(errno.into(), |errno| format!("-1 {errno}"))
        })
    })
}

impl Watched {
    /// The proof: in each process every call is told when it has been made, execve(2) before, with
    /// the same arguments and result; and nothing else is told.
    fn prove(&self) {
        for Process { side, events, .. } in &self.processes {
            let mut expected = vec![];
            for event in events {
                let Event::Made(step) = event else { continue };
                let executes = step.call.starts_with("execve(");
                if executes {
                    expected.push(Event::Told(Step { result: None, ..step.clone() }));
                }
                expected.push(event.clone());
                if !executes || step.result.as_deref() != Some("0") {
                    expected.push(Event::Told(step.clone()));
                }
            }
            let differs = (0..).find(|&at| events.get(at) != expected.get(at) || at >= events.len()).unwrap();
            assert!(
                differs >= events.len().max(expected.len()),
                "{side}, event {differs}\nbefore:   {}\nexpected: {}\nis:       {}",
                show(differs.checked_sub(1).and_then(|at| events.get(at))),
                show(expected.get(differs)),
                show(events.get(differs)),
            );
        }
        // What strace saw is what the reader sees.
        let stderr = text(&self.output.stderr);
        let (mut lines, others) = stderr.lines().partition::<Vec<_>, _>(|line| line.starts_with('{'));
        let mut narration = self.processes.iter().flat_map(|process| &process.narration).collect::<Vec<_>>();
        lines.sort_unstable();
        narration.sort_unstable();
        assert_eq!(lines, narration);
        for line in others {
            assert!(line.starts_with("stage") && line.contains(": ") || line.starts_with("hint: "), "{line}");
        }
    }

    fn prove_failure(&self, call: &str, errno: &str) {
        self.prove();
        let stderr = text(&self.output.stderr);
        assert!(!self.output.status.success(), "{stderr}");
        let failed = format!("-1 {errno}");
        let is_it = |step: &Step| {
            step.call.contains(call) && step.result.as_ref().is_some_and(|result| result.starts_with(&failed))
        };
        let last = self.processes.iter().filter_map(|process| process.events.last());
        let last = last.filter_map(|event| if let Event::Told(step) = event { Some(step) } else { None });
        let last = last.filter(|step| is_it(step)).collect::<Vec<_>>();
        assert_eq!(last.len(), 1, "{call} {errno}: {stderr}");
        let message = format!(": {}: {errno}: ", last[0].call);
        let messages = stderr.lines().filter(|line| line.starts_with("stage") && line.contains(&message));
        assert_eq!(messages.count(), 1, "{message} in {stderr}");
    }

    /// The steps that were told, by side.
    fn told(&self, side: &str) -> Vec<&Step> {
        let processes = self.processes.iter().filter(|process| process.side == side);
        let events = processes.flat_map(|process| &process.events);
        events.filter_map(|event| if let Event::Told(step) = event { Some(step) } else { None }).collect()
    }
}

fn show(event: Option<&Event>) -> String {
    event.map_or("nothing".into(), ToString::to_string)
}

/// Runs the stage with each of `options`, and proves that it tells what it does.
pub(crate) fn tells_what_happens(program: &str, callers: &[Caller], options: &[&[&str]]) {
    for &caller in callers {
        for &options in options {
            let arguments = [&["--explain=json"], options, &["--", "true"]].concat();
            let watched = watch(program, caller, "", &[], &arguments);
            assert!(watched.output.status.success(), "{caller:?} {options:?}: {:?}", watched.output);
            watched.prove();
            let last = watched.told("container").last().unwrap().call.clone();
            assert!(last.starts_with("execve(") && last.contains("[\"true\"]"), "{last}");
            assert!(watched.told("host").iter().any(|step| step.call.starts_with("clone(")));
        }
    }
}

/// A run that fails: the last step of its process is the one that failed, with its error, which is
/// the message's; and all that is told has happened.
pub(crate) fn tells_what_failed(
    program: &str,
    caller: Caller,
    prepare: &str,
    arguments: &[&str],
    call: &str,
    errno: &str,
) {
    let arguments = [&["--explain=json"], arguments].concat();
    watch(program, caller, prepare, &[], &arguments).prove_failure(call, errno);
}

/// The write to the map of users is refused by the tracer.
pub(crate) fn tells_a_refused_map(program: &str, callers: &[Caller]) {
    for &caller in callers {
        let arguments = ["--explain=json", "--", "true"];
        let free = watch(program, caller, "", &[], &arguments);
        let writes = free.processes.iter().map(|process| process.writes).max().unwrap();
        let refuse = format!("inject=write:error=EPERM:when={writes}");
        let refused = watch(program, caller, "", &["-e", &refuse], &arguments);
        refused.prove_failure("/uid_map, ", "EPERM");
    }
}

/// What is told of namespaces leads from the caller's to the command's, without a gap, and what is
/// told of the maps is what the command sees.
pub(crate) fn shows_what_changed(program: &str, callers: &[Caller], options: &[&[&str]]) {
    const LOOK: &str = "for ns in /proc/self/ns/*; do echo ${ns##*/} $(readlink $ns); done
        for map in uid_map gid_map setgroups; do echo $map $(cat /proc/self/$map); done";
    for &caller in callers {
        for &options in options {
            let outside = format!("{{ {LOOK}; }} >&2; echo inside >&2; exec \"$@\" >&2");
            let run = Run::new(program, caller).under(&["sh", "-c", &outside, "sh"]);
            let output = run.output(&[&["--explain=json"], options, &["--", "sh", "-c", LOOK]].concat());
            assert!(output.status.success(), "{output:?}");
            let all = text(&output.stderr);
            let (before, after) = all.split_once("inside\n").unwrap();
            let states = |lines: &'_ str| {
                let pairs = lines.lines().filter_map(|line| line.split_once(' '));
                pairs.map(|(name, state)| (name.into(), state.into())).collect::<BTreeMap<String, String>>()
            };
            let mut now = states(before);
            let fields = all.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            for fields in fields.filter(|fields| fields["kind"] == "change") {
                let [what, before, after] =
                    ["what", "before", "after"].map(|name| fields[name].as_str().unwrap());
                // A map is one of a new namespace's.
                if !what.starts_with("/proc/") {
                    assert_eq!(now[what], before, "{what} {caller:?} {options:?}");
                }
                now.insert(what.rsplit('/').next().unwrap().into(), after.into());
            }
            let command = states(after);
            for (what, is) in command.iter().filter(|(what, _)| !what.ends_with("_for_children")) {
                if now.contains_key(what) {
                    assert_eq!(now[what], *is, "{what} {caller:?} {options:?}");
                }
            }
            assert!(command.contains_key("uts") && command.contains_key("setgroups"), "{all}");
        }
    }
}

/// What a stage tells in its shell column, and what the script of the same stage executes, differ
/// in this, and in nothing else.
struct Difference {
    stages: &'static [u8],
    told: &'static [&'static str],
    by_hand: &'static [&'static str],
    /// For those who read it here.
    reason: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        stages: &[1],
        told: &[],
        by_hand: &["unshare -u true", "true"],
        reason: "the script tries, to say what else to do; the stage sees it by the errno of clone(2)",
    },
    Difference {
        stages: &[1, 2, 3, 4, 5],
        told: &["unshare --kill-child"],
        by_hand: &[],
        reason: "a stage that is killed takes its command along; only 5-net.sh does so, below",
    },
    Difference {
        stages: &[2, 3, 4, 5],
        told: &[
            "echo '0 UID 1' > /proc/PID/uid_map",
            "echo deny > /proc/PID/setgroups",
            "echo '0 GID 1' > /proc/PID/gid_map",
        ],
        by_hand: &[],
        reason: "the r of unshare -r, below",
    },
    Difference { stages: &[2], told: &["unshare -uU"], by_hand: &["unshare -uUr"], reason: "see above" },
    Difference {
        stages: &[3],
        told: &["unshare -uUpfm", "mount --make-rprivate /", "mount -t proc proc /proc"],
        by_hand: &["unshare -uUrpf --mount-proc"],
        reason: "--mount-proc is all that",
    },
    Difference {
        stages: &[4],
        told: &["unshare -uUpfm", "mount --make-rprivate /"],
        by_hand: &["unshare -uUrpfm --mount-proc"],
        reason: "unshare makes the mounts private by itself, and then the slide once more",
    },
    Difference {
        stages: &[5],
        told: &["unshare -uUpfmn", "mount --make-rprivate /"],
        by_hand: &["unshare -uUrpfmn --mount-proc --kill-child"],
        reason: "the same",
    },
    Difference {
        stages: &[4, 5],
        told: &["mkdir ROOT/.old_root"],
        by_hand: &["mkdir -p ROOT/.old_root"],
        reason: "the stage takes EEXIST for an answer, too",
    },
    Difference {
        stages: &[5],
        told: &[],
        by_hand: &[
            "mktemp -d",
            "mkfifo TMP/in TMP/wired",
            "env --default-signal=INT,QUIT unshare -uUrpfmn --mount-proc --kill-child",
            "rm -r TMP",
        ],
        reason: "two shells wait for each other on files, the stage's processes on pipes",
    },
    Difference {
        stages: &[5],
        told: &["setpriv --no-new-privs"],
        by_hand: &[],
        reason: "who makes the network and removes it, beside the container, keeps no right but that",
    },
    Difference {
        stages: &[5],
        told: &["ip link show dev br0", "ip link show dev br0", "ip -4 addr show"],
        by_hand: &["ip link show br0", "ip link show veth0", "ip link show veth1"],
        reason: "both look first whether the names are free; the stage whether the subnet is, too, and again for the number of what it made",
    },
    Difference {
        stages: &[5],
        told: &["ip link show dev lo", "ip link show dev veth1"],
        by_hand: &[],
        reason: "ip asks for the number of a link by itself",
    },
    Difference {
        stages: &[5],
        told: &[
            "ip link property add dev veth0 altname 172.20.1.3",
            "ip link property add dev veth0 altname 172.20.1.4",
            "ip monitor link",
        ],
        by_hand: &[],
        reason: "many containers share the bridge, each with an address of its own; and the first ping is answered",
    },
    Difference {
        stages: &[5],
        told: &[
            "ip link set br0 group N",
            "ip link set br0 group N",
            "ip link show master br0",
            "ip link del group N",
        ],
        by_hand: &["ip link del veth0", "ip link del br0"],
        reason: "the last of many containers removes the bridge, and the group tells which one that is",
    },
];

/// The shell column, beside the script of the same stage.
pub(crate) fn agrees_with_the_script(program: &str, script: &str, callers: &[Caller], options: &[&str]) {
    let stage = script.split('-').next().unwrap().parse::<u8>().unwrap();
    let rootfs = ["--rootfs", busybox().to_str().unwrap()];
    let rootfs = if stage < 4 { &[][..] } else { &rootfs };
    let command = ["--", "sleep", "0"];
    let listed = |of: fn(&Difference) -> &'static [&'static str]| {
        let here = DIFFERENCES.iter().filter(|difference| difference.stages.contains(&stage));
        let mut listed = here.flat_map(of).map(ToString::to_string).collect::<Vec<_>>();
        listed.sort_unstable();
        listed
    };
    for &caller in callers {
        let arguments = [&["--explain=json"], options, rootfs, &command].concat();
        let output = Run::new(program, caller).output(&arguments);
        assert!(output.status.success(), "{output:?}");
        let told = text(&output.stderr);
        let told = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told = told.filter_map(|fields| fields["shell"].as_str().map(str::to_string));
        let told = told.filter(|shell| !shell.is_empty());
        let told =
            told.flat_map(|shell| shell.split("; ").map(plain).collect::<Vec<_>>()).collect::<Vec<_>>();
        let by_hand = executed(script, caller, &[rootfs, &command].concat());
        assert_eq!(without(&told, &by_hand), listed(|difference| difference.told), "stage {stage} only");
        assert_eq!(without(&by_hand, &told), listed(|difference| difference.by_hand), "{script} only");
    }
}

/// Those of `all` that `others` has not, sorted.
fn without(all: &[String], others: &[String]) -> Vec<String> {
    let mut rest = all.to_vec();
    for other in others {
        if let Some(at) = rest.iter().position(|one| one == other) {
            rest.swap_remove(at);
        }
    }
    rest.sort_unstable();
    rest
}

/// The commands that the script executes, as strace sees it, and what its shell does by itself.
fn executed(script: &str, caller: Caller, arguments: &[&str]) -> Vec<String> {
    let directory = open_directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (log, copy) = (directory.path().join("log"), directory.path().join(script));
    fs::copy(format!("{}/../scripts/by-hand/{script}", env!("CARGO_MANIFEST_DIR")), &copy).unwrap();
    let strace = ["strace", "-fqq", "-s", "65536", "-e", "trace=execve", "-o", log.to_str().unwrap()];
    let run = Run::new("sh", caller).under(&strace);
    let output = run.output(&[&[copy.to_str().unwrap()], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    let log = fs::read_to_string(&log).unwrap();
    let lines = lines(&log).into_iter().filter(|line| line.result == "0").collect::<Vec<_>>();
    let commands = lines.iter().filter_map(|line| {
        let words = line.call.split_once(", [").unwrap().1.rsplit_once("], ").unwrap().0;
        let words = words.split(", ").map(|word| word.trim_matches('"')).collect::<Vec<_>>();
        match words[0] {
            "sh" | "/bin/sh" => None,
            "sleep" => Some("exec sleep".into()),
            // Up to the shell with what is typed into it.
            _ => Some(plain(&words.split(|word| *word == "/bin/sh").next().unwrap().join(" "))),
        }
    });
    let text = fs::read_to_string(&copy).unwrap();
    let builtins =
        text.lines().map(str::trim).filter(|line| *line == "cd /" || line.starts_with("echo leopard"));
    commands.chain(builtins.map(plain)).collect()
}

/// A command without what differs from run to run.
fn plain(command: &str) -> String {
    let root = busybox().to_str().unwrap();
    let command =
        command.replace(root, "ROOT").replace(">/", "> /").replace("ip link set dev ", "ip link set ");
    let mut words = command.split(' ').map(str::to_string).collect::<Vec<_>>();
    for at in 0..words.len() {
        let before = at.checked_sub(1).map(|before| words[before].clone());
        let word = &mut words[at];
        match before.as_deref() {
            Some("exec") => *word = word.rsplit('/').next().unwrap().into(),
            Some("netns") => *word = "PID".into(),
            Some("group") => *word = "N".into(),
            Some("'0") => *word = if command.ends_with("uid_map") { "UID".into() } else { "GID".into() },
            _ => {}
        }
        if word.len() > 1 && word.ends_with('/') {
            word.pop();
        }
        let mut parts = word.split('/').map(str::to_string).collect::<Vec<_>>();
        if parts.len() > 2 && parts[1] == "proc" && parts[2].parse::<u32>().is_ok() {
            parts[2] = "PID".into();
        }
        if parts.len() > 2 && parts[2].starts_with("tmp.") {
            parts.splice(..3, ["TMP".into()]);
        }
        *word = parts.join("/");
    }
    words.join(" ")
}

/// Without the option nothing is told, and the same calls are made but for those that tell.
pub(crate) fn is_free_when_off(program: &str, callers: &[Caller], options: &[&str]) {
    /// Writing the lines, and reading what to tell; memory for both.
    const TELLING: &str = "write readlink getpid openat statx fstat newfstatat lseek read close fcntl brk \
        mmap munmap mremap";
    for &caller in callers {
        let run = |explain: &[&str]| {
            let watched = watch(program, caller, "", &[], &[explain, options, &["--", "true"]].concat());
            assert!(watched.output.status.success(), "{:?}", watched.output);
            watched
        };
        let (off, on) = (run(&[]), run(&["--explain=json"]));
        let said = text(&on.output.stderr);
        let notes = said.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>();
        assert_eq!(text(&off.output.stderr).lines().collect::<Vec<_>>(), notes);
        assert_eq!(off.processes.len(), on.processes.len());
        for (off, on) in off.processes.iter().zip(&on.processes) {
            assert!(off.narration.is_empty() && !on.narration.is_empty());
            for name in off.counts.keys().chain(on.counts.keys()) {
                let [off, on_count] = [off, on].map(|process| process.counts.get(name).copied().unwrap_or(0));
                match name.as_str() {
                    "write" => assert_eq!(on_count - off, on.narration.len(), "{}", on.side),
                    // How many events arrive, and when the child's end is noticed, is the kernel's; and
                    // whether there is a terminal, the picture of the network asks, too. Who waits for a second
                    // gives memory back.
                    "recvmsg" | "wait4" | "poll" | "madvise" | "ioctl" => {}
                    _ if TELLING.split(' ').any(|telling| telling == name) => {
                        assert!(off <= on_count, "{} {name}: {off} {on_count}", on.side);
                    }
                    _ => assert_eq!(off, on_count, "{} {name}", on.side),
                }
            }
        }
    }
}

/// A stage on a terminal of its own, with a person who reads along.
struct Reader {
    terminal: PtySession,
    /// In the environment of all its processes, and of no other.
    mark: String,
    /// What was read before.
    before: String,
}

/// What ends a wait for the stage.
const NEXT: &str = "q stops\r\n";

impl Reader {
    /// Starts the stage in a shell that runs `script`, says how it ended, and which links are left.
    fn new(program: &str, caller: Caller, script: &str, arguments: &[&str]) -> Self {
        let all = format!(
            "trap : INT; {script}; status=$?
            for i in $(seq 50); do links=$(ip -o link | grep -v ' lo: '); [ \"$links\" ] || break; sleep 0.2; done
            echo \"status $status, links left: $links.\""
        );
        let run = Run::new(program, caller).under(&["sh", "-c", &all, "sh"]);
        let mut command = run.alone(&[&["--step"], arguments].concat());
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        command.env("LEOPARD", &mark).env("NO_COLOR", "1").stdin(Stdio::inherit());
        let terminal = rexpect::session::spawn_command(command, Some(60_000)).unwrap();
        Self { terminal, mark, before: String::new() }
    }

    /// What is said until the next question, or until `end`; and whether it was the question.
    fn read(&mut self, end: &str) -> (String, bool) {
        let ends = [NEXT, end].map(|end| ReadUntil::String(end.into()));
        let (said, found) = self
            .terminal
            .exp_any(ends.into())
            .unwrap_or_else(|error| panic!("{error}, after {}", self.before));
        self.before.clone_from(&said);
        (said, found == NEXT)
    }

    /// Answers `times` questions with Enter, ahead of them, and waits for the next, which is returned.
    fn enter(&mut self, times: usize) -> String {
        self.terminal.send(&"\n".repeat(times)).unwrap();
        self.terminal.flush().unwrap();
        for _ in 0..times {
            assert!(self.read("status ").1);
        }
        let (said, asked) = self.read("status ");
        assert!(asked, "{said}");
        said
    }

    /// The end of the stage, with this status, and nothing left of it.
    fn ends(mut self, status: u8) -> String {
        let (said, asked) = self.read("status ");
        assert!(!asked, "asked at its end: {said}");
        self.terminal.exp_string(&format!("{status}, links left: .\r\n")).unwrap();
        self.terminal.exp_eof().unwrap();
        let environment = format!("LEOPARD={}\0", self.mark);
        let left = || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let mut all =
                processes.map(|process| fs::read(process.path().join("environ")).unwrap_or_default());
            all.any(|all| all.windows(environment.len()).any(|part| part == environment.as_bytes()))
        };
        for _ in 0..500 {
            if !left() {
                return said;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("a process is left: {said}");
    }
}

/// The side and the call of a line `host      next: call    # …`.
fn next(said: &str) -> (String, String) {
    let line = said.lines().rev().find(|line| line.contains(" next: ")).unwrap();
    let (side, call) = line.split_once(" next: ").unwrap();
    (side.trim().into(), call.split("    # ").next().unwrap().into())
}

/// What `--step` asks for, from the explanation: first the host's steps, then the container's. Whoever
/// waits for the other side does not wait for the reader, too; and nobody does at the end, when the
/// network is removed.
fn questions(program: &str, caller: Caller, options: &[&str]) -> Vec<(String, String)> {
    let explained = text(&Run::new(program, caller).output(&[&["--explain=json"], options].concat()).stderr);
    let fields = explained.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let steps = fields.filter(|fields| fields["kind"] == "step").map(|fields| {
        let [side, call] = ["side", "call"].map(|name| fields[name].as_str().unwrap());
        (side.to_string(), number_free(call))
    });
    let (mut host, container) = steps.partition::<Vec<_>, _>(|(side, _)| side == "host");
    let last = host.iter().position(|(_, call)| call == "write(pipe)").unwrap();
    host.truncate(last + 1);
    // Which of the two is faster to tell, the new process or who forked it, is chance.
    if let Some(fork) = host.iter().position(|(_, call)| call == "fork()") {
        let fork = host.remove(fork);
        let maps = host.iter().rposition(|(_, call)| call.starts_with("write(/proc/#/gid_map")).unwrap();
        host.insert(maps + 1, fork);
    }
    [host, container].concat().into_iter().filter(|(_, call)| call != "read(pipe)").collect()
}

/// From the first line to the command's prompt, with Enter: each step is done before the next is
/// asked for.
pub(crate) fn steps_to_the_prompt(program: &str, caller: Caller, options: &[&str]) {
    let mut reader = Reader::new(program, caller, "\"$@\"", options);
    let (mut asked, mut looked) = (Vec::<(String, String)>::new(), vec![]);
    let mut host = None;
    loop {
        let (said, more) = reader.read("\n-> ");
        assert_eq!(said.matches(" next: ").count(), usize::from(more), "one question at a time: {said}");
        if let Some((side, call)) = asked.last()
            && !["fork()", "write(pipe)"].contains(&call.as_str())
        // the other process may be faster
        {
            assert!(said.contains(&format!("{side:<9} {call}")), "{call} was done: {said}");
        }
        if let Some((_, look)) = said.split_once("look at process ") {
            looked.push(look_at(look, caller, &mut host));
        }
        if !more {
            break;
        }
        asked.push(next(&said));
        reader.terminal.send_line("").unwrap();
    }
    let asked = asked.into_iter().map(|(side, call)| (side, number_free(&call))).collect::<Vec<_>>();
    assert_eq!(asked, questions(program, caller, options));
    let container = looked.last().unwrap();
    assert!(looked.len() >= 2 && looked[..looked.len() - 1].iter().all(|uts| uts != container), "{looked:?}");
    reader.terminal.send_line("exit").unwrap();
    reader.ends(0);
}

/// Without the numbers of processes, links and descriptors.
fn number_free(call: &str) -> String {
    let parts = call.split(|c: char| c.is_ascii_digit()).collect::<Vec<_>>();
    let mut free = String::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 && (!part.is_empty() || at + 1 == parts.len()) {
            free.push('#');
        }
        free.push_str(part);
    }
    free
}

/// Does what `N from another terminal: ls -l …; lsns …` says, and in the next line `from inside: nsenter …`,
/// where the caller would; returns the UTS namespace. Without the last, the process has no namespace of its own.
fn look_at(said: &str, caller: Caller, host: &mut Option<String>) -> String {
    let line = said.lines().next().unwrap();
    let (process, commands) = line.split_once(" from another terminal: ").unwrap();
    let namespace = |process: &str, kind: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
    // The first is the stage, and whoever has started it is on the host.
    let host = host.get_or_insert_with(|| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap().into()
    });
    let kinds = ["uts", "user", "pid_for_children", "mnt", "net", "ipc", "cgroup"];
    let others = kinds.iter().filter(|kind| namespace(process, kind) != namespace(host, kind)).count();
    let inside = said.lines().nth(1).and_then(|line| line.split_once("from inside, until exit: "));
    let commands = commands.split("; ").chain(inside.map(|(_, command)| command)).collect::<Vec<_>>();
    assert!(commands.iter().all(|command| command.contains(process)), "{line}");
    assert_eq!(commands.len(), if others == 0 { 2 } else { 3 }, "{line}");
    for command in commands {
        let enters = command.starts_with("nsenter ");
        let show = "sh -c 'cd /proc/self/ns; for kind; do readlink $kind; done' sh ";
        let script = if enters { format!("{command} {show}{}", kinds.join(" ")) } else { command.into() };
        // lsns reads all of /proc, and gives up when a process ends meanwhile, whichever it is.
        let look = || {
            let mut terminal = Command::new("nsenter");
            terminal.args(["-t", host, "-u", "-m", "-n"]);
            if !geteuid().is_root() {
                terminal.args(["-U", "--preserve-credentials"]);
            }
            Run::new("sh", caller).finish(terminal, &["-c", &script]).output().unwrap()
        };
        let again = (0..20).map(|_| look()).find(|output| output.status.success());
        let output = again.unwrap_or_else(look);
        assert!(output.status.success(), "{script}: {output:?}");
        let seen = text(&output.stdout);
        let there = kinds.map(|kind| format!("{}\n", namespace(process, kind).display())).concat();
        assert!(!enters || seen == there, "{script}: {seen} {there}");
        assert!(seen.lines().count() >= 7, "{script}: {seen}");
    }
    namespace(process, "uts").display().to_string()
}

/// `c`, `q` and Ctrl-C, when these calls come next.
pub(crate) fn can_be_stopped(program: &str, caller: Caller, options: &[&str], calls: &[&str]) {
    let questions = questions(program, caller, options);
    let start = |call: &str| {
        let question = questions.iter().position(|(_, asked)| asked.starts_with(call)).unwrap();
        let mut reader = Reader::new(program, caller, "\"$@\"", options);
        let call = next(&reader.enter(question)).1;
        assert_eq!(number_free(&call), questions[question].1);
        (reader, call)
    };
    let goes_on = |call| {
        let (mut reader, _) = start(call);
        reader.terminal.send_line("c").unwrap();
        let (said, asked) = reader.read("\n-> ");
        assert!(!asked && !said.contains(" next: "), "asked after c: {said}");
        reader.terminal.send_line("exit 3").unwrap();
        reader.ends(3);
    };
    let quits = |call| {
        let (mut reader, call) = start(call);
        reader.terminal.send_line("q").unwrap();
        let said = reader.ends(130);
        assert!(said.contains(&format!(": stopped before {call}\r\n")), "{call}: {said}");
    };
    let is_interrupted = |call| {
        let (mut reader, _) = start(call);
        reader.terminal.send_control('c').unwrap();
        reader.ends(130);
    };
    thread::scope(|scope| {
        for &call in calls {
            scope.spawn(move || goes_on(call));
            scope.spawn(move || quits(call));
            scope.spawn(move || is_interrupted(call));
        }
    });
}

/// The reader's Enter comes from the terminal, stdin is the command's; without a terminal it is said.
pub(crate) fn steps_at_the_terminal(program: &str, caller: Caller) {
    let mut reader = Reader::new(program, caller, "echo spots | \"$@\"", &["--", "cat"]);
    reader.enter(1);
    reader.terminal.send_line("c").unwrap();
    let (said, asked) = reader.read("\nspots\r\n");
    assert!(!asked, "{said}");
    reader.ends(0);
    let message = Run::new(program, caller).under(&["setsid", "-w"]).failure(1, &["--step", "true"]);
    assert!(message.contains("open(\"/dev/tty\", O_RDWR|O_CLOEXEC): ENXIO: "), "{message}");
    assert!(message.contains("\nhint: ") && message.contains("--explain"), "{message}");
}
