//! One at a time on the host's network: flock(2) on `/proc/self/ns/net`.
//!
//! The lock is exclusive within a network namespace, separate across them, and the kernel releases it
//! when its holder dies.

use crate::error::failed;
use crate::explain::call;
use crate::{Error, Result, sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const PATH: &str = "/proc/self/ns/net";
/// How long the same holder may keep others waiting.
const LIMIT: Duration = Duration::from_secs(10);

/// The lock. Dropped, it is released, also where a child has a copy of its descriptor.
pub(super) struct Lock(File);

impl Lock {
    /// Others may have it. The descriptor stays open, so that no other gets its number.
    pub(super) fn release(&self) {
        let _ = self.0.unlock();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.release();
    }
}

/// Waits for the lock. `ETIMEDOUT` if the same process has held it for [`LIMIT`]; the hint names it.
pub(super) fn take() -> Result<Lock> {
    let opens = format_args!("openat(AT_FDCWD, {PATH:?}, O_RDONLY|O_CLOEXEC)");
    let file = call(opens, || open(PATH, OFlag::O_CLOEXEC, Mode::empty()))?;
    sys::close_in_child(&file);
    let file = File::from(file);
    let text = format!("flock({PATH}, LOCK_EX)");
    match file.try_lock() {
        Ok(()) => return Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(failed(text)(error)),
    }
    let _alarm = sys::Alarm::every(LIMIT).map_err(failed("sigaction(SIGALRM)"))?;
    let mut before = find_holder();
    loop {
        match file.lock() {
            Ok(()) => return Ok(Lock(file)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(text)(error)),
        }
        // Between two holders there is none.
        let now = find_holder();
        if let Some(pid) = now.filter(|_| now == before) {
            return Err(Error::new(text, Errno::ETIMEDOUT).hint(describe(pid)));
        }
        before = now;
    }
}

/// The process that holds the lock, by /proc/locks: proc_locks(5). 0 is one outside our PID namespace.
fn find_holder() -> Option<u32> {
    let inode = format!(":{}", fs::metadata(PATH).ok()?.ino());
    // `1: FLOCK  ADVISORY  WRITE 1234 00:04:4026531840 0 EOF`; a waiting process has `->` before FLOCK.
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words = line.split_whitespace().collect::<Vec<_>>();
        let [_, "FLOCK", _, _, pid, file, ..] = words[..] else {
            return None;
        };
        file.ends_with(&inode).then(|| pid.parse().unwrap_or(0))
    })
}

fn describe(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let holder = match fs::metadata(format!("/proc/{pid}")) {
        Ok(found) => format!("process {pid} ({}, user {})", name.trim(), found.uid()),
        Err(_) => "a process outside this PID namespace".into(),
    };
    format!(
        "{holder} has locked the host's network for {} s. A stage does so while it waits in --step \
         before the network is ready, or while it is stopped there: continue it, or use --net private",
        LIMIT.as_secs()
    )
}
