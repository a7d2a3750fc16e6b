//! Writes `config.json`, with which runc and crun start the container of stage 5: an OCI bundle.
//!
//! Usage: `oci_bundle [OPTION]... BUNDLE [COMMAND [ARG]...]`, then `runc run --bundle BUNDLE NAME`. The
//! options are those of stage 5 that a bundle has a field for. See [config.md] of the OCI runtime specification.
//!
//! [config.md]: https://github.com/opencontainers/runtime-spec/blob/main/config.md
#![allow(missing_docs, reason = "a program")]

use clap::Parser;
use common::beyond::MASKED_SYS;
use common::beyond::limits::{self, PERIOD};
use common::confine::{self, First, MASKED, READ_ONLY, Rule};
use common::namespaces::{NEWNET, NEWNS, NEWPID, NEWUSER, NEWUTS, kinds};
use common::{Command, idmap, network, rootfs, uts};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{IsTerminal, stdin, stdout};
use std::{env, fs, path::PathBuf, process::ExitCode};

/// Writes an OCI bundle that is the container of stage 5
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    uts: uts::Options,
    #[command(flatten)]
    idmap: idmap::Options,
    #[command(flatten)]
    rootfs: rootfs::Options,
    #[command(flatten)]
    network: network::Options,
    #[command(flatten)]
    confine: confine::Options,
    #[command(flatten)]
    limits: limits::Options,
    /// Write it for `unshare -Urnm`, in which an ordinary user is root
    #[arg(long)]
    unshared: bool,
    /// Directory for config.json; it is created
    bundle: PathBuf,
    #[command(flatten)]
    command: Command,
}

fn main() -> ExitCode {
    match write(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oci_bundle: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(args: &Args) -> Result<(), Box<dyn Error>> {
    let root = rootfs::find(&args.rootfs, &args.idmap, false)?;
    let rootfs::Root::Directory { path: root, tree } = root else {
        return Err("a bundle needs a root file system of its own".into());
    };
    if tree.is_some() {
        return Err("--map auto: a bundle has no field for a root whose owners are mapped".into());
    }
    let [users, groups] = match args.unshared {
        true => [vec![[0, 0, 1]], vec![[0, 0, 1]]],
        false => args.idmap.lines()?,
    };
    let masked = MASKED.iter().map(|name| format!("/proc/{name}"));
    let masked = masked.chain(MASKED_SYS.iter().map(|name| format!("/sys/{name}")));
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": root },
        "hostname": args.uts.hostname, // stage 1: hostname leopard
        "process": process(args),
        "mounts": mounts(),
        "linux": {
            "namespaces": namespaces(args), // unshare -uUpfmn, and -i and -C
            "uidMappings": map(&users), // stage 2: unshare -r
            "gidMappings": map(&groups),
            "rootfsPropagation": "private", // stage 4: mount --make-rprivate /
            "maskedPaths": masked.collect::<Vec<_>>(),
            "readonlyPaths": READ_ONLY.map(|name| format!("/proc/{name}")),
            "seccomp": seccomp(&args.confine),
            "resources": resources(&args.limits),
        },
    });
    // Only root can change the host's network.
    if users[0][1] == 0 {
        config["hooks"] = hooks(&args.network)?;
    }
    fs::create_dir_all(&args.bundle)?;
    fs::write(
        args.bundle.join("config.json"),
        serde_json::to_string_pretty(&config)?,
    )?;
    Ok(())
}

/// The command, and what it may do.
fn process(args: &Args) -> Value {
    let words = args.command.words.iter().map(|word| word.to_string_lossy());
    let mut words = words.collect::<Vec<_>>();
    let mut environment = vec![format!("PATH={}", env::var("PATH").unwrap_or_default())];
    environment.extend(env::var("TERM").map(|term| format!("TERM={term}")));
    if words.is_empty() {
        words.push("/bin/sh".into());
        environment.push("PS1=-> ".into());
    }
    let kept = args.confine.capabilities();
    json!({
        "terminal": stdin().is_terminal() && stdout().is_terminal(),
        "user": { "uid": 0, "gid": 0 },
        "args": words,
        "env": environment,
        "cwd": "/",
        "capabilities": { "bounding": kept, "permitted": kept, "effective": kept },
        "noNewPrivileges": true,
    })
}

/// Stages 3 and 4. The runtime puts the devices into /dev; a file such as /tmp/leopard.txt has no place
/// in a bundle.
fn mounts() -> Value {
    let mount = |kind: &str, target: &str, options: &str| {
        let options = options.split(',').collect::<Vec<_>>();
        json!({ "type": kind, "source": kind, "destination": target, "options": options })
    };
    let pts = "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620";
    json!([
        mount("proc", "/proc", "nosuid,nodev,noexec"),
        mount("sysfs", "/sys", "ro,nosuid,nodev,noexec"),
        mount("tmpfs", "/tmp", "nosuid,nodev"),
        mount("tmpfs", "/dev", "nosuid,nodev,mode=755"),
        mount("devpts", "/dev/pts", pts),
        mount("tmpfs", "/dev/shm", "nosuid,nodev,mode=1777"),
    ])
}

fn namespaces(args: &Args) -> Vec<Value> {
    let all = NEWUTS | NEWUSER | NEWPID | NEWNS | NEWNET | args.confine.namespaces();
    let name = |name| match name {
        "mnt" => "mount",
        "net" => "network",
        _ => name,
    };
    let names = kinds(all).map(|(kind, _)| json!({ "type": name(kind) }));
    names.collect()
}

fn map(lines: &[[u32; 3]]) -> Value {
    let line = |[inside, outside, count]: &[u32; 3]| json!({ "containerID": inside, "hostID": outside, "size": count });
    lines.iter().map(line).collect()
}

/// What the container may use. `swap` is the sum of memory and swap, so there is none.
fn resources(limits: &limits::Options) -> Value {
    let mut all = json!({});
    if let Some(bytes) = limits.memory.as_deref().and_then(limits::in_bytes) {
        all["memory"] = json!({ "limit": bytes, "swap": bytes });
    }
    if let Some(pids) = limits.pids {
        all["pids"] = json!({ "limit": pids });
    }
    if let Some(cpus) = limits.cpus {
        let microseconds = |number: f64| format!("{number:.0}").parse::<u64>().unwrap_or(0);
        let (quota, period) = (microseconds(cpus * PERIOD), microseconds(PERIOD));
        all["cpu"] = json!({ "quota": quota, "period": period });
    }
    all
}

/// The filter of system calls.
fn seccomp(confine: &confine::Options) -> Value {
    let rule = |rule: Rule| {
        let mut call = json!({
            "names": [rule.name], "action": "SCMP_ACT_ERRNO", "errnoRet": rule.errno as i32,
        });
        let first = rule.first.map(|first| match first {
            First::Is(value) => json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }),
            First::HasBit(bit) => {
                json!({ "index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ" })
            }
        });
        if let Some(first) = first {
            call["args"] = json!([first]);
        }
        call
    };
    let calls = confine.rules().map(rule).collect::<Vec<_>>();
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls })
}

/// Stage 5. A bundle has no field for links, so a hook adds them on the host, as the slide does; its stdin
/// has the process id. An ordinary user cannot, and has only `lo`.
fn hooks(network: &network::Options) -> Result<Value, common::Error> {
    let (bridge, address) = (&network.bridge, network.bridge_addr);
    let (host, container) = network.addresses()?;
    let create = format!(
        "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')
        ip link add {bridge} type bridge
        trap 'ip link del {bridge}' EXIT
        ip addr add {address} dev {bridge}
        ip link set {bridge} up
        ip link add veth0 type veth peer name veth1 netns $pid
        ip link set veth0 master {bridge}
        ip addr add {host} dev veth0
        ip link set veth0 up
        inside() {{ nsenter -t $pid -n ip \"$@\"; }}
        inside link set lo up
        inside link set veth1 addrgenmode none
        inside addr add {container} dev veth1
        inside link set veth1 up
        trap - EXIT"
    );
    // veth0 may have gone with veth1.
    let delete = format!("ip link del veth0 2>/dev/null || :; ip link del {bridge}");
    let hook = |text: &str| {
        let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        json!([{ "path": "/bin/sh", "args": ["sh", "-euc", text], "env": [path] }])
    };
    Ok(json!({ "createRuntime": hook(&create), "poststop": hook(&delete) }))
}
