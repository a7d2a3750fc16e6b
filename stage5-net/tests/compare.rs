//! `scripts/compare.sh` with the reader's own work and with other programs, `scripts/start.sh`, and the bundle.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/mod.rs"]
mod support;

use nix::unistd::geteuid;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};
use support::{
    Caller, Run, USER, busybox, callers, lasting_directory, not_tried, open_directory, text,
};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where cargo puts programs.
fn built(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_stage5-net")).with_file_name(name)
}

fn cargo(arguments: &[&str], directory: &Path) {
    let target = built("..");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "--target-dir"]);
    cargo.arg(&target).args(arguments).current_dir(directory);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
}

/// Whether a program or file is installed; otherwise the test leaves it out.
fn has(program: &str) -> bool {
    let script = r#"command -v "$0" || [ -e "$0" ]"#;
    let found = Command::new("sh")
        .args(["-c", script, program])
        .output()
        .unwrap()
        .status
        .success();
    if !found {
        not_tried(&format!("{program} is not installed"));
    }
    found
}

/// The scripts, the stages and `oci_bundle` where every user can reach them.
fn installed() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = lasting_directory();
        cargo(
            &["--workspace", "--bins", "--example", "oci_bundle"],
            Path::new(REPOSITORY),
        );
        let scripts = Path::new(REPOSITORY).join("scripts");
        let copied = Command::new("cp")
            .arg("-r")
            .arg(scripts)
            .arg(&directory)
            .status();
        assert!(copied.unwrap().success());
        fs::create_dir_all(directory.join("bin/examples")).unwrap();
        for name in ["1-uts", "2-user", "3-pid", "4-mount", "5-net"] {
            let name = format!("stage{name}");
            fs::copy(built(&name), directory.join("bin").join(&name)).unwrap();
        }
        let bundler = "examples/oci_bundle";
        fs::copy(built(bundler), directory.join("bin").join(bundler)).unwrap();
        directory
    })
}

/// Runs a script on a host of its own: `$COMPARE` is compare.sh, `$ROOTFS` a root.
fn on_a_host(caller: Caller, script: &str) -> Output {
    let here = installed();
    let mut command = Run::new("sh", caller).command(&["-euc", script]);
    command
        .env("STAGE_BIN_DIR", here.join("bin"))
        .env("ROOTFS", busybox());
    command
        .env("COMPARE", here.join("scripts/compare.sh"))
        .output()
        .unwrap()
}

/// The lines of the slide in a state, such as "done".
fn lines(output: &str, state: &str) -> Vec<String> {
    let lines = output
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix(state));
    lines
        .filter_map(|line| line.strip_prefix("  "))
        .map(|line| line.trim().into())
        .collect()
}

/// A shell of the reader's: `by_hand UNSHARE...` starts it, `type LINE` types a line and waits until it is done,
/// `compare ...` looks at it in a second terminal, `leave` leaves it.
const BY_HAND: &str = r#"
dir=$(mktemp -d)
mkfifo "$dir/in" "$dir/out"
by_hand() { PATH=$PATH:/usr/sbin:/sbin "$@" /bin/sh <"$dir/in" >"$dir/out" & pid=$!; exec 8>"$dir/in" 9<"$dir/out"; }
type() { printf '%s\necho typed\n' "$1" >&8; read -r _ <&9; }
compare() { status=0; "$COMPARE" --rootfs "$ROOTFS" "$1" --pid "${2-$pid}" || status=$?; echo "status $status"; }
leave() { exec 8>&- 9<&-; wait; rm -r "$dir"; }
"#;

#[test]
fn a_shell_by_hand_of_stage_1() {
    let script = "by_hand unshare -u; type :; compare 1; type 'hostname leopard'; compare 1; leave";
    for caller in callers()
        .into_iter()
        .filter(|caller| *caller == Caller::Root)
    {
        let seen = text(&on_a_host(caller, &format!("{BY_HAND}{script}")).stdout);
        let (before, after) = seen.split_once("status 1\n").unwrap();
        assert_eq!(lines(before, "done"), ["unshare -u /bin/sh"], "{seen}");
        assert_eq!(lines(before, "next"), ["hostname leopard"], "{seen}");
        let row = before.lines().find(|line| line.starts_with("hostname "));
        assert!(
            row.unwrap()
                .ends_with("leopard                         not done yet: hostname leopard")
        );
        assert!(before.ends_with(", 1 different\n"), "{seen}");
        assert!(after.contains(" 0 different\nstatus 0\n"), "{seen}");
        assert_eq!(
            lines(after, "done"),
            ["unshare -u /bin/sh", "hostname leopard"]
        );
    }
}

#[test]
fn a_shell_by_hand_of_stage_4() {
    // The process id of the slide is that of unshare. The process id of the shell gives the same.
    let script = r#"
        cd /tmp
        by_hand unshare -uUrpfm --mount-proc
        type 'hostname leopard'
        compare 4
        type "mount --make-rprivate /; mount --rbind $ROOTFS $ROOTFS; mount -t proc proc $ROOTFS/proc"
        type "pivot_root $ROOTFS $ROOTFS/.old_root"
        read -r shell <"/proc/$pid/task/$pid/children" || :
        compare 4 $shell
        type 'cd /; mount -t tmpfs tmpfs /tmp; echo leopard > /tmp/leopard.txt'
        type 'mount --make-rprivate /.old_root; umount -l /.old_root'
        compare 4
        leave"#;
    for caller in callers() {
        let output = on_a_host(caller, &format!("{BY_HAND}{script}"));
        let seen = text(&output.stdout);
        let parts = seen.split("\nstatus ").collect::<Vec<_>>();
        assert_eq!(parts.len(), 4, "{output:?}");
        let all = [
            "unshare -uUrpfm --mount-proc /bin/sh",
            "hostname leopard",
            "mount --make-rprivate /",
        ];
        assert_eq!(
            lines(parts[0], "done"),
            all,
            "unshare makes / private: {seen}"
        );
        assert_eq!(
            lines(parts[0], "next"),
            ["mount --rbind rootfs/ rootfs/"],
            "{seen}"
        );
        assert_eq!(lines(parts[0], "not yet").len(), 7, "{seen}");
        assert!(
            parts[0]
                .contains("(none)                          not done yet: umount -l /.old_root\n")
        );
        assert_eq!(lines(parts[1], "next"), ["cd /"], "{seen}");
        let open = [
            "mount -t tmpfs tmpfs /tmp",
            "echo leopard > /tmp/leopard.txt",
            "umount -l /.old_root",
        ];
        assert_eq!(lines(parts[1], "not yet"), open, "{seen}");
        assert!(parts[2].starts_with("1\n") && parts[3] == "0\n", "{seen}");
        assert!(parts[2].ends_with(" 2 explained, 0 different"), "{seen}");
        assert_eq!(lines(parts[2], "done").len(), 11, "{seen}");
    }
}

/// Up to the slide's last line about links, and no further: its pings get no answer.
#[test]
fn a_shell_by_hand_of_stage_5() {
    // The host's terminal, in which the namespace's terminal is started: `inside` types there. An ordinary user
    // needs a network that simulates the host's.
    let script = r#"
        by_hand $host
        type "mkfifo $dir/ns; unshare -uUrpfmn --mount-proc /bin/sh <$dir/ns & exec 7>$dir/ns"
        echo 'echo $!' >&8; read -r pid <&9
        inside() { echo "echo '$1; echo typed' >&7" >&8; read -r _ <&9; }
        inside 'hostname leopard; ip link set dev lo up'
        type 'ip link add br0 type bridge; ip addr add 172.20.1.2/24 dev br0'
        compare 5
        type "ip link set br0 up; ip link add veth0 type veth peer name veth1; ip link set veth1 netns $pid"
        type 'ip addr add 172.20.1.3/24 dev veth0; ip link set veth0 up'
        inside 'ip addr add 172.20.1.4/24 dev veth1; ip link set veth1 up'
        compare 5
        type 'ip link del br0; ip link del veth0'
        leave"#;
    for caller in callers() {
        let host = match caller {
            Caller::Root => "env",
            Caller::User => "unshare --map-current-user --keep-caps -Un",
        };
        let output = on_a_host(caller, &format!("host='{host}'\n{BY_HAND}{script}"));
        let seen = text(&output.stdout);
        let parts = seen.split("\nstatus 1\n").collect::<Vec<_>>();
        assert_eq!(parts.len(), 3, "{output:?}");
        let done = [
            "ip link set dev lo up",
            "brctl addbr br0",
            "ip addr add 172.20.1.2/24 dev br0",
        ];
        assert_eq!(lines(parts[0], "done")[2..5], done, "{seen}");
        assert_eq!(lines(parts[0], "next"), ["ip link set br0 up"], "{seen}");
        let next = "ip link set veth0 master br0 (not on the slide)";
        assert_eq!(lines(parts[1], "next"), [next], "{seen}");
        let pings = parts[1].lines().filter(|line| line.starts_with("ping "));
        let pings = pings.filter(|line| line.ends_with(&format!("not done yet: {next}")));
        assert_eq!(pings.count(), 2, "{seen}");
        assert_eq!(
            lines(parts[1], "not yet")[0],
            "mount --rbind rootfs/ rootfs/",
            "{seen}"
        );
    }
}

/// It executes itself again with CLONE, as the talk's Go program does, and takes no command. It forgets that
/// the old root is still there.
#[test]
fn a_program_like_the_one_in_go() {
    const PROGRAM: &str = r#"#!/bin/sh
        set -eu
        PATH=$PATH:/usr/sbin:/sbin
        if [ "${1-}" != CLONE ]; then exec unshare -uUrpfm "$0" CLONE; fi
        hostname leopard
        mount --make-rprivate /
        mount --rbind "$ROOTFS" "$ROOTFS"
        cd "$ROOTFS"
        pivot_root . .old_root
        cd /
        mount -t tmpfs tmpfs /tmp
        mount -t proc proc /proc
        echo leopard >/tmp/leopard.txt
        exec /bin/sh"#;
    let directory = open_directory();
    let program = directory.path().join("like-go");
    fs::write(&program, PROGRAM).unwrap();
    Command::new("chmod")
        .arg("755")
        .arg(&program)
        .status()
        .unwrap();
    let check = format!(
        r#""$COMPARE" --rootfs "$ROOTFS" 4 --program {}"#,
        program.display()
    );
    for caller in callers() {
        let output = on_a_host(caller, &check);
        let seen = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(lines(&seen, "missing"), ["umount -l /.old_root"], "{seen}");
        assert_eq!(lines(&seen, "done").len(), 10, "{seen}");
        assert!(
            seen.contains("(none)                          not done yet: umount -l /.old_root\n"),
            "{seen}"
        );
        assert!(seen.ends_with(", 1 different\n"), "{seen}");

        // Without the mistake.
        let right = PROGRAM.replace("exec /bin/sh", "umount -l /.old_root; exec /bin/sh");
        let right = format!(
            "cat >right <<'END'\n{right}\nEND\nchmod +x right; \"$COMPARE\" --rootfs \"$ROOTFS\" 4 --program ./right"
        );
        let output = on_a_host(
            caller,
            &format!("cd \"$(mktemp -d)\"\n{right}\nrm right; rmdir \"$PWD\""),
        );
        assert!(text(&output.stdout).contains(" 0 different"), "{output:?}");
    }
}

/// The system call of each `todo!()`, in the order of the file.
const MAP: &str = r#"{
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let write = |name: &str, text: String| std::fs::write(format!("/proc/{child}/{name}"), text);
    write("uid_map", format!("0 {uid} 1"))?;
    write("setgroups", "deny".into())?;
    write("gid_map", format!("0 {gid} 1"))?
}"#;
const HOSTNAME: &str = r#"nix::unistd::sethostname("leopard")?"#;
const UP_TO_STAGE_3: &str = "CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS";
const PRIVATE: &str = r#"mount("/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?"#;
const ROOT: [&str; 9] = [
    PRIVATE,
    "mount(&rootfs(), Some(&rootfs()), MsFlags::MS_BIND | MsFlags::MS_REC)?",
    r#"mount_new(&(rootfs() + "/proc"), "proc")?"#,
    r#"nix::unistd::pivot_root(&*rootfs(), &*(rootfs() + "/.old_root"))?"#,
    r#"nix::unistd::chdir("/")?"#,
    r#"mount_new("/tmp", "tmpfs")?"#,
    r#"std::fs::write("/tmp/leopard.txt", "leopard\n")?"#,
    r#"mount("/.old_root", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?"#,
    r#"nix::mount::umount2("/.old_root", nix::mount::MntFlags::MNT_DETACH)?"#,
];
const MOUNTS: &str = r#"
use nix::mount::MsFlags;
fn mount(target: &str, source: Option<&str>, flags: MsFlags) -> Result {
    Ok(nix::mount::mount(source, target, None::<&str>, flags, None::<&str>)?)
}
fn mount_new(target: &str, kind: &str) -> Result {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let flags = if kind == "proc" { flags } else { MsFlags::empty() };
    Ok(nix::mount::mount(Some(kind), target, Some(kind), flags, None::<&str>)?)
}
"#;

fn solution(stage: usize) -> Vec<String> {
    let own = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_string())
            .collect::<Vec<_>>()
    };
    match stage {
        1 => own(&["CloneFlags::CLONE_NEWUTS", HOSTNAME]),
        2 => own(&[
            "CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWUSER",
            MAP,
            HOSTNAME,
        ]),
        3 => own(&[
            UP_TO_STAGE_3,
            MAP,
            HOSTNAME,
            PRIVATE,
            r#"mount_new("/proc", "proc")?"#,
        ]),
        4 => [own(&[UP_TO_STAGE_3, MAP, HOSTNAME]), own(&ROOT)].concat(),
        _ => {
            let namespaces = format!("{UP_TO_STAGE_3} | CloneFlags::CLONE_NEWNET");
            let line = |line: &str| format!("shell(&format!(\"{line}\"))?");
            let host = [
                "ip link add br0 type bridge",
                "ip addr add 172.20.1.2/24 dev br0",
                "ip link set br0 up",
                "ip link add veth0 type veth peer name veth1",
                "ip link set veth1 netns {child}",
                "ip addr add 172.20.1.3/24 dev veth0",
                "ip link set veth0 master br0",
                "ip link set veth0 up",
            ];
            let inside = [
                "ip link set dev lo up",
                "ip addr add 172.20.1.4/24 dev veth1",
                "ip link set veth1 up",
            ];
            let mut all = vec![
                namespaces,
                r#"shell("ip link del br0").unwrap()"#.into(),
                MAP.into(),
            ];
            all.extend(host.map(line));
            all.push(HOSTNAME.into());
            all.extend(inside.map(line));
            all.extend(ROOT.map(String::from));
            all
        }
    }
}

/// Puts a solution in the place of each `todo!(...)`.
fn solve(source: &str, solution: &[String]) -> String {
    let mut parts = source.split("todo!(");
    let mut solved = parts.next().unwrap().to_string();
    // The attribute's reason speaks of a todo!(), too.
    solved += &format!("todo!({}", parts.next().unwrap());
    let mut steps = solution.iter();
    for part in parts {
        let (_, rest) = part.split_once(");\n").unwrap();
        solved += &format!("{};\n{rest}", steps.next().unwrap());
    }
    assert_eq!(steps.len(), 0);
    solved + MOUNTS
}

#[test]
fn the_reader_writes_the_stages() {
    let directory = open_directory();
    let project = directory.path().join("mine");
    let start = Path::new(REPOSITORY).join("scripts/start.sh");
    let created = Command::new(&start).arg(&project).output().unwrap();
    assert!(created.status.success(), "{created:?}");
    let said = text(&created.stdout);
    assert!(
        said.contains("the first check must fail, since no line is done"),
        "{said}"
    );
    let again = Command::new(&start).arg(&project).output().unwrap();
    assert!(!again.status.success() && text(&again.stderr).contains("exists already"));

    let check = |caller: Caller, stage: usize| {
        let programs = directory.path();
        let words = format!(
            r#""$COMPARE" --rootfs "$ROOTFS" {stage} --program {}/stage{stage}"#,
            programs.display()
        );
        on_a_host(caller, &words)
    };
    let build = || {
        cargo(&[], &project);
        for stage in 1..=5 {
            let name = format!("stage{stage}");
            fs::copy(built(&name), directory.path().join(&name)).unwrap();
            fs::remove_file(built(&name)).unwrap();
        }
    };
    build();
    let red = check(Caller::User, 2);
    assert_eq!(red.status.code(), Some(1), "{red:?}");
    let seen = text(&red.stdout);
    assert_eq!(
        lines(&seen, "missing"),
        ["unshare -uUr /bin/sh", "hostname leopard"],
        "{seen}"
    );
    assert!(seen.contains("not yet implemented"), "{seen}");

    for stage in 1..=5 {
        let main = project.join(format!("src/bin/stage{stage}/main.rs"));
        let source = fs::read_to_string(&main).unwrap();
        fs::write(&main, solve(&source, &solution(stage))).unwrap();
    }
    build();
    for caller in callers() {
        for stage in 1..=5 {
            if (caller, stage) == (Caller::User, 1) {
                continue; // it needs root
            }
            let green = check(caller, stage);
            let seen = text(&green.stdout);
            assert!(
                green.status.success() && seen.ends_with(" 0 different\n"),
                "{caller:?}: {green:?}"
            );
            assert_eq!(lines(&seen, "missing").len(), 0, "{seen}");
        }
    }
}

#[test]
fn the_same_container_elsewhere() {
    for caller in callers() {
        for runtime in ["runc", "crun", "bwrap"]
            .into_iter()
            .filter(|name| has(name))
        {
            let output = on_a_host(
                caller,
                &format!(r#""$COMPARE" --rootfs "$ROOTFS" --with {runtime}"#),
            );
            let seen = text(&output.stdout);
            assert!(
                output.status.success() && seen.ends_with(" 0 different\n"),
                "{runtime}, {caller:?}: {output:?}"
            );
            let is_same = |row: &str| {
                let found = seen
                    .lines()
                    .find(|line| line.starts_with(&format!("{row} ")));
                found.is_some_and(|line| line.ends_with("same"))
            };
            let mut rows = vec![
                "hostname",
                "new namespaces",
                "NoNewPrivs",
                "processes",
                "mount /dev",
                "address lo",
            ];
            let of_the_bundle = [
                "CapPrm",
                "CapEff",
                "CapBnd",
                "Seccomp",
                "mount /tmp",
                "mount /proc",
                "address veth1",
                "ping 172.20.1.2",
            ];
            match runtime {
                "bwrap" => rows.retain(|row| *row != "processes"),
                _ => rows.extend(of_the_bundle),
            }
            for row in rows {
                assert!(is_same(row), "{row}: {seen}");
            }
        }
    }
    // A row that differs without a reason is seen.
    if !has("runc") {
        return;
    }
    let script = r#"
        cp -r "${COMPARE%/*}" "$dir/scripts"
        sed -i '/only an ordinary user needs/d; /field for a file/d' "$dir/scripts/compare/reasons"
        "$dir/scripts/compare.sh" --rootfs "$ROOTFS" --with runc || echo "status $?"
        rm -r "$dir""#;
    let output = on_a_host(callers()[0], &format!("dir=$(mktemp -d)\n{script}"));
    let seen = text(&output.stdout);
    assert!(seen.ends_with(" different\nstatus 1\n"), "{output:?}");
    assert!(!seen.contains(" 0 different"), "{seen}");
}

/// On both runtimes the filter and the hidden parts of /proc do what they do in stage 5.
#[test]
fn the_bundle() {
    let schema = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema";
    let directory = open_directory();
    let bundle = directory.path().join("bundle");
    let mut write = Command::new(installed().join("bin/examples/oci_bundle"));
    write
        .arg("--rootfs")
        .arg(busybox())
        .args(["--hostname", "ounce", "--cap-add", "SYS_ADMIN"])
        .args(["--container-addr", "172.20.1.77/24"])
        .args(["--memory", "64M", "--pids", "32", "--cpus", "0.5"]);
    let written = write.arg(&bundle).args(["echo", "x"]).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    let mut validate = Command::new("jsonschema");
    validate.arg("-i").arg(bundle.join("config.json"));
    validate
        .arg("--base-uri")
        .arg(format!("file://{schema}/"))
        .arg(format!("{schema}/config-schema.json"));
    if has("jsonschema") && has(&format!("{schema}/config-schema.json")) {
        let valid = validate.output().unwrap();
        assert!(valid.status.success(), "{valid:?}");
    }

    let config = fs::read_to_string(bundle.join("config.json")).unwrap();
    let config = serde_json::from_str::<Value>(&config).unwrap();
    assert_eq!(config["hostname"], "ounce");
    let hooks = config["hooks"].to_string();
    let is_root = geteuid().is_root(); // only root can change the host's network
    assert_eq!(
        hooks.contains("inside addr add 172.20.1.77/24 dev veth1"),
        is_root
    );
    let bounding = config["process"]["capabilities"]["bounding"]
        .as_array()
        .unwrap();
    assert!(
        bounding.len() == 15 && bounding.contains(&"CAP_SYS_ADMIN".into()),
        "{bounding:?}"
    );
    let limits = r#"{"cpu":{"period":100000,"quota":50000},"memory":{"limit":67108864,"swap":67108864},"pids":{"limit":32}}"#;
    assert_eq!(config["linux"]["resources"].to_string(), limits);
    let calls = config["linux"]["seccomp"]["syscalls"].as_array().unwrap();
    assert!(
        calls.iter().all(|call| call["names"] != "unshare"),
        "SYS_ADMIN opens it: {calls:?}"
    );

    let script = r#"unshare -U true; mount -t tmpfs x /tmp; cat /proc/timer_list; echo x >/proc/sys/kernel/hostname"#;
    for caller in callers() {
        for runtime in ["runc", "crun"].into_iter().filter(|name| has(name)) {
            let other = r#"dir=$(mktemp -d); "${COMPARE%/*}/compare/other.sh""#;
            let words = r#""$ROOTFS" "$dir" "$STAGE_BIN_DIR/examples/oci_bundle" sh -c"#;
            let output = on_a_host(
                caller,
                &format!("{other} {runtime} {words} '{script}' || :; rm -r \"$dir\""),
            );
            let seen = text(&output.stderr);
            for part in [
                "unshare(0x10000000): Operation not permitted",
                "mount: permission denied",
                "Read-only file system",
            ] {
                assert!(seen.contains(part), "{runtime}, {caller:?}: {output:?}");
            }
            assert!(output.stdout.is_empty(), "{output:?}");
        }
    }
}

/// An ordinary user's range. As root the root's files would belong to nobody, and a bundle cannot change that.
#[test]
fn a_bundle_with_a_range() {
    let range = "mount -t tmpfs -o mode=755 tmpfs /run; printf '65533:400000:65536\n' >/run/range
        for name in subuid subgid; do mount --bind /run/range /etc/$name; done";
    if !geteuid().is_root() {
        return not_tried("a bundle with a range: it needs root, to change /etc/subuid");
    }
    for caller in callers() {
        let script = r#"dir=$(mktemp -d); "$STAGE_BIN_DIR/examples/oci_bundle" --map auto --rootfs "$ROOTFS" "$dir" && cat "$dir/config.json"; rm -r "$dir""#;
        let run = Run::new("sh", caller).prepare(range);
        let mut command = run.command(&["-euc", script]);
        command.env("STAGE_BIN_DIR", installed().join("bin"));
        let output = command.env("ROOTFS", busybox()).output().unwrap();
        if caller == Caller::Root {
            let said = text(&output.stderr);
            assert!(said.contains("oci_bundle: --map auto: "), "{output:?}");
            continue;
        }
        let config = serde_json::from_str::<Value>(&text(&output.stdout)).unwrap();
        let map = config["linux"]["uidMappings"].to_string();
        let line = |inside, outside, size| json!({ "containerID": inside, "hostID": outside, "size": size });
        assert_eq!(
            map,
            json!([line(0, USER, 1), line(1, 400_000, 65_536)]).to_string()
        );
    }
}
