//! Stage 5: the full container. The host of every test has a network of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use support::{Caller, Run, busybox, callers};

const STAGE: &str = env!("CARGO_BIN_EXE_stage5-net");

#[test]
fn the_line_of_the_readme() {
    let script =
        "hostname; id -u; echo $$; ls /; cat /tmp/leopard.txt; ping -c1 172.20.1.2; ping -c1 172.20.1.3";
    let rootfs = ["--rootfs", busybox().to_str().unwrap()];
    for caller in callers() {
        for options in [&[][..], &rootfs, &["--bare"], &["--net", "private"]] {
            let seen = Run::new(STAGE, caller).stdout(&[options, &["--", "sh", "-c", script]].concat());
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

/// With `--net host` the host has the bridge while the container runs; with `--net private` it sees nothing.
#[test]
fn the_host_side() {
    for caller in callers() {
        for (net, seen) in [("host", true), ("private", false)] {
            if seen && caller == Caller::User {
                continue;
            }
            let watch = "\"$@\" & stage=$!; sleep 0.5; ip -o -d link; ip -o address; wait $stage";
            let run = Run::new(STAGE, caller).under(&["sh", "-c", watch, "sh"]);
            let host = run.stdout(&["--net", net, "sleep", "1"]);
            assert_eq!(host.contains("br0    inet 172.20.1.2/24 "), seen, "{host}");
            assert_eq!(host.contains("veth0    inet 172.20.1.3/24 "), seen, "{host}");
            assert_eq!(
                host.lines().any(|line| line.contains(" veth0@") && line.contains(" master br0 ")),
                seen,
                "{host}"
            );
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
        let new = outside.iter().zip(inside).filter(|(outside, inside)| outside != inside);
        new.map(|(name, _)| name.split(':').next().unwrap()).collect::<Vec<_>>().join(" ")
    };
    for caller in callers() {
        assert_eq!(differ(&["--bare"], caller), "mnt net pid pid user uts");
        assert_eq!(differ(&["--bare", "--ipc"], caller), "ipc mnt net pid pid user uts");
        assert_eq!(differ(&["--bare", "-C"], caller), "cgroup mnt net pid pid user uts");
        assert_eq!(differ(&[], caller), "cgroup ipc mnt net pid pid user uts");
    }
}

#[test]
fn other_addresses() {
    let addresses = [
        "--bridge",
        "bridge7",
        "--bridge-addr",
        "172.20.1.129/25",
        "--host-addr",
        "172.20.1.130/25",
        "--container-addr",
        "172.20.1.254/25",
    ];
    for caller in callers() {
        let script =
            ["sh", "-c", "ip -o -4 address show veth1; ping -c1 172.20.1.129; ping -c1 172.20.1.130"];
        let seen = Run::new(STAGE, caller).stdout(&[&addresses[..], &script].concat());
        assert!(seen.contains("172.20.1.254/25"), "{seen}");
    }
}

#[test]
fn addresses_that_cannot_be() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let failure = |arguments: &[&str]| run.failure(1, &[arguments, &["true"]].concat());
        assert!(
            failure(&["--host-addr", "172.20.2.3/24"])
                .contains("--host-addr 172.20.2.3/24 is not in the subnet of --bridge-addr 172.20.1.2/24")
        );
        assert!(failure(&["--container-addr", "172.20.1.4/25"]).contains("is not in the subnet"));
        assert!(failure(&["--container-addr", "172.20.1.3/24"]).contains("must differ"));
        assert!(
            failure(&["--bridge-addr", "172.20.1.4/24", "--container-addr", "172.20.1.4/24"])
                .contains("must differ")
        );
        for word in [
            "leopard",
            "172.20.1.2",
            "172.20.1.2/",
            "172.20.1/24",
            "172.20.1.256/24",
            "::1/64",
            "172.20.1.2/33",
            "172.20.1.2/-1",
            "",
        ] {
            assert!(failure(&["--bridge-addr", word]).contains("'--bridge-addr <CIDR>'"), "{word}");
        }
        assert!(failure(&["--bridge-addr", "172.20.1.2/31"]).contains("no room for three"));
        assert!(failure(&["--bridge-addr", "172.20.1.0/24"]).contains("first and the last"));
        assert!(failure(&["--bridge-addr", "172.20.1.255/24"]).contains("first and the last"));
        assert!(failure(&["--bridge-addr", "127.0.0.2/24"]).contains("not a machine's address"));
        for name in ["", "a-name-of-16-byte", "a/b", "a b", "..", "v%d"] {
            assert!(failure(&["--bridge", name]).contains("'--bridge <NAME>'"), "{name}");
        }
    }
}

fn roots() -> impl Iterator<Item = Caller> {
    callers().into_iter().filter(|&caller| caller == Caller::Root)
}

#[test]
fn what_is_there_already_stays() {
    for caller in roots() {
        // The test's host compares its links before and after; the addresses are looked at here.
        let show = ["sh", "-c", "\"$@\" >&2; ip -o -4 address show", "sh"];
        for kind in ["bridge", "veth"] {
            let prepare = format!("ip link add br0 type {kind}; ip address add 172.20.9.9/24 dev br0");
            let run = Run::new(STAGE, caller).prepare(&prepare);
            let message = run.failure(1, &["true"]);
            assert!(
                message.contains("IFLA_IFNAME=\"br0\", ")
                    && message.contains("): EEXIST: File exists\nhint: ")
            );
            assert!(message.contains("--bridge") && message.contains("leaves alone"), "{message}");
            let kept = run.clone().under(&show).stdout(&["true"]);
            assert!(kept.contains("br0    inet 172.20.9.9/24"), "{kept}");
            assert_eq!(run.stdout(&["--bridge", "br7", "hostname"]), "leopard\n");
        }
        // The next free name for the pair; its address is the one with its number.
        let veth0 = "ip link add veth0 type veth peer name other; ip address add 172.20.9.9/24 dev veth0";
        let run = Run::new(STAGE, caller).prepare(veth0);
        assert!(run.stdout(&["ip", "-o", "address"]).contains("172.20.1.5/24"));
        assert!(run.under(&show).stdout(&["true"]).contains("veth0    inet 172.20.9.9/24"));
        // Somebody's LAN with our subnet.
        for lan in ["172.20.1.77/24", "172.20.0.1/16", "172.20.1.4/30"] {
            let lan = format!("ip link add lan type bridge; ip address add {lan} dev lan");
            let run = Run::new(STAGE, caller).prepare(&lan);
            let message = run.failure(1, &["true"]);
            assert!(
                message.contains("EADDRINUSE: ") && message.contains("hint: the link lan has 172.20."),
                "{message}"
            );
            assert!(message.contains("--bridge-addr"), "{message}");
            assert_eq!(run.stdout(&["--bridge-addr", "172.21.1.2/24", "hostname"]), "leopard\n");
        }
    }
}

/// A stage killed with all its helpers leaves a bridge, marked as ours in the kernel.
#[test]
fn what_a_killed_run_left_is_adopted_and_removed() {
    for caller in roots() {
        let leftover = "ip link add br0 group 1275068416 type bridge";
        let removed =
            ["sh", "-c", "\"$@\" && ! ip link show br0 2>/dev/null && ip link add br0 type bridge", "sh"];
        let run = Run::new(STAGE, caller).prepare(leftover).under(&removed);
        // (The bridge of the last word is there for the test's host, which compares names.)
        assert!(run.stdout(&["ping", "-c1", "172.20.1.2"]).contains(" 0% packet loss"));
    }
}

#[test]
fn many_share_the_bridge() {
    const SCRIPT: &str = r#"
        up() { until [ "$(ip -o link show master br0 2>/dev/null | grep -c altname.172.20.1.$1)" = 1 ]; do sleep 0.1; done; sleep 0.5; }
        "$@" sh -c 'ip -o -4 address show veth1; exec sleep 60' & one=$!; up 4
        "$@" sh -c 'ip -o -4 address show veth1; ping -c1 172.20.1.4; ping -c1 172.20.1.2; ping -c1 172.20.1.3; exec sleep 60' & two=$!; up 5
        "$@" --container-addr 172.20.1.77/24 sh -c 'ip -o -4 address show veth1; ping -c1 172.20.1.5'
        ! "$@" --container-addr 172.20.1.5/24 true
        ! "$@" --host-addr 172.20.1.4/24 true
        ip -o link show master br0 | wc -l
        kill $one $two; wait"#;
    for caller in roots() {
        let output = Run::new(STAGE, caller).under(&["sh", "-c", SCRIPT, "sh"]).output(&[]);
        let (seen, said) = (support::text(&output.stdout), support::text(&output.stderr));
        for address in ["172.20.1.4/24", "172.20.1.5/24", "172.20.1.77/24"] {
            assert!(seen.contains(address), "{seen}");
        }
        assert_eq!(seen.matches(" 0% packet loss").count(), 4, "{seen}{said}");
        assert_eq!(said.matches("EEXIST: File exists\nhint: another container has ").count(), 2, "{said}");
        assert!(seen.contains("\n2\n"), "the refused ones left nothing: {seen}");
    }
}

/// Docker's policy, the rule that the hint names, and its undoing.
#[test]
fn a_packet_filter_that_drops() {
    const SCRIPT: &str = r#"
        iptables -P FORWARD DROP
        "$@" sleep 3 & sleep 0.3
        "$@" ping -c1 -W1 172.20.1.4
        iptables -I FORWARD -i br0 -o br0 -j ACCEPT
        "$@" ping -c1 -W1 172.20.1.4
        iptables -D FORWARD -i br0 -o br0 -j ACCEPT
        "$@" ping -c1 -W1 172.20.1.4
        iptables -P FORWARD ACCEPT
        "$@" sh -c 'echo; ping -c1 -W1 172.20.1.4' 2>&1
        wait"#;
    for caller in roots() {
        let output = Run::new(STAGE, caller).under(&["sh", "-c", SCRIPT, "sh"]).output(&[]);
        let (seen, said) = (support::text(&output.stdout), support::text(&output.stderr));
        let answered = seen.lines().filter(|line| line.contains("packet loss"));
        let answered = answered.map(|line| line.contains(" 0% packet loss")).collect::<Vec<_>>();
        assert_eq!(answered, [false, true, false, true], "{seen}{said}");
        let hint = "hint: iptables -I FORWARD -i br0 -o br0 -j ACCEPT lets them pass, and with -D";
        assert_eq!(said.matches(hint).count(), 3, "{said}");
        assert!(!seen.contains("hint"), "without the policy there is nothing to say: {seen}");
    }
}

/// BR_MAX_PORTS of the kernel.
#[test]
fn a_full_bridge() {
    for caller in roots() {
        let ports = "ip link add br0 group 1275068416 type bridge
            seq 1023 | sed 's/.*/link add p& master br0 type veth peer name q&/' | ip -batch -";
        let message = Run::new(STAGE, caller).prepare(ports).failure(1, &["true"]);
        assert!(
            message.contains("EXFULL: ") && message.contains("a bridge has at most 1023 ports"),
            "{message}"
        );
    }
}

#[test]
fn draws_what_it_built_for_whoever_sits_at_a_terminal() {
    for caller in callers() {
        let piped = Run::new(STAGE, caller).output(&["true"]);
        assert!(!support::text(&piped.stderr).contains("veth0"), "not into a file");
        let explained = Run::new(STAGE, caller).output(&["--explain", "true"]);
        assert!(
            support::text(&explained.stderr).contains("-- veth0 172.20.1.3/24 --|-- veth1 172.20.1.4/24")
        );
        let words = ["sh", "-c", "script -qec \"$1 true\" /dev/null", "sh"];
        let drawn = Run::new(STAGE, caller).under(&words).stdout(&[]);
        assert!(
            drawn.contains("br0 172.20.1.2/24 -- veth0 172.20.1.3/24 --|-- veth1 172.20.1.4/24, lo"),
            "{drawn}"
        );
    }
}

/// The lines of the picture, typed as they stand by the one who started the stage.
#[test]
fn both_sides_can_be_looked_at() {
    const SCRIPT: &str = r#"
        cd "$(mktemp -d)"; "$@" sleep 5 2>said & until grep -q 'next\|execve' said; do sleep 0.1; done
        sed -n 's/^ *\(look from another terminal\|inside\): //p' said >look; . ./look; wait $!; rm -r "$PWD""#;
    for caller in callers() {
        for net in ["host", "private"].into_iter().filter(|net| caller == Caller::Root || *net == "private") {
            let run = Run::new(STAGE, caller).under(&["sh", "-c", SCRIPT, "sh"]);
            let seen = run.stdout(&["--explain", "--net", net]);
            let places = [" br0", "172.20.1.2/24", " veth0", "172.20.1.3/24", " veth1", "172.20.1.4/24"];
            let found = places.map(|place| seen.find(place).unwrap_or_else(|| panic!("{place}: {seen}")));
            assert!(found.is_sorted(), "{seen}");
        }
    }
}

#[test]
fn a_full_subnet() {
    // A /29 has room for six: the bridge, veth0, and four containers.
    const SCRIPT: &str = r#"
        for i in 1 2 3 4; do "$@" sh -c 'ip -o -4 address show veth1; sleep 2' & sleep 0.1; done; sleep 0.3
        "$@" true; echo status $?
        wait"#;
    for caller in roots() {
        let run = Run::new(STAGE, caller).under(&["sh", "-c", SCRIPT, "sh"]);
        let output = run.output(&["--bridge-addr", "172.20.1.5/29"]);
        let (seen, said) = (support::text(&output.stdout), support::text(&output.stderr));
        // The host's end is next to the bridge, .6; from there in a circle.
        for address in ["1/29", "2/29", "3/29", "4/29"] {
            assert!(seen.contains(&format!("172.20.1.{address}")), "{seen}{said}");
        }
        assert!(
            seen.contains("status 1") && said.contains("the subnet 172.20.1.0/29 is full"),
            "{seen}{said}"
        );
        assert!(said.contains("--bridge-addr"), "{said}");
    }
}

#[test]
fn without_root_the_host_network_is_refused() {
    let message = Run::new(STAGE, Caller::User).failure(1, &["--net", "host", "true"]);
    assert!(message.contains("EPERM: ") && message.contains("--net private"), "{message}");
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
import ctypes, fcntl, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    if libc.syscall(number, *arguments) != -1 or ctypes.get_errno() not in (1, 38): print("did", name, ctypes.get_errno())
x86 = os.uname().machine == "x86_64"
for name, here, there in [("keyctl", 250, 219), ("add_key", 248, 217), ("bpf", 321, 280), ("perf_event_open", 298, 241),
        ("userfaultfd", 323, 282), ("io_uring_setup", 425, 425), ("clone3", 435, 435), ("open_by_handle_at", 304, 265),
        ("setns", 308, 268), ("fsopen", 430, 430), ("kexec_load", 246, 104), ("syslog", 103, 116)]:
    call(name, here if x86 else there, 0, 0, 0, 0, 0)
null = os.open("/dev/null", os.O_RDWR)
for request in 0x5412, 0x541c, 0x100005412 - 0x100000000:
    try: fcntl.ioctl(null, request, b"x"); print("did", request)
    except OSError as error: error.errno == 1 or print("ioctl", request, error)
# The kernel compares the low 32 bits, so the filter has to.
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p]
libc.ioctl(null, 0x100005412, b"x"); ctypes.get_errno() == 1 or print("ioctl, high bits", ctypes.get_errno())
END
        exit 0"#;
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let works = run.stdout(&["--", "sh", "-c", WORKS]);
        let sets = [
            "Inh:\t0000000000000000",
            "Prm:\t00000000a80425fb",
            "Eff:\t00000000a80425fb",
            "Bnd:\t00000000a80425fb",
            "Amb:\t0000000000000000",
        ];
        for set in sets.map(|set| format!("Cap{set}\n")) {
            assert!(works.contains(&set), "{set}{works}");
        }
        assert!(works.contains("NoNewPrivs:\t1\n") && works.contains("Seccomp:\t2\n"), "{works}");
        assert!(works.ends_with("ping\nchown\nbind\n"), "{works}");
        assert_eq!(run.stdout(&["--", "bash", "-c", REFUSED]), "");
        // The same attempts, where nothing is closed: they can succeed.
        let bare = run.stdout(&["--bare", "--", "bash", "-c", REFUSED]);
        for done in
            ["did umount /proc", "did mount -t tmpfs", "did unshare -U", "did hostname", "did ip link add"]
        {
            assert!(done.contains("umount") || bare.contains(done), "{done}: {bare}");
        }
        assert!(caller == Caller::User || bare.contains("opened /proc/sys/kernel/core_pattern"), "{bare}");
    }
}

/// What an attack by hand found, each closed since.
#[test]
fn holes_that_were_found() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        // The caller's process group, and the host's /dev/null.
        let script = "kill -TERM 0 2>/dev/null && echo did; chmod 600 /dev/null 2>/dev/null && echo did
            touch /dev/null 2>/dev/null && echo did; touch /proc/keys 2>/dev/null && echo did; echo x >/dev/null && echo works";
        assert_eq!(run.stdout(&["--", "sh", "-c", script]), "works\n");
        let vsock = "import socket\ntry: socket.socket(40); print('did')\nexcept OSError as error: print(error.errno)";
        assert_eq!(run.stdout(&["--", "python3", "-c", vsock]), "1\n");
        // His process group by other ways.
        let others = r#"
import fcntl, os
pipe, _ = os.pipe()
def no(what, call):
    try: call() == -1 or print("did", what)
    except PermissionError: pass
no("O_ASYNC", lambda: fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_ASYNC))
fcntl.ioctl(pipe, 0x5452, b"\1\0\0\0")
no("FIOASYNC", lambda: 0 if fcntl.fcntl(pipe, fcntl.F_GETFL) & os.O_ASYNC else -1)
no("PRIO_PGRP", lambda: os.setpriority(os.PRIO_PGRP, 0, 19))
fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_NONBLOCK) == 0 and print("works")"#;
        assert_eq!(run.stdout(&["--", "python3", "-c", others]), "works\n");
        let bare = run.stdout(&["--bare", "--", "python3", "-c", others]);
        assert!(bare.matches("did ").count() >= 2, "{bare}"); // root's group is not nicer for root inside
        // The caller's secrets, and a directory of his as standard input.
        let secret = run.clone().under(&["sh", "-c", "SECRET=spots exec \"$@\"", "sh"]);
        assert!(!secret.stdout(&["env"]).contains("SECRET"));
        assert!(secret.stdout(&["--bare", "env"]).contains("SECRET=spots"));
        let directory = run.clone().under(&["sh", "-c", "exec \"$@\" </", "sh"]);
        assert!(directory.failure(1, &["true"]).contains("descriptor 0 is a directory"));
        // A program that is a FIFO.
        let root = support::open_directory();
        let at = |name: &str| root.path().join(name);
        for part in ["dev", "proc", "tmp", ".old_root"] {
            std::fs::create_dir(at(part)).unwrap();
        }
        let rootfs = ["--rootfs", root.path().to_str().unwrap()];
        let fifo = format!("mkdir {0}/bin; mkfifo -m 755 {0}/bin/sh", root.path().display());
        assert!(run.clone().prepare(&fifo).failure(126, &rootfs).contains("EACCES"));
    }
    // A root that an ordinary user could lead elsewhere while it is set up.
    for caller in roots() {
        let root = support::open_directory();
        let place = root.path().display();
        let run = Run::new(STAGE, caller);
        let inside = root.path().join("rootfs");
        for prepare in [
            "chown 65533 @",
            "chown 65533 @/rootfs",
            "chmod 777 @",
            "chgrp 9 @/rootfs; chmod 775 @/rootfs",
            "chmod 1777 @/rootfs",
        ] {
            let made = format!("cp -a {}/. {place}/rootfs", busybox().display());
            let prepare =
                format!("chown -R 0 {place}; chmod 755 {place}; rm -rf {place}/rootfs; {made}; {prepare}");
            let run = run.clone().prepare(&prepare.replace('@', &place.to_string()));
            let message = run.failure(1, &["--rootfs", inside.to_str().unwrap(), "true"]);
            assert!(
                message.contains(" can change ")
                    && message.contains("another directory") | message.contains("yours or root's"),
                "{prepare}: {message}"
            );
        }
    }
    // Somebody else's link, which would have had the number of a container's that has gone.
    for caller in roots() {
        let script = r#""$@" sleep 2 & sleep 0.5; "$@" --cap-add NET_ADMIN sh -c 'ip link del veth1; sleep 0.5' & sleep 0.3
            for i in 1 2 3 4 5 6; do ip link add other$i type bridge; done; wait; ls -d /sys/class/net/other? | wc -l
            for i in 1 2 3 4 5 6; do ip link del other$i; done"#;
        let seen =
            Run::new(STAGE, caller).prepare("mount -t sysfs none /sys").under(&["sh", "-c", script, "sh"]);
        assert_eq!(seen.stdout(&["--net", "host"]), "6\n");
    }
    // A device in the root: with null's numbers, which cannot do harm.
    for caller in roots() {
        let root = support::open_directory();
        let node = format!(
            "cp -a {}/. {1}; mknod -m 666 {1}/null c 1 3",
            busybox().display(),
            root.path().display()
        );
        let run = Run::new(STAGE, caller).prepare(&node);
        let rootfs = [
            "--rootfs",
            root.path().to_str().unwrap(),
            "--",
            "sh",
            "-c",
            "(: >/null) 2>/dev/null && echo opened; exit 0",
        ];
        assert_eq!(run.stdout(&rootfs), "");
    }
}

#[test]
fn cap_add_opens_one() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        for name in ["SYS_ADMIN", "CAP_SYS_ADMIN", "cap_sys_admin", "ALL"] {
            let script = "mount -t tmpfs none /tmp && umount /tmp && unshare -m true && echo did";
            assert_eq!(run.stdout(&["--cap-add", name, "--", "sh", "-c", script]), "did\n", "{name}");
        }
        let script = "ip link add x type bridge && echo did; ! mount -t tmpfs none /tmp 2>/dev/null";
        assert_eq!(run.stdout(&["--cap-add", "NET_ADMIN", "--", "sh", "-c", script]), "did\n");
        assert!(run.failure(1, &["--cap-add", "FLY", "true"]).contains("capabilities(7) has no CAP_FLY"));
    }
}

/// The stage, while it waits, has two capabilities; its keeper and the container's first process are
/// not to be reached from inside.
#[test]
fn the_supervisor_keeps_no_more_than_it_needs() {
    for caller in callers() {
        // Its children are the container, whose first process it is not, and with --net host the keeper.
        let watch = "\"$@\" & stage=$!; sleep 0.5
            for p in $stage $(cat /proc/$stage/task/$stage/children); do
                [ \"$(cat /proc/$p/comm)\" != stage5-net ] || grep -E '^(CapEff|CapPrm|NoNewPrivs)' /proc/$p/status
            done; wait $stage";
        let run = Run::new(STAGE, caller).under(&["sh", "-c", watch, "sh"]);
        let seen = run.stdout(&["--", "sh", "-c", "sleep 1; ls -d /proc/[0-9]*"]);
        let caps =
            seen.lines().filter(|line| line.starts_with("Cap")).map(|line| line.split('\t').nth(1).unwrap());
        let processes = if caller == Caller::Root { 2 } else { 1 };
        assert!(
            caps.clone().count() == 2 * processes
                && caps
                    .clone()
                    .all(|caps| ["0000000000001020", "0000000000001000", "0000000000000000"].contains(&caps)),
            "{seen}"
        );
        assert!(seen.contains("NoNewPrivs:\t1"), "{seen}");
        assert!(seen.lines().filter(|line| line.starts_with("/proc/")).count() <= 2, "{seen}");
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
fn explains_what_happens() {
    let rootfs = ["--rootfs", busybox().to_str().unwrap()];
    explain::tells_what_happens(STAGE, &callers(), &[&[], &rootfs, &["--net", "private"]]);
}

#[test]
fn explains_what_failed() {
    let foreign = "ip link add br0 type bridge";
    for caller in roots() {
        explain::tells_what_failed(STAGE, caller, foreign, &["--", "true"], "IFLA_IFNAME=\"br0\"", "EEXIST");
    }
    // In the container, and then the network is removed.
    let root = support::open_directory();
    for part in [".old_root", "dev"] {
        std::fs::create_dir(root.path().join(part)).unwrap();
    }
    for caller in callers() {
        let rootfs = ["--rootfs", root.path().to_str().unwrap()];
        explain::tells_what_failed(STAGE, caller, "", &rootfs, "mount(\"proc\", ", "ENOENT");
    }
    let (arguments, call) = (["--net", "host", "--", "true"], "IFLA_INFO_KIND=\"bridge\"");
    explain::tells_what_failed(STAGE, Caller::User, "", &arguments, call, "EPERM");
}

#[test]
fn explains_what_changed() {
    explain::shows_what_changed(STAGE, &callers(), &[&[], &["--net", "private"]]);
}

#[test]
fn explains_what_the_script_does() {
    explain::agrees_with_the_script(STAGE, "5-net.sh", &roots().collect::<Vec<_>>(), &["--bare"]);
}

#[test]
fn explains_for_free_when_off() {
    explain::is_free_when_off(STAGE, &callers(), &[]);
}

/// While the host's process, the keeper, and the container's process ask.
const QUESTIONS: [&str; 3] = ["clone(", "RTM_NEWLINKPROP(", "pivot_root("];

#[test]
fn steps_on_the_host() {
    let options = ["--net", "host", "--rootfs", busybox().to_str().unwrap()];
    for caller in roots() {
        explain::steps_to_the_prompt(STAGE, caller, &options);
        explain::can_be_stopped(STAGE, caller, &options, &QUESTIONS);
    }
}

#[test]
fn steps_with_a_private_network() {
    let options = ["--net", "private", "--rootfs", busybox().to_str().unwrap()];
    explain::steps_to_the_prompt(STAGE, Caller::User, &options);
    explain::can_be_stopped(STAGE, Caller::User, &options, &QUESTIONS);
}
