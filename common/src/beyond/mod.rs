//! After the talk: what makes a container useful. The first reading passes over this folder.
//!
//! In [stage 5](../../stage5_net/index.html), one line a room on its side. `--bare` leaves all of it
//! out, and each option here is refused together with it.

mod binds;
mod etc;
mod helper;
mod init;
pub mod join;
pub mod limits;
pub mod outside;
mod overlay;
mod publish;
mod sysfs;

pub use sysfs::MASKED as MASKED_SYS;

use crate::error::failed;
use crate::explain::{call, heading, step, word};
use crate::{Result, confine, mount, network::Network, sys};
use binds::{Bind, Opened};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::unistd::chdir;
use std::path::{Path, PathBuf};

/// The options of all rooms.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Beyond the talk")]
pub struct Options {
    /// Keep what is written in memory
    #[arg(long, conflicts_with = "bare")]
    overlay: bool,
    #[arg(
        long,
        value_name = "HOST",
        value_parser = binds::parse,
        conflicts_with = "bare",
        help = "Show a part of the host: HOST[:INSIDE][:ro]"
    )]
    bind: Vec<Bind>,
    /// PID 1 reaps orphans, the command is PID 2
    #[arg(long, conflicts_with = "bare")]
    init: bool,
    /// `--nat` and `--publish`.
    #[command(flatten)]
    pub outside: outside::Options,
    /// Directory in which the command starts
    #[arg(long, value_name = "DIR", conflicts_with = "bare")]
    chdir: Option<PathBuf>,
    /// Set an environment variable
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable, conflicts_with = "bare")]
    env: Vec<(String, String)>,
    /// Memory, processes, processors.
    #[command(flatten)]
    pub limits: limits::Options,
}

/// What the container gets of the host's files.
pub struct HostFiles {
    binds: Vec<Opened>,
    resolv_conf: Option<String>,
}

fn variable(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("a variable needs a name and a value: NAME=VALUE".into()),
    }
}

impl HostFiles {
    /// `--bind`: after the old root has gone, since links of the new root can lead there.
    ///
    /// # Errors
    /// Those of the mounts.
    pub fn attach(self) -> Result<()> {
        if !self.binds.is_empty() {
            heading("beyond the talk");
        }
        self.binds.iter().try_for_each(Opened::attach)
    }
}

impl Options {
    /// Whether what the container writes is gone with it.
    pub fn is_overlay(&self) -> bool {
        self.overlay
    }

    /// `--overlay`: on top of the new root. Returns the path of what becomes `/`.
    ///
    /// # Errors
    /// Those of mount(2), where the kernel or a file system has no such mounts.
    pub fn overlay(&self, new_root: PathBuf) -> Result<PathBuf> {
        if !self.overlay {
            return Ok(new_root);
        }
        overlay::mount(&new_root)
    }

    /// The child's first steps: with limits, a cgroup namespace that begins at its own group. And it opens the
    /// host's files, before a new root covers some.
    ///
    /// # Errors
    /// If there is no such file or directory; those of unshare(2).
    pub fn enter(&self, net: &Network<'_>) -> Result<HostFiles> {
        self.limits.enter()?;
        Ok(HostFiles {
            binds: self.bind.iter().map(Bind::open).collect::<Result<_>>()?,
            resolv_conf: self.outside.resolv_conf(net),
        })
    }

    /// Mounts /sys and some files of /etc in the new root, also without any option.
    /// Needs the old root: the kernel mounts a new /sys only where another one is visible.
    ///
    /// # Errors
    /// Those of the mounts.
    pub fn mounts(
        &self,
        confine: &confine::Options,
        net: &Network<'_>,
        from: &HostFiles,
    ) -> Result<()> {
        if confine.is_bare() {
            return Ok(());
        }
        heading("beyond the talk");
        let shell = "mount -t sysfs -o ro sysfs /sys; mount --bind hosts /etc/hosts; ...";
        mount::step(shell, "what programs expect", || {
            sysfs::mount()?;
            etc::mount(net.container_addr, from.resolv_conf.as_deref())
        })
    }

    /// `--env`, `--chdir` and `--init`: where the command starts, and under which process.
    ///
    /// # Errors
    /// Those of chdir(2) and fork(2).
    pub fn start(&self) -> Result<()> {
        for (name, value) in &self.env {
            sys::set_var(name.as_ref(), Some(value.as_ref()));
        }
        if let Some(directory) = &self.chdir {
            heading("beyond the talk");
            let shell = format_args!("cd {}", word(directory));
            step(shell, "where the command starts", || {
                call(format_args!("chdir({directory:?})"), || chdir(directory))
            })?;
        }
        if !self.init {
            return Ok(());
        }
        heading("beyond the talk");
        init::start()
    }
}

/// Whether a file that is created there is gone with the container.
fn is_in_memory(directory: &Path) -> Result<bool> {
    let found = statfs(directory).map_err(failed(format!("statfs({directory:?})")))?;
    Ok([TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC].contains(&found.filesystem_type()))
}
