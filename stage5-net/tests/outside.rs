//! Stage 5 with `--nat` and `--publish`: out to the world, and back in.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use nix::unistd::geteuid;
use support::{Caller, Run, busybox, callers, not_tried, text};

const STAGE: &str = env!("CARGO_BIN_EXE_stage5-net");

const UPLINK: &str = include_str!("../../common/tests/support/uplink.sh");

const SERVERS: &str = include_str!("../../common/tests/support/servers.sh");

/// Both callers, if the tests run as root: the world needs it.
fn travellers() -> Vec<Caller> {
    if geteuid().is_root() {
        return callers();
    }
    not_tried("a world outside of the host: run the tests as root");
    vec![]
}

/// On a host with an uplink, prepared further.
fn run(caller: Caller, prepare: &str) -> Run {
    Run::new(STAGE, caller).prepare(&format!("{UPLINK}\n{prepare}"))
}

/// A script on the host, in which `"$@"` is the stage and `world` runs a command out there.
fn script(caller: Caller, prepare: &str, script: &str) -> String {
    let world = "world() { ip netns exec world \"$@\"; }; PATH=/usr/bin:/bin:/usr/sbin:/sbin; ";
    let script = format!("{world}{script}");
    let stage = support::reachable(STAGE);
    let mut words = vec!["-c".into(), script, "sh".into()];
    if caller == Caller::User {
        words.extend(support::as_the_user());
    }
    words.push(stage.to_str().unwrap().into());
    let words = words.iter().map(String::as_str).collect::<Vec<_>>();
    let prepare = format!("{UPLINK}\n{prepare}");
    Run::new("sh", Caller::Root)
        .prepare(&prepare)
        .stdout(&words)
}

#[test]
fn the_world_answers() {
    for caller in travellers() {
        let script = "ping -n -c 1 -W 20 198.51.100.200; curl -sSm 20 http://leopard.example.test/";
        for root in [&[][..], &["--rootfs", busybox().to_str().unwrap()]] {
            let is_host = root.is_empty();
            let script = if is_host {
                script
            } else {
                "ping -c 1 -W 20 198.51.100.200; wget -qO - http://leopard.example.test/"
            };
            let words = [root, &["--nat", "--", "sh", "-c", script]].concat();
            let said = run(caller, SERVERS).stdout(&words);
            let answers = said.contains("1 packets received") || said.contains("1 received");
            assert!(
                answers && said.ends_with("the world\n"),
                "{caller:?}: {said}"
            );
        }
    }
}

#[test]
fn without_it_the_network_is_unreachable() {
    for caller in travellers() {
        let output = run(caller, "").output(&["ping", "-c", "1", "198.51.100.200"]);
        assert!(
            text(&output.stderr).contains("Network is unreachable"),
            "{output:?}"
        );
    }
}

#[test]
fn names_are_resolved_by_servers_that_can_be_reached() {
    for caller in travellers() {
        let said = run(caller, "").stdout(&["--nat", "cat", "/etc/resolv.conf"]);
        let server = match caller {
            Caller::Root => "198.51.100.1",
            Caller::User => "169.254.1.1",
        };
        assert_eq!(said, format!("nameserver {server}\nsearch example.test\n"));
    }
    if travellers().contains(&Caller::Root) {
        // Where the host's only server is systemd-resolved, its own servers.
        let stub = "mkdir -p /run/systemd/resolve; echo nameserver 127.0.0.53 >/run/resolv.conf; \
                    echo nameserver 198.51.100.1 >/run/systemd/resolve/resolv.conf";
        let host = run(Caller::Root, stub);
        let said = host.stdout(&["--nat", "cat", "/etc/resolv.conf"]);
        assert_eq!(said, "nameserver 198.51.100.1\n");
        let none = "echo nameserver 127.0.0.53 >/run/resolv.conf";
        let host = run(Caller::Root, none);
        let output = host.output(&["--nat", "cat", "/etc/resolv.conf"]);
        assert!(
            text(&output.stderr).contains("names do not resolve inside"),
            "{output:?}"
        );
    }
}

#[test]
fn apt_get_update() {
    let apt = r#"
        mkdir -p /tmp/apt/etc /tmp/apt/state /tmp/apt/cache && cd /tmp/apt && : >status
        echo 'deb [trusted=yes] http://repository.example.test/ ./' >etc/sources.list
        apt() { "$@" -o Dir::Etc=/tmp/apt/etc -o Dir::State=/tmp/apt/state -o Dir::State::status=/tmp/apt/status \
            -o Dir::Cache=/tmp/apt/cache -o APT::Sandbox::User=root; }
        apt apt-get -q update && apt apt-cache policy leopard"#;
    for caller in travellers() {
        if !std::path::Path::new("/usr/bin/apt-get").exists() {
            return not_tried("apt-get update: this host has no apt-get");
        }
        let said = run(caller, SERVERS).stdout(&["--nat", "--", "sh", "-c", apt]);
        assert!(said.contains("Candidate: 4.2"), "{caller:?}: {said}");
    }
}

/// A web server inside that says "inside".
const SERVER: &str =
    "mkdir /tmp/www; echo inside >/tmp/www/index.html; exec busybox httpd -f -h /tmp/www";

#[test]
fn a_published_port() {
    for caller in travellers() {
        let said = script(
            caller,
            "",
            &format!(
                r#""$@" --publish 0.0.0.0:8080:80 --publish 8081:80 -- sh -c '{SERVER}' & stage=$!
                ask() {{ "$@" curl -sS --noproxy '*' -m 20 "http://$to/"; }}
                to=127.0.0.1:8080
                until [ "$(ask env 2>/dev/null)" = inside ]; do sleep 0.05; done
                to=198.51.100.9:8080; echo "world: $(ask world)"
                to=127.0.0.1:8081; echo "host: $(ask env)"
                to=198.51.100.9:8081; ask world 2>&1 | grep -o 'Failed to connect\|refused' | head -n 1
                "$@" --publish 8080:80 true 2>&1
                kill $stage; wait $stage
                to=127.0.0.1:8080; ask env 2>&1 | grep -o 'Failed to connect' | head -n 1"#
            ),
        );
        let lines = said.lines().collect::<Vec<_>>();
        assert_eq!(
            lines[..3],
            ["world: inside", "host: inside", "Failed to connect"],
            "{caller:?}"
        );
        assert!(
            lines[3].contains("EADDRINUSE") && lines[4].starts_with("hint: "),
            "{said}"
        );
        assert_eq!(lines[5..], ["Failed to connect"], "{caller:?}: {said}");
    }
}

#[test]
fn a_stage_says_what_is_missing() {
    for caller in travellers() {
        let alone = Run::new(STAGE, caller).prepare(
            "mount -t tmpfs -o mode=755 tmpfs /dev/net; mknod -m 666 /dev/net/tun c 10 200",
        );
        let said = alone.failure(1, &["--nat", "true"]);
        assert!(
            said.contains("no default route") || said.contains("No external"),
            "{said}"
        );
    }
    for caller in travellers() {
        // nft is missing, pasta ends at once.
        let (prepare, expected) = match caller {
            Caller::Root => (
                "mount -t tmpfs tmpfs /usr/sbin",
                "hint: --nat needs nft: apt install nftables",
            ),
            Caller::User => (
                "mount --bind /bin/true /usr/bin/pasta",
                "pasta: has ended, without a message",
            ),
        };
        let said = run(caller, prepare).failure(1, &["--nat", "true"]);
        assert!(said.contains(expected), "{said}");
    }
    if travellers().contains(&Caller::Root) {
        let said = run(Caller::Root, "").failure(1, &["--nat", "--net", "private", "true"]);
        assert!(said.contains("leave out --net private"), "{said}");
    }
    for caller in travellers() {
        let said = run(caller, "").failure(1, &["--publish", "8080", "true"]);
        assert!(said.contains("a published port looks like"), "{said}");
    }
    if travellers().contains(&Caller::User) {
        let said = run(Caller::User, "").failure(1, &["--publish", "80:80", "true"]);
        assert!(said.contains("EACCES") && said.contains("8080"), "{said}");
    }
}

#[test]
fn two_containers() {
    if !travellers().contains(&Caller::Root) {
        return;
    }
    let said = script(
        Caller::Root,
        "",
        r#"forwarding() { cat /proc/sys/net/ipv4/conf/eth0/forwarding; }
        ready() { until [ -e /run/$1 ]; do sleep 0.02; done; }
        start() { name=$1; shift; mkfifo /run/end.$name; { "$@"; } </run/end.$name & eval "$name=$!"; }
        start plain "$@" sh -c 'echo; read -r x' >/run/plain
        exec 5>/run/end.plain; until [ -s /run/plain ]; do sleep 0.02; done; forwarding
        start first "$@" --nat sh -c 'echo; read -r x' >/run/first
        exec 6>/run/end.first; until [ -s /run/first ]; do sleep 0.02; done; forwarding
        nft list tables | wc -l
        "$@" --nat sh -c 'ping -qc 1 -W 20 172.20.1.4 && ping -qc 1 -W 20 198.51.100.200' | grep -c ' 0% packet loss'
        forwarding; nft list tables | wc -l
        # A neighbour that routes to the subnet does not get in.
        world ip route add 172.20.1.0/24 via 198.51.100.9
        world ping -qc 1 -W 1 172.20.1.4 >/dev/null || echo closed
        exec 6>&-; wait $first; forwarding; nft list tables | wc -l
        ip -o link show br0 | grep -c alias
        exec 5>&-; wait $plain
        ip -o link show br0 2>&1 | grep -c 'does not exist'"#,
    );
    let expected = "0\n1\n1\n2\n1\n1\nclosed\n0\n0\n0\n1\n";
    assert_eq!(said, expected);
}

/// What other programs have done stays: forwarding that was on, or that is on for all links since.
#[test]
fn forwarding_of_others_stays() {
    if !travellers().contains(&Caller::Root) {
        return;
    }
    let said = script(
        Caller::Root,
        "",
        r#"state() { cat /proc/sys/net/ipv4/conf/eth0/forwarding; }
        echo 1 >/proc/sys/net/ipv4/conf/eth0/forwarding; "$@" --nat true; state
        echo 0 >/proc/sys/net/ipv4/conf/eth0/forwarding
        "$@" --nat sh -c 'echo; read -r x' </run/log >/dev/null
        mkfifo /run/end; "$@" --nat sh -c 'echo; read -r x' </run/end >/run/said & exec 5>/run/end
        until [ -s /run/said ]; do sleep 0.02; done
        echo 1 >/proc/sys/net/ipv4/ip_forward
        exec 5>&-; wait; state"#,
    );
    assert_eq!(said, "1\n1\n");
}

/// `kill -9` of the stage, the janitor, both, at any moment: the host is as before, after the next run at the
/// latest.
#[test]
fn killed_at_any_moment() {
    if !travellers().contains(&Caller::Root) {
        return;
    }
    let said = script(
        Caller::Root,
        "",
        r#"state() { # sysctls, links, rules
            cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/forwarding
            echo /proc/sys/net/ipv4/conf/*; nft list tables
        }
        before=$(state)
        kill_one() { # stage, janitor or both; after 0 to 96 ms, or once the container runs
            : >/run/said
            "$stage" --nat --publish 8080:80 sh -c 'echo; exec sleep 60' >/run/said & pid=$!
            if [ "$2" = ready ]; then until [ -s /run/said ]; do sleep 0.01; done; else sleep "0.0$2"; fi
            janitor=$(pgrep -P $pid | head -n 1)
            case $1 in
                stage) kill -9 $pid ;;
                janitor) kill -9 $janitor; kill $pid ;;
                both) kill -9 $pid $janitor ;;
            esac
            wait $pid
            # Everything of it ends by itself, the janitor last; the kernel deletes the veth.
            while pgrep -x 'stage5-net|nft|sleep' >/run/left; do sleep 0.02; done
            while grep -q veth /proc/net/dev; do sleep 0.01; done
        }
        stage=$1
        for round in $(seq 17); do for whom in stage janitor both; do for when in ready $((round % 10))$((round % 7)); do
            kill_one $whom $when
            # Without a janitor the next run restores.
            [ $whom = stage ] || "$stage" true
            [ "$(state)" = "$before" ] || { echo "$whom, $when: $(state)"; exit; }
            echo >>/run/count
        done; done; done 2>/dev/null
        wc -l </run/count"#,
    );
    assert_eq!(said, "102\n");
}

/// The stage is killed as it starts to wait, before the command has asked to die with it. The proxy starts
/// slowly, and must not keep the pipe open that tells the container's process of this end.
#[test]
fn killed_while_the_proxy_starts() {
    if !travellers().contains(&Caller::Root) {
        return;
    }
    let said = script(
        Caller::Root,
        "",
        r#"strace -fqq -o /run/log -e trace=prctl,getppid,wait4,poll -e inject=wait4:signal=SIGKILL \
            -e inject=prctl:delay_enter=1s:when=1 -e inject=getppid:delay_enter=3s \
            "$1" --nat --publish 8080:80 sh -c 'echo the command runs'
        echo "status: $?"; grep -c POLLHUP /run/log"#,
    );
    assert_eq!(said, "status: 137\n1\n");
}

#[test]
fn pasta_ends_with_the_stage() {
    if !travellers().contains(&Caller::User) {
        return;
    }
    let said = script(
        Caller::User,
        "",
        r#"left() { ps -eo comm= | grep -cE '^(stage5-net|nft|pas(ta|st).*|sleep)$'; }
        "$@" --nat true; echo "left: $(left)"
        for round in $(seq 20); do
            : >/run/said
            "$@" --nat sh -c 'echo; exec sleep 60' >/run/said & pid=$!
            if [ $((round % 2)) = 0 ]; then
                until [ -s /run/said ]; do sleep 0.01; done
                left >>/run/running
            else
                sleep 0.0$((round % 10))
            fi
            kill -9 $pid; wait $pid
            until [ "$(left)" = 0 ]; do sleep 0.01; done
        done 2>/dev/null
        sort -u /run/running"#,
    );
    assert_eq!(said, "left: 0\n4\n");
}

/// `scripts/by-hand/6-outside.sh`, beside a container that has no way out.
#[test]
fn by_hand() {
    if !travellers().contains(&Caller::Root) {
        return;
    }
    let by_hand = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../scripts/by-hand/6-outside.sh"
    );
    let said = script(
        Caller::Root,
        "",
        &format!(
            r#"state() {{ cat /proc/sys/net/ipv4/conf/eth0/forwarding; nft list tables; }}
            mkfifo /run/end
            "$@" sh -c 'echo; read -r x; ping -qc 1 -W 20 198.51.100.200' </run/end >/run/said & exec 5>/run/end
            until [ -s /run/said ]; do sleep 0.02; done
            : >/run/by-hand; {by_hand} "$(pgrep -P $! | tail -n 1)" 5>&- >/run/by-hand & script=$!
            until grep -q 'way out' /run/by-hand; do kill -0 $script; sleep 0.02; done
            state; exec 5>&-; wait; grep -c ' 0% packet loss' /run/said; state"#
        ),
    );
    assert_eq!(said, "1\ntable ip outside\n1\n0\n");
}

/// `examples/exec.rs`: the second command has the walls of the first.
#[test]
fn a_second_command_has_the_same_walls() {
    let exec = std::path::Path::new(STAGE).with_file_name("examples/exec");
    let walls = r#"cd /proc/$0; readlink ns/*; grep -E "^(Cap|NoNewPrivs|Seccomp|[UG]id)" status"#;
    for caller in callers() {
        let directory = support::open_directory();
        let copy = directory.path().join("exec");
        assert!(exec.exists(), "cargo build --examples");
        std::fs::copy(&exec, &copy).unwrap();
        let exec = copy.display();
        let script = format!(
            r#"out=$(mktemp); "$@" sh -c 'echo; exec sleep 60' >$out & stage=$!
            until [ -s $out ]; do sleep 0.02; done; rm $out; pid=$(pgrep -P $stage -x sleep)
            {exec} $pid -- sh -c '{walls}' 1; {exec} $pid -- sh -c '{walls}' self
            {exec} $pid -- sh -c 'exit 7'; echo $?; kill $stage; wait $stage"#
        );
        let run = Run::new(STAGE, caller).under(&["sh", "-c", &script, "sh"]);
        let said = text(&run.output(&[]).stdout);
        let lines = said.lines().collect::<Vec<_>>();
        let (walls, status) = lines.split_at(lines.len() - 1);
        let (first, second) = walls.split_at(walls.len() / 2);
        assert!(first.len() > 10 && first == second, "{caller:?}: {said}");
        assert_eq!(status, ["7"]);
    }
}

/// Between joining and execve(2) it has the caller's environment and descriptors.
#[test]
fn a_second_command_shows_nothing_of_the_caller() {
    let exec = std::path::Path::new(STAGE).with_file_name("examples/exec");
    for caller in callers() {
        let directory = support::open_directory();
        let copy = directory.path().join("exec");
        std::fs::copy(&exec, &copy).unwrap();
        let exec = copy.display();
        let script = format!(
            r#"out=$(mktemp)
            "$@" sh -c 'echo; until grep -sqa SPOTS= /proc/[0-9]*/environ; do :; done; echo seen' >$out & stage=$!
            until [ -s $out ]; do sleep 0.02; done; pid=$(pgrep -P $stage | tail -n 1)
            for round in $(seq 25); do SPOTS=leopard {exec} $pid -- true; done
            kill -9 $pid; wait $stage; cat $out; rm $out"#
        );
        let run = Run::new(STAGE, caller).under(&["sh", "-c", &script, "sh"]);
        assert_eq!(text(&run.output(&[]).stdout), "\n", "{caller:?}");
    }
}

/// It would have root's id on the host, in a container whose programs are another user's.
#[test]
fn a_second_command_is_root_inside_only() {
    if !travellers().contains(&Caller::Root) {
        return;
    }
    let exec = std::path::Path::new(STAGE).with_file_name("examples/exec");
    let said = script(
        Caller::User,
        "",
        &format!(
            r#""$@" sh -c 'echo; exec sleep 60' >/run/out & stage=$!
            until [ -s /run/out ]; do sleep 0.02; done
            {} $(pgrep -P $stage -x sleep) -- id 2>&1 | head -n 1; kill $stage; wait $stage || :"#,
            exec.display()
        ),
    );
    assert_eq!(said, "exec: the caller is not root inside\n");
}

/// Without PATH the current directory is not searched.
#[test]
fn nft_is_the_hosts() {
    if !travellers().contains(&Caller::Root) {
        return;
    }
    let said = script(
        Caller::Root,
        "",
        r#"cd /run; printf '#!/bin/sh\n/bin/echo mine >/run/mine\n' >nft; chmod +x nft
        env -i "$@" --nat /bin/echo yours; [ ! -e /run/mine ]"#,
    );
    assert_eq!(said, "yours\n");
}

/// A neighbour of the host does not get through it to its other networks, unless another program lets it in.
#[test]
fn the_host_is_no_router_for_its_neighbours() {
    if !travellers().contains(&Caller::Root) {
        return;
    }
    let said = script(
        Caller::Root,
        "",
        r#"ip netns add other; ip link add other0 type veth peer name eth0 netns other
        ip addr add 10.9.0.1/24 dev other0; ip link set other0 up
        other() { ip netns exec other "$@"; }
        other ip addr add 10.9.0.2/24 dev eth0; other ip link set eth0 up; other ip route add default via 10.9.0.1
        echo 1 >/proc/sys/net/ipv4/conf/other0/forwarding
        world ip route add 10.9.0.0/24 via 198.51.100.9
        mkfifo /run/end; "$@" --nat sh -c 'echo; read -r x' </run/end >/run/out & exec 5>/run/end
        until [ -s /run/out ]; do sleep 0.02; done
        world ping -qc 1 -W 1 10.9.0.2 >/dev/null || echo closed
        nft 'add table ip n; add chain ip n p { type nat hook prerouting priority dstnat; }
             add rule ip n p ip daddr 198.51.100.9 icmp type echo-request dnat to 10.9.0.2'
        world ping -qc 1 -W 20 198.51.100.9 | grep -c ' 0% packet loss'
        exec 5>&-; wait; ip link del other0; ip netns del other"#,
    );
    assert_eq!(said, "closed\n1\n");
}

#[test]
fn explains_what_happens() {
    let publish = ["--publish", "8080:80"];
    let both = [&["--nat"], &publish[..]].concat();
    let rootfs = ["--nat", "--rootfs", busybox().to_str().unwrap()];
    explain::shows_what_happens_on(UPLINK, STAGE, &travellers(), &[&both, &publish, &rootfs]);
}
