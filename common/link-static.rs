//! Build script of the five stages: links them statically where this machine can.
//!
//! Loading shared libraries is about a quarter of the time that a stage takes around `/bin/true`,
//! and some of its memory. `-C target-feature=+crt-static` would be the switch, but without
//! `--target` cargo applies it to clap's proc macros too, which cannot be static; and not every
//! system with a C linker has a `libc.a` (Fedora keeps it in glibc-static). So: try it on an empty
//! program, run that, and change nothing where it does not work.

use std::{env, error::Error, fs, path::Path, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../common/link-static.rs");
    let out = env::var("OUT_DIR")?;
    let native = env::var("HOST")? == env::var("TARGET")?;
    if native && env::var("CARGO_CFG_TARGET_ENV")? == "gnu" && links_statically(Path::new(&out)) {
        println!("cargo::rustc-link-arg-bins=-L{out}");
        println!("cargo::rustc-link-arg-bins=-static-pie");
    }
    Ok(())
}

/// rustc asks for `-lgcc_s -lc` and their like as shared libraries. In `dir` these names become
/// linker scripts that stand for the static ones, and an empty program shows whether that works.
fn links_statically(dir: &Path) -> bool {
    let script = |name: &str, text: &str| fs::write(dir.join(format!("lib{name}.so")), text);
    let scripts = script("gcc_s", "INPUT(-l:libgcc_eh.a)")
        .and_then(|()| script("c", "GROUP(-l:libm.a -l:libc.a -l:libgcc_eh.a -l:libgcc.a)"))
        .and_then(|()| {
            ["m", "util", "rt", "pthread", "dl"]
                .iter()
                .try_for_each(|lib| script(lib, "/* in libc.a */"))
        })
        .and_then(|()| fs::write(dir.join("empty.rs"), "fn main() {}"));
    let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    scripts.is_ok()
        && run(Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()))
            .current_dir(dir)
            .args([
                "--edition=2024",
                "-Cpanic=abort",
                "-Clink-arg=-L.",
                "-Clink-arg=-static-pie",
                "empty.rs",
            ]))
        && run(&mut Command::new(dir.join("empty")))
}
