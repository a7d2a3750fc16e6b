//! Stage 3 beside `unshare -uUrpf --mount-proc`.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use support::{Run, callers};

const STAGE: &str = env!("CARGO_BIN_EXE_stage3-pid");
const BY_HAND: [&str; 2] = ["-uUrpf", "--mount-proc"];

#[test]
fn the_command_is_process_1_and_sees_no_other() {
    for caller in callers() {
        let script = "echo $$; cd /proc; echo [0-9]*; hostname";
        assert_eq!(Run::new(STAGE, caller).stdout(&["--", "sh", "-c", script]), "1\n1\nleopard\n");
        let ps = Run::new(STAGE, caller).stdout(&["ps", "-eo", "pid,user,args"]);
        assert_eq!(ps.split_whitespace().collect::<Vec<_>>()[3..].join(" "), "1 root ps -eo pid,user,args");
    }
}

#[test]
fn is_as_unshare_makes_it() {
    const FACTS: &str =
        "hostname; id; cat /proc/self/uid_map /proc/mounts; grep Cap /proc/self/status; ls -d /proc/[0-9]*";
    for caller in callers() {
        let script = format!("hostname leopard; {FACTS}");
        let by_hand = Run::new("unshare", caller).stdout(&[&BY_HAND[..], &["sh", "-c", &script]].concat());
        assert_eq!(Run::new(STAGE, caller).stdout(&["--", "sh", "-c", FACTS]), by_hand);
    }
}

/// The optional fields of mountinfo are `shared:N` and `master:N`; the numbers are any.
#[test]
fn propagates_as_unshare_does() {
    const FIELDS: &str = r"sed -E 's/^([^ ]+ ){4}//; s/:[0-9]+/:N/g; s/ - .*//' /proc/self/mountinfo";
    for caller in callers() {
        let mut seen = vec![];
        for propagation in ["private", "slave", "shared", "unchanged"] {
            let arguments = ["--propagation", propagation, "sh", "-c", FIELDS];
            let shared = "mount --make-rshared /";
            let by_hand =
                Run::new("unshare", caller).prepare(shared).stdout(&[&BY_HAND[..], &arguments].concat());
            let stage = Run::new(STAGE, caller).prepare(shared).stdout(&arguments);
            // unshare makes /proc private before it mounts the new one over it; here the new user
            // namespace has cut it off from the host already.
            let root = |mounts: &str| mounts.lines().find(|line| line.starts_with("/ ")).map(str::to_string);
            assert_eq!(root(&stage), root(&by_hand), "{propagation}: {stage}");
            seen.push(root(&stage).unwrap());
        }
        assert!(
            !seen[0].contains(':') && seen[1].contains("master:") && seen[2].contains("shared:"),
            "{seen:?}"
        );
        assert!(Run::new(STAGE, caller).failure(1, &["--propagation", "x", "true"]).contains("'x'"));
    }
}

#[test]
fn says_why_proc_cannot_be_mounted() {
    for caller in callers() {
        let masked = Run::new(STAGE, caller).prepare("mount -t tmpfs none /proc/fs");
        let message = masked.failure(1, &["true"]);
        let call = "mount(\"proc\", \"/proc\", \"proc\", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL): EPERM: ";
        assert!(message.contains(call), "{message}");
        assert!(
            message.contains("an outer container hides parts of /proc") && message.contains(": /proc/"),
            "{message}"
        );
    }
}

#[test]
fn runs_its_command() {
    support::runs_its_command(STAGE, &callers(), &[]);
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
    support::helps(STAGE, "unshare -uUrpf --mount-proc");
}

#[test]
fn controls_jobs() {
    support::controls_jobs(STAGE, &callers(), &[]);
}

#[test]
fn explains_what_happens() {
    explain::tells_what_happens(STAGE, &callers(), &[&[], &["--propagation", "slave"]]);
}

#[test]
fn explains_what_failed() {
    for caller in callers() {
        let (masked, call) = ("mount -t tmpfs none /proc/fs", "mount(\"proc\", \"/proc\"");
        explain::tells_what_failed(STAGE, caller, masked, &["--", "true"], call, "EPERM");
    }
}

#[test]
fn explains_what_changed() {
    explain::shows_what_changed(STAGE, &callers(), &[&[]]);
}

#[test]
fn explains_what_the_script_does() {
    explain::agrees_with_the_script(STAGE, "3-pid.sh", &callers(), &[]);
}

#[test]
fn explains_for_free_when_off() {
    explain::is_free_when_off(STAGE, &callers(), &[]);
}
