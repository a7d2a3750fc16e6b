//! Stage 4: the container's root, borrowed from the host and a busybox one of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};
use support::{Caller, Run, busybox, callers, has, open_directory};

const STAGE: &str = env!("CARGO_BIN_EXE_stage4-mount");

fn busybox_options() -> [&'static str; 2] {
    ["--rootfs", busybox().to_str().unwrap()]
}

#[test]
fn has_its_own_root() {
    for caller in callers() {
        for options in [&[][..], &busybox_options()] {
            let script = "hostname; echo $$; cat /tmp/leopard.txt; ls -A /tmp /.old_root; ls /; cat /proc/mounts";
            let seen =
                Run::new(STAGE, caller).stdout(&[options, &["--", "sh", "-c", script]].concat());
            assert!(
                seen.starts_with("leopard\n1\nleopard\n/.old_root:\n\n/tmp:\nleopard.txt\nbin\n"),
                "{seen}"
            );
            assert!(
                !seen.contains("home\n"),
                "nothing of the host's own: {seen}"
            );
            assert!(seen.contains("tmpfs /tmp tmpfs rw,nosuid,nodev"), "{seen}");
            has(&seen, &["proc /proc proc rw,nosuid,nodev,noexec"]);
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
        assert!(note.is_empty(), "{note}");
        let mounts = run.stdout(&["cat", "/proc/mounts"]);
        let usr = mounts.lines().filter(|line| line.contains(" /usr"));
        assert!(
            usr.clone().count() >= 1 && usr.clone().all(|line| line.contains(" ro,")),
            "{mounts}"
        );
        // Below /usr too: mount_setattr(2) is told AT_RECURSIVE.
        let nested = run.clone().prepare("mount -t tmpfs nested /usr/src");
        let mounts = nested.stdout(&["cat", "/proc/mounts"]);
        assert!(
            mounts
                .lines()
                .any(|line| line.starts_with("nested /usr/src tmpfs ro,")),
            "{mounts}"
        );
        let devices = "for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo $d; done; echo > /dev/null";
        assert_eq!(run.stdout(&["sh", "-c", devices]), "");
        let secrets = "ls /etc | grep -E 'shadow|ssh|sudoers|key'; ls /etc/ssl; cat /etc/passwd";
        let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
        let seen = run.stdout(&["sh", "-c", secrets]);
        assert!(!seen.contains("private") && seen.ends_with(users), "{seen}");
        assert!(!seen.contains("shadow") && !seen.contains("ssh"), "{seen}");
    }
}

#[test]
fn the_default_root_belongs_to_the_caller_or_to_root() {
    let make = |owner: u32| {
        let copy = format!(
            "cp -a {}/. /tmp/rootfs; chown {owner} /tmp/rootfs",
            busybox().display()
        );
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
        assert_ne!(
            stage(support::USER, Caller::Root),
            "/bin/busybox\n",
            "somebody else's"
        );
        assert_ne!(
            stage(4242, Caller::User),
            "/bin/busybox\n",
            "somebody else's"
        );
    }
}

#[test]
fn propagation_does_not_stand_in_the_way() {
    for caller in callers() {
        for propagation in ["private", "slave", "shared", "unchanged"] {
            let run = Run::new(STAGE, caller).prepare("mount --make-rshared /");
            assert_eq!(
                run.stdout(&["--propagation", propagation, "hostname"]),
                "leopard\n"
            );
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
        let failure =
            |status, path: &Path| run.failure(status, &["--rootfs", path.to_str().unwrap()]);

        let message = failure(1, &at("missing"));
        has(
            &message,
            &["missing\"): ENOENT: ", "scripts/rootfs.sh /tmp"],
        );
        fs::write(at("file"), "").unwrap();
        assert!(failure(1, &at("file")).contains("O_DIRECTORY): ENOTDIR: "));

        if caller == Caller::User && callers().contains(&Caller::Root) {
            let closed = run
                .clone()
                .prepare(&format!("mkdir -m 700 {}", at("closed").display()));
            let message = closed.failure(1, &["--rootfs", at("closed").to_str().unwrap()]);
            has(&message, &["EACCES: ", "who cannot enter"]);
        }
        make("no-shell/proc");
        make("no-shell/tmp");
        make("no-shell/.old_root");
        let message = failure(127, &at("no-shell"));
        has(&message, &["execvpe(\"/bin/sh\", [\"/bin/sh\"], /* "]);
        has(
            &message,
            &["ENOENT: No such file or directory\nhint: the container's root has no \"/bin/sh\""],
        );

        make("no-proc/.old_root");
        assert!(failure(1, &at("no-proc")).contains("no-proc/proc\": create it with mkdir"));
        make("no-tmp/.old_root");
        make("no-tmp/proc");
        assert!(
            failure(1, &at("no-tmp"))
                .contains("the root has no directory \"/tmp\": create it with mkdir")
        );

        make("in-the-way/proc");
        let _ = fs::write(at("in-the-way/.old_root"), "");
        assert!(failure(1, &at("in-the-way")).contains(".old_root\" must be an empty directory"));

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
        has(&message, &["ENOEXEC: ", "for another processor"]);
        let message = failure(127, &at("loader"));
        has(&message, &["the file exists, but not the loader"]);
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
    for (name, target) in [
        ("tmp", "/.old_root"),
        ("tmp", "/.old_root/tmp"),
        ("proc", "/mnt"),
    ] {
        for caller in callers() {
            let root = open_directory();
            let path = root.path().display();
            let prepare = format!(
                "cp -a {}/. {path}; rmdir {path}/{name}; ln -s {target} {path}/{name}",
                busybox().display()
            );
            let run = Run::new(STAGE, caller).prepare(&prepare);
            let message = run.failure(1, &["--rootfs", root.path().to_str().unwrap()]);
            has(
                &message,
                &[&format!("/{name}\", O_DIRECTORY|O_NOFOLLOW): ENOTDIR: ")],
            );
        }
    }
}

#[test]
fn roots_that_cannot_be() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        assert!(
            run.failure(1, &["--rootfs", "/"])
                .contains("the host's own root")
        );
        for options in [&[][..], &busybox_options()] {
            let message = run.failure(1, &[options, &["--map", "none"]].concat());
            has(&message, &["--map none: without a map", "\nhint: "]);
        }
    }
}

/// What the kernel says in an initial ramfs, of a root that is no mount point, or where AppArmor restricts
/// ordinary users; here a tracer plays it.
#[test]
fn says_why_the_root_cannot_be_changed() {
    let sysctl = "mount -t tmpfs none /proc/sys/kernel; echo 1 > /proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    for caller in callers() {
        for (call, errno, hint) in [
            (
                "pivot_root",
                "EINVAL",
                "the kernel cannot move the initial ramfs",
            ),
            ("pivot_root", "EBUSY", "\"/tmp\" is not a mount point"),
            ("mount", "EPERM", "AppArmor takes all capabilities"),
        ] {
            let prepare = match (call, caller) {
                ("mount", Caller::Root) => continue,
                ("mount", Caller::User) => sysctl,
                _ => "",
            };
            let (refuse, hint) = (
                format!("inject={call}:error={errno}"),
                format!("\nhint: {hint}"),
            );
            let strace = ["strace", "-fqq", "-o", "/dev/null", "-e", &refuse];
            let run = Run::new(STAGE, caller).prepare(prepare).under(&strace);
            let message = run.failure(1, &["true"]);
            has(&message, &[&format!("): {errno}: "), &hint]);
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
    explain::shows_what_happens(STAGE, &callers(), &[&[], &busybox_options()]);
}

#[test]
fn explains_what_failed() {
    let root = open_directory();
    fs::create_dir(root.path().join(".old_root")).unwrap();
    for caller in callers() {
        let rootfs = ["--rootfs", root.path().to_str().unwrap()];
        explain::shows_what_failed(STAGE, caller, "", &rootfs, "mount(\"proc\", ", "ENOENT");
    }
}

#[test]
fn changes_can_be_replayed() {
    explain::changes_can_be_replayed(STAGE, &callers(), &[&[]]);
}

#[test]
fn the_explanation_is_a_recipe() {
    explain::is_a_recipe(STAGE, "4", &callers(), &[]);
}

#[test]
fn explains_for_free_when_off() {
    explain::is_free_when_off(STAGE, &callers(), &busybox_options());
}

#[test]
fn the_explanation_is_short() {
    explain::is_short(
        STAGE,
        &callers(),
        &[&[], &busybox_options()],
        30,
        &[
            "mount --make-rprivate /",
            "pivot_root ",
            "umount -l /.old_root",
        ],
    );
}

/// NixOS and Guix: `/bin/sh` leads into a store, and `/usr` has little.
#[test]
fn a_host_whose_programs_are_in_a_store() {
    let store = "mkdir -p /tmp/store/gnu/store/x/bin /tmp/store/usr/bin; cp $(command -v busybox) /tmp/store/gnu/store/x/bin/sh
        ln -s /gnu/store/x/bin/sh /tmp/store/usr/bin/sh; ln -s sh /tmp/store/gnu/store/x/bin/hostname
        mkdir -p /gnu; mount --bind /tmp/store/gnu /gnu; mount --bind /tmp/store/usr /usr";
    if callers().contains(&Caller::Root) {
        // The test's own host, whose mounts no other process sees; /gnu must not stay.
        let script = format!(
            "trap 'umount -l /usr /gnu; rmdir /gnu; rm -r /tmp/store' EXIT; {store}\n\"$@\""
        );
        let run = Run::new(STAGE, Caller::Root).under(&["sh", "-c", &script, "sh"]);
        let output = run.output(&["--", "/bin/sh", "-c", "echo works"]);
        assert_eq!(support::text(&output.stdout), "works\n", "{output:?}");
    }
}

/// What a program that cannot be executed lacks.
#[test]
fn programs_that_cannot_be_executed() {
    let root = open_directory();
    let path = root.path().display();
    let made = format!("cp -a {}/. {path}; chmod 755 {path}", busybox().display());
    assert!(
        Command::new("sh")
            .args(["-c", &made])
            .status()
            .unwrap()
            .success()
    );
    let program = |name: &str, text: &str| {
        let at = root.path().join("bin").join(name);
        fs::write(&at, text).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("crlf", "#!/bin/sh\r\necho x\r\n");
    program("no-interpreter", "#!/bin/python9\n");
    program("plain", "echo a script without the first line\n");
    let rootfs = ["--rootfs", root.path().to_str().unwrap(), "--"];
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let failure = |name: &str| run.failure(127, &[&rootfs[..], &[name]].concat());
        assert!(failure("/bin/crlf").contains("CR LF"));
        assert!(failure("/bin/no-interpreter").contains("#!/bin/python9"));
        // As execvp(3), and so unshare(1), runs it.
        let plain = run.stdout(&[&rootfs[..], &["plain"]].concat());
        assert_eq!(plain, "a script without the first line\n");
        let noexec = format!("mount --bind {path} {path}; mount -o remount,bind,noexec {path}");
        let run = run.prepare(&noexec);
        assert!(
            run.failure(126, &[&rootfs[..], &["hostname"]].concat())
                .contains("mounted noexec")
        );
    }
}

/// A read-only root without `.old_root`: the old root goes over the new one for a moment.
#[test]
fn a_read_only_root() {
    for caller in callers() {
        let root = open_directory();
        let path = root.path().display();
        let made = format!(
            "cp -a {}/. {path}; rm -rf {path}/.old_root; mount --bind {path} {path}; mount -o remount,bind,ro {path}",
            busybox().display()
        );
        let run = Run::new(STAGE, caller).prepare(&made);
        let seen = run.stdout(&[
            "--rootfs",
            root.path().to_str().unwrap(),
            "--",
            "sh",
            "-c",
            "hostname; cat /proc/mounts",
        ]);
        assert!(
            seen.starts_with("leopard\n") && seen.lines().count() == 4,
            "{seen}"
        );
    }
}

#[test]
fn the_borrowed_root_knows_its_hostname() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let hosts = run.stdout(&["--hostname", "ocelot", "cat", "/etc/hosts"]);
        has(&hosts, &[" localhost\n", " ocelot\n"]);
    }
}

/// The shell commands of the explanation are quoted, and no control character reaches the terminal.
#[test]
fn the_explanation_is_quoted() {
    for caller in callers() {
        let explained =
            Run::new(STAGE, caller).output(&["--explain", "--hostname", "x y; reboot", "true"]);
        assert!(
            support::text(&explained.stderr).contains("hostname 'x y; reboot'"),
            "{explained:?}"
        );
        let root = open_directory();
        let strange = root.path().join("a b\u{1b}[31m");
        fs::create_dir(&strange).unwrap();
        let made = format!("cp -a {}/. \"$1\"; chmod 755 \"$1\"", busybox().display());
        let words = ["-c", &made, "sh", strange.to_str().unwrap()];
        assert!(Command::new("sh").args(words).status().unwrap().success());
        for form in ["--explain", "--explain=calls"] {
            let explained = Run::new(STAGE, caller).output(&[
                form,
                "--rootfs",
                strange.to_str().unwrap(),
                "true",
            ]);
            let said = support::text(&explained.stderr);
            assert!(
                explained.status.success() && !said.contains('\u{1b}'),
                "{said}"
            );
            assert!(said.contains(r"a b\u{1b}[31m'"), "{said}");
        }
    }
}
