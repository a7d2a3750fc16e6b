//! Files of /proc and /sys that are read as text: proc(5).

use std::{fs, path::Path};

/// The text, without white space around it; empty if the file cannot be read.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().into()
}

/// A field of a text such as /proc/PID/status. `name` ends with a colon.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.map(str::trim)
}

/// The same of a field that is a set of bits, such as `CapEff:`.
pub(crate) fn bits(text: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(field(text, name)?, 16).ok()
}

/// The first line of this process's uid map: the id inside, the id outside, how many. `None` if it
/// cannot be read.
pub(crate) fn first_mapped() -> Option<[u32; 3]> {
    let map = read("/proc/self/uid_map");
    let mut numbers = map.split_whitespace().map_while(|word| word.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

/// The mount points of the lines of /proc/self/mountinfo that `wanted` accepts, with the line and its mount point.
pub(crate) fn mount_points(wanted: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mounts = read("/proc/self/mountinfo");
    let found = mounts.lines().filter_map(|line| {
        let point = line.split(' ').nth(4)?;
        wanted(line, point).then(|| point.into())
    });
    found.collect()
}
