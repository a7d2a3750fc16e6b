//! What the five stages share: one function for each step of building a container.
//!
//! A stage's `main.rs` shows *which* steps are taken and in *which order*, under the names of the
//! talk's command line. How a step is carried out is here. A module imports only from floors below
//! its own:
//!
//! | floor | modules |
//! |---|---|
//! | 5 | [`cli`], [`beyond`]: from `main` to the stage and back; what makes a container useful, after the talk |
//! | 4 | [`process`], [`command`], [`terminal`], [`network`], [`confine`]: the child, its command and terminal, bridge and veth, what namespaces leave open |
//! | 3 | [`rootfs`], `dev`, [`idmap`], [`uts`], [`netlink`], `janitor`: the new root and its /dev, id maps, hostname, requests about links, removal at the end |
//! | 2 | [`mount`], `files`, `forked`, `capabilities`: one function a mount, a file, a process, a set of capabilities |
//! | 1 | [`explain`], `hints`: how steps are shown; why a call failed |
//! | 0 | [`error`], `report`, [`namespaces`], [`cidr`], `proc`, `sys`: errno as a type; stderr; kinds and inodes; addresses; files of /proc; thin system calls (all `unsafe`) |

pub mod beyond;
mod capabilities;
pub mod cidr;
pub mod cli;
pub mod command;
pub mod confine;
mod dev;
pub mod error;
pub mod explain;
mod files;
mod forked;
mod hints;
pub mod idmap;
mod janitor;
pub mod mount;
pub mod namespaces;
pub mod netlink;
pub mod network;
mod proc;
pub mod process;
mod report;
pub mod rootfs;
mod sys;
pub mod terminal;
pub mod uts;

pub use command::Command;
pub use error::{Error, Result};
