//! Stage 4: the container's root, borrowed from the host and a busybox one of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};
use support::{Caller, Run, busybox, callers, open_directory};

const STAGE: &str = env!("CARGO_BIN_EXE_stage4-mount");

fn busybox_options() -> [&'static str; 2] {
    ["--rootfs", busybox().to_str().unwrap()]
}

#[test]
fn has_its_own_root() {
    for caller in callers() {
        for options in [&[][..], &busybox_options()] {
            let script =
                "hostname; echo $$; cat /tmp/leopard.txt; ls -A /tmp /.old_root; ls /; cat /proc/mounts";
            let seen = Run::new(STAGE, caller).stdout(&[options, &["--", "sh", "-c", script]].concat());
            assert!(
                seen.starts_with("leopard\n1\nleopard\n/.old_root:\n\n/tmp:\nleopard.txt\nbin\n"),
                "{seen}"
            );
            assert!(!seen.contains("home\n"), "nothing of the host's own: {seen}");
            assert!(seen.contains("tmpfs /tmp tmpfs rw,nosuid,nodev"), "{seen}");
            assert!(seen.contains("proc /proc proc rw,nosuid,nodev,noexec"), "{seen}");
        }
    }
}

#[test]
fn the_host_lends_its_programs_read_only() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let output = run.output(&[
            "--",
            "sh",
            "-c",
            "mkdir /mine && ! touch /usr/x 2>/dev/null && ps -e && ip -V >/dev/null",
        ]);
        assert!(output.status.success(), "{output:?}");
        let note = support::text(&output.stderr);
        assert!(note.contains("the host lends its programs, read-only (scripts/rootfs.sh"), "{note}");
        let mounts = run.stdout(&["cat", "/proc/mounts"]);
        let usr = mounts.lines().filter(|line| line.contains(" /usr"));
        assert!(usr.clone().count() >= 1 && usr.clone().all(|line| line.contains(" ro,")), "{mounts}");
        // Below /usr too: mount_setattr(2) is told AT_RECURSIVE.
        let nested = run.clone().prepare("mount -t tmpfs nested /usr/src");
        let mounts = nested.stdout(&["cat", "/proc/mounts"]);
        assert!(mounts.lines().any(|line| line.starts_with("nested /usr/src tmpfs ro,")), "{mounts}");
        let devices = "for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo $d; done; echo > /dev/null";
        assert_eq!(run.stdout(&["sh", "-c", devices]), "");
        assert!(run.stdout(&["ls", "/etc"]).lines().count() < 10);
    }
}

#[test]
fn the_default_root_belongs_to_the_caller_or_to_root() {
    let make = |owner: u32| {
        let copy = format!("cp -a {}/. /tmp/rootfs; chown {owner} /tmp/rootfs", busybox().display());
        // A /tmp of the test's own; the root and the stage are brought along.
        format!(
            "mkdir -p /run/t; mount --bind /tmp /run/t; mount -t tmpfs none /tmp; mkdir /tmp/rootfs; {}",
            copy.replace("/tmp/.", "/run/t/.")
        )
    };
    let stage = |owner, caller| {
        let run = Run::new(STAGE, caller).prepare(&make(owner));
        let moved = "p=/run/t/${1#/tmp/}; shift; exec \"$p\" \"$@\"";
        support::text(
            &run.under(&["sh", "-c", moved, "sh"])
                .output(&["ls", "-d", "/bin/busybox", "/usr/bin/apt"])
                .stdout,
        )
    };
    if callers().contains(&Caller::Root) {
        assert_eq!(stage(0, Caller::Root), "/bin/busybox\n");
        assert_eq!(stage(0, Caller::User), "/bin/busybox\n");
        assert_eq!(stage(support::USER, Caller::User), "/bin/busybox\n");
        assert_ne!(stage(support::USER, Caller::Root), "/bin/busybox\n", "somebody else's");
        assert_ne!(stage(4242, Caller::User), "/bin/busybox\n", "somebody else's");
    }
}

#[test]
fn propagation_does_not_stand_in_the_way() {
    for caller in callers() {
        for propagation in ["private", "slave", "shared", "unchanged"] {
            let run = Run::new(STAGE, caller).prepare("mount --make-rshared /");
            assert_eq!(run.stdout(&["--propagation", propagation, "hostname"]), "leopard\n");
        }
    }
}

#[test]
fn bad_roots() {
    let directory = open_directory();
    let at = |name: &str| directory.path().join(name);
    let make = |name: &str| fs::create_dir_all(at(name)).unwrap();
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let failure = |status, path: &Path| run.failure(status, &["--rootfs", path.to_str().unwrap()]);

        let message = failure(1, &at("missing"));
        assert!(
            message.contains("missing\"): ENOENT: ") && message.contains("scripts/rootfs.sh /tmp"),
            "{message}"
        );
        fs::write(at("file"), "").unwrap();
        assert!(failure(1, &at("file")).contains("O_DIRECTORY): ENOTDIR: "));

        if caller == Caller::User && callers().contains(&Caller::Root) {
            let closed = run.clone().prepare(&format!("mkdir -m 700 {}", at("closed").display()));
            let message = closed.failure(1, &["--rootfs", at("closed").to_str().unwrap()]);
            assert!(message.contains("EACCES: ") && message.contains("who may not enter"), "{message}");
        }
        make("no-shell/proc");
        make("no-shell/tmp");
        make("no-shell/.old_root");
        let message = failure(127, &at("no-shell"));
        assert!(message.contains("execve(\"/bin/sh\", [\"/bin/sh\"], /* "), "{message}");
        assert!(
            message
                .contains("ENOENT: No such file or directory\nhint: the container's root has no \"/bin/sh\""),
            "{message}"
        );

        make("no-proc/.old_root");
        assert!(failure(1, &at("no-proc")).contains("no-proc/proc\": mkdir makes it"));
        make("no-tmp/.old_root");
        make("no-tmp/proc");
        assert!(failure(1, &at("no-tmp")).contains("the root has no directory \"/tmp\": mkdir makes it"));

        make("in-the-way/proc");
        let _ = fs::write(at("in-the-way/.old_root"), "");
        assert!(failure(1, &at("in-the-way")).contains(".old_root\" is in the way"));

        make("unreadable/proc");
        fs::set_permissions(at("unreadable"), fs::Permissions::from_mode(0o000)).unwrap();
        if caller == Caller::User {
            let message = failure(1, &at("unreadable"));
            assert!(message.contains("EACCES: Permission denied"), "{message}");
            make("not-mine/proc");
            assert!(failure(1, &at("not-mine")).contains("sudo mkdir "));
        }

        // /bin/sh of another architecture, and one whose loader is missing: a byte of a real one.
        for (name, machine) in [("other", 243_u16), ("loader", 0)] {
            let shell = at(name).join("bin/sh");
            for part in ["bin", "proc", "tmp", ".old_root"] {
                make(&format!("{name}/{part}"));
            }
            let mut program = fs::read("/bin/sh").unwrap();
            if machine != 0 {
                program[18..20].copy_from_slice(&machine.to_le_bytes());
            }
            let _ = fs::remove_file(&shell);
            fs::write(&shell, program).unwrap();
            fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let message = failure(126, &at("other"));
        assert!(
            message.contains("ENOEXEC: ") && message.contains("it is for RISC-V, this kernel runs "),
            "{message}"
        );
        let message = failure(127, &at("loader"));
        assert!(
            message.contains("\"/bin/sh\" is there, but \"/lib") && message.contains("asks for to load it"),
            "{message}"
        );
    }
    fs::set_permissions(at("unreadable"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_root_that_is_the_current_directory() {
    let root = busybox();
    for caller in callers() {
        let script = format!("cd {} && exec \"$@\"", root.display());
        let here = Run::new(STAGE, caller).under(&["sh", "-c", &script, "sh"]);
        assert_eq!(here.stdout(&["--rootfs", ".", "hostname"]), "leopard\n");
        assert_eq!(here.stdout(&["--rootfs", "../rootfs/", "pwd"]), "/\n");
    }
}

/// A root whose /tmp is a link to /.old_root would have the tmpfs there, and that detached in place of
/// the host's files.
#[test]
fn a_root_that_leads_elsewhere() {
    for (name, target) in [("tmp", "/.old_root"), ("tmp", "/.old_root/tmp"), ("proc", "/mnt")] {
        for caller in callers() {
            let root = open_directory();
            let path = root.path().display();
            let prepare = format!(
                "cp -a {}/. {path}; rmdir {path}/{name}; ln -s {target} {path}/{name}",
                busybox().display()
            );
            let run = Run::new(STAGE, caller).prepare(&prepare);
            let message = run.failure(1, &["--rootfs", root.path().to_str().unwrap()]);
            assert!(message.contains(&format!("/{name}\", O_DIRECTORY|O_NOFOLLOW): ENOTDIR: ")), "{message}");
        }
    }
}

#[test]
fn roots_that_cannot_be() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        assert!(run.failure(1, &["--rootfs", "/"]).contains("the host's own root"));
        for options in [&[][..], &busybox_options()] {
            let message = run.failure(1, &[options, &["--map", "none"]].concat());
            assert!(message.contains("EOVERFLOW: ") && message.contains("leave out --map none"), "{message}");
        }
    }
}

#[test]
fn the_root_is_not_changed() {
    let list = || Command::new("find").arg(busybox()).output().unwrap().stdout;
    let before = list();
    for caller in callers() {
        Run::new(STAGE, caller).stdout(&[&busybox_options()[..], &["true"]].concat());
    }
    assert_eq!(before, list());
}

#[test]
fn runs_its_command() {
    support::runs_its_command(STAGE, &callers(), &[]);
    support::runs_its_command(STAGE, &callers(), &busybox_options());
}

#[test]
fn passes_signals_on() {
    support::passes_signals_on(STAGE, &callers(), &[]);
}

#[test]
fn refuses_hostnames() {
    support::refuses_hostnames(STAGE, &callers());
}

#[test]
fn helps() {
    support::helps(STAGE, "unshare -uUrpfm --mount-proc");
}

#[test]
fn controls_jobs() {
    support::controls_jobs(STAGE, &callers(), &[]);
}

#[test]
fn explains_what_happens() {
    explain::tells_what_happens(STAGE, &callers(), &[&[], &busybox_options()]);
}

#[test]
fn explains_what_failed() {
    let root = open_directory();
    fs::create_dir(root.path().join(".old_root")).unwrap();
    for caller in callers() {
        let rootfs = ["--rootfs", root.path().to_str().unwrap()];
        explain::tells_what_failed(STAGE, caller, "", &rootfs, "mount(\"proc\", ", "ENOENT");
    }
}

#[test]
fn explains_what_changed() {
    explain::shows_what_changed(STAGE, &callers(), &[&[]]);
}

#[test]
fn explains_what_the_script_does() {
    explain::agrees_with_the_script(STAGE, "4-mount.sh", &callers(), &[]);
}

#[test]
fn explains_for_free_when_off() {
    explain::is_free_when_off(STAGE, &callers(), &busybox_options());
}
