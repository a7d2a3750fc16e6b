//! Writes the manual pages of all stages, and completions for shells, from their command lines:
//! `scripts/manuals.sh` installs them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "only the command lines are used")]

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

use clap_complete::{Shell, generate_to};
use common::cli::command;
use std::{env, fs, io::Write, path::Path};

fn main() {
    let directory = env::args_os().nth(1).unwrap_or_else(|| "target/manuals".into());
    let place = |name: &str| {
        let path = Path::new(&directory).join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let stages = [
        ("stage1-uts", command::<stage1::Args>()),
        ("stage2-user", command::<stage2::Args>()),
        ("stage3-pid", command::<stage3::Args>()),
        ("stage4-mount", command::<stage4::Args>()),
        ("stage5-net", command::<stage5::Args>()),
    ];
    let completions = [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ];
    for (name, command) in stages {
        let mut command = command.name(name).bin_name(name);
        for (shell, path) in completions {
            generate_to(shell, &mut command, name, place(path)).unwrap();
        }
        let help = command.render_help().to_string();
        let examples = help.split_once("Examples:\n").unwrap().1.split_once("\n\nUsage:").unwrap().0;
        let mut page = vec![];
        clap_mangen::Man::new(command).render(&mut page).unwrap();
        write!(page, ".SH EXAMPLES\n.nf\n{examples}\n.fi\n").unwrap();
        fs::write(place("man/man1").join(format!("{name}.1")), page).unwrap();
    }
}
