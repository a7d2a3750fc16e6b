//! What a step changes: facts before and after it.

use crate::namespaces::kinds;
use crate::proc;
use nix::sched::CloneFlags;
use std::{fs, mem::replace};

/// One thing that can be looked at: what it is (`mount`), its name, and its state.
pub(crate) struct Fact {
    pub(super) what: &'static str,
    pub(super) name: String,
    state: String,
}

impl Fact {
    pub(crate) fn new(
        what: &'static str,
        name: impl Into<String>,
        state: impl Into<String>,
    ) -> Self {
        let (name, state) = (name.into(), state.into());
        Self { what, name, state }
    }

    /// A process: its id on the host, and as its state its id in its own PID namespace.
    pub(crate) fn process(number: &str) -> Self {
        let status = proc::read(format!("/proc/{number}/status"));
        let ids = proc::field(&status, "NSpid:");
        let own = ids.and_then(|ids| ids.split_whitespace().last());
        Self::new("process", number, own.unwrap_or(number))
    }

    /// The namespaces of a process, as `lsns` shows them: kind and inode. `process` is `self` or a number.
    pub(crate) fn namespaces(process: &str, flags: CloneFlags) -> Vec<Self> {
        let fact = |(name, _)| {
            let link = fs::read_link(format!("/proc/{process}/ns/{name}")).unwrap_or_default();
            let link = link.display().to_string(); // such as `uts:[4026531838]`
            let inode = link.trim_matches(|c: char| !c.is_ascii_digit());
            Self::new("namespace", name, inode)
        };
        kinds(flags).map(fact).collect()
    }
}

/// A fact whose state has changed. `None` is a state before the thing was there, or afterwards.
pub(super) struct Change<'a> {
    pub(super) fact: &'a Fact,
    pub(super) before: Option<&'a str>,
    pub(super) after: Option<&'a str>,
}

pub(super) fn changes<'a>(before: &'a [Fact], after: &'a [Fact]) -> Vec<Change<'a>> {
    let state = |facts: &'a [Fact], fact: &Fact| {
        let same = |other: &&Fact| (other.what, &other.name) == (fact.what, &fact.name);
        facts.iter().find(same).map(|found| &*found.state)
    };
    let is_new = |fact: &&Fact| state(before, fact).is_none();
    let all = before.iter().chain(after.iter().filter(is_new));
    let change = |fact| {
        let (before, after) = (state(before, fact), state(after, fact));
        let change = Change {
            fact,
            before,
            after,
        };
        (before != after).then_some(change)
    };
    all.filter_map(change).collect()
}

/// Changes in words. Of several mounts only the directories are shown.
pub(super) fn texts(changes: &[Change<'_>]) -> Vec<String> {
    let is_mount = |change: &&Change<'_>| change.fact.what == "mount";
    let mounts = changes.iter().filter(is_mount).count();
    let mut label = "";
    let text = |change: &Change<'_>| {
        let Fact { what, name, .. } = change.fact;
        let show = |state: &str| match *what {
            "mount" if mounts > 1 => state.split(' ').next().unwrap_or_default().into(),
            "mount" | "address" | "route" => state.into(),
            _ => format!("{name} {state}"),
        };
        let text = match (change.before, change.after) {
            (Some(old), Some(new)) if show(old) == show(new) => format!("~{}", show(new)),
            (Some(old), Some(new)) if *what == "mount" => format!("{} -> {}", show(old), show(new)),
            (Some(old), Some(new)) => format!("{} -> {new}", show(old)),
            (None, Some(new)) => format!("+{}", show(new)),
            (old, None) => format!("-{}", show(old.unwrap_or_default())),
        };
        let is_labelled = replace(&mut label, what) == *what;
        if is_labelled {
            text
        } else {
            format!("{what} {text}")
        }
    };
    changes.iter().map(text).collect()
}
