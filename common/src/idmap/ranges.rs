//! `--map auto`: a range of ids, so that programs inside can have users and groups of their own. See
//! [subuid(5)], [newuidmap(1)].
//!
//! [newuidmap(1)]: https://man7.org/linux/man-pages/man1/newuidmap.1.html
//! [subuid(5)]: https://man7.org/linux/man-pages/man5/subuid.5.html

use super::{Outer, shown};
use crate::capabilities::Capabilities;
use crate::explain::{call, change, step, word};
use crate::files;
use crate::namespaces::{letters, names, number_in_proc};
use crate::{Error, Result, error::failed, forked::Forked, hints, sys};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::unistd::{ForkResult, Pid, pipe2};
use std::os::fd::{AsFd, OwnedFd};
use std::{fs, path::Path, process::Command};

/// As many ids as one system needs: 65,534 is nobody.
const COUNT: u32 = 65_536;
/// Where root's range begins if /etc/subuid has none for root: systemd-nspawn's ranges end below.
const ROOTS: u32 = 1_879_048_192;

/// A line of a map: the first id inside, the first id outside, how many.
type Line = [u32; 3];

/// The maps of a user namespace.
pub(super) struct Maps {
    users: Vec<Line>,
    groups: Vec<Line>,
}

impl Maps {
    /// The maps of a container. The caller is root inside, and its subordinate ids follow. If the caller
    /// is root, root inside has no id on the host that means anything there.
    ///
    /// # Errors
    /// If /etc/subuid or /etc/subgid has no range for the caller.
    pub(super) fn find(outer: Outer) -> Result<Self> {
        let names = [outer.0.to_string(), login(&outer.0.to_string())];
        let lines = |file: &str, own: u32| {
            let range = subordinate(file, &names);
            if outer.0.is_root() {
                let found = range.filter(|[_, count]| *count >= COUNT);
                let [start, _] = found.unwrap_or([ROOTS, COUNT]);
                return Ok(vec![[0, start, COUNT]]);
            }
            let none = || {
                let [uid, name] = &names;
                let name = if name.is_empty() { uid } else { name };
                let hint = format!(
                    "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name} \
                     adds one; the numbers must not overlap another line of the file"
                );
                Error::input(format!("--map auto: {file} has no range for {name}")).hint(hint)
            };
            let [start, count] = range.ok_or_else(none)?;
            Ok(vec![[0, own, 1], [1, start, count]])
        };
        Ok(Self {
            users: lines("/etc/subuid", outer.0.as_raw())?,
            groups: lines("/etc/subgid", outer.1.as_raw())?,
        })
    }

    pub(super) fn lines(self) -> [Vec<Line>; 2] {
        [self.users, self.groups]
    }

    /// The same ids, each as itself: for a user namespace between the host and the container.
    pub(super) fn as_themselves(&self, outer: Outer) -> Self {
        let lines = |lines: &[Line], own: u32| {
            let others = lines.iter().filter(|[_, outside, _]| *outside != own);
            let all = others.map(|[_, outside, count]| [*outside, *outside, *count]);
            all.chain([[own, own, 1]]).collect()
        };
        Self {
            users: lines(&self.users, outer.0.as_raw()),
            groups: lines(&self.groups, outer.1.as_raw()),
        }
    }

    /// Writes both maps of the process's user namespace: directly if the caller has the right to, or else
    /// by newuidmap(1) and newgidmap(1), which look at /etc/subuid and /etc/subgid themselves.
    pub(super) fn write(&self, process: Pid) -> Result<()> {
        let process = number_in_proc(process)?;
        let is_permitted = Capabilities::SETUID.are_permitted()?;
        let files = [
            ("uid_map", "newuidmap", &self.users),
            ("gid_map", "newgidmap", &self.groups),
        ];
        for (name, program, lines) in files {
            let path = format!("/proc/{process}/{name}");
            let show = || shown(&path);
            let does = "ids inside, outside, how many";
            if is_permitted {
                let lines = lines.iter().map(|[a, b, count]| format!("{a} {b} {count}"));
                let text = lines.collect::<Vec<_>>().join("\n");
                let shell = format_args!("echo {} > {path}", word(&text));
                let write = || files::write(Path::new(&path), &text);
                step(shell, does, || change(show, write)).map_err(no_range)?;
            } else {
                let numbers = lines.iter().flatten().map(u32::to_string);
                let words = [process.to_string()].into_iter().chain(numbers);
                let words = words.collect::<Vec<_>>();
                let shell = format!("{program} {}", words.join(" "));
                step(&shell, does, || {
                    change(show, || run(program, &words, &shell))
                })?;
            }
        }
        Ok(())
    }
}

/// Runs a program that has the right which an ordinary user has not.
fn run(program: &str, words: &[String], shell: &str) -> Result<()> {
    let output = Command::new(program).args(words).output();
    let output = output.map_err(failed(format!("execvp({program:?})")));
    let package = "apt install uidmap, or your system's package";
    let output = output.map_err(|error| error.hint_on(Errno::ENOENT, package))?;
    if output.status.success() {
        return Ok(());
    }
    let what = String::from_utf8_lossy(&output.stderr);
    let what = what.lines().next().unwrap_or_default();
    let hint = match what {
        _ if what.contains("not allowed") => {
            "/etc/subuid or /etc/subgid changed, or has a bad line"
        }
        _ if what.contains("not permitted") => {
            "newuidmap must be setuid root, and has no effect after no_new_privs, as in a container"
        }
        _ => "see newuidmap(1)",
    };
    Err(Error::input(format!("{shell}: {what}")).hint(hint))
}

/// The ids of the range must exist in the caller's own user namespace.
fn no_range(error: Error) -> Error {
    let hint = "root of a user namespace has no such range: run the stage outside of it";
    error.hint_on(Errno::EPERM, hint)
}

/// The start and the length of the first range that the file has for one of these names.
fn subordinate(file: &str, names: &[String]) -> Option<[u32; 2]> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (name, range) = line.split_once(':')?;
        let (start, count) = range.split_once(':')?;
        let is_it = !name.is_empty() && names.iter().any(|wanted| wanted == name);
        is_it.then_some([start.parse().ok()?, count.trim().parse().ok()?])
    })
}

/// The login name of a user: passwd(5). Empty if there is none.
fn login(uid: &str) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|fields| fields.get(2) == Some(&uid));
    user.map(|fields| fields[0].into()).unwrap_or_default()
}

/// A process that holds new namespaces until it is dropped. Their maps are written from outside, which
/// a process that has moved into them itself cannot do.
pub(crate) struct Holder {
    // Dropped in this order: the process waits at the other end.
    _pipe: OwnedFd,
    process: Forked,
}

impl Holder {
    pub(super) fn new(flags: CloneFlags, maps: &Maps) -> Result<Self> {
        let shell = format_args!("unshare -{}", letters(flags));
        let holder = step(shell, "a process that holds new namespaces", || {
            let (wait, pipe) = call("pipe2(O_CLOEXEC)", || pipe2(OFlag::O_CLOEXEC))?;
            let text = format_args!("clone({}|SIGCHLD)", names(flags.iter_names()));
            let cloned = call(text, || sys::clone(flags));
            match cloned.map_err(|error| hints::new_namespaces(error, flags))? {
                ForkResult::Parent { child } => Ok(Self {
                    _pipe: pipe,
                    process: Forked(child),
                }),
                ForkResult::Child => {
                    drop(pipe);
                    let mut end = [PollFd::new(wait.as_fd(), PollFlags::empty())];
                    while poll(&mut end, PollTimeout::NONE) == Err(Errno::EINTR) {}
                    sys::exit(0)
                }
            }
        })?;
        maps.write(holder.pid())?;
        Ok(holder)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.0
    }
}
