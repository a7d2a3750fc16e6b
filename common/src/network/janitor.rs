//! The janitor: a process beside the stage that removes what the kernel does not.
//!
//! The kernel removes the veth pair with the container's network namespace, but has no reason to remove
//! a bridge. The stage forks the janitor first, and writes to a pipe what it is about to create. When
//! the pipe ends, because the stage returns, fails or is killed, the janitor removes it. It never
//! creates anything, and gives no answer.

use super::{is_ours, lock};
use crate::capabilities::{self, Capabilities};
use crate::error::{accept, failed};
use crate::explain::{self, call, heading, step};
use crate::netlink::{Link, Request, Socket};
use crate::{Result, sys};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chdir, pipe2, setsid, write};
use std::os::fd::OwnedFd;
use std::{fs::File, io::Read};

/// The stage's end. Dropped, the janitor removes everything, and is waited for.
pub(super) struct Janitor {
    // Dropped in this order.
    pipe: OwnedFd,
    process: Process,
}

struct Process(Pid);

impl Drop for Process {
    fn drop(&mut self) {
        while waitpid(self.0, None) == Err(Errno::EINTR) {}
    }
}

impl Janitor {
    pub(super) fn start() -> Result<Self> {
        let (names, pipe) = call("pipe2(O_CLOEXEC)", || pipe2(OFlag::O_CLOEXEC))?;
        sys::close_in_child(&pipe);
        let fork = || sys::clone(CloneFlags::empty());
        if let ForkResult::Parent { child } = call("fork()", fork)? {
            let process = Process(child);
            return Ok(Self { pipe, process });
        }
        explain::beside();
        let _ = settle(&names); // what fails there must not keep it from its work
        let done = clean_up(names);
        sys::exit(done.map_or_else(|error| explain::failed(&error), |()| 0))
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.0
    }

    /// Tells it, before they are created, to remove the links of this group, and the bridge if it is not
    /// used any more. `EPIPE` if it was killed.
    pub(super) fn links(&self, group: u32, bridge: &str) -> Result<()> {
        let line = format!("{group} {bridge}\n");
        call("write(pipe)", || write(&self.pipe, line.as_bytes())).map(drop)
    }
}

/// Out of reach of the terminal and of signals to the process group. Of the stage's descriptors it keeps
/// the pipe, and those of the caller.
fn settle(names: &OwnedFd) -> Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
        .map_err(failed("sigprocmask"))?;
    call("setsid()", setsid)?;
    call("chdir(\"/\")", || chdir("/"))?;
    sys::close_all_but(names);
    capabilities::reduce_to(Capabilities::NET_ADMIN) // it can only change links
}

/// Reads until the stage has ended, and removes what it has named. Nobody else would, so what fails for
/// a passing reason, such as too little memory, is tried again.
fn clean_up(names: OwnedFd) -> Result<()> {
    let (mut pipe, mut bytes, mut failures) = (File::from(names), Vec::new(), 0);
    while let Err(error) = pipe.read_to_end(&mut bytes) {
        failures += 1;
        if failures == 3 {
            return Err(failed("read(pipe)")(error));
        }
    }
    let names = String::from_utf8_lossy(&bytes);
    for (group, bridge) in names.lines().filter_map(|line| line.split_once(' ')) {
        let Ok(group) = group.parse() else { continue };
        let remove = || remove_links(group, bridge);
        remove().or_else(|_| remove()).or_else(|_| remove())?;
    }
    Ok(())
}

/// Deletes the veth of this group, and the bridge unless another container uses it. Under the lock no
/// container joins or leaves meanwhile.
fn remove_links(group: u32, bridge: &str) -> Result<()> {
    heading("clean-up");
    let _lock = lock::take()?;
    let socket = Socket::open()?;
    let links = socket.links()?;
    let find = |kind, wanted: &dyn Fn(&Link) -> bool| {
        let mut links = links.iter();
        links.find(|link| link.kind == kind && wanted(link))
    };
    let veth = find("veth", &|link| link.group == group);
    let bridge = find("bridge", &|link| link.name == bridge && is_ours(link));
    let is_other_port =
        |port: &Link, bridge: &Link| port.master == bridge.index && Some(port) != veth;
    let is_unused = |bridge: &&Link| !links.iter().any(|port| is_other_port(port, bridge));
    // The kernel itself removes a veth whose peer's namespace has gone.
    let delete = |request: &Request| accept(Errno::ENODEV, socket.request(request));
    if let Some(bridge) = bridge.filter(is_unused) {
        let shell = format_args!("ip link del {}", bridge.name);
        let does = "the last container removes the bridge, and the pair";
        // Both in one request: one RCU grace period (17 to 30 ms) instead of two.
        step(shell, does, || {
            if bridge.group != group {
                socket.request(&Request::set_group(bridge, group))?;
            }
            delete(&Request::delete_group(group))
        })
    } else if let Some(veth) = veth {
        let shell = format_args!("ip link del {}", veth.name);
        let does = "removes the pair; others use the bridge";
        step(shell, does, || delete(&Request::delete(veth)))
    } else {
        Ok(())
    }
}
