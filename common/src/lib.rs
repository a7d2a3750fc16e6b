//! What the five stages share: one function for each step of building a container.
//!
//! A stage's `main.rs` says *which* steps are taken and in *which order*, under the names that the
//! talk's command line has for them. How a step is carried out is here, a module a subject:
//!
//! | module | subject | manual |
//! |---|---|---|
//! | [`process`] | clone a child into new namespaces, run the command, wait for it | clone(2), execve(2), waitpid(2) |
//! | [`uts`] | the hostname | uts_namespaces(7) |
//! | [`idmap`] | who the users inside are outside | user_namespaces(7) |
//! | [`mount`] | one function a mount | mount(2), mount_namespaces(7) |
//! | [`rootfs`] | which directory becomes `/` | pivot_root(2) |
//! | [`network`] | bridge, veth pair, addresses | network_namespaces(7), veth(4) |
//! | [`netlink`] | the messages that [`network`] sends | netlink(7), rtnetlink(7) |
//! | [`confine`] | what namespaces do not separate | capabilities(7), seccomp(2) |
//! | [`step`] | carry out one system call, and name it when it fails | |
//! | [`error`] | what a failure says, and its exit status | |
//! | [`cli`] | from `main` to the stage and back | |

pub mod cli;
pub mod confine;
pub mod error;
pub mod idmap;
pub mod mount;
pub mod netlink;
pub mod network;
pub mod process;
pub mod rootfs;
pub mod step;
pub mod uts;

pub use error::{Error, Result};
pub use nix::sched::CloneFlags;
