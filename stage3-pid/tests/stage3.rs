//! Stage 3 beside `unshare -uUrpf --mount-proc`.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use support::{Caller, Run, callers, has};

const STAGE: &str = env!("CARGO_BIN_EXE_stage3-pid");
const BY_HAND: [&str; 2] = ["-uUrpf", "--mount-proc"];

#[test]
fn the_command_is_process_1_and_sees_no_other() {
    for caller in callers() {
        let script = "echo $$; cd /proc; echo [0-9]*; hostname";
        assert_eq!(
            Run::new(STAGE, caller).stdout(&["--", "sh", "-c", script]),
            "1\n1\nleopard\n"
        );
        let ps = Run::new(STAGE, caller).stdout(&["ps", "-eo", "pid,user,args"]);
        assert_eq!(
            ps.split_whitespace().collect::<Vec<_>>()[3..].join(" "),
            "1 root ps -eo pid,user,args"
        );
    }
}

#[test]
fn is_as_unshare_makes_it() {
    // Of the mounts two: others of the machine may come and go meanwhile.
    const FACTS: &str = "hostname; id; cat /proc/self/uid_map; grep -E ' /(proc)? ' /proc/mounts
        grep Cap /proc/self/status; ls -d /proc/[0-9]*";
    for caller in callers() {
        let script = format!("hostname leopard; {FACTS}");
        let by_hand =
            Run::new("unshare", caller).stdout(&[&BY_HAND[..], &["sh", "-c", &script]].concat());
        assert_eq!(
            Run::new(STAGE, caller).stdout(&["--", "sh", "-c", FACTS]),
            by_hand
        );
    }
}

/// The optional fields of mountinfo are `shared:N` and `master:N`; the numbers are any.
#[test]
fn propagates_as_unshare_does() {
    const FIELDS: &str = r"sed -nE 's/^([^ ]+ ){4}//; s/:[0-9]+/:N/g; s/ - .*//; /^\/(mnt)? /p' /proc/self/mountinfo";
    for caller in callers() {
        let mut seen = vec![];
        for propagation in ["private", "slave", "shared", "unchanged"] {
            let arguments = ["--propagation", propagation, "sh", "-c", FIELDS];
            let shared = "mount -t tmpfs none /mnt; mount --make-rshared /";
            let by_hand = Run::new("unshare", caller)
                .prepare(shared)
                .stdout(&[&BY_HAND[..], &arguments].concat());
            let stage = Run::new(STAGE, caller).prepare(shared).stdout(&arguments);
            assert_eq!(stage, by_hand, "{propagation}");
            assert_eq!(stage.lines().count(), 2, "{stage}");
            seen.push(stage);
        }
        // Of several mounts that change, --explain shows the directories only.
        let words = ["--explain", "--propagation", "shared", "true"];
        let said = Run::new(STAGE, caller).output(&words).stderr;
        has(&support::text(&said), &["    mount ~/, ~/", " more\n"]);
        assert!(
            !seen[0].contains(':') && seen[1].contains("master:") && seen[2].contains("shared:"),
            "{seen:?}"
        );
        assert!(
            Run::new(STAGE, caller)
                .failure(1, &["--propagation", "x", "true"])
                .contains("'x'")
        );
    }
}

#[test]
fn says_why_proc_cannot_be_mounted() {
    for caller in callers() {
        let masked = Run::new(STAGE, caller).prepare("mount -t tmpfs none /proc/fs");
        let message = masked.failure(1, &["true"]);
        let call =
            "mount(\"proc\", \"/proc\", \"proc\", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL): EPERM: ";
        assert!(message.contains(call), "{message}");
        has(
            &message,
            &["an outer container hides parts of /proc", "(/proc/"],
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

/// How runs end whose PID 1 is this program. They get SIGTERM when it has printed a line.
fn ends(caller: Caller, program: &[&str]) -> String {
    let script = r#"for round in $(seq 30); do
        : >/run/said; "$@" >/run/said & stage=$!
        until [ -s /run/said ]; do sleep 0.01; done
        kill $stage; wait $stage; echo $?
    done 2>/dev/null | uniq -c"#;
    let stage = support::reachable(STAGE);
    let words = ["-c", script, "sh", stage.to_str().unwrap()];
    let run = Run::new("sh", caller).prepare("mount -t tmpfs -o mode=1777 tmpfs /run");
    run.stdout(&[&words[..], program].concat()).trim().into()
}

/// While a shell forks it blocks all signals, and PID 1 loses what arrives then.
#[test]
fn ends_a_shell_that_forks_all_the_time() {
    let shell = "echo; while [ $((i += 1)) -lt 9999 ]; do /bin/true; done";
    for caller in callers() {
        assert_eq!(ends(caller, &["sh", "-c", shell]), "30 143", "{caller:?}");
    }
}

/// An init that waits for signals, and is woken for orphans all the time.
#[test]
fn signals_an_init_that_is_busy() {
    let init = "import signal, os, subprocess
awaited = {signal.SIGTERM, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
subprocess.Popen(['sh', '-c', 'while [ $((i += 1)) -lt 9999 ]; do (/bin/true &); done'])
print(flush=True)
while signal.sigwaitinfo(awaited).si_signo != signal.SIGTERM:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: break
os._exit(5)";
    for caller in callers() {
        let python = ["python3", "-c", init];
        assert_eq!(ends(caller, &python), "30 5", "{caller:?}");
    }
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
    explain::shows_what_happens(STAGE, &callers(), &[&[], &["--propagation", "slave"]]);
}

#[test]
fn explains_what_failed() {
    for caller in callers() {
        let (masked, call) = ("mount -t tmpfs none /proc/fs", "mount(\"proc\", \"/proc\"");
        explain::shows_what_failed(STAGE, caller, masked, &["--", "true"], call, "EPERM");
    }
}

#[test]
fn changes_can_be_replayed() {
    explain::changes_can_be_replayed(STAGE, &callers(), &[&[]]);
}

#[test]
fn the_explanation_is_a_recipe() {
    explain::is_a_recipe(STAGE, "3", &callers(), &[]);
}

#[test]
fn explains_for_free_when_off() {
    explain::is_free_when_off(STAGE, &callers(), &[]);
}

#[test]
fn the_explanation_is_short() {
    explain::is_short(
        STAGE,
        &callers(),
        &[&[]],
        18,
        &["unshare -uUpfm", "mount -t proc proc /proc"],
    );
}

#[test]
fn passes_a_hangup_on() {
    support::passes_a_hangup_on(STAGE, &callers(), &[]);
}

#[test]
fn goes_on_when_only_the_command_is_stopped() {
    support::goes_on_when_only_the_command_is_stopped(STAGE, &callers());
}

/// PID 1 of a namespace ignores the signals that stop: it would go on, and read the terminal in vain. The
/// stage stops it first.
#[test]
fn stops_process_1_with_the_stage() {
    for caller in callers() {
        for (command, keys) in [("cat", "&"), ("sleep", "")] {
            let mark = support::mark();
            let words = if command == "cat" {
                vec!["--", "cat"]
            } else {
                vec!["--", "sleep", &mark]
            };
            let script = format!(
                "\"$@\" {keys}
                 until jobs -l | grep -q Stopped; do sleep 0.1; done
                 stage=$(jobs -p); for pid in $(cat /proc/$stage/task/$stage/children); do
                 sed 's/.*) //; s/ .*//; s/^/state /' /proc/$pid/stat; done; kill -KILL $stage; fg"
            );
            let run = Run::new(STAGE, caller).under(&[
                "bash",
                "--norc",
                "--noprofile",
                "-ic",
                &script,
                "bash",
            ]);
            let mut terminal = support::at_a_terminal(&run, &words);
            if command == "sleep" {
                support::within_a_minute(|| !support::running(&mark).is_empty());
                terminal.send_control('z').unwrap();
            }
            terminal.exp_string("state T").unwrap();
            terminal.exp_eof().unwrap();
        }
    }
}

/// A stack on which a stage could die of SIGSEGV, but which is enough for the environment and the start-up before
/// `main`.
#[test]
fn says_that_the_stack_is_too_small() {
    for caller in callers() {
        let small = ["sh", "-c", "ulimit -s 64; exec \"$@\"", "sh"];
        let message = Run::new(STAGE, caller).under(&small).failure(1, &["true"]);
        has(
            &message,
            &["the limit on the stack is 64 KiB\nhint: ulimit -s"],
        );
    }
}
