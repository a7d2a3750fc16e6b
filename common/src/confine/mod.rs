//! What namespaces leave open, and what closes it: `/proc`, `/dev`, capabilities, system calls.
//!
//! If root started the stage, root inside is root outside for every check that asks for an owner. It
//! could write `/proc/sys/kernel/core_pattern`, and the kernel would run the program named there, as root, on
//! the host. A read-only mount over `/proc/sys` refuses that, as long as no process inside can unmount
//! it. See [capabilities(7)], and the OCI runtime specification, config-linux.
//!
//! In [stage 5](../../stage5_net/index.html).
//!
//! [capabilities(7)]: https://man7.org/linux/man-pages/man7/capabilities.7.html

mod seccomp;

pub use seccomp::{First, Rule};

use crate::capabilities::{self, Capabilities};
use crate::error::failed;
use crate::explain::{change, heading, step, word};
use crate::files::{kind, open_directory};
use crate::namespaces::{NEWCGROUP, NEWIPC};
use crate::{Error, Result, dev, idmap, mount, proc::first_mapped, report, rootfs::Root, sys};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, TMPFS_MAGIC};
use nix::unistd::geteuid;
use std::ffi::{OsStr, OsString};
use std::{env, fs, os::fd::AsRawFd, path::Path};

/// What stage 5 closes, and what opens it again.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Run without hardening, as in the talk
    #[arg(long)]
    bare: bool,
    /// Keep a capability, such as NET_ADMIN, or ALL
    #[arg(long, value_name = "NAME", value_parser = capabilities::parse)]
    cap_add: Vec<Capabilities>,
    /// New IPC namespace [default without --bare]
    #[arg(short, long)]
    ipc: bool,
    /// New cgroup namespace [default without --bare]
    #[arg(short = 'C', long)]
    cgroup: bool,
}

/// Parts of /proc that show the host's state, and parts that change it: `maskedPaths` and `readonlyPaths`
/// of the OCI runtime specification. The lists are runc's (`libcontainer/specconv`) and Docker's.
#[rustfmt::skip]
pub const MASKED: [&str; 10] = [
    "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug",
    "scsi", "timer_list", "timer_stats",
];
/// `dynamic_debug` is not in those lists; writing to it needs no capability.
pub const READ_ONLY: [&str; 6] = ["bus", "dynamic_debug", "fs", "irq", "sys", "sysrq-trigger"];

/// In stages 2 to 4 a learner mounts and unmounts, so they stay as open as the talk's. That is dangerous
/// only where root inside is root outside, and so not with a range of ids.
pub fn warn_if_privileged(idmap: &idmap::Options) {
    let is_host_root = |[inside, outside, _]: [u32; 3]| (inside, outside) == (0, 0);
    let is_root = || geteuid().is_root() && first_mapped().is_none_or(is_host_root);
    let is_open = || !idmap.is_range() && is_root();
    report::note(|| {
        is_open().then_some(
            "started by root, this container is open: root inside can write the host's /proc/sys; \
             stage5-net without options closes it",
        )
    });
}

impl Options {
    /// The namespaces that the talk names without building them.
    pub fn namespaces(&self) -> CloneFlags {
        let mut flags = CloneFlags::empty();
        flags.set(NEWIPC, self.ipc || !self.bare);
        flags.set(NEWCGROUP, self.cgroup || !self.bare);
        flags
    }

    /// `--bare`: nothing is closed.
    pub fn is_bare(&self) -> bool {
        self.bare
    }

    fn kept(&self) -> Capabilities {
        let added = self.cap_add.iter();
        added.fold(Capabilities::DEFAULT, |kept, added| kept.union(*added))
    }

    /// The capabilities that the command keeps, as `CAP_CHOWN`: for other runtimes.
    pub fn capabilities(&self) -> Vec<String> {
        let kept = self.kept().to_string();
        kept.split('|').map(|name| format!("CAP_{name}")).collect()
    }

    /// The system calls that the filter refuses: for other runtimes.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        seccomp::rules(self.kept())
    }

    /// The stage while it waits: it keeps only the capability to signal its command.
    pub fn supervisor(&self, idmap: &idmap::Options) -> Result<()> {
        if self.bare || self.kept().has_any(Capabilities::SYS_ADMIN) {
            warn_if_privileged(idmap);
        }
        if self.bare {
            return Ok(());
        }
        heading("what namespaces leave open");
        let does = "the waiting stage can only send signals";
        step(format_args!("setpriv --no-new-privs"), does, || {
            capabilities::reduce_to(Capabilities::KILL)
        })
    }

    /// Gives the root `path` a /dev of its own, if it has none yet, and hides parts of its /proc.
    ///
    /// Both must come before pivot_root(2): the devices are on the host.
    ///
    /// # Errors
    /// If the root has no directory `dev`; those of mount(2).
    pub fn mounts(&self, root: &Root, path: &Path) -> Result<()> {
        if self.bare {
            return Ok(());
        }
        if let Root::Directory { .. } = root {
            own_dev(path)?;
        }
        mask_proc(&path.join("proc"))
    }

    /// The last steps before the command: environment, capabilities, no_new_privs, the filter of system calls.
    pub fn drop_privileges(&self) -> Result<()> {
        if self.bare {
            return Ok(());
        }
        heading("what namespaces leave open");
        must_have_no_directory()?;
        for (name, _) in env::vars_os() {
            if !is_passed_on(&name) {
                sys::set_var(&name, None);
            }
        }
        let homes = [env::var_os("HOME").unwrap_or_default(), "/root".into()];
        let can_enter = |home: &&OsString| fs::read_dir(home).is_ok();
        let home = homes
            .iter()
            .find(can_enter)
            .map_or("/".as_ref(), |home| &**home);
        sys::set_var("HOME".as_ref(), Some(home));
        let kept = self.kept();
        let shell = "setpriv --bounding-set ... --no-new-privs";
        step(shell, "Docker's capabilities, and no more", || {
            capabilities::limit_bounding_set(kept)?;
            capabilities::keep(kept)?;
            capabilities::no_new_privileges()
        })?;
        let does = "a filter refuses what capabilities do not";
        step("", does, || seccomp::filter(kept))
    }
}

/// Mounts the new root nodev and nosuid, and a small /dev in it.
fn own_dev(root: &Path) -> Result<()> {
    let dev = root.join("dev");
    if !kind(&dev)?.is_some_and(|kind| kind.is_dir()) {
        let text = format!("open({dev:?}, O_DIRECTORY|O_NOFOLLOW)");
        return Err(Error::new(text, Errno::ENOTDIR).hint("the root needs a directory dev: mkdir"));
    }
    let shell = format_args!("mount -t tmpfs tmpfs {}; ...", word(&dev));
    mount::step(shell, "only harmless devices", || {
        mount::no_devices(root)?;
        let held = open_directory(&dev)?;
        let here = format!("/proc/self/fd/{}", held.as_raw_fd());
        mount::mount_tmpfs(Path::new(&here), Some("mode=755"))?;
        mount::enter(&dev, TMPFS_MAGIC)?;
        dev::fill(Path::new("."))
    })
}

/// Hides what of /proc, mounted at `target` in the new root, shows the host's state, and makes read-only
/// what changes it.
fn mask_proc(target: &Path) -> Result<()> {
    let shell = format_args!("mount --bind /dev/null {}/keys; ...", word(target));
    step(shell, "hides the host's state", || {
        mount::enter(target, PROC_SUPER_MAGIC)?;
        change(mount::table, || {
            for name in MASKED.map(Path::new) {
                match kind(name)? {
                    Some(kind) if kind.is_dir() => mount::mount_tmpfs(name, None)?,
                    Some(_) => mount::rbind(Path::new("/dev/null"), name)?,
                    None => continue,
                }
                mount::read_only(name)?; // the inode of /dev/null is the host's
            }
            for name in READ_ONLY.map(Path::new) {
                if kind(name)?.is_some() {
                    mount::rbind_read_only(name, name)?;
                }
            }
            Ok(())
        })
    })
}

/// A standard descriptor that is a directory would be a way to the host's files.
fn must_have_no_directory() -> Result<()> {
    for number in 0..3 {
        let text = format!("fstat({number})");
        let found = fstat(sys::standard(number)).map_err(failed(&*text))?;
        if found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
            let hint = format!(
                "descriptor {number} is a directory of the host, and would lead to its files; \
                 --bare passes it on"
            );
            return Err(Error::new(text, Errno::EISDIR).hint(hint));
        }
    }
    Ok(())
}

/// Environment variables passed to the command: terminal and locale settings only, and a home directory
/// that exists inside.
fn is_passed_on(name: &OsStr) -> bool {
    let kept = ["HOME", "LANG", "PATH", "PS1", "SHELL", "TERM", "TZ"];
    kept.iter().any(|kept| name == *kept) || name.as_encoded_bytes().starts_with(b"LC_")
}
