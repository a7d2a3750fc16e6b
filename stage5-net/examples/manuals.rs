//! Writes a manual page for each stage into DIR/man1, by default `~/.local/share/man/man1`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "only the command lines are used"
)]
#[path = "../../stage1-uts/src/main.rs"]
mod stage1;
#[path = "../../stage2-user/src/main.rs"]
mod stage2;
#[path = "../../stage3-pid/src/main.rs"]
mod stage3;
#[path = "../../stage4-mount/src/main.rs"]
mod stage4;
#[path = "../src/main.rs"]
mod stage5;

use common::cli::command;
use std::{env, path::PathBuf};

fn main() {
    let default = || env::home_dir().unwrap().join(".local/share/man");
    let man = env::args_os().nth(1).map_or_else(default, PathBuf::from);
    std::fs::create_dir_all(man.join("man1")).unwrap();
    let uts = command::<stage1::Args>().name("stage1-uts");
    let user = command::<stage2::Args>().name("stage2-user");
    let pid = command::<stage3::Args>().name("stage3-pid");
    let mount = command::<stage4::Args>().name("stage4-mount");
    for stage in [
        uts,
        user,
        pid,
        mount,
        command::<stage5::Args>().name("stage5-net"),
    ] {
        clap_mangen::Man::new(stage)
            .generate_to(man.join("man1"))
            .unwrap();
    }
    println!("export MANPATH={}:; man stage5-net", man.display());
}
