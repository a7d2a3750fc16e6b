//! Stage 2 beside `unshare -uUr` and `unshare -uU`.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use support::{Caller, Run, USER, callers, has};

const STAGE: &str = env!("CARGO_BIN_EXE_stage2-user");
const FACTS: &str =
    "hostname; id; cd /proc/self; cat uid_map gid_map setgroups; grep -E 'Cap|NoNew' status";

#[test]
fn the_caller_is_root_inside_as_unshare_makes_it() {
    for caller in callers() {
        let script = format!("hostname leopard; {FACTS}");
        let by_hand = Run::new("unshare", caller).stdout(&["-uUr", "sh", "-c", &script]);
        let stage = Run::new(STAGE, caller).stdout(&["--", "sh", "-c", FACTS]);
        assert_eq!(stage, by_hand);
        assert!(
            stage.starts_with("leopard\nuid=0(root) gid=0(root)"),
            "{stage}"
        );
        let outside = if caller == Caller::Root { 0 } else { USER };
        assert!(
            caller == Caller::User && outside != USER || stage.contains(&format!(" {outside} ")),
            "{stage}"
        );
    }
}

#[test]
fn without_a_map_nobody_is_anybody() {
    for caller in callers() {
        let by_hand = Run::new("unshare", caller).stdout(&[
            "-uU",
            "sh",
            "-c",
            "id; grep Cap /proc/self/status",
        ]);
        let stage = Run::new(STAGE, caller);
        assert_eq!(
            stage.stdout(&[
                "--map",
                "none",
                "sh",
                "-c",
                "id; grep Cap /proc/self/status"
            ]),
            by_hand
        );
        assert!(
            by_hand.starts_with("uid=65534(nobody) gid=65534(nogroup)"),
            "{by_hand}"
        );
        // The hostname is set before the command is executed, which costs it the capabilities.
        assert_eq!(stage.stdout(&["--map", "none", "hostname"]), "leopard\n");
        assert!(
            !stage
                .output(&["--map", "none", "hostname", "ocelot"])
                .status
                .success()
        );
    }
}

#[test]
fn says_why_there_is_no_user_namespace() {
    for caller in callers() {
        let none = "unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"' sh \"$@\"";
        let message = Run::new(STAGE, caller)
            .under(&["sh", "-c", none, "sh"])
            .failure(1, &["true"]);
        has(
            &message,
            &["clone(CLONE_NEWUTS|CLONE_NEWUSER|SIGCHLD): ENOSPC: "],
        );
        has(&message, &["user.max_user_namespaces is 0"]);
    }
}

/// Distributions whose AppArmor takes the capabilities away have this sysctl, and refuse the map.
/// Here a file in its place and a tracer play them.
#[test]
fn recognises_the_apparmor_restriction() {
    let sysctl = "mount -t tmpfs none /proc/sys/kernel; echo 1 > /proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    let refuse = "inject=write:error=EPERM:when=1";
    let refuse = ["strace", "-fqq", "-o", "/dev/null", "-e", refuse];
    if callers().contains(&Caller::Root) {
        let message = Run::new(STAGE, Caller::User)
            .prepare(sysctl)
            .under(&refuse)
            .failure(1, &["true"]);
        has(
            &message,
            &["/uid_map, \"0 65533 1\", 9): EPERM: Operation not permitted\nhint: AppArmor"],
        );
        let message = Run::new(STAGE, Caller::User)
            .under(&refuse)
            .failure(1, &["true"]);
        assert!(
            !message.contains("hint"),
            "no such sysctl, no such hint: {message}"
        );
    }
}

#[test]
fn runs_its_command() {
    support::runs_its_command(STAGE, &callers(), &[]);
}

/// Only where root inside is root outside, and for a reader at a terminal.
#[test]
fn warns_of_an_open_container() {
    for caller in callers() {
        let run = Run::new(STAGE, caller);
        let seen = |words: &[&str]| support::at_a_terminal(&run, words).exp_eof().unwrap();
        let is_root = caller == Caller::Root;
        assert_eq!(seen(&["true"]).contains("this container is open"), is_root);
        if is_root {
            assert_eq!(seen(&["--map", "auto", "true"]), "");
        }
    }
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
    support::helps(STAGE, "unshare -uUr");
}

#[test]
fn controls_jobs() {
    support::controls_jobs(STAGE, &callers(), &[]);
}

#[test]
fn stops_with_its_command() {
    support::stops_with_its_command(STAGE, &callers());
}

#[test]
fn explains_what_happens() {
    explain::shows_what_happens(STAGE, &callers(), &[&[], &["--map", "none"]]);
}

#[test]
fn explains_what_failed() {
    explain::shows_a_refused_map(STAGE, &callers());
    for caller in callers() {
        let command = ["--", "/proc/version"];
        explain::shows_what_failed(
            STAGE,
            caller,
            "",
            &command,
            "execvpe(\"/proc/version\"",
            "EACCES",
        );
    }
}

#[test]
fn changes_can_be_replayed() {
    explain::changes_can_be_replayed(STAGE, &callers(), &[&[]]);
}

#[test]
fn the_explanation_is_a_recipe() {
    explain::is_a_recipe(STAGE, "2", &callers(), &[]);
}

#[test]
fn explains_for_free_when_off() {
    explain::is_free_when_off(STAGE, &callers(), &[]);
}

#[test]
fn steps() {
    for caller in callers() {
        explain::steps_to_the_prompt(STAGE, caller, &[]);
        explain::steps_at_the_terminal(STAGE, caller);
        explain::can_be_stopped(
            STAGE,
            caller,
            &[],
            &["unshare -uU", "/uid_map", "hostname leopard"],
        );
    }
}

#[test]
fn the_explanation_is_short() {
    explain::is_short(STAGE, &callers(), &[&[]], 14, &["unshare -uU", "/uid_map"]);
}

#[test]
fn passes_a_hangup_on() {
    support::passes_a_hangup_on(STAGE, &callers(), &[]);
}

#[test]
fn goes_on_when_only_the_command_is_stopped() {
    support::goes_on_when_only_the_command_is_stopped(STAGE, &callers());
}

/// The stage is killed when it has started the child, before the child has asked the kernel to be killed with
/// it: a tracer delays that prctl(2).
#[test]
fn a_command_never_runs_without_its_stage() {
    let script = r#"cd "$(mktemp -d)"; strace -fqq -o log -e inject=prctl:delay_enter=1000000:when=1 "$@" 2>said & strace=$!
        until grep -q 'container .*read(pipe) = 1' said; do sleep 0.05; done
        kill -KILL $(cat /proc/$strace/task/$strace/children); wait $strace; echo end; rm -r "$PWD""#;
    for caller in callers() {
        let run = Run::new(STAGE, caller).under(&["sh", "-c", script, "sh"]);
        assert_eq!(run.stdout(&["--explain=calls", "echo", "ran"]), "end\n");
    }
}

/// Where /proc belongs to another PID namespace, the child's number there is another process, whose map must
/// stay as it is. A map is written through the number that /proc has for the child.
#[test]
fn the_map_of_another_process_is_never_written() {
    // The victim's number outside is the child's number inside.
    let script = r#"unshare -U sleep 60 & victim=$!
        until [ "$(readlink /proc/$victim/ns/user)" != "$(readlink /proc/$$/ns/user)" ]; do sleep 0.05; done
        unshare -pf sh -c 'echo $(($1 - 2)) >/proc/sys/kernel/ns_last_pid; shift; "$@"; :' sh $victim "$@"
        echo "map: $(cat /proc/$victim/uid_map)"; kill $victim; wait"#;
    for caller in callers() {
        if caller == Caller::User {
            continue; // who cannot write ns_last_pid
        }
        let seen = Run::new(STAGE, caller)
            .under(&["sh", "-c", script, "sh"])
            .stdout(&["id", "-u"]);
        assert_eq!(seen, "0\nmap: \n");
    }
}

/// In a session of its own the command does not get the keys of the terminal: the stage passes them on.
#[test]
fn ctrl_c_reaches_a_command_in_another_session() {
    for caller in callers() {
        let mark = support::mark();
        let run = Run::new(STAGE, caller);
        let mut terminal = support::at_a_terminal(&run, &["--", "setsid", "sleep", &mark]);
        support::within_a_minute(|| !support::running(&mark).is_empty());
        terminal.send_control('c').unwrap();
        terminal.exp_eof().unwrap();
        assert!(support::running(&mark).is_empty());
    }
}

#[test]
fn says_why_there_are_no_more_processes() {
    for caller in callers() {
        if caller == Caller::User {
            // The number of this user's processes counts on the whole machine.
            let limit = ["prlimit", "--nproc=1:1"];
            let message = Run::new(STAGE, caller).under(&limit).failure(1, &["true"]);
            has(&message, &["EAGAIN: ", "\nhint: "]);
            assert!(
                message.contains("limit") || message.contains("allows"),
                "{message}"
            );
        }
    }
}
