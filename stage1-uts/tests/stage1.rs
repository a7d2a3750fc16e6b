//! Stage 1 beside `unshare -u`.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../common/tests/support/explain.rs"]
mod explain;
#[path = "../../common/tests/support/mod.rs"]
mod support;

use support::{Caller, Run, callers, has};

const STAGE: &str = env!("CARGO_BIN_EXE_stage1-uts");
const NAMESPACES: &str = "readlink /proc/self/ns/*";

/// Root, where the tests run as root: the stage takes it.
fn root() -> Vec<Caller> {
    callers()
        .into_iter()
        .filter(|&caller| caller == Caller::Root)
        .collect()
}

#[test]
fn has_its_own_hostname_and_shares_the_rest() {
    for caller in root() {
        let run = Run::new(STAGE, caller);
        assert_eq!(run.stdout(&["hostname"]), "leopard\n");
        assert_eq!(
            run.stdout(&["--hostname", "ocelot", "--", "hostname"]),
            "ocelot\n"
        );
        let script = format!("{NAMESPACES}; exec \"$@\"");
        let both = run
            .under(&["sh", "-c", &script, "sh"])
            .stdout(&["sh", "-c", NAMESPACES]);
        let lines = both.lines().collect::<Vec<_>>();
        let (outside, inside) = lines.split_at(lines.len() / 2);
        let differ = outside
            .iter()
            .zip(inside)
            .filter(|(outside, inside)| outside != inside);
        let differ = differ.map(|(outside, _)| outside.split(':').next().unwrap_or_default());
        assert_eq!(differ.collect::<Vec<_>>(), ["uts"]);
    }
}

#[test]
fn is_as_unshare_makes_it() {
    const FACTS: &str =
        "hostname; id; cat /proc/self/uid_map; grep Cap /proc/self/status; cat /proc/mounts";
    for caller in root() {
        let script = format!("hostname leopard; {FACTS}");
        let by_hand = Run::new("unshare", caller).stdout(&["-u", "sh", "-c", &script]);
        assert_eq!(
            Run::new(STAGE, caller).stdout(&["--", "sh", "-c", FACTS]),
            by_hand
        );
    }
}

#[test]
fn without_root_it_says_why_and_what_else() {
    let message = Run::new(STAGE, Caller::User).failure(1, &["true"]);
    assert!(message.starts_with(
        "stage1-uts: clone(CLONE_NEWUTS|SIGCHLD): EPERM: Operation not permitted\nhint: "
    ));
    has(&message, &["needs CAP_SYS_ADMIN", "stage2-user"]);
}

#[test]
fn runs_its_command() {
    support::runs_its_command(STAGE, &root(), &[]);
}

/// Real-time signals have numbers, no names.
#[test]
fn ends_as_a_real_time_signal_ends_its_command() {
    for caller in root() {
        let words = ["-c", "\"$0\" sh -c 'kill -40 $$'; echo $?", STAGE];
        assert_eq!(Run::new("sh", caller).stdout(&words), "168\n");
    }
}

#[test]
fn passes_signals_on() {
    support::passes_signals_on(STAGE, &root(), &[]);
}

#[test]
fn refuses_hostnames() {
    support::refuses_hostnames(STAGE, &root());
}

#[test]
fn helps() {
    support::helps(STAGE, "unshare -u");
}

#[test]
fn controls_jobs() {
    support::controls_jobs(STAGE, &root(), &[]);
}

#[test]
fn stops_with_its_command() {
    support::stops_with_its_command(STAGE, &root());
}

#[test]
fn explains_what_happens() {
    explain::shows_what_happens(STAGE, &root(), &[&[], &["--hostname", "ocelot"]]);
}

#[test]
fn explains_what_failed() {
    let call = "clone(CLONE_NEWUTS|SIGCHLD)";
    explain::shows_what_failed(STAGE, Caller::User, "", &["--", "true"], call, "EPERM");
}

#[test]
fn changes_can_be_replayed() {
    explain::changes_can_be_replayed(STAGE, &root(), &[&[]]);
}

#[test]
fn the_explanation_is_a_recipe() {
    explain::is_a_recipe(STAGE, "1", &root(), &[]);
}

#[test]
fn explains_for_free_when_off() {
    explain::is_free_when_off(STAGE, &root(), &[]);
}

#[test]
fn the_explanation_is_short() {
    explain::is_short(
        STAGE,
        &root(),
        &[&[]],
        8,
        &["unshare -u", "hostname leopard"],
    );
}

#[test]
fn passes_a_hangup_on() {
    support::passes_a_hangup_on(STAGE, &root(), &[]);
}

#[test]
fn goes_on_when_only_the_command_is_stopped() {
    support::goes_on_when_only_the_command_is_stopped(STAGE, &root());
}
