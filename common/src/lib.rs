//! What the five stages share: one function for each step of building a container.
//!
//! A stage's `main.rs` says *which* steps are taken and in *which order*, under the names that the
//! talk's command line has for them. How a step is carried out is here, a module a subject:
//!
//! | module | subject | from stage |
//! |---|---|---|
//! | [`process`] | clone a child into new namespaces, run the command, wait for it | [1](../stage1_uts/index.html) |
//! | [`uts`] | the hostname | [1](../stage1_uts/index.html) |
//! | [`idmap`] | who the users inside are outside | [2](../stage2_user/index.html) |
//! | [`mount`] | one function a mount | [3](../stage3_pid/index.html) |
//! | [`rootfs`] | which directory becomes `/` | [4](../stage4_mount/index.html) |
//! | [`network`] | bridge, veth pair, addresses | [5](../stage5_net/index.html) |
//! | [`netlink`] | the messages that [`network`] sends | [5](../stage5_net/index.html) |
//! | [`confine`] | what namespaces do not separate | [5](../stage5_net/index.html) |
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
