//! The proof of `--explain`: each stage under strace, and what it showed beside what strace saw.
//!
//! strace shows the calls of each process in the order in which it made them, and between them, as
//! writes to stderr, the lines in which the stage showed them. So it does not matter how the output of
//! two processes mixes: in every process each call is followed by the line that shows it, and each
//! line follows its call.
#![allow(dead_code, reason = "each stage uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "tests"
)]

use crate::support::{Caller, Run, as_the_user, busybox, mark, open_directory, reachable, text};
use crate::support::{state, within_a_minute};
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressAttribute,
    link::{
        AfSpecInet6, AfSpecUnspec, InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
        LinkMessage,
    },
    route::{RouteAddress, RouteAttribute},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use rexpect::{ReadUntil, session::PtySession};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::process::{Command, Output, Stdio};
use std::{fs, os::unix::fs::PermissionsExt};

/// A call and its result; without a result, execve(2) before it is made.
type Call = (String, Option<String>);

#[derive(Clone, Debug, PartialEq)]
enum Event {
    /// strace saw it.
    Made(Call),
    /// The stage showed it.
    Shown(Call),
}

/// A process of the stage, from its clone(2) to its execve(2).
struct Process {
    side: &'static str,
    events: Vec<Event>,
    /// How often it made which system call, of any kind.
    counts: BTreeMap<String, usize>,
    /// The JSON lines that it wrote.
    lines: Vec<String>,
    /// The number of its writes before that to the map of users.
    writes: usize,
}

/// A run of a stage under strace.
pub(crate) struct Watched {
    output: Output,
    processes: Vec<Process>,
}

/// Runs the stage on a host prepared so, under strace with these options of its own.
fn watch(
    program: &str,
    caller: Caller,
    prepare: &str,
    options: &[&str],
    arguments: &[&str],
) -> Watched {
    let directory = open_directory();
    let (log, stage) = (directory.path().join("log"), reachable(program));
    let (log, stage) = (log.to_str().unwrap(), stage.to_str().unwrap());
    let strace = ["-fqq", "-s", "65536", "-e", "write=all", "-o", log];
    // Inside of strace, not outside: an ordinary user cannot trace a process that is not dumpable.
    let user = as_the_user();
    let becomes = match caller {
        Caller::Root => vec!["--"],
        Caller::User => std::iter::once("--")
            .chain(user.iter().map(String::as_str))
            .collect(),
    };
    let run = Run::new("strace", Caller::Root).prepare(prepare);
    let output = run.output(&[&strace[..], options, &becomes, &[stage], arguments].concat());
    let log = fs::read_to_string(log).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let mut lines = lines(&log);
    let started = format!("execve({stage:?}, ");
    let is_start = |line: &Line| line.call.starts_with(&started) && line.result == "0";
    let at = lines.iter().position(is_start).unwrap();
    let host = lines.drain(..=at).next_back().unwrap().process;
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
    let mut is_whole = true;
    for line in log.lines() {
        // ` | 00010  73 69 64 65 22 3a 22 63  6f 6e 74 61 69 6e 65 72  side":"container |`
        if let Some(dump) = line.strip_prefix(" | ") {
            let bytes = dump[7..56].split_whitespace();
            let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap());
            if is_whole {
                lines.last_mut().unwrap().bytes.extend(bytes);
            }
            continue;
        }
        // ` * 36 bytes in buffer 0`: of a program that the stage runs.
        if line.starts_with(" * ") {
            continue;
        }
        let (process, rest) = line.split_once(' ').unwrap();
        let (process, rest) = (process.parse().unwrap(), rest.trim_start());
        let resumed = rest.strip_prefix("<... ");
        let whole = if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, begun);
            continue;
        } else if let Some((_, end)) = resumed.and_then(|rest| rest.split_once(" resumed>")) {
            format!("{}{end}", unfinished.remove(&process).unwrap())
        } else {
            rest.into()
        };
        // Not a signal's arrival, nor a process's end, nor a call that this cut short, or that the kernel
        // makes again (ERESTARTNOINTR).
        let parts = whole.rsplit_once(" = ");
        let parts = parts.filter(|(_, result)| !result.starts_with('?'));
        is_whole = parts.is_some();
        if let Some((call, result)) = parts {
            let (call, result) = (call.trim_end().into(), result.into());
            let bytes = vec![];
            lines.push(Line {
                process,
                call,
                result,
                bytes,
            });
        }
    }
    lines
}

/// Calls that change something, and of which the explanation has strace's own words.
const CHANGING: &str = "chdir chmod chown chroot clone3 close_range fchdir fchmod fchmodat fchown \
    fchownat fork fsconfig fsmount fsopen ftruncate link linkat mkdir mkdirat mknod mknodat mount \
    move_mount open_tree pivot_root rename renameat2 rmdir setdomainname setgid setgroups setresgid \
    setresuid setuid sethostname setns setsid symlink symlinkat umount umount2 unlink unlinkat \
    unshare vfork";

/// Reads what a process of the stage did, with these descriptors from its parent, and its children.
fn follow<'a>(
    process: u32,
    side: &'static str,
    inherited: &HashMap<&'a str, &'a str>,
    all: &'a [Line],
    processes: &mut Vec<Process>,
) {
    let mut files = inherited.clone();
    let mut this = Process {
        side,
        events: vec![],
        counts: BTreeMap::new(),
        lines: vec![],
        writes: 0,
    };
    let mut writes = 0;
    // The events of each socket, and the request that waits for an answer.
    let (mut sockets, mut request) = (Vec::<(&str, Vec<usize>)>::new(), None);
    for line in all.iter().filter(|line| line.process == process) {
        let (name, arguments) = line.call.split_once('(').unwrap();
        *this.counts.entry(name.into()).or_default() += 1;
        let words = arguments.trim_end_matches(')').split(", ");
        let words = words.collect::<Vec<_>>();
        match name {
            "openat" => drop(files.insert(&line.result, words[1].trim_matches('"'))),
            "socket" | "signalfd4" => drop(files.insert(&line.result, words[0])),
            "pipe2" => {
                let ends = words[..2].iter();
                files.extend(ends.map(|end| (end.trim_matches(['[', ']']), "pipe")));
            }
            _ => {}
        }
        let file = files.get(words[0]).copied().unwrap_or_default();
        let writes_to = ["O_WRONLY", "O_RDWR", "O_PATH", "/proc/self/ns/net"];
        let call = match name {
            "clone" => {
                let flags = arguments.split_once("flags=").unwrap().1;
                let flags = flags.split([',', ')']).next().unwrap();
                let inside = flags.contains("CLONE_NEW");
                if let Ok(child) = line.result.parse() {
                    let side = if inside { "container" } else { side };
                    follow(child, side, &files, all, processes);
                }
                if inside {
                    format!("clone({flags})")
                } else {
                    "fork()".into()
                }
            }
            "pipe2" => format!("pipe2({}", arguments.rsplit_once(", ").unwrap().1),
            "openat" if writes_to.iter().any(|word| arguments.contains(word)) => {
                flags_sorted(&line.call)
            }
            "mount_setattr" => line.call.replace(" /* MS_??? */", ""),
            "write" => {
                writes += 1;
                if words[0] == "2" {
                    let said = text(&line.bytes);
                    if said.starts_with('{') {
                        this.events.extend(shown(&said, side));
                        this.lines.push(said.trim_end().into());
                    }
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
            // The janitor's is not a step: it waits for the end.
            "read" if file == "pipe" && side == "container" => "read(pipe)".into(),
            "socket" if words[0] == "AF_NETLINK" => {
                sockets.push((&line.result, vec![this.events.len()]));
                line.call.clone()
            }
            "socket" if words[0] == "AF_INET" => line.call.clone(),
            "setsockopt" if arguments.contains("SO_REUSEADDR") => line.call.clone(),
            "bind" | "listen" if file == "AF_INET" => line.call.clone(),
            "sendto" | "sendmsg" if file == "AF_NETLINK" => {
                // The last one with this number.
                match sockets.iter_mut().rfind(|(number, _)| *number == words[0]) {
                    Some((_, events)) => events.push(this.events.len()),
                    None => sockets.push((words[0], vec![this.events.len()])),
                }
                request = Some((this.events.len(), number_at(&line.bytes, 8)));
                this.events.push(Event::Made((decoded(&line.bytes), None)));
                continue;
            }
            "recvmsg" | "recvfrom" => {
                if let Some((at, sequence)) = request
                    && let Some(result) = acknowledged(&line.call, sequence)
                    && let Event::Made(call) = &mut this.events[at]
                {
                    (call.1, request) = (Some(result), None);
                }
                continue;
            }
            // `execve("/bin/true", ["true"], 0x7ffc98 /* 35 vars */)`: where they are is not shown.
            // execvpe(3) tries the directories of PATH one after another.
            "execve" => {
                let (call, environment) = line.call.rsplit_once(", 0x").unwrap();
                let words = call.split_once(", ").unwrap().1;
                let program = words.trim_matches(['[', ']']).split(", ").next().unwrap();
                let call = format!(
                    "execvpe({program}, {words}, {}",
                    environment.split_once(' ').unwrap().1
                );
                if let Some(Event::Made(last)) = this.events.last()
                    && last.0 == call
                {
                    this.events.pop();
                }
                call
            }
            "prctl" => match arguments.split_once("0x") {
                Some((option, unknown)) if unknown.ends_with("/* CAP_??? */)") => {
                    format!("prctl({option}CAP_?)")
                }
                _ => line.call.clone(),
            },
            // `capset({version=…, pid=0}, {effective=1<<CAP_KILL, permitted=1<<CAP_KILL, …})`
            "capset" => {
                let set = |name| {
                    let set = arguments.split_once(name).unwrap().1;
                    set.split([',', '}']).next().unwrap()
                };
                let [permitted, inheritable] = [set("permitted="), set("inheritable=")];
                assert_eq!(set("effective="), permitted);
                let names = |set: &str| set.trim_start_matches('0').replace("1<<CAP_", "");
                match names(inheritable) {
                    none if none.is_empty() => format!("capset({})", names(permitted)),
                    some => format!("capset({}, inheritable {some})", names(permitted)),
                }
            }
            "close_range" if !arguments.contains("CLOEXEC") => continue, // the janitor's
            "seccomp" => format!("{}}})", line.call.split(", filter=").next().unwrap()),
            _ if CHANGING.split(' ').any(|changing| changing == name) => line.call.clone(),
            _ => continue,
        };
        let result = line.result.strip_suffix(" (INJECTED)");
        let result = result.unwrap_or(&line.result);
        let is_last = name == "execve" && result == "0";
        this.events.push(Event::Made((call, Some(result.into()))));
        if is_last {
            break;
        }
    }
    if !this.lines.is_empty() {
        without_looks(
            &mut this.events,
            sockets.into_iter().map(|(_, events)| events),
        );
    }
    processes.push(this);
}

/// Removes the calls by which the explanation itself looks at links and addresses: a socket that is not
/// shown. On such a socket there are only questions.
fn without_looks(events: &mut Vec<Event>, sockets: impl Iterator<Item = Vec<usize>>) {
    let mut looks = vec![];
    for socket in sockets {
        let opened = socket[0];
        let Event::Made(call) = &events[opened] else {
            continue;
        };
        let is_shown = events.get(opened + 1) == Some(&Event::Shown(call.clone()));
        if call.0.starts_with("socket(") && !is_shown {
            for at in &socket[1..] {
                let Event::Made((call, _)) = &events[*at] else {
                    panic!("{:?}", events[*at])
                };
                assert!(call.starts_with("RTM_GET"), "not shown: {call}");
            }
            looks.extend(socket);
        }
    }
    let mut at = 0;
    events.retain(|_| {
        at += 1;
        !looks.contains(&(at - 1))
    });
}

/// The flags of openat(2) are a set, and O_RDONLY is 0.
fn flags_sorted(call: &str) -> String {
    let parts = call.split_once(", O_");
    let Some((start, rest)) = parts.filter(|_| call.starts_with("openat(")) else {
        return call.into();
    };
    let end = rest.find([',', ')']).unwrap();
    let flags = rest[..end].split("|O_");
    let mut flags = flags.filter(|flag| *flag != "RDONLY").collect::<Vec<_>>();
    flags.sort_unstable();
    format!("{start}, {}{}", flags.join("|"), &rest[end..])
}

/// The fields of each kind of line, as the README documents them.
const FIELDS: [(&str, &str); 5] = [
    ("step", "kind side process time heading shell does"),
    ("call", "kind side process time call result"),
    ("change", "kind side process time what name before after"),
    ("error", "kind message hint"),
    ("note", "kind message"),
];

/// A line of `--explain=json`, with the documented fields and no other.
fn fields(line: &str) -> Value {
    let fields = serde_json::from_str::<Value>(line);
    let fields = fields.unwrap_or_else(|error| panic!("{error}: {line}"));
    let known = FIELDS.iter().find(|(kind, _)| *kind == fields["kind"]);
    let mut names = known.unwrap().1.split(' ').collect::<Vec<_>>();
    names.sort_unstable();
    let found = fields.as_object().unwrap().keys();
    assert_eq!(found.collect::<Vec<_>>(), names, "{line}");
    fields
}

fn string<'a>(fields: &'a Value, name: &str) -> &'a str {
    let value = fields[name].as_str();
    value.unwrap_or_else(|| panic!("{name}: {fields}"))
}

/// The call that a line of JSON shows, if it shows one.
fn shown(line: &str, side: &str) -> Option<Event> {
    let fields = fields(line);
    if fields["kind"] == "error" {
        return None;
    }
    assert_eq!(string(&fields, "side"), side, "{line}");
    assert!(fields["process"].is_number() && fields["time"].is_number());
    if fields["kind"] != "call" {
        return None;
    }
    let call = string(&fields, "call");
    // Of a refused request strace shows the errno's name only.
    let result = fields["result"].as_str().map(|result| match result {
        refused if call.starts_with("RTM_") => refused.split(" (").next().unwrap().into(),
        result => result.into(),
    });
    Some(Event::Shown((flags_sorted(call), result)))
}

/// A request's bytes in the words of the explanation, by a library that decodes them.
fn decoded(bytes: &[u8]) -> String {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).unwrap();
    assert_eq!(NetlinkBuffer::new(bytes).length() as usize, bytes.len());
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        panic!("{message:?}")
    };
    let (name, parts) = match &message {
        RouteNetlinkMessage::NewLink(link) => ("RTM_NEWLINK", link_parts(link)),
        RouteNetlinkMessage::DelLink(link) => ("RTM_DELLINK", link_parts(link)),
        RouteNetlinkMessage::GetLink(link) => ("RTM_GETLINK", link_parts(link)),
        RouteNetlinkMessage::GetAddress(_) => ("RTM_GETADDR", vec![]),
        RouteNetlinkMessage::GetRoute(_) => ("RTM_GETROUTE", vec![]),
        RouteNetlinkMessage::NewRoute(route) => match &route.attributes[..] {
            [RouteAttribute::Gateway(RouteAddress::Inet(gateway))] => {
                ("RTM_NEWROUTE", vec![format!("RTA_GATEWAY={gateway}")])
            }
            other => panic!("{other:?}"),
        },
        RouteNetlinkMessage::NewAddress(address) => {
            let header = &address.header;
            let mut parts = vec![
                format!("index={}", header.index),
                format!("prefixlen={}", header.prefix_len),
            ];
            parts.extend(address.attributes.iter().map(|attribute| match attribute {
                AddressAttribute::Local(address) => format!("IFA_LOCAL={address}"),
                AddressAttribute::Address(address) => format!("IFA_ADDRESS={address}"),
                other => panic!("{other:?}"),
            }));
            ("RTM_NEWADDR", parts)
        }
        other => panic!("{other:?}"),
    };
    format!("{name}({})", parts.join(", "))
}

fn link_parts(link: &LinkMessage) -> Vec<String> {
    let header = &link.header;
    assert_eq!(header.flags, header.change_mask);
    let mut parts = vec![];
    parts.extend((header.index != 0).then(|| format!("index={}", header.index)));
    parts.extend((header.flags == LinkFlags::Up).then(|| "IFF_UP".into()));
    parts.extend(link.attributes.iter().map(|attribute| match attribute {
        LinkAttribute::Address(mac) => {
            let bytes = mac.iter().map(|byte| format!("{byte:02x}"));
            format!("IFLA_ADDRESS={}", bytes.collect::<Vec<_>>().join(":"))
        }
        LinkAttribute::IfName(name) => format!("IFLA_IFNAME={name:?}"),
        LinkAttribute::IfAlias(alias) => format!("IFLA_IFALIAS={alias:?}"),
        LinkAttribute::Controller(master) => format!("IFLA_MASTER={master}"),
        LinkAttribute::Group(group) => format!("IFLA_GROUP={group}"),
        LinkAttribute::NetNsPid(pid) => format!("IFLA_NET_NS_PID={pid}"),
        LinkAttribute::ExtMask(mask) if format!("{mask:?}") == "[SkipStats]" => {
            "IFLA_EXT_MASK=8".into()
        }
        LinkAttribute::AfSpecUnspec(spec) => match &spec[..] {
            [AfSpecUnspec::Inet6(inet6)] => match inet6[..] {
                [AfSpecInet6::AddrGenMode(mode)] => {
                    let mode = u8::from(&mode);
                    format!("IFLA_AF_SPEC={{AF_INET6={{IFLA_INET6_ADDR_GEN_MODE={mode}}}}}")
                }
                _ => panic!("{inet6:?}"),
            },
            _ => panic!("{spec:?}"),
        },
        LinkAttribute::LinkInfo(info) => {
            let info = info.iter().map(|info| match info {
                LinkInfo::Kind(kind) => format!("IFLA_INFO_KIND=\"{kind}\""),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))) => {
                    let peer = link_parts(peer).join(", ");
                    format!("IFLA_INFO_DATA={{VETH_INFO_PEER={{{peer}}}}}")
                }
                other => panic!("{other:?}"),
            });
            format!("IFLA_LINKINFO={{{}}}", info.collect::<Vec<_>>().join(", "))
        }
        other => panic!("{other:?}"),
    }));
    parts
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The kernel's acknowledgement of the request with this number, if it is among these messages.
fn acknowledged(strace: &str, sequence: u32) -> Option<String> {
    strace.split("{nlmsg_len=").find_map(|message| {
        let (header, body) = message.split_once("}, ")?;
        let is_end = |kind: &&str| header.contains(*kind);
        let ends = ["=NLMSG_ERROR,", "=NLMSG_DONE,"].iter().any(is_end);
        (ends && header.contains(&format!("nlmsg_seq={sequence},"))).then(|| {
            let errno = body.trim_start_matches("{error=");
            let errno = errno.split([',', ']', '}']).next().unwrap();
            errno
                .strip_prefix('-')
                .map_or(errno.into(), |errno| format!("-1 {errno}"))
        })
    })
}

impl Watched {
    /// The proof: in each process every call is shown when it has been made, execve(2) before, with
    /// the same arguments and result; and nothing else is shown.
    fn prove(&self) {
        for Process { side, events, .. } in &self.processes {
            let mut expected = vec![];
            for event in events {
                let Event::Made(call) = event else { continue };
                let executes = call.0.starts_with("execvpe(");
                if executes {
                    expected.push(Event::Shown((call.0.clone(), None)));
                }
                expected.push(event.clone());
                if !executes || call.1.as_deref() != Some("0") {
                    expected.push(Event::Shown(call.clone()));
                }
            }
            let longest = events.len().max(expected.len());
            for at in 0..longest {
                assert_eq!(
                    events.get(at),
                    expected.get(at),
                    "{side}, event {at}, is and should be, after {:?}",
                    at.checked_sub(1).and_then(|at| events.get(at))
                );
            }
        }
        // What strace saw is what the reader sees.
        let stderr = text(&self.output.stderr);
        let mut seen = stderr.lines().collect::<Vec<_>>();
        let mut lines = self.processes.iter().flat_map(|process| &process.lines);
        let mut lines = lines.by_ref().collect::<Vec<_>>();
        seen.sort_unstable();
        lines.sort_unstable();
        assert_eq!(seen, lines);
    }

    /// The calls that were shown, by side.
    fn shown(&self, side: &str) -> Vec<&Call> {
        let processes = self.processes.iter().filter(|process| process.side == side);
        let events = processes.flat_map(|process| &process.events);
        let shown = events.filter_map(|event| match event {
            Event::Shown(call) => Some(call),
            Event::Made(_) => None,
        });
        shown.collect()
    }
}

/// Runs the stage with each of `options`, and proves that it shows what it does.
pub(crate) fn shows_what_happens(program: &str, callers: &[Caller], options: &[&[&str]]) {
    shows_what_happens_on("", program, callers, options);
}

/// The same on a host that is prepared so.
pub(crate) fn shows_what_happens_on(
    prepare: &str,
    program: &str,
    callers: &[Caller],
    options: &[&[&str]],
) {
    for &caller in callers {
        for &options in options {
            let arguments = [&["--explain=json"], options, &["--", "true"]].concat();
            let watched = watch(program, caller, prepare, &[], &arguments);
            let output = &watched.output;
            assert!(
                output.status.success(),
                "{caller:?} {options:?}: {output:?}"
            );
            watched.prove();
            let last = &watched.shown("container").last().unwrap().0;
            assert!(last.starts_with("execvpe(\"true\", [\"true\"]"), "{last}");
            let host = watched.shown("host");
            assert!(host.iter().any(|call| call.0.starts_with("clone(")));
        }
    }
}

/// A run that fails: the last call of its process is the one that failed, and the message names it.
pub(crate) fn shows_what_failed(
    program: &str,
    caller: Caller,
    prepare: &str,
    arguments: &[&str],
    call: &str,
    errno: &str,
) {
    let arguments = [&["--explain=json"], arguments].concat();
    let watched = watch(program, caller, prepare, &[], &arguments);
    fails_with(&watched, call, errno);
    // In words, the failed call stands in the last line before the message.
    let run = Run::new(program, caller).prepare(prepare);
    let output = run.output(&[&["--explain"], &arguments[1..]].concat());
    let said = text(&output.stderr);
    let lines = said.lines().filter(|line| line.contains(errno));
    let lines = lines.collect::<Vec<_>>();
    assert!(
        lines.len() == 2 && lines[1].starts_with("stage") && lines[1].contains(call),
        "{said}"
    );
}

fn fails_with(watched: &Watched, call: &str, errno: &str) {
    watched.prove();
    let stderr = text(&watched.output.stderr);
    assert!(!watched.output.status.success(), "{stderr}");
    let failed = format!("-1 {errno}");
    let last = watched
        .processes
        .iter()
        .filter_map(|process| match process.events.last() {
            Some(Event::Shown(last)) => Some(last),
            _ => None,
        });
    let last = last.filter(|last| {
        last.0.contains(call) && last.1.as_ref().is_some_and(|is| is.starts_with(&failed))
    });
    let last = last.collect::<Vec<_>>();
    assert_eq!(last.len(), 1, "{call} {errno}: {stderr}");
    let errors = stderr
        .lines()
        .map(fields)
        .filter(|line| line["kind"] == "error");
    let messages = errors.map(|line| string(&line, "message").to_string());
    let messages = messages.collect::<Vec<_>>();
    let start = format!("{}: {errno}: ", last[0].0);
    assert!(
        messages.len() == 1 && messages[0].starts_with(&start),
        "{start} in {stderr}"
    );
}

/// The write to the map of users is refused by the tracer.
pub(crate) fn shows_a_refused_map(program: &str, callers: &[Caller]) {
    for &caller in callers {
        let arguments = ["--explain=json", "--", "true"];
        let free = watch(program, caller, "", &[], &arguments);
        let writes = free.processes.iter().map(|process| process.writes).max();
        let refuse = format!("inject=write:error=EPERM:when={}", writes.unwrap());
        let refused = watch(program, caller, "", &["-e", &refuse], &arguments);
        fails_with(&refused, "/uid_map, ", "EPERM");
    }
}

/// Prints the state of the container: as the changes name it, a fact a line.
const STATE: &str = r#"
    for kind in uts user pid mnt net ipc cgroup; do
        echo "namespace $kind $(readlink /proc/self/ns/$kind | tr -dc 0-9)"; done
    echo hostname hostname $(cat /proc/sys/kernel/hostname)
    for map in uid_map gid_map setgroups; do echo map $map $(cat /proc/self/$map); done
    while read -r id _ _ _ target options rest; do
        words=$(echo "${rest%%- *}" | sed 's/:[0-9]*//g; s/ $//; s/ /,/g'); rest=${rest#*- }
        set -- $rest
        echo "mount $id $target $2 $1 $options${words:+,$words}"; done </proc/self/mountinfo
    PATH=$PATH:/usr/sbin:/sbin
    ip -o link | sed -n 's/^[0-9]*: \([^:@]*\).*<\([^>]*\)>.*/\1 \2/p' |
        while read -r name flags; do case ,$flags, in *,UP,*) echo "link $name UP";; *) echo "link $name DOWN";; esac; done
    ip -o -4 addr | while read -r _ name _ address _; do echo "address $address dev $name"; done
    ip -4 route | while read -r to _ name _; do echo "route $to dev $name"; done"#;

/// The changes, replayed, lead to what `readlink`, mountinfo and `ip` show in the container.
pub(crate) fn changes_can_be_replayed(program: &str, callers: &[Caller], options: &[&[&str]]) {
    for &caller in callers {
        for &options in options {
            let command = ["--", "sh", "-c", STATE];
            let run = Run::new(program, caller);
            let output = run.output(&[&["--explain=json"], options, &command].concat());
            assert!(output.status.success(), "{output:?}");
            let mut facts = BTreeMap::new();
            for line in text(&output.stderr).lines().map(fields) {
                if line["kind"] == "change" {
                    let [what, name] = ["what", "name"].map(|field| string(&line, field));
                    // The host's links are not the container's.
                    let side = match what {
                        "link" | "peer" | "address" | "route" | "process" => string(&line, "side"),
                        _ => "container",
                    };
                    let key = (side.to_string(), what.to_string(), name.to_string());
                    // Of two user namespaces the later one is the container's.
                    let before = facts.get(&key).cloned();
                    let before = before.filter(|_| !["namespace", "map"].contains(&what));
                    assert!(
                        before.is_none_or(|before| before == line["before"]),
                        "{line}"
                    );
                    facts.insert(key, line["after"].clone());
                }
            }
            let state = text(&output.stdout);
            let mut checked = BTreeMap::<String, usize>::new();
            for ((side, what, name), after) in facts {
                if side == "host" {
                    continue;
                }
                let line = match what.as_str() {
                    "address" | "route" => format!("{what} {name}"),
                    "mount" | "namespace" | "map" => format!("{what} {name} "),
                    _ => format!("{what} {name} "),
                };
                let is = state.lines().find(|state| state.starts_with(&line));
                match after.as_str() {
                    Some(after) => {
                        let is = is.unwrap_or_else(|| panic!("{what} {name} {after}: {state}"));
                        let state = is.strip_prefix(&line).unwrap();
                        let ok = match what.as_str() {
                            "address" | "route" => true,
                            "link" => after.split(' ').next() == Some(state),
                            _ => after == state,
                        };
                        assert!(ok, "{what} {name}: {after}, but {is}");
                    }
                    None => assert_eq!(is, None, "{what} {name} has gone"),
                }
                *checked.entry(what).or_default() += 1;
            }
            assert!(checked["namespace"] >= 1, "{checked:?}");
            if program.contains("stage4") || program.contains("stage5") {
                let mounts = state.lines().filter(|line| line.starts_with("mount "));
                assert!(checked["mount"] >= mounts.count(), "{checked:?}");
            }
            if program.contains("stage5") {
                let count = |what| checked.get(what).copied().unwrap_or(0);
                let found = [count("link"), count("address"), count("route")];
                assert_eq!(found, [2, 2, 1], "{state}");
            }
        }
    }
}

/// `--explain` in words: not more lines than this, of at most 100 columns, with these commands.
pub(crate) fn is_short(
    program: &str,
    callers: &[Caller],
    options: &[&[&str]],
    most: usize,
    commands: &[&str],
) {
    for &caller in callers {
        for &options in options {
            let run = Run::new(program, caller);
            let output = run.output(&[&["--explain"], options, &["--", "true"]].concat());
            let said = text(&output.stderr);
            assert!(said.lines().count() <= most, "{said}");
            let widest = said.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(100), "{said}");
            for command in commands {
                assert!(said.contains(command), "{command}: {said}");
            }
        }
    }
}

/// The explanation is a recipe: its commands, typed in their order into a shell of the host and one of
/// the container, make the same container. `scripts/probe.sh` looks at both.
pub(crate) fn is_a_recipe(program: &str, stage: &str, callers: &[Caller], options: &[&str]) {
    let rootfs = ["--rootfs", busybox().to_str().unwrap()];
    let rootfs = if stage < "4" { &[][..] } else { &rootfs };
    let options = [options, rootfs].concat();
    let probe = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/probe.sh");
    let probe = fs::read_to_string(probe).unwrap();
    let look = format!("set -- {stage} \"$OUTSIDE\"\n{probe}\necho typed\n");
    for &caller in callers {
        let arguments = [&["--explain=json"], &options[..], &["--", "true"]].concat();
        let output = Run::new(program, caller).output(&arguments);
        let lines = text(&output.stderr);
        let lines = lines.lines().map(fields).collect::<Vec<_>>();
        // What a person reads off and types: the number of the container's process.
        let pid = lines
            .iter()
            .find(|line| line["side"] == "container")
            .unwrap()["process"]
            .to_string();
        let steps = lines.iter().filter(|line| line["kind"] == "step");
        let steps = steps.map(|line| {
            (
                string(line, "side"),
                string(line, "shell").replace(&pid, "$UPID"),
            )
        });
        let (mut simulated, mut host, mut inside) = (String::new(), String::new(), String::new());
        for (side, shell) in steps.filter(|(_, shell)| !shell.starts_with("exec ")) {
            match side {
                "container" if shell.starts_with("pivot_root ") => {
                    inside += &format!("{shell}\nPATH=$PATH # forget where the programs were\n");
                }
                "container" => inside += &format!("{shell}\n"),
                _ if shell.contains("--map-current-user") => simulated = shell,
                _ if shell.starts_with("unshare ") => {
                    host += &format!("{shell} {START} & UPID=$!\n{WAIT_FOR_CHILD}\n");
                }
                _ if shell.starts_with("ip link del ") => {} // the end
                _ => host += &format!("{shell}\n"),
            }
        }
        let directory = open_directory();
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(
            path.join("host"),
            format!("set -e; exec 3<>in\n{host}\ncat inside >&3\n{WAIT_FOR_END}"),
        )
        .unwrap();
        fs::write(
            path.join("inside"),
            format!("go\nset -e\n{inside}\n{look}\nexit\n"),
        )
        .unwrap();
        fs::write(path.join("look"), &look).unwrap();
        let start = format!(
            "cd {}; mkfifo in; PATH=$PATH:/usr/sbin:/sbin
             OUTSIDE=\"$(readlink /proc/self/ns/* | tr '\\n' ' ')\"
             export OUTSIDE=\"$OUTSIDE pid:$$ root:$(stat -Lc %d:%i /)\"",
            path.display()
        );
        let typed =
            Run::new("sh", caller).output(&["-c", &format!("{start}; {simulated} sh host")]);
        let look = format!("{start}; \"$@\" -- sh -c \"$(cat look)\"");
        let _ = fs::remove_file(path.join("in"));
        let run = Run::new(program, caller).under(&["sh", "-c", &look, "sh"]);
        let (said, by_stage) = (text(&typed.stderr), run.stdout(&options));
        let typed = text(&typed.stdout);
        assert!(by_stage.contains("hostname\tleopard\n") && by_stage.ends_with("typed\n"));
        assert_eq!(
            comparable(&by_stage),
            comparable(&typed),
            "{host}\n{inside}\n{said}"
        );
    }
}

/// The shell inside is executed again once the map is written: before that, execve(2) drops the capabilities
/// of a process whose user is not mapped.
const START: &str = "sh -c 'read -r _ && exec sh' <in >out 2>&1";
/// The process that unshare(1) becomes, or its child: once that has its namespaces.
const WAIT_FOR_CHILD: &str = "for i in $(seq 600); do
        read -r child _ </proc/$UPID/task/$UPID/children || child=$UPID
        [ \"$(readlink /proc/$child/ns/uts)\" = \"$(readlink /proc/$$/ns/uts)\" ] || break; sleep 0.1; done; UPID=$child";
const WAIT_FOR_END: &str = "for i in $(seq 600); do
        ! grep -q '^typed$' out && kill -0 $UPID 2>/dev/null || break; sleep 0.1; done
    cat out; wait || :; ip link del br0 2>/dev/null || :";

/// The facts without those that compare.sh explains: numbers, descriptors, and options of mounts.
fn comparable(facts: &str) -> Vec<String> {
    let left_out = [
        "PID of the shell",
        "more descriptors",
        "directory",
        "link-local of veth1",
    ];
    let lines = facts.lines().filter_map(|line| {
        let (name, value) = line.split_once('\t').unwrap_or((line, ""));
        let value = if name.starts_with("mount ") {
            value.split(' ').next()?
        } else {
            value
        };
        (!left_out.contains(&name)).then(|| format!("{name}\t{value}"))
    });
    lines.collect()
}

/// Without the option nothing is shown, and the same calls are made but for those that show and look.
pub(crate) fn is_free_when_off(program: &str, callers: &[Caller], options: &[&str]) {
    /// Writing the lines, and reading what to show; memory for both. How many datagrams a list has, and how often the child's end is
    /// noticed is the kernel's affair; a machine without a clock in its vDSO asks for the time.
    const SHOWING: &str = "write readlink readlinkat getpid openat statx fstat newfstatat lseek read close \
        fcntl brk mmap munmap mremap socket setsockopt sendto recvmsg recvfrom pidfd_open ioctl clock_gettime wait4 \
        rt_sigtimedwait";
    for &caller in callers {
        let run = |explain: &[&str]| {
            let arguments = [explain, options, &["--", "true"]].concat();
            let watched = watch(program, caller, "", &[], &arguments);
            assert!(watched.output.status.success(), "{:?}", watched.output);
            watched
        };
        // What a call costs when it is interrupted differs from run to run; what the option costs does not.
        let differences = || {
            let (off, on) = (run(&[]), run(&["--explain=json"]));
            assert_eq!(text(&off.output.stderr), "");
            assert_eq!(off.processes.len(), on.processes.len());
            let mut differences = vec![];
            for (off, on) in off.processes.iter().zip(&on.processes) {
                assert!(off.lines.is_empty() && !on.lines.is_empty());
                for name in off.counts.keys().chain(on.counts.keys()) {
                    let count = |process: &Process| process.counts.get(name).copied().unwrap_or(0);
                    let (without, with) = (count(off), count(on));
                    let is_fine = match name.as_str() {
                        "wait4" | "rt_sigtimedwait" | "recvfrom" => true,
                        "write" => with == without + on.lines.len(),
                        _ if SHOWING.split(' ').any(|showing| showing == name) => without <= with,
                        _ => without == with,
                    };
                    if !is_fine {
                        differences.push(format!("{} {name}: {without} {with}", on.side));
                    }
                }
            }
            differences
        };
        let mut tries = vec![differences()];
        while tries.len() < 3 && !tries[tries.len() - 1].is_empty() {
            tries.push(differences());
        }
        assert!(tries[tries.len() - 1].is_empty(), "{tries:?}");
    }
}

/// What ends a question of `--step`.
const KEYS: &str = "q = quit\r\n";

/// What the stage runs then.
const COMMAND: [&str; 4] = [
    "--",
    "sh",
    "-c",
    "echo it runs; read -r status; exit $status",
];
const PROMPT: &str = "it runs\r\n";

/// A stage on a terminal of its own, with a person who reads along.
struct Reader {
    terminal: PtySession,
    /// In the environment of all its processes, and of no other.
    mark: String,
    /// What was read before.
    before: String,
}

impl Reader {
    /// Starts the stage in a shell that says how it ended, and which links are left.
    fn new(program: &str, caller: Caller, options: &[&str]) -> Self {
        let script = "trap : INT; \"$@\"; status=$?
            for i in $(seq 300); do links=$(ip -o link | grep -v ' lo: '); [ \"$links\" ] || break; sleep 0.2; done
            echo \"status $status, links left: $links.\"";
        let run = Run::new(program, caller).under(&["sh", "-c", script, "sh"]);
        let mut command = run.alone(&[&["--step"], options, &COMMAND].concat());
        let mark = mark();
        command
            .env("LEOPARD", &mark)
            .env("NO_COLOR", "1")
            .stdin(Stdio::inherit());
        let terminal = rexpect::session::spawn_command(command, Some(300_000)).unwrap();
        let before = String::new();
        Self {
            terminal,
            mark,
            before,
        }
    }

    /// What is shown until the next question, or until `end`; and whether it was the question.
    fn read(&mut self, end: &str) -> (String, bool) {
        let ends = [KEYS, end].map(|end| ReadUntil::String(end.into()));
        let found = self.terminal.exp_any(ends.into());
        let (said, found) = found.unwrap_or_else(|error| panic!("{error}, after {}", self.before));
        self.before.clone_from(&said);
        (said, found == KEYS)
    }

    /// Answers with Enter until the step with this command is asked for.
    fn until(&mut self, command: &str) -> String {
        loop {
            let (said, asked) = self.read("status ");
            assert!(asked, "no step {command}: {said}");
            if said.contains(command) {
                return said;
            }
            self.terminal.send_line("").unwrap();
        }
    }

    /// The end of the stage, with this status, and nothing left of it.
    fn ends(mut self, status: u8) -> String {
        let (said, asked) = self.read("status ");
        assert!(!asked, "asked at its end: {said}");
        self.terminal
            .exp_string(&format!("{status}, links left: .\r\n"))
            .unwrap();
        self.terminal.exp_eof().unwrap();
        let environment = format!("LEOPARD={}\0", self.mark);
        within_a_minute(|| {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let mut all = processes
                .map(|process| fs::read(process.path().join("environ")).unwrap_or_default());
            !all.any(|all| {
                all.windows(environment.len())
                    .any(|part| part == environment.as_bytes())
            })
        });
        said
    }
}

/// With Enter each step is carried out, from the first to the command's prompt; other keys than the
/// documented ones change nothing; where the reader is, and how to look at the process, is said.
pub(crate) fn steps_to_the_prompt(program: &str, caller: Caller, options: &[&str]) {
    let explained =
        Run::new(program, caller).output(&[&["--explain=json"], options, &["--", "true"]].concat());
    let lines = text(&explained.stderr);
    let lines = lines.lines().map(fields).collect::<Vec<_>>();
    let steps = lines
        .iter()
        .filter(|line| line["kind"] == "step")
        .map(|line| string(line, "shell"));
    let steps = steps.filter(|shell| !shell.is_empty() && !shell.starts_with("ip link del"));
    // Where a command is cut, so is the comparison.
    let steps = steps.map(|shell| shell.split("...").next().unwrap());
    let steps = steps.map(without_numbers).collect::<Vec<_>>();
    let mut reader = Reader::new(program, caller, options);
    let (mut asked, mut looked, mut host) = (vec![], vec![], None);
    let said = loop {
        let (said, more) = reader.read(PROMPT);
        if !more {
            break said;
        }
        for other in ["h", "?"] {
            reader.terminal.send_line(other).unwrap();
            let (again, asked) = reader.read(PROMPT);
            assert!(
                asked && !again.contains('#'),
                "{other} changes nothing: {again}"
            );
        }
        if let Some((_, look)) = said.split_once("from another terminal: ") {
            looked.push(look_at(look, caller, &mut host));
        }
        let question = said.lines().last().unwrap();
        crate::support::has(question, &["    step ", ", "]);
        asked.push(without_numbers(&said));
        reader.terminal.send_line("").unwrap();
    };
    assert!(asked.last().unwrap().contains("exec sh"), "{said}");
    for step in steps.iter().filter(|step| !step.starts_with("exec ")) {
        assert!(
            asked.iter().any(|asked| asked.contains(step)),
            "{step}: {asked:?}"
        );
    }
    let container = looked.last().unwrap();
    assert!(
        looked.len() >= 2
            && looked[..looked.len() - 1]
                .iter()
                .all(|uts| uts != container)
    );
    reader.terminal.send_line("0").unwrap();
    reader.ends(0);
}

/// Without the numbers of processes.
fn without_numbers(text: &str) -> String {
    text.split(|c: char| c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("#")
}

/// Types what `ls -l …; lsns …` and the next line, `and inside, until exit: nsenter …`, say, where the
/// caller would; returns the UTS namespace. Without the last, the process has no namespace of its own.
fn look_at(said: &str, caller: Caller, host: &mut Option<String>) -> String {
    let line = said.lines().next().unwrap();
    let process = line.rsplit(' ').next().unwrap();
    let namespace =
        |process: &str, kind: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
    // The first is the stage, and the process that has started it is on the host.
    let host = host.get_or_insert_with(|| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:\t"))
            .unwrap()
            .into()
    });
    let kinds = [
        "uts",
        "user",
        "pid_for_children",
        "mnt",
        "net",
        "ipc",
        "cgroup",
    ];
    let others = kinds
        .iter()
        .filter(|kind| namespace(process, kind) != namespace(host, kind))
        .count();
    let inside = said
        .lines()
        .nth(1)
        .and_then(|line| line.split_once("and inside, until exit: "));
    let commands = line
        .split("; ")
        .chain(inside.map(|(_, command)| command))
        .collect::<Vec<_>>();
    assert_eq!(commands.len(), if others == 0 { 2 } else { 3 }, "{line}");
    for command in commands {
        let enters = command.starts_with("nsenter ");
        let show = "sh -c 'cd /proc/self/ns; for kind; do readlink $kind; done' sh ";
        let script = if enters {
            format!("{command} {show}{}", kinds.join(" "))
        } else {
            command.into()
        };
        // lsns reads all of /proc, and gives up when a process ends meanwhile, whichever it is.
        let look = || {
            let mut terminal = Command::new("nsenter");
            terminal.args(["-t", host, "-u", "-m", "-n"]);
            if !geteuid().is_root() {
                terminal.args(["-U", "--preserve-credentials"]);
            }
            Run::new("sh", caller)
                .finish(terminal, &["-c", &script])
                .output()
                .unwrap()
        };
        let again = (0..20)
            .map(|_| look())
            .find(|output| output.status.success());
        let output = again.unwrap_or_else(look);
        assert!(output.status.success(), "{script}: {output:?}");
        let there = kinds
            .map(|kind| format!("{}\n", namespace(process, kind).display()))
            .concat();
        assert!(
            !enters || text(&output.stdout) == there,
            "{script}: {output:?}"
        );
    }
    namespace(process, "uts").display().to_string()
}

/// `c`, `n`, `q` and Ctrl-C, when these steps come next.
pub(crate) fn can_be_stopped(program: &str, caller: Caller, options: &[&str], steps: &[&str]) {
    let start = |step: &str| {
        let mut reader = Reader::new(program, caller, options);
        let said = reader.until(step);
        (reader, said)
    };
    let continues = |step: &str| {
        let (mut reader, _) = start(step);
        reader.terminal.send_line("c").unwrap();
        let (said, asked) = reader.read(PROMPT);
        assert!(!asked, "asked after c: {said}");
        reader.terminal.send_line("3").unwrap();
        reader.ends(3);
    };
    let goes_to_the_next_heading = |step: &str| {
        let (mut reader, said) = start(step);
        let heading = |said: &str| {
            let question = said.lines().last().unwrap();
            question
                .split(", ")
                .nth(1)
                .unwrap()
                .split(':')
                .next()
                .unwrap()
                .to_string()
        };
        reader.terminal.send_line("n").unwrap();
        // The last heading has no next one.
        let (next, asked) = reader.read(PROMPT);
        assert!(!asked || heading(&next) != heading(&said), "{said} {next}");
        reader
            .terminal
            .send_line(if asked { "q" } else { "3" })
            .unwrap();
        reader.ends(if asked { 130 } else { 3 });
    };
    let quits = |step: &str| {
        let (mut reader, _) = start(step);
        reader.terminal.send_line("q").unwrap();
        let said = reader.ends(130);
        assert!(
            said.contains(": stopped before: ") && said.contains(step),
            "{step}: {said}"
        );
    };
    let is_interrupted = |step: &str| {
        let (mut reader, _) = start(step);
        reader.terminal.send_control('c').unwrap();
        reader.ends(130);
    };
    std::thread::scope(|scope| {
        for &step in steps {
            scope.spawn(move || continues(step));
            scope.spawn(move || goes_to_the_next_heading(step));
            scope.spawn(move || quits(step));
            scope.spawn(move || is_interrupted(step));
        }
    });
}

/// A container's process that is killed before its start is the cause of what fails then: one message, not two.
pub(crate) fn says_that_the_child_was_killed(program: &str, caller: Caller, options: &[&str]) {
    let mut reader = Reader::new(program, caller, options);
    let said = reader.until(" netns ");
    let (_, child) = said.split_once(" netns ").unwrap();
    let child = Pid::from_raw(child.split_whitespace().next().unwrap().parse().unwrap());
    kill(child, Signal::SIGKILL).unwrap();
    // Until then it still has its namespaces, and the step succeeds.
    within_a_minute(|| state(child) == Some('Z'));
    reader.terminal.send_line("c").unwrap();
    let said = reader.ends(1);
    let lines = said.lines().filter(|line| line.starts_with("stage"));
    let lines = lines.collect::<Vec<_>>();
    assert!(
        lines.len() == 1 && lines[0].ends_with(": the child ended: signal: 9 (SIGKILL)"),
        "{said}"
    );
}

/// The reader's Enter comes from the terminal, stdin is the command's; without a terminal it is an error.
pub(crate) fn steps_at_the_terminal(program: &str, caller: Caller) {
    let run = Run::new(program, caller).under(&["sh", "-c", "echo spots | \"$@\"", "sh"]);
    let mut command = run.alone(&["--step", "--", "cat"]);
    command.env("NO_COLOR", "1").stdin(Stdio::inherit());
    let mut terminal = rexpect::session::spawn_command(command, Some(300_000)).unwrap();
    terminal.exp_string(KEYS).unwrap();
    terminal.send_line("c").unwrap();
    terminal.exp_string("\nspots\r\n").unwrap();
    terminal.exp_eof().unwrap();
    let message = Run::new(program, caller)
        .under(&["setsid", "-w"])
        .failure(1, &["--step", "true"]);
    crate::support::has(&message, &["open(\"/dev/tty\", O_RDWR|O_CLOEXEC): ENXIO: "]);
    crate::support::has(&message, &["\nhint: ", "--explain"]);
}
