//! What a process does with a signal, as far as /proc tells: proc_pid_status(5), proc_pid_syscall(5).

use crate::proc::{self, bits};
use nix::libc::SYS_rt_sigtimedwait;
use nix::sys::signal::Signal::{self, SIGSEGV};
use nix::unistd::Pid;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use std::{fs, thread};

/// How long to wait before the next look.
const PAUSE: Duration = Duration::from_millis(1);
/// How many looks, at most, while the process blocks everything, and while it runs.
const LOOKS: usize = 1000;
const LOOKS_RUNNING: usize = 50;

/// Whether the process handles, ignores or blocks the signal, or waits for it in sigwaitinfo(2). True if /proc
/// does not tell.
pub(super) fn reacts(number: Pid, signal: Signal) -> bool {
    let read = |file| proc::read(format!("/proc/{number}/{file}"));
    for look in 0..LOOKS {
        // An init such as tini(1) waits in sigwaitinfo(2). Meanwhile SigBlk is without the signals. It may
        // begin or end to wait between two looks.
        let [before, syscall, after] = ["status", "syscall", "status"].map(read);
        let has = |field: &str, signal: Signal| {
            let is_in = |mask: u64| mask >> (signal as i32 - 1) & 1 == 1;
            let mut looks = [&before, &after].into_iter();
            looks.any(|status| bits(status, field).is_none_or(is_in))
        };
        if has("SigIgn:", signal) || has("SigCgt:", signal) || awaits(number, &syscall, signal) {
            return true;
        }
        // A shell blocks all signals for the moment in which it forks.
        let is_forking = has("SigBlk:", SIGSEGV);
        if !is_forking && has("SigBlk:", signal) {
            return true;
        }
        // Woken from sigwaitinfo(2), a process has its SigBlk back once it gets a processor.
        let has_woken = syscall == "running" && look < LOOKS_RUNNING;
        if !is_forking && !has_woken {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

/// Whether the process waits for the signal in sigwaitinfo(2). `syscall` has the number of the system call, and its
/// arguments, of which the first is the address of the set.
fn awaits(number: Pid, syscall: &str, signal: Signal) -> bool {
    let mut words = syscall.split(' ');
    if words.next() != Some(&SYS_rt_sigtimedwait.to_string()) {
        return false;
    }
    let address = words.next().and_then(|word| word.strip_prefix("0x"));
    let address = address.and_then(|word| u64::from_str_radix(word, 16).ok());
    let mut set = [0; 8];
    let memory = fs::File::open(format!("/proc/{number}/mem"));
    let read = memory.map(|memory| memory.read_exact_at(&mut set, address.unwrap_or(0)));
    let is_read = read.is_ok_and(|read| read.is_ok());
    !is_read || u64::from_ne_bytes(set) >> (signal as i32 - 1) & 1 == 1
}
