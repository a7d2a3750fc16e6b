//! Stage 5: the full container. The host of every test has a network of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use support::{Caller, Run, busybox, callers, has};

const STAGE: &str = env!("CARGO_BIN_EXE_stage5-net");

#[test]
fn the_line_of_the_readme() {
    let script = "hostname; id -u; echo $$; ls /; cat /tmp/leopard.txt; ping -c1 172.20.1.2; ping -c1 172.20.1.3";
    let rootfs = ["--rootfs", busybox().to_str().unwrap()];
    for caller in callers() {
        for options in [&[][..], &rootfs, &["--bare"], &["--net", "private"]] {
            let seen =
                Run::new(STAGE, caller).stdout(&[options, &["--", "sh", "-c", script]].concat());
            assert!(seen.starts_with("leopard\n0\n1\nbin\n"), "{seen}");
            assert!(seen.contains("\nleopard\nPING 172.20.1.2"), "{seen}");
            assert_eq!(
                seen.matches("1 received, 0% packet loss").count()
                    + seen.matches("1 packets received").count(),
                2,
                "{seen}"
            );
        }
    }
}

#[test]
fn the_links_of_the_talk() {
    for caller in callers() {
        let inside = Run::new(STAGE, caller).stdout(&["ip", "-o", "address"]);
        for part in ["1: lo    inet 127.0.0.1/8 ", "veth1    inet 172.20.1.4/24 "] {
            assert!(inside.contains(part), "{inside}");
        }
        let script = "for i in 0 1 2 3 4 5 6 7 8 9; do ip -o link; done | tail -n 2";
        let links = Run::new(STAGE, caller).stdout(&["sh", "-c", script]);
        assert!(
            links.lines().count() == 2 && links.contains(" veth1@") && links.contains(" state UP "),
            "{links}"
        );
    }
}

/// While the container runs the host has the bridge with `--net host`; with `--net private` it has none.
#[test]
fn the_host_side() {
    for caller in callers() {
        for (net, seen) in [("host", true), ("private", false)] {
            if seen && caller == Caller::User {
                continue;
            }
            // The command itself says when it runs, and waits for the look.
            let watch =
                "cd \"$(mktemp -d)\"; mkfifo up go; \"$@\" <go >up & exec 3>go; read -r _ <up
                ip -o -d link; ip -o address; exec 3>&-; wait; rm -r \"$PWD\"";
            let run = Run::new(STAGE, caller).under(&["sh", "-c", watch, "sh"]);
            let host = run.stdout(&["--net", net, "--", "sh", "-c", "echo up; cat"]);
            assert_eq!(host.contains("br0    inet 172.20.1.2/24 "), seen, "{host}");
            assert_eq!(
                host.contains("veth0    inet 172.20.1.3/24 "),
                seen,
                "{host}"
            );
            let veth0 = host.lines().find(|line| line.contains(" veth0@"));
            assert_eq!(
                veth0.is_some_and(|line| line.contains(" master br0 ")),
                seen,
                "{host}"
            );
            assert_eq!(host.contains("alias 172.20.1.4 172.20.1.3"), seen, "{host}");
        }
    }
}

#[test]
fn namespaces_of_the_options() {
    let differ = |options: &[&str], caller| {
        let script = "readlink /proc/self/ns/*; exec \"$@\"";
        let run = Run::new(STAGE, caller).under(&["sh", "-c", script, "sh"]);
        let both = run.stdout(&[options, &["sh", "-c", "readlink /proc/self/ns/*"]].concat());
        let lines = both.lines().collect::<Vec<_>>();
        let (outside, inside) = lines.split_at(lines.len() / 2);
        let new = outside
            .iter()
            .zip(inside)
            .filter(|(outside, inside)| outside != inside);
        new.map(|(name, _)| name.split(':').next().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    };
    for caller in callers() {
        assert_eq!(differ(&["--bare"], caller), "mnt net pid pid user uts");
        assert_eq!(
            differ(&["--bare", "--ipc"], caller),
            "ipc mnt net pid pid user uts"
        );
        assert_eq!(
            differ(&["--bare", "-C"], caller),
            "cgroup mnt net pid pid user uts"
        );
        assert_eq!(differ(&[], caller), "cgroup ipc mnt net pid pid user uts");
    }
}

#[test]
fn other_addresses() {
    let addresses = "--bridge bridge7 --bridge-addr 172.20.1.129/25 --host-addr 172.20.1.130/25 \
        --container-addr 172.20.1.254/25 sh -c";
    let script = "ip -o -4 address show veth1; ping -c1 172.20.1.129; ping -c1 172.20.1.130";
    let words = addresses.split_whitespace().chain([script]);
    let words = words.collect::<Vec<_>>();
    for caller in callers() {
        let seen = Run::new(STAGE, caller).stdout(&words);
        assert!(seen.contains("172.20.1.254/25"), "{seen}");
    }
}

#[test]
fn addresses_that_cannot_be() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let failure = |arguments: &[&str]| run.failure(1, &[arguments, &["true"]].concat());
        assert!(failure(&["--host-addr", "172.20.2.3/24"]).contains(
            "--host-addr 172.20.2.3/24 is not in the subnet of --bridge-addr 172.20.1.2/24"
        ));
        assert!(failure(&["--container-addr", "172.20.1.4/25"]).contains("is not in the subnet"));
        assert!(failure(&["--container-addr", "172.20.1.3/24"]).contains("must differ"));
        assert!(
            failure(&[
                "--bridge-addr",
                "172.20.1.4/24",
                "--container-addr",
                "172.20.1.4/24"
            ])
            .contains("must differ")
        );
        let words = "leopard,172.20.1.2,172.20.1.2/,172.20.1/24,172.20.1.256/24,::1/64,172.20.1.2/33,172.20.1.2/-1,";
        for word in words.split(',') {
            assert!(
                failure(&["--bridge-addr", word]).contains("'--bridge-addr <CIDR>'"),
                "{word}"
            );
        }
        assert!(failure(&["--bridge-addr", "172.20.1.2/31"]).contains("no room for three"));
        assert!(failure(&["--bridge-addr", "172.20.1.0/24"]).contains("first and the last"));
        assert!(failure(&["--bridge-addr", "172.20.1.255/24"]).contains("first and the last"));
        for special in ["127.0.0.2/24", "224.0.0.2/24", "0.0.1.2/24"] {
            assert!(
                failure(&["--bridge-addr", special]).contains("not an address for a machine"),
                "{special}"
            );
        }
        for name in ",a-name-of-16-byte,a/b,a b,a\"b,a*,..,v%d,all,default".split(',') {
            assert!(
                failure(&["--bridge", name]).contains("'--bridge <NAME>'"),
                "{name}"
            );
        }
    }
}

fn roots() -> impl Iterator<Item = Caller> {
    callers()
        .into_iter()
        .filter(|&caller| caller == Caller::Root)
}

#[test]
fn what_is_there_already_stays() {
    for caller in roots() {
        // The test's host compares its links before and after; the addresses are looked at here.
        let show = ["sh", "-c", "\"$@\" >&2; ip -o -4 address show", "sh"];
        for kind in ["bridge", "veth"] {
            let prepare =
                format!("ip link add br0 type {kind}; ip address add 172.20.9.9/24 dev br0");
            let run = Run::new(STAGE, caller).prepare(&prepare);
            let message = run.failure(1, &["true"]);
            has(
                &message,
                &[
                    "IFLA_IFNAME=\"br0\", ",
                    "): EEXIST: File exists\nhint: a link br0 exists",
                    "--bridge",
                ],
            );
            let kept = run.clone().under(&show).stdout(&["true"]);
            assert!(kept.contains("br0    inet 172.20.9.9/24"), "{kept}");
            assert_eq!(run.stdout(&["--bridge", "br7", "hostname"]), "leopard\n");
        }
        let bridge = ["--bridge", "veth0", "hostname"];
        assert_eq!(Run::new(STAGE, caller).stdout(&bridge), "leopard\n");
        // The next free name for the pair, which is not that of the end inside.
        let veth0 =
            "ip link add veth0 type veth peer name other; ip address add 172.20.9.9/24 dev veth0";
        let run = Run::new(STAGE, caller).prepare(veth0);
        let kept = run
            .under(&show)
            .stdout(&["ip", "-o", "link", "show", "veth1"]);
        assert!(kept.contains("veth0    inet 172.20.9.9/24"), "{kept}");
    }
}

/// Another link with the subnet, or a route to it, would lose its traffic to the bridge.
#[test]
fn a_subnet_that_is_in_use() {
    for caller in roots() {
        let lan = "ip link add lan type bridge; ip link set lan up; ip address add";
        let cases = [
            (
                "172.20.1.77/24 dev lan",
                "the link lan has the address 172.20.1.77/24",
            ),
            (
                "172.20.0.1/16 dev lan",
                "the link lan has the address 172.20.0.1/16",
            ),
            (
                "172.20.1.4/30 dev lan",
                "the link lan has the address 172.20.1.4/30",
            ),
            (
                "10.8.0.2/24 dev lan; ip route add 172.20.0.0/16 via 10.8.0.1",
                "the link lan has a route to 172.20.0.0/16",
            ),
        ];
        for (prepare, hint) in cases {
            let run = Run::new(STAGE, caller).prepare(&format!("{lan} {prepare}"));
            let message = run.failure(1, &["true"]);
            has(
                &message,
                &["--bridge-addr 172.20.1.2/24: EADDRINUSE: ", hint],
            );
            assert_eq!(
                run.stdout(&["--bridge-addr", "172.21.1.2/24", "hostname"]),
                "leopard\n"
            );
        }
        // Of a default route nothing is taken over, nor of the two halves that a VPN adds.
        for routes in ["default", "0.0.0.0/1 dev lan; ip route add 128.0.0.0/1"] {
            let routes = format!("{lan} 10.8.0.2/24 dev lan; ip route add {routes} dev lan");
            let run = Run::new(STAGE, caller).prepare(&routes);
            assert_eq!(run.stdout(&["hostname"]), "leopard\n");
        }
    }
}

/// The bridge of another container with the same subnet.
#[test]
fn a_subnet_that_another_bridge_has() {
    let script = r#"cd "$(mktemp -d)"; mkfifo up go; "$@" sh -c 'echo up; cat' <go >up & exec 3>go; read -r _ <up
        "$@" --bridge br1 true; echo $?; exec 3>&-; wait; rm -r "$PWD""#;
    for caller in roots() {
        let run = Run::new(STAGE, caller).under(&["sh", "-c", script, "sh"]);
        let output = run.output(&[]);
        let said = support::text(&output.stderr);
        assert_eq!(support::text(&output.stdout), "1\n");
        has(&said, &["EADDRINUSE: ", "the bridge of another stage, br0"]);
        assert!(said.contains("--bridge-addr"), "{said}");
    }
}

/// A stage that was killed together with its janitor leaves a bridge, in a stage's group.
#[test]
fn what_a_killed_run_left_is_adopted_and_removed() {
    for caller in roots() {
        let leftover = "ip link add br0 group 1275068416 type bridge";
        let removed = [
            "sh",
            "-c",
            "\"$@\" && ! ip link show br0 2>/dev/null && ip link add br0 type bridge",
            "sh",
        ];
        let run = Run::new(STAGE, caller).prepare(leftover).under(&removed);
        // (The bridge of the last word is there for the test's host, which compares names.)
        assert!(
            run.stdout(&["ping", "-c1", "172.20.1.2"])
                .contains(" 0% packet loss")
        );
    }
}

/// The shell commands by which a container says that it runs, and waits: `up N` starts it and waits, `down`
/// ends all.
const MANY: &str = r#"cd "$(mktemp -d)"; mkfifo go; exec 3<>go; i=0
    up() { i=$((i + 1)); mkfifo up$i; "$@" 3>&- <go >up$i & read -r said <up$i; echo "$said"; }
    down() { exec 3>&-; for n in $(seq $i); do echo >go; done; wait; rm -r "$PWD"; }"#;

#[test]
fn many_share_the_bridge() {
    let script = format!(
        r#"{MANY}
        up "$@" sh -c 'echo $(ip -o -4 address show veth1); read -r _'
        up "$@" sh -c 'echo $(ip -o -4 address show veth1; ping -c1 172.20.1.4; ping -c1 172.20.1.2; ping -c1 172.20.1.3); read -r _'
        "$@" --container-addr 172.20.1.77/24 sh -c 'ip -o -4 address show veth1; ping -c1 172.20.1.5'
        ! "$@" --container-addr 172.20.1.5/24 true
        ! "$@" --host-addr 172.20.1.4/24 true
        ip -o link show master br0 | sed 's/^[0-9]*: //; s/@.*//'
        down"#
    );
    for caller in roots() {
        let output = Run::new(STAGE, caller)
            // The alias of a link that is no stage's takes no address.
            .prepare("ip link add other type bridge; ip link set other alias 172.20.1.4")
            .under(&["bash", "-c", &script, "sh"])
            .output(&[]);
        let (seen, said) = (support::text(&output.stdout), support::text(&output.stderr));
        for address in ["172.20.1.4/24", "172.20.1.5/24", "172.20.1.77/24"] {
            assert!(seen.contains(address), "{seen}{said}");
        }
        assert_eq!(seen.matches(" 0% packet loss").count(), 4, "{seen}{said}");
        let refused = "EADDRINUSE: Address already in use\nhint: another container";
        assert_eq!(said.matches(refused).count(), 2, "{said}");
        // The refused ones have left nothing; no host's end has the name of the end inside.
        assert!(seen.ends_with("veth0\nveth2\n"), "{seen}");
    }
}

#[test]
fn a_full_subnet() {
    // A /29 has room for six: the bridge, veth0, and four containers.
    let script = format!(
        r#"{MANY}
        for n in 1 2 3 4; do up "$@" sh -c 'echo $(ip -o -4 address show veth1); read -r _'; done
        "$@" true; echo status $?
        down"#
    );
    for caller in roots() {
        let run = Run::new(STAGE, caller).under(&["bash", "-c", &script, "sh"]);
        let output = run.output(&["--bridge-addr", "172.20.1.5/29"]);
        let (seen, said) = (support::text(&output.stdout), support::text(&output.stderr));
        // The host's end is next to the bridge, .6; from there in a circle.
        for address in ["1/29", "2/29", "3/29", "4/29"] {
            assert!(
                seen.contains(&format!("172.20.1.{address}")),
                "{seen}{said}"
            );
        }
        assert!(
            seen.contains("status 1") && said.contains("the subnet 172.20.1.0/29 is full"),
            "{seen}{said}"
        );
        assert!(said.contains("--bridge-addr"), "{said}");
    }
}

/// The lock of the host's network: a stage waits for it, and names its holder after ten seconds.
#[test]
fn a_stage_waits_for_the_network() {
    let script = r#"flock /proc/self/ns/net sh -c 'sleep 1; echo first' & until grep -q FLOCK /proc/locks; do sleep 0.05; done
        "$@" echo second; wait
        others() { for kind; do flock /proc/self/ns/$kind sleep 30 & done; } # locks before and after the one that counts
        wait_for() { until [ $(grep -c FLOCK /proc/locks) = $1 ]; do sleep 0.05; done; }
        others ipc user; wait_for 2; flock /proc/self/ns/net sleep 30 & holder=$!; wait_for 3; others cgroup mnt pid uts; wait_for 7
        "$@" echo third; echo $?; echo "holder: process $holder" >&2; pkill -P $$,$holder; wait"#;
    for caller in roots() {
        let output = Run::new(STAGE, caller)
            .under(&["sh", "-c", script, "sh"])
            .output(&[]);
        let (seen, said) = (support::text(&output.stdout), support::text(&output.stderr));
        assert_eq!(seen, "first\nsecond\n1\n", "{said}");
        let holder = said.lines().find_map(|line| line.strip_prefix("holder: "));
        has(
            &said,
            &["ETIMEDOUT: ", &format!("hint: {} ", holder.unwrap())],
        );
        assert!(
            said.contains("(flock, user 0)") || said.contains("(sleep, user 0)"),
            "{said}"
        );
    }
}

/// Looks at the links and deletes them under one lock: in between no other stage may use the bridge. The
/// container's process first closes its copies of the lock, the janitor's pipe and the pipe that starts it.
#[test]
fn the_janitor_works_under_the_lock() {
    for caller in roots() {
        let directory = support::open_directory();
        let log = directory.path().join("log");
        let log = log.to_str().unwrap();
        let trace = "trace=flock,sendto,close,openat,execve";
        let strace = ["strace", "-fqq", "-e", trace, "-o", log];
        let run = Run::new(STAGE, caller).under(&strace);
        run.stdout(&["--net", "host", "true"]);
        let log = std::fs::read_to_string(log).unwrap();
        let process = |line: &str| line.split(' ').next().map(String::from);
        let janitor = log.lines().find(|line| line.contains("RTM_DELLINK"));
        let janitor = janitor.and_then(process);
        let is_shown = |line: &&str| line.contains("flock(") || line.contains("sendto(");
        let calls = log.lines().filter(|line| process(line) == janitor);
        let calls = calls.filter(is_shown).collect::<Vec<_>>();
        let unlocks = calls.iter().position(|call| call.contains("LOCK_UN"));
        assert!(calls[0].contains("LOCK_EX"), "{log}");
        assert_eq!(unlocks, Some(calls.len() - 1), "{log}");
        let command = log.lines().find(|line| line.contains("[\"true\"]"));
        let command = command.and_then(process);
        let calls = log.lines().filter(|line| process(line) == command);
        let closes = calls.take_while(|line| line.contains("close"));
        assert_eq!(
            closes.filter(|line| line.contains("close(")).count(),
            3,
            "{log}"
        );
    }
}

/// BR_MAX_PORTS of the kernel.
#[test]
fn a_full_bridge() {
    for caller in roots() {
        let ports = "ip link add br0 group 1275068416 type bridge
            seq 1023 | sed 's/.*/link add p& master br0 type veth peer name q&/' | ip -batch -";
        let message = Run::new(STAGE, caller).prepare(ports).failure(1, &["true"]);
        has(&message, &["EXFULL: ", "a bridge has at most 1023 ports"]);
    }
}

/// Above the prompt of an interactive shell, 80 columns wide; a command prints nothing of the stage's own.
#[test]
fn the_picture_is_for_a_shell_at_a_terminal() {
    for caller in callers() {
        let piped = Run::new(STAGE, caller).output(&["true"]);
        assert_eq!(support::text(&piped.stderr), "");
        let run = Run::new(STAGE, caller);
        let mut terminal = support::at_a_terminal(&run, &[]);
        let picture = terminal.exp_string("\n-> ").unwrap();
        let last = "-- veth0 172.20.1.3 --|-- veth1 172.20.1.4\r\n";
        has(&picture, &[last, "with all capabilities"]);
        let widths = picture
            .lines()
            .filter(|line| line.starts_with(' '))
            .map(|line| line.trim_end().len());
        assert!(widths.max() <= Some(80), "{picture}");
        assert_eq!(
            picture.contains("simulated"),
            caller == Caller::User,
            "{picture}"
        );
        terminal.send_line("exit").unwrap();
        let rest = terminal.exp_eof().unwrap();
        assert!(!rest.contains("tty"), "{rest}");
        let rootfs = ["--rootfs", busybox().to_str().unwrap(), "true"];
        assert_eq!(support::at_a_terminal(&run, &rootfs).exp_eof().unwrap(), "");
    }
}

/// The lines of the picture, typed as they stand by the one who started the stage.
#[test]
fn both_sides_can_be_looked_at() {
    for caller in callers() {
        let nets = ["host", "private"].into_iter();
        for net in nets.filter(|net| caller == Caller::Root || *net == "private") {
            let run = Run::new(STAGE, caller);
            let mut terminal = support::at_a_terminal(&run, &["--net", net]);
            let picture = terminal.exp_string("\n-> ").unwrap();
            let lines = picture.lines().map(str::trim).collect::<Vec<_>>();
            let outside = lines.iter().position(|line| line.starts_with("The host, "));
            let outside = lines[outside.unwrap() + 1];
            let inside = lines.iter().rfind(|line| line.starts_with("nsenter "));
            let inside = inside.unwrap();
            let stage = nix::unistd::Pid::from_raw(terminal.process.child_pid.as_raw());
            let host = format!("/proc/{stage}/ns/net");
            let look = |command: &str| {
                // The stage's network is a test's own.
                let mut enter = std::process::Command::new("nsenter");
                enter.arg(format!("--net={host}"));
                let output = Run::new("sh", caller)
                    .finish(enter, &["-c", command])
                    .output()
                    .unwrap();
                support::text(&output.stdout)
            };
            let outside = if net == "host" {
                look(outside)
            } else {
                let output = Run::new("sh", caller)
                    .finish(std::process::Command::new("env"), &["-c", outside]);
                support::text(&{ output }.output().unwrap().stdout)
            };
            let inside = look(&format!("{inside} ip addr"));
            for place in [" br0", "172.20.1.2/24", " veth0", "172.20.1.3/24"] {
                assert!(outside.contains(place), "{place}: {outside}");
            }
            has(&inside, &[" veth1", "172.20.1.4/24"]);
            terminal.send_line("exit").unwrap();
            terminal.exp_eof().unwrap();
        }
    }
}

#[test]
fn without_root_the_host_network_is_refused() {
    let message = Run::new(STAGE, Caller::User).failure(1, &["--net", "host", "true"]);
    has(&message, &["EPERM: ", "--net private"]);
}

/// What Docker leaves is left; what changes the host, or the container's walls, is refused.
#[test]
fn is_closed() {
    const WORKS: &str = "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; ping -q -c1 172.20.1.2 >/dev/null && echo ping
        touch /tmp/f && chown 0:0 /tmp/f && chmod u+s /tmp/f && echo chown; python3 -c 'import socket; socket.socket().bind((\"\", 80)); print(\"bind\")'";
    const REFUSED: &str = r#"
        for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity; do
            [ ! -e $f ] || ! (: >>$f) 2>/dev/null || echo "opened $f"; done
        for f in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats; do
            if [ -d /proc/$f ]; then [ -z "$(ls -A /proc/$f)" ] || echo "listed $f"
            elif [ -e /proc/$f ]; then [ "$(head -c 9 /proc/$f 2>/dev/null | wc -c)" = 0 ] || echo "read $f"; fi; done
        no() { "$@" 2>/dev/null && echo "did $*"; }
        no umount /proc/sys; no umount /proc/keys; no mount -t tmpfs none /tmp; no mount -t proc proc /proc
        no mount -o remount,rw /proc/sys; no unshare -U true; no unshare -m true; no hostname ocelot; no dmesg
        no mknod /tmp/disk b 8 0; no nsenter -t 1 -m true; no ip link add x type bridge
        python3 - <<'END'
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    if libc.syscall(number, *arguments) != -1 or ctypes.get_errno() not in (1, 38): print("did", name, ctypes.get_errno())
x86 = os.uname().machine == "x86_64"
for name, here, there in [("keyctl", 250, 219), ("add_key", 248, 217), ("request_key", 249, 218), ("bpf", 321, 280),
        ("perf_event_open", 298, 241), ("userfaultfd", 323, 282), ("io_uring_setup", 425, 425), ("io_uring_enter", 426, 426),
        ("io_uring_register", 427, 427), ("clone3", 435, 435), ("syslog", 103, 116)]:
    call(name, here if x86 else there, 0, 0, 0, 0, 0)
# open_tree_attr: the newest of the calls that mount.
call("open_tree_attr", 467, -100, b"/", 1, 0, 0)
END
        exit 0"#;
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let works = run.stdout(&["--", "sh", "-c", WORKS]);
        let (none, kept) = ("0000000000000000", "00000000a80425fb");
        let sets = [none, kept, kept, kept, none].into_iter();
        for (set, value) in ["Inh", "Prm", "Eff", "Bnd", "Amb"].iter().zip(sets) {
            has(&works, &[&format!("Cap{set}:\t{value}\n")]);
        }
        has(&works, &["NoNewPrivs:\t1\n", "Seccomp:\t2\n"]);
        assert!(works.ends_with("ping\nchown\nbind\n"), "{works}");
        assert_eq!(run.stdout(&["--", "bash", "-c", REFUSED]), "");
        // The same attempts, where nothing is closed: they can succeed.
        let bare = run.stdout(&["--bare", "--", "bash", "-c", REFUSED]);
        for done in [
            "did mount -t tmpfs",
            "did unshare -U",
            "did hostname",
            "did ip link add",
        ] {
            assert!(bare.contains(done), "{done}: {bare}");
        }
        assert!(
            caller == Caller::User || bare.contains("opened /proc/sys/kernel/core_pattern"),
            "{bare}"
        );
    }
}

/// The container has a session of its own, so what is for a process group stays inside: a signal, a
/// priority, and `timeout`, which ends its group.
#[test]
fn the_callers_process_group_is_out_of_reach() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        // The shell around the stage is in the caller's group, and has no handler.
        let around = run
            .clone()
            .under(&["sh", "-c", "\"$@\"; echo status $?", "sh"]);
        let script = "trap '' TERM; kill -TERM 0; renice -n 5 -g 0 >/dev/null; echo alive";
        let seen = around.stdout(&["--", "sh", "-c", script]);
        assert_eq!(seen, "alive\nstatus 0\n");
        let nice = run.clone().under(&["sh", "-c", "\"$@\"; nice", "sh"]);
        assert_eq!(
            nice.stdout(&["--", "sh", "-c", "renice -n 5 -g 0 >/dev/null"]),
            "0\n"
        );
        let mark = support::mark();
        let script = format!(
            "timeout 0.2 sh -c 'sleep {mark} & sleep {mark}'; echo $?
            timeout 60 sh -c 'while pgrep -x sleep; do :; done' >/dev/null; echo gone $?"
        );
        assert_eq!(run.stdout(&["--", "sh", "-c", &script]), "124\ngone 0\n");
    }
}

/// With a terminal of the caller's as one descriptor O_ASYNC would send SIGIO to its foreground group.
#[test]
fn a_terminal_of_the_callers_sends_it_no_signal() {
    const ASYNC: &str = r"
import fcntl, os, sys
def no(what, call):
    try: call(); print('did', what, flush=True)
    except OSError as error: print(error.errno, flush=True)
no('O_ASYNC', lambda: fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC))
no('FIOASYNC', lambda: fcntl.ioctl(0, 0x5452, b'\1\0\0\0'))
no('TIOCSTI', lambda: fcntl.ioctl(0, 0x5412, b'x'))";
    for caller in callers() {
        // stdin is the terminal, stdout is not.
        let run = Run::new(STAGE, caller).under(&["sh", "-c", "\"$@\" | cat", "sh"]);
        let mut terminal = support::at_a_terminal(&run, &["--", "python3", "-c", ASYNC]);
        let seen = terminal.exp_eof().unwrap();
        assert!(
            !seen.contains("did") && seen.matches("1\r\n").count() == 3,
            "{seen}"
        );
        // Servers do it to sockets and pipes of theirs.
        let own = "import fcntl, os; p, _ = os.pipe(); fcntl.fcntl(p, fcntl.F_SETFL, os.O_ASYNC)";
        assert_eq!(
            Run::new(STAGE, caller).stdout(&["--", "python3", "-c", own]),
            ""
        );
    }
}

#[test]
fn the_hosts_devices_keep_their_modes() {
    for caller in callers() {
        let script =
            "chmod 600 /dev/null 2>/dev/null && echo did; touch /dev/null 2>/dev/null && echo did
            touch /proc/keys 2>/dev/null && echo did; echo x >/dev/null && echo works
            { echo fd >/dev/fd/1; echo stdout >/dev/stdout; echo stderr >/dev/stderr; } 2>&1 | cat /dev/stdin";
        assert_eq!(
            Run::new(STAGE, caller).stdout(&["--", "sh", "-c", script]),
            "works\nfd\nstdout\nstderr\n"
        );
    }
}

#[test]
fn virtual_machines_cannot_be_reached() {
    let vsock = "import socket\ntry: socket.socket(40); print('did')\nexcept OSError as error: print(error.errno)";
    for caller in callers() {
        assert_eq!(
            Run::new(STAGE, caller).stdout(&["--", "python3", "-c", vsock]),
            "1\n"
        );
    }
}

#[test]
fn the_callers_environment_stays_outside() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let secret =
            run.clone()
                .under(&["sh", "-c", "SECRET=spots HOME=/home/no exec \"$@\"", "sh"]);
        let inside = secret.stdout(&["env"]);
        assert!(
            !inside.contains("SECRET") && inside.contains("HOME=/root\n"),
            "{inside}"
        );
        assert!(secret.stdout(&["--bare", "env"]).contains("SECRET=spots"));
        let home = run
            .clone()
            .under(&["sh", "-c", "HOME=/usr exec \"$@\"", "sh"]);
        assert!(home.stdout(&["env"]).contains("HOME=/usr\n"));
    }
}

#[test]
fn a_directory_as_standard_input_is_refused() {
    for caller in callers() {
        let run = Run::new(STAGE, caller).under(&["sh", "-c", "exec \"$@\" </", "sh"]);
        assert!(
            run.failure(1, &["true"])
                .contains("descriptor 0 is a directory")
        );
    }
}

#[test]
fn a_program_that_is_a_fifo() {
    for caller in callers() {
        let root = support::open_directory();
        for part in ["dev", "proc", "tmp", ".old_root"] {
            std::fs::create_dir(root.path().join(part)).unwrap();
        }
        let rootfs = ["--rootfs", root.path().to_str().unwrap()];
        let fifo = format!(
            "mkdir {0}/bin; mkfifo -m 755 {0}/bin/sh",
            root.path().display()
        );
        assert!(
            Run::new(STAGE, caller)
                .prepare(&fifo)
                .failure(126, &rootfs)
                .contains("EACCES")
        );
    }
}

/// A root that an ordinary user could lead elsewhere while it is set up.
#[test]
fn a_root_that_others_can_change() {
    for caller in roots() {
        let root = support::open_directory();
        let place = root.path().display();
        let inside = root.path().join("rootfs");
        for prepare in [
            "chown 65533 @",
            "chown 65533 @/rootfs",
            "chmod 777 @",
            "chgrp 9 @/rootfs; chmod 775 @/rootfs",
            "chmod 1777 @/rootfs",
        ] {
            let made = format!("cp -a {}/. {place}/rootfs", busybox().display());
            let prepare = format!(
                "chown -R 0 {place}; chmod 755 {place}; rm -rf {place}/rootfs; {made}; {prepare}"
            );
            let run = Run::new(STAGE, caller).prepare(&prepare.replace('@', &place.to_string()));
            let message = run.failure(1, &["--rootfs", inside.to_str().unwrap(), "true"]);
            assert!(message.contains(" can change "), "{prepare}: {message}");
            assert!(
                message.contains("another directory") || message.contains("belongs to you or root")
            );
        }
    }
}

/// A container removes its own link, and another link gets the index that it had.
#[test]
fn a_link_that_follows_a_containers_stays() {
    let script = format!(
        r#"{MANY}
        up "$@" sh -c 'echo up; read -r _'
        up "$@" --cap-add NET_ADMIN sh -c 'ip link del veth1; echo up; read -r _'
        for n in 1 2 3 4 5 6; do ip link add other$n type bridge; done; down
        ip -o link | grep -c other; for n in 1 2 3 4 5 6; do ip link del other$n; done"#
    );
    for caller in roots() {
        let run = Run::new(STAGE, caller).under(&["bash", "-c", &script, "sh"]);
        assert_eq!(run.stdout(&["--net", "host"]), "up\nup\n6\n");
    }
}

/// The root's `/dev` is held by its descriptor: between a look at its name and the mount another container of
/// the same root could put a link in its place.
#[test]
fn the_dev_of_a_root_is_held_by_its_descriptor() {
    for caller in callers() {
        let rootfs = [
            "--explain=calls",
            "--rootfs",
            busybox().to_str().unwrap(),
            "true",
        ];
        let said = support::text(&Run::new(STAGE, caller).output(&rootfs).stderr);
        assert!(said.contains("mount(\"tmpfs\", \"/proc/self/fd/"), "{said}");
        let opens = "/dev\", O_PATH|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC)";
        assert!(said.contains(opens), "{said}");
        let needless = "\"\", 0) = 0"; // an empty file needs no write(2)
        assert!(!said.contains(needless), "{said}");
        assert!(
            !said.contains(&format!("mount(\"tmpfs\", \"{}/dev", busybox().display())),
            "{said}"
        );
    }
}

/// A device node in the root: with the numbers of null, which can do no harm.
#[test]
fn a_device_node_in_the_root_has_no_effect() {
    for caller in roots() {
        let root = support::open_directory();
        let path = root.path().to_str().unwrap();
        let node = format!(
            "cp -a {}/. {path}; mknod -m 666 {path}/null c 1 3",
            busybox().display()
        );
        let run = Run::new(STAGE, caller).prepare(&node);
        let open = "(: >/null) 2>/dev/null && echo opened; exit 0";
        assert_eq!(run.stdout(&["--rootfs", path, "--", "sh", "-c", open]), "");
    }
}

#[test]
fn cap_add_opens_one() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        for name in ["SYS_ADMIN", "CAP_SYS_ADMIN", "cap_sys_admin", "ALL"] {
            let script = "mount -t tmpfs none /tmp && umount /tmp && unshare -m true && echo did";
            assert_eq!(
                run.stdout(&["--cap-add", name, "--", "sh", "-c", script]),
                "did\n",
                "{name}"
            );
        }
        let script =
            "ip link add x type bridge && echo did; ! mount -t tmpfs none /tmp 2>/dev/null";
        assert_eq!(
            run.stdout(&["--cap-add", "NET_ADMIN", "--", "sh", "-c", script]),
            "did\n"
        );
        assert!(
            run.failure(1, &["--cap-add", "FLY", "true"])
                .contains("capabilities(7) has no CAP_FLY")
        );
    }
}

/// On cgroup v1 each error names the controller and the hierarchy that holds it. On cgroup v2 the limit works, or the
/// hint names the command that gives the stage a group of its own. `scripts/tests/limits.sh` tests the limits
/// themselves.
#[test]
fn limits_are_set_or_the_error_says_why_not() {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        for (option, value, controller) in [
            ("--memory", "64M", "memory"),
            ("--pids", "32", "pids"),
            ("--cpus", "0.5", "cpu"),
        ] {
            let arguments = [option, value, "--", "cat", "/proc/self/cgroup"];
            let lines = groups
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>());
            let mut held = lines.filter(|line| line[1].split(',').any(|name| name == controller));
            if let Some(line) = held.next() {
                let held = format!("{controller} is held by cgroup v1 (hierarchy {} ", line[0]);
                let message = run.failure(1, &arguments);
                assert!(message.contains("/cgroup.subtree_control"), "{message}");
                assert!(message.contains(&held), "{message}");
                assert!(message.contains("cgroup_no_v1=all"), "{message}");
                if caller == Caller::Root {
                    let call = "/cgroup.subtree_control, ";
                    explain::shows_what_failed(STAGE, caller, "", &arguments, call, "ENOENT");
                }
                continue;
            }
            let output = run.output(&arguments);
            let said = support::text(&output.stderr);
            assert!(
                support::text(&output.stdout) == "0::/\n"
                    || said.contains("hint: ") && said.contains("systemd-run "),
                "{output:?}"
            );
        }
    }
    for caller in roots() {
        let without = "awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts | xargs -r umount";
        let run = Run::new(STAGE, caller).prepare(without);
        let message = run.failure(1, &["--memory", "64M", "true"]);
        assert!(
            message.contains("no file system of cgroup v2 is mounted\nhint: mount -t cgroup2"),
            "{message}"
        );
    }
}

#[test]
fn limits_that_cannot_be() {
    let run = Run::new(STAGE, Caller::User);
    for (option, values) in [
        (
            "--memory",
            &[
                "",
                "0",
                "-1",
                "64MB",
                "M",
                "6.4M",
                "0G",
                "64T",
                "17179869184G",
            ][..],
        ),
        ("--pids", &["", "0", "-1", "max", "1.5", "4294967296"]),
        ("--cpus", &["", "0", "-1", "0.009", "nan", "inf", "10001"]),
    ] {
        for value in values {
            let message = run.failure(1, &[&format!("{option}={value}"), "true"]);
            assert!(message.contains(&format!("'{option} <")), "{message}");
        }
        let message = run.failure(1, &["--bare", option, "1", "true"]);
        assert!(
            message.contains("'--bare' cannot be used with"),
            "{message}"
        );
    }
}

/// The stage, while it waits, has one capability, and its janitor another; inside neither is to be seen.
#[test]
fn the_supervisor_keeps_no_more_than_it_needs() {
    for caller in callers() {
        // Its children are the container, whose first process it is not, and with --net host the janitor.
        let watch = "cd \"$(mktemp -d)\"; mkfifo up go; \"$@\" <go >up & stage=$!; exec 3>go 4<up; read -r inside <&4; echo $inside
            for p in $stage $(cat /proc/$stage/task/$stage/children); do
                [ \"$(cat /proc/$p/comm)\" != stage5-net ] || grep -E '^(CapEff|CapPrm|NoNewPrivs)' /proc/$p/status
            done; exec 3>&-; wait $stage; rm -r \"$PWD\"";
        let run = Run::new(STAGE, caller).under(&["sh", "-c", watch, "sh"]);
        let seen = run.stdout(&["--", "sh", "-c", "echo /proc/[0-9]*; read -r _; exit 0"]);
        let values = seen
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect::<Vec<_>>();
        let caps = values
            .iter()
            .filter(|(name, _)| name.starts_with("Cap"))
            .map(|(_, value)| *value);
        let (stage, janitor) = ("0000000000000020", "0000000000001000");
        let expected = if caller == Caller::Root {
            vec![stage, stage, janitor, janitor]
        } else {
            vec![stage; 2]
        };
        assert_eq!(caps.collect::<Vec<_>>(), expected, "{seen}");
        assert!(
            seen.contains("NoNewPrivs:\t1") && seen.starts_with("/proc/1\n"),
            "{seen}"
        );
    }
}

/// Root with fewer capabilities, as in a container: the stage keeps of its own what there is.
#[test]
fn root_without_the_capability_to_kill() {
    for caller in roots() {
        let few = ["setpriv", "--bounding-set", "-kill"];
        let run = Run::new(STAGE, caller).under(&few);
        assert_eq!(run.stdout(&["hostname"]), "leopard\n");
    }
}

#[test]
fn runs_its_command() {
    support::runs_its_command(STAGE, &callers(), &["--bare"]); // which keeps the environment
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
    support::helps(STAGE, "unshare -uUrpfmn --mount-proc");
}

#[test]
fn controls_jobs() {
    support::controls_jobs(STAGE, &callers(), &[]);
}

#[test]
fn passes_a_hangup_on() {
    support::passes_a_hangup_on(STAGE, &callers(), &[]);
}

/// Without a shell inside, Ctrl-C ends PID 1 although the kernel drops the signal; in the container's own
/// terminal, and in a session without.
#[test]
fn ctrl_c_ends_the_command() {
    for caller in callers() {
        for around in [&[][..], &["sh", "-c", "\"$@\" | cat", "sh"]] {
            let mark = support::mark();
            let run = Run::new(STAGE, caller).under(around);
            let mut terminal = support::at_a_terminal(&run, &["--", "sleep", &mark]);
            support::within_a_minute(|| !support::running(&mark).is_empty());
            terminal.send_control('c').unwrap();
            terminal.exp_eof().unwrap();
            assert!(support::running(&mark).is_empty());
        }
    }
}

/// The container's terminal: its own, of the size of the caller's, which is as before afterwards.
#[test]
fn has_a_terminal_of_its_own() {
    for caller in callers() {
        let around = "stty rows 33 cols 77 -ixon; \"$@\"; stty -a | tr ';' '\\n' | grep -E 'rows|icanon|ixon'; echo end";
        let run = Run::new(STAGE, caller).under(&["sh", "-c", around, "sh"]);
        let inside = "tty; stat -c %a $(tty); stty size; stty -a | grep -o '.ixon'; stty -echo -icanon; test -t 2 && echo stderr";
        let mut terminal = support::at_a_terminal(&run, &["--", "sh", "-c", inside]);
        let seen = terminal.exp_string("end\r\n").unwrap();
        for part in [
            "/dev/pts/0\r\n620\r\n33 77\r\n-ixon\r\nstderr\r\n",
            "rows 33",
            "-ixon",
        ] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        assert!(
            seen.contains("icanon") && !seen.contains("-icanon"),
            "{seen}"
        );
        // With --bare it is the caller's.
        let mut terminal = support::at_a_terminal(
            &Run::new(STAGE, caller),
            &["--bare", "--", "ps", "-o", "sid=", "-p1"],
        );
        assert!(terminal.exp_eof().unwrap().contains("0\r\n"));
        // In a session without a terminal, it has none: the caller's is in use in another session.
        let run = Run::new(STAGE, caller).under(&["setsid", "-w"]);
        let look = ["--", "sh", "-c", "echo pts: /dev/pts/*"];
        let mut terminal = support::at_a_terminal(&run, &look);
        has(&terminal.exp_eof().unwrap(), &["pts: /dev/pts/ptmx\r\n"]);
    }
}

/// A command may have ended before the stage has received the container's terminal.
#[test]
fn the_output_of_a_quick_command_is_shown() {
    let echo = ["--rootfs", busybox().to_str().unwrap(), "echo", "quick"];
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        for _ in 0..30 {
            let seen = support::at_a_terminal(&run, &echo).exp_eof().unwrap();
            assert_eq!(seen, "quick\r\n");
        }
    }
}

/// The terminal inside stays, and its keys with it, when no process has it open.
#[test]
fn a_command_that_closes_its_terminal() {
    for caller in callers() {
        let mark = support::mark();
        let closes = format!("exec sleep {mark} </dev/null >/dev/null 2>&1");
        let around = ["sh", "-c", "\"$@\"; echo status $?", "sh"];
        let run = Run::new(STAGE, caller).under(&around);
        let mut terminal = support::at_a_terminal(&run, &["--", "sh", "-c", &closes]);
        support::within_a_minute(|| !support::running(&mark).is_empty());
        terminal.send_control('c').unwrap();
        terminal.exp_string("status 130\r\n").unwrap();
    }
}

/// The handler of PID 1 sets the default back, so that a second Ctrl-C ends the program at once.
#[test]
fn a_handler_for_one_signal() {
    let program = "import signal, time, sys
def once(*_):
    signal.signal(signal.SIGINT, signal.SIG_DFL); time.sleep(0.3); print('cleaned up'); sys.exit(5)
signal.signal(signal.SIGINT, once); print('up'); time.sleep(60)";
    for caller in callers() {
        let around = ["sh", "-c", "\"$@\"; echo status $?", "sh"];
        let run = Run::new(STAGE, caller).under(&around);
        let mut terminal = support::at_a_terminal(&run, &["python3", "-u", "-c", program]);
        terminal.exp_string("up\r\n").unwrap();
        terminal.send_control('c').unwrap();
        terminal.exp_string("cleaned up\r\nstatus 5\r\n").unwrap();
    }
}

/// Ctrl-D before the command has started.
#[test]
fn the_end_of_input_comes_first() {
    for caller in callers() {
        let command = format!("{} cat", support::reachable(STAGE).display());
        // script(1) types Ctrl-D when its own input ends.
        let script = r#"for round in $(seq 8); do script -qec "$0" /dev/null </dev/null; done"#;
        let seen = Run::new("sh", caller).output(&["-c", script, &command]);
        assert_eq!(seen.status.code(), Some(0), "{seen:?}");
        assert!(!seen.stdout.contains(&0), "{seen:?}");
    }
}

/// Many lines to a terminal whose reader is slow, and whose writers do not wait.
#[test]
fn nothing_is_lost_at_a_full_terminal() {
    for caller in callers() {
        let stage = support::reachable(STAGE);
        let nonblocking = "import fcntl, os, sys; fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK); os.execvp(sys.argv[1], sys.argv[1:])";
        let lines = format!(
            "script -qec 'python3 -c \"{nonblocking}\" {} seq 30000' /dev/null </dev/null | {{ sleep 0.3; grep -c '^[0-9]'; }}",
            stage.display()
        );
        assert_eq!(Run::new("sh", caller).stdout(&["-c", &lines]), "30000\n");
    }
}

/// The terminal goes away, and the stage ignores the signal for it.
#[test]
fn a_hangup_that_is_ignored() {
    for caller in callers() {
        let mark = format!("6{}", support::mark()); // longer than a minute
        let stage = support::reachable(STAGE);
        let command = format!(
            "trap '' HUP; exec {} sh -c 'sleep {mark} & read x'",
            stage.display()
        );
        let run = Run::new("script", caller).alone(&["-qec", &command, "/dev/null"]);
        // script(1) has the other end of the terminal, and waits for its own input.
        let mut script = { run }.stdin(std::process::Stdio::piped()).spawn().unwrap();
        support::within_a_minute(|| !support::running(&mark).is_empty());
        script.kill().unwrap();
        script.wait().unwrap();
        support::within_a_minute(|| support::running(&mark).is_empty());
    }
}

/// In the background the stage stops when it uses the terminal, and `fg` brings the container's shell.
#[test]
fn a_container_in_the_background() {
    for caller in callers() {
        let script = "\"$@\" & until jobs | grep -q Stopped; do sleep 0.1; done; echo stopped; fg";
        let run = Run::new(STAGE, caller).under(&[
            "bash",
            "--norc",
            "--noprofile",
            "-ic",
            script,
            "bash",
        ]);
        let mut terminal = support::at_a_terminal(&run, &["--", "sh"]);
        terminal.exp_string("stopped\r\n").unwrap();
        terminal.send_line("echo $((40 + 2)); exit").unwrap();
        terminal.exp_string("42\r\n").unwrap();
        terminal.exp_eof().unwrap();
    }
}

/// The shell outside has used the terminal while the stage was stopped; afterwards each key reaches the container
/// at once again.
#[test]
fn a_container_that_was_stopped() {
    for caller in callers() {
        let mark = support::mark();
        let inside = format!("stty -icanon -echo; sleep {mark} & head -c1; echo got");
        let outside = "\"$@\"; echo outside; fg";
        let words = ["--", "sh", "-c", &inside];
        let mut terminal = support::job_of_bash(STAGE, caller, outside, &words);
        support::within_a_minute(|| !support::running(&mark).is_empty());
        let parent = |process| {
            let pid = support::in_status(process, "PPid:", 10).unwrap();
            Pid::from_raw(pid.try_into().unwrap())
        };
        let stage = parent(parent(support::running(&mark)[0]));
        kill(stage, Signal::SIGSTOP).unwrap();
        terminal.exp_string("outside").unwrap();
        terminal.send("x").unwrap();
        terminal.flush().unwrap();
        terminal.exp_string("xgot\r\n").unwrap();
    }
}

#[test]
fn explains_what_happens() {
    let rootfs = ["--rootfs", busybox().to_str().unwrap()];
    explain::shows_what_happens(STAGE, &callers(), &[&[], &rootfs, &["--net", "private"]]);
}

#[test]
fn explains_what_failed() {
    let foreign = "ip link add br0 type bridge";
    for caller in roots() {
        explain::shows_what_failed(
            STAGE,
            caller,
            foreign,
            &["--", "true"],
            "IFLA_IFNAME=\"br0\"",
            "EEXIST",
        );
    }
    // In the container, and then the network is removed.
    let root = support::open_directory();
    for part in [".old_root", "dev"] {
        std::fs::create_dir(root.path().join(part)).unwrap();
    }
    for caller in callers() {
        let rootfs = ["--rootfs", root.path().to_str().unwrap()];
        explain::shows_what_failed(STAGE, caller, "", &rootfs, "mount(\"proc\", ", "ENOENT");
    }
    let (arguments, call) = (["--net", "host", "--", "true"], "IFLA_INFO_KIND=\"bridge\"");
    explain::shows_what_failed(STAGE, Caller::User, "", &arguments, call, "EPERM");
}

#[test]
fn the_explanation_is_short() {
    let commands = [
        "unshare -uUpfmniC",
        "hostname leopard",
        "mount --make-rprivate /",
        "mount -t proc proc ",
        "pivot_root ",
        "cd /",
        "mount -t tmpfs tmpfs /tmp",
        "echo leopard > /tmp/leopard.txt",
        "mount --make-rprivate /.old_root",
        "umount -l /.old_root",
        "brctl addbr br0",
        "ip addr add 172.20.1.2/24 dev br0",
        "ip link set br0 up",
        "ip link add veth0 type veth peer name veth1 netns ",
        "ip link set veth0 master br0",
        "ip addr add 172.20.1.3/24 dev veth0",
        "ip link set veth0 up",
        "ip link set lo up",
        "ip addr add 172.20.1.4/24 dev veth1",
        "ip link set veth1 up",
    ];
    let rootfs = ["--rootfs", busybox().to_str().unwrap()];
    explain::is_short(
        STAGE,
        &callers(),
        &[&[], &rootfs, &["--net", "private"]],
        70,
        &commands,
    );
}

#[test]
fn changes_can_be_replayed() {
    explain::changes_can_be_replayed(STAGE, &callers(), &[&[], &["--net", "private"]]);
}

#[test]
fn the_explanation_is_a_recipe() {
    explain::is_a_recipe(STAGE, "5", &callers(), &["--bare"]);
}

#[test]
fn explains_for_free_when_off() {
    explain::is_free_when_off(STAGE, &callers(), &[]);
}

/// While the host's process and the container's process ask.
const STEPS: [&str; 3] = ["unshare -uU", "ip link set br0 up", "pivot_root "];

#[test]
fn steps_on_the_host() {
    let options = ["--net", "host", "--rootfs", busybox().to_str().unwrap()];
    for caller in roots() {
        explain::steps_to_the_prompt(STAGE, caller, &options);
        explain::can_be_stopped(STAGE, caller, &options, &STEPS);
        explain::says_that_the_child_was_killed(STAGE, caller, &options);
    }
}

#[test]
fn steps_with_a_private_network() {
    let options = ["--net", "private", "--rootfs", busybox().to_str().unwrap()];
    explain::steps_to_the_prompt(STAGE, Caller::User, &options);
    explain::can_be_stopped(STAGE, Caller::User, &options, &STEPS);
    explain::says_that_the_child_was_killed(STAGE, Caller::User, &options);
}
