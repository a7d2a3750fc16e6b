//! Stage 5, what goes beyond the talk: ranges of ids, overlay, bind mounts, an init, what programs expect.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use support::{Caller, GROUP, Run, USER, at_a_terminal, busybox, callers, open_directory};

const STAGE: &str = env!("CARGO_BIN_EXE_stage5-net");

/// A directory with the account databases of a host on which the user has a range of ids.
fn accounts() -> tempfile::TempDir {
    let directory = open_directory();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let user = format!("spots:x:{USER}:{GROUP}::/:/bin/sh\n");
    fs::write(directory.path().join("passwd"), passwd + &user).unwrap();
    for name in ["subuid", "subgid"] {
        fs::write(directory.path().join(name), "spots:400000:65536\n").unwrap();
    }
    directory
}

/// A run on that host, with `more` shell commands to prepare it.
fn run(caller: Caller, accounts: &Path, more: &str) -> Run {
    let from = accounts.display();
    let mounts = ["passwd", "subuid", "subgid"];
    let mounts = mounts.map(|name| format!("mount --bind {from}/{name} /etc/{name}; "));
    Run::new(STAGE, caller).prepare(&format!("{}{more}", mounts.concat()))
}

/// Both callers, if the tests run as root: the account databases are root's.
fn with_accounts() -> Vec<Caller> {
    let callers = callers();
    if callers.len() == 1 {
        support::not_tried("--map auto: it needs root, to change the account databases");
        return vec![];
    }
    callers
}

/// Everything in a directory, with owner, mode and content.
fn everything_in(root: &Path) -> String {
    let script = "find . -printf '%p %U %G %m %s %l\\n' | sort; find . -type f -exec md5sum {} +";
    let mut command = std::process::Command::new("sh");
    let output = command.args(["-c", script]).current_dir(root).output();
    support::text(&output.unwrap().stdout)
}

fn copy_busybox(to: &Path) {
    let mut copy = std::process::Command::new("cp");
    assert!(
        copy.arg("-a")
            .arg(busybox())
            .arg(to)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_range_has_other_users() {
    let accounts = accounts();
    let script = "cat /proc/self/uid_map /proc/self/setgroups; id; touch /tmp/x; chown 33:33 /tmp/x
        setpriv --reuid 1000 --regid 1000 --clear-groups id -u; stat -c %u:%g /tmp/x";
    for caller in with_accounts() {
        let seen = run(caller, accounts.path(), "").stdout(&["--map", "auto", "sh", "-c", script]);
        let words = seen.split_whitespace().collect::<Vec<_>>().join(" ");
        let map = match caller {
            Caller::Root => "0 1879048192 65536".into(),
            Caller::User => format!("0 {USER} 1 1 400000 65536"),
        };
        let expected = format!("{map} allow uid=0(root) gid=0(root) groups=0(root) 1000 33:33");
        assert_eq!(words, expected, "{caller:?}");
    }
}

#[test]
fn a_range_that_is_not_there() {
    let accounts = accounts();
    if with_accounts().is_empty() {
        return;
    }
    let empty = ": >/etc/subgid";
    let message = run(Caller::User, accounts.path(), empty).failure(1, &["--map", "auto", "true"]);
    let expected =
        "--map auto: /etc/subgid has no range for spots\nhint: sudo usermod --add-subuids";
    assert!(message.contains(expected), "{message}");
    let accounts = self::accounts();
    let copy = accounts.path().join("newuidmap").display().to_string();
    let other =
        &format!("cp $(command -v newuidmap) {copy}; mount --bind {copy} $(command -v newuidmap)");
    let message = run(Caller::User, accounts.path(), other).failure(1, &["--map", "auto", "true"]);
    assert!(message.contains("newuidmap"), "{message}");
    assert!(
        message.contains("hint: newuidmap must be setuid root"),
        "{message}"
    );
}

/// Root's files of the root belong to root inside, and still to root outside.
#[test]
fn an_idmapped_root_is_for_root_only() {
    let accounts = accounts();
    if with_accounts().is_empty() {
        return;
    }
    let run = run(Caller::Root, accounts.path(), "");
    let open = busybox().to_str().unwrap();
    let message = run.failure(1, &["--map", "auto", "--rootfs", open, "true"]);
    assert!(
        message.contains("every user of the host can reach") && message.contains("use --overlay"),
        "{message}"
    );
    let parent = open_directory();
    fs::set_permissions(parent.path(), Permissions::from_mode(0o700)).unwrap();
    let root = parent.path().join("rootfs");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(busybox())
        .arg(&root)
        .status();
    assert!(copied.unwrap().success());
    let script = "stat -c %u:%g / /bin/busybox; echo x >/new; chown 7:7 /new; stat -c %u /new";
    let words = [
        "--map",
        "auto",
        "--rootfs",
        root.to_str().unwrap(),
        "sh",
        "-c",
        script,
    ];
    assert_eq!(run.stdout(&words), "0:0\n0:0\n7\n");
    let new = fs::metadata(root.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (7, 7));
}

/// Even with all capabilities root inside is not the owner of what belongs to the host's root.
#[test]
fn a_range_is_the_stronger_wall() {
    let accounts = accounts();
    if with_accounts().is_empty() {
        return;
    }
    let run = run(Caller::Root, accounts.path(), "");
    let script =
        "umount /proc/sys; (: >>/proc/sys/kernel/core_pattern) 2>/dev/null || echo refused";
    let words = ["--map", "auto", "--cap-add", "ALL", "sh", "-c", script];
    assert!(run.stdout(&words).ends_with("refused\n"));
}

#[test]
fn an_overlay_leaves_the_root_as_it_was() {
    let accounts = accounts();
    let directory = open_directory();
    let script = "echo $1 >/etc/passwd; rm /bin/vi; mkdir /srv /bin/new; mv /etc/group /srv;
        rm -r /usr; mkdir /usr; cat /etc/passwd; ls / | tr '\\n' ' '; findmnt -no FSTYPE / || mount";
    for caller in with_accounts() {
        let root = &directory.path().join(format!("{caller:?}"));
        copy_busybox(root);
        let own = match caller {
            Caller::User => format!("{USER}:{GROUP}"),
            Caller::Root => "0:0".into(),
        };
        let mut chown = std::process::Command::new("chown");
        let chown = chown.args(["-hR", &own]).arg(root).status();
        assert!(chown.unwrap().success());
        let before = everything_in(root);
        for map in ["root", "auto"] {
            let words = [
                "--map",
                map,
                "--overlay",
                "--rootfs",
                root.to_str().unwrap(),
            ];
            let words = [&words[..], &["sh", "-c", script, "sh", map]].concat();
            let seen = run(caller, accounts.path(), "").stdout(&words);
            let is_right =
                seen.starts_with(&format!("{map}\nbin dev etc ")) && seen.contains("overlay");
            assert!(is_right, "{caller:?} {map}: {seen}");
            assert_eq!(everything_in(root), before, "{caller:?} {map}");
        }
        let message = run(caller, accounts.path(), "").failure(1, &["--overlay", "true"]);
        assert!(
            message.contains("hint: scripts/rootfs.sh creates one"),
            "{message}"
        );
    }
}

#[test]
fn a_part_of_the_host_appears() {
    for caller in callers() {
        let directory = open_directory();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let host = directory.path().to_str().unwrap();
        fs::write(directory.path().join("file"), "leopard\n").unwrap();
        let file = format!("{host}/file");
        let run = Run::new(STAGE, caller);

        // In the borrowed root a missing place is created; below the container's own /tmp, too.
        let script =
            "cat /a/b/file /tmp/c; echo x >/a/b/new; (echo x >/d/new) 2>/dev/null || echo refused
            grep -c ' /a/b .*nosuid,nodev' /proc/mounts";
        let (b, c, d) = (
            format!("{host}:/a/b"),
            format!("{file}:/tmp/c"),
            format!("{host}:/d:ro"),
        );
        let words = ["--bind", &b, "--bind", &c, "--bind", &d, "sh", "-c", script];
        assert_eq!(
            run.stdout(&words),
            "leopard\nleopard\nrefused\n1\n",
            "{caller:?}"
        );
        assert!(directory.path().join("new").exists());
        // At the same path, though the root covers it.
        assert_eq!(run.stdout(&["--bind", &file, "cat", &file]), "leopard\n");

        let root = ["--rootfs", busybox().to_str().unwrap()];
        let on_disk = [&root[..], &["--bind", &b, "true"]].concat();
        let message = run.failure(1, &on_disk);
        assert!(
            message.contains("hint: the root has no such place"),
            "{message}"
        );
        let overlay = [
            &["--overlay"],
            &root[..],
            &["--bind", &b, "cat", "/a/b/file"],
        ]
        .concat();
        assert_eq!(run.stdout(&overlay), "leopard\n");
        for bad in ["", ":/x", "/usr:x", "/usr:/", "/usr:/a/../b", "/a:/b:/c"] {
            run.failure(1, &["--bind", bad, "true"]);
        }
        let message = run.failure(1, &["--bind", "/no/such:/x", "true"]);
        assert!(
            message.contains("realpath(\"/no/such\"): ENOENT"),
            "{message}"
        );
    }
}

/// A link of the root does not lead to the host, nor over what protects it.
#[test]
fn a_bind_stays_in_the_root() {
    for caller in callers() {
        let directory = open_directory();
        let root = directory.path().join("root");
        copy_busybox(&root);
        let owner = match caller {
            Caller::User => format!("{USER}:{GROUP}"),
            Caller::Root => "0:0".into(),
        };
        let mut chown = std::process::Command::new("chown");
        assert!(
            chown
                .args(["-hR", &owner])
                .arg(&root)
                .status()
                .unwrap()
                .success()
        );
        let link = root.join("link");
        let run = Run::new(STAGE, caller).prepare("mount -t tmpfs -o mode=777 tmpfs /mnt");
        let list = run.under(&["sh", "-c", "\"$@\"; ls -A /mnt", "sh"]);
        let words = |inside| ["--rootfs", root.to_str().unwrap(), "--bind", inside, "true"];
        std::os::unix::fs::symlink("/.old_root/mnt", &link).unwrap();
        let output = list.output(&words("/etc/passwd:/link/a/b"));
        assert_eq!(support::text(&output.stdout), "", "{caller:?}: {output:?}");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/proc/sys", &link).unwrap();
        for inside in ["/usr:/link/kernel", "/usr:/link/"] {
            let output = list.output(&words(inside));
            assert!(!output.stderr.is_empty(), "{caller:?} {inside}: {output:?}");
        }
    }
}

#[test]
fn binds_that_cannot_be() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let root = ["--rootfs", busybox().to_str().unwrap(), "--overlay"];
        for (bind, why) in [
            ("/", "is not / itself"),
            ("/proc", "\"/proc\" is in /proc"),
            ("/usr:/proc/sys", "\"/proc/sys\" is in /proc"),
            ("/etc/hostname:/proc/keys", "\"/proc/keys\" is in /proc"),
            (
                "/etc/passwd:/etc",
                "EINVAL: Invalid argument\nhint: inside is a link",
            ),
        ] {
            let message = run.failure(1, &[&root[..], &["--bind", bind, "true"]].concat());
            assert!(message.contains(why), "{bind}: {message}");
        }
    }
}

/// Ctrl-Z stops a command whose session is another one, because its output goes into a pipe.
#[test]
fn an_init_in_a_pipe_stops() {
    for caller in callers() {
        let mark = support::mark();
        let pipe = "\"$@\" | cat; echo outside; read go; fg";
        let inside = format!("sleep {mark} & read x; echo inside");
        for options in [&[][..], &["--init"]] {
            let words = [options, &["sh", "-c", &inside]].concat();
            let mut terminal = support::job_of_bash(STAGE, caller, pipe, &words);
            support::within_a_minute(|| !support::running(&mark).is_empty());
            terminal.send_control('z').unwrap();
            terminal.exp_string("outside\r\n").unwrap();
            let parent = support::in_status(support::running(&mark)[0], "PPid:", 10);
            let shell = Pid::from_raw(parent.unwrap().try_into().unwrap());
            support::within_a_minute(|| support::state(shell) == Some('T'));
            terminal.send_line("\n").unwrap(); // for both
            terminal.exp_string("inside\r\n").unwrap();
            support::within_a_minute(|| support::running(&mark).is_empty());
        }
    }
}

#[test]
fn an_init_reaps() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let status = |script| run.output(&["--init", "sh", "-c", script]).status.code();
        assert_eq!(run.stdout(&["--init", "sh", "-c", "echo $$"]), "2\n");
        assert_eq!(status("exit 7"), Some(7));
        assert_eq!(status("kill -9 $$"), Some(137));
        assert_eq!(status("kill -TERM $$"), Some(143));
        // The kernel would reap the command, and no signal would tell PID 1.
        let ignoring = run.clone().under(&["env", "--ignore-signal=CHLD"]);
        let output = ignoring.output(&["--init", "sh", "-c", "sleep 0.1; exit 7"]);
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        // The orphan is gone from the list, and not a zombie.
        let orphan = "(sh -c 'echo $$ >/tmp/pid' &); until [ -s /tmp/pid ]; do :; done
            while [ -e /proc/$(cat /tmp/pid) ]; do :; done";
        assert_eq!(status(orphan), Some(0));
        assert_eq!(status("kill -40 $$"), Some(128 + 40)); // a real-time signal
        // Without an init this would not end: the kernel ignores SIGPIPE for process 1.
        let endless = run.clone().under(&["sh", "-c", "\"$@\" | head -n 1", "sh"]);
        let words = ["--init", "sh", "-c", "while :; do echo y; done"];
        assert_eq!(endless.stdout(&words), "y\n");
    }
}

/// The stage signals PID 1, and that signals the command; without a handler there it ends as outside.
#[test]
fn an_init_passes_signals_on() {
    for caller in callers() {
        for (trap, status) in [("trap 'exit 5' TERM; ", 5), ("", 143)] {
            let mark = support::mark();
            let script = format!("{trap}sleep {mark} & while :; do wait; done");
            let run = Run::new(STAGE, caller);
            let mut stage = run.alone(&["--init", "sh", "-c", &script]).spawn().unwrap();
            support::within_a_minute(|| !support::running(&mark).is_empty());
            kill(Pid::from_raw(stage.id().cast_signed()), Signal::SIGTERM).unwrap();
            assert_eq!(stage.wait().unwrap().code(), Some(status), "{caller:?}");
            support::within_a_minute(|| support::running(&mark).is_empty());
        }
    }
}

/// Ctrl-C reaches a shell with an init, and its jobs, once.
#[test]
fn an_init_at_a_terminal() {
    support::controls_jobs(STAGE, &callers(), &["--init"]);
}

#[test]
fn where_the_command_starts() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let words = ["--chdir", "/usr", "--env", "A=b=c", "--env", "HOME=/x"];
        let words = [&words[..], &["sh", "-c", "pwd; echo $A $HOME"]].concat();
        assert_eq!(run.stdout(&words), "/usr\nb=c /x\n");
        assert!(
            run.failure(1, &["--chdir", "/no", "true"])
                .contains("chdir(\"/no\"): ENOENT")
        );
        run.failure(1, &["--env", "=x", "true"]);
        for option in [
            "--overlay",
            "--init",
            "--chdir=/",
            "--env=A=b",
            "--bind=/usr",
        ] {
            let message = run.failure(1, &["--bare", option, "true"]);
            assert!(message.contains("cannot be used with"), "{message}");
        }
    }
}

#[test]
fn what_programs_expect() {
    let script = "cat /etc/hosts; cat /etc/hostname; grep -v '^#' /etc/resolv.conf; cd; pwd
        ls /sys/class/net; touch /sys/x 2>/dev/null || echo read-only; ls /sys/firmware | wc -l
        [ -w /dev/shm ] && [ -c /dev/ptmx ] && [ -L /dev/fd ] && echo dev";
    for caller in callers() {
        for root in [&[][..], &["--rootfs", busybox().to_str().unwrap()]] {
            let words = [root, &["--hostname", "spots", "sh", "-c", script]].concat();
            let seen = Run::new(STAGE, caller).stdout(&words);
            // An ordinary user cannot enter the /root of this root, which belongs to root outside.
            let home = match (caller, root.is_empty()) {
                (Caller::User, false) => "/",
                _ => "/root",
            };
            let expected = "127.0.0.1 localhost\n::1 localhost\n172.20.1.4 spots\nspots\nHOME\nlo\nveth1\nread-only\n0\ndev\n";
            assert_eq!(seen, expected.replace("HOME", home), "{caller:?} {root:?}");
        }
        let run = Run::new(STAGE, caller);
        let mut terminal = at_a_terminal(
            &run,
            &["--", "sh", "-c", "tty; echo $((40 + 2)) >/dev/console"],
        );
        for line in ["/dev/pts/0\r\n", "42\r\n"] {
            terminal.exp_string(line).unwrap();
        }
        let bare = Run::new(STAGE, caller).stdout(&["--bare", "ls", "/sys"]);
        assert_eq!(bare, "");
    }
}

#[test]
fn explains_what_happens() {
    let (root, bind) = (busybox().to_str().unwrap(), "/usr:/srv/usr:ro");
    let options = [
        "--overlay",
        "--rootfs",
        root,
        "--bind",
        bind,
        "--chdir",
        "/tmp",
    ];
    explain::shows_what_happens(STAGE, &callers(), &[&options]);
    if !with_accounts().is_empty() {
        let options = [&["--map", "auto"], &options[..]].concat();
        explain::shows_what_happens(STAGE, &[Caller::Root], &[&options]);
    }
}
