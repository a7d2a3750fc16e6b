#!/usr/bin/env python3
"""The arithmetic, tables and charts of bench.sh, which calls it in the directory with the figures."""

import glob
import json
import os
import statistics
import sys
from collections import defaultdict

STAGES = {"1": "stage1-uts", "2": "stage2-user", "3": "stage3-pid", "4": "stage4-mount", "5": "stage5-net"}


def rows(name):
    """The lines of a file, tab-separated; none if there is no such file."""
    if not os.path.exists(name):
        return []
    with open(name, encoding="utf-8") as lines:
        return [line.rstrip("\n").split("\t") for line in lines if line.strip()]


def table(head, body, right=True):
    """A Markdown table, its columns aligned, so that a terminal shows it as well."""
    body = [[str(cell) for cell in row] for row in body]
    widths = [max(len(row[i]) for row in [head] + body) for i in range(len(head))]

    def line(cells):
        padded = [cell.ljust(w) if i == 0 or not right else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if right and i else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(head), rule] + [line(row) for row in body])


# --- times -----------------------------------------------------------------------------------------


def races():
    """By group and command, the times of each round, in microseconds."""
    groups = defaultdict(lambda: defaultdict(dict))
    for name in glob.glob("race-*.json"):
        group, number = name[len("race-") : -len(".json")].rsplit("-", 1)
        with open(name, encoding="utf-8") as file:
            for result in json.load(file)["results"]:
                groups[group][result["command"]][int(number)] = [time * 1e6 for time in result["times"]]
    return groups


def ratio(group, one, other):
    """The median of the rounds' ratios of medians, and the half of the rounds around it."""
    if one not in group or other not in group:
        return None
    pairs = [statistics.median(group[one][i]) / statistics.median(group[other][i]) for i in group[one]]
    low, _, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else pairs * 3
    return statistics.median(pairs), low, high


def merged(times):
    return [time for part in times.values() for time in part]


def two(value):
    return "" if value is None else f"{value[0]:.2f}"


TITLES = {
    "1": "Stage 1, `/bin/true`",
    "2": "Stage 2, `/bin/true`",
    "3": "Stage 3, `/bin/true`",
    "4": "Stage 4, the root file system's `/bin/true`",
    "4-oci": "Stage 4, and what takes ten times as long",
    "5": "Stage 5, the root file system's `/bin/true`",
}


def times_tables():
    parts = []
    groups = races()
    for key in sorted(groups):
        group = groups[key]
        floors = ["floor", "floor, static"] if key != "5" else ["floor, host", "floor, private"]
        base = "by hand" if key in ("5", "4-oci") else "unshare"
        head = ["", "runs", "median us", "minimum us", f"of {base}"] + [f"of {f}" for f in floors if f in group]
        body = []
        for name in sorted(group, key=lambda name: statistics.median(merged(group[name]))):
            times = merged(group[name])
            row = [name, len(times), f"{statistics.median(times):,.0f}", f"{min(times):,.0f}", two(ratio(group, name, base))]
            body.append(row + [two(ratio(group, name, f)) for f in floors if f in group])
        parts.append(f"{TITLES.get(key, key)}:\n\n{table(head, body)}")
    return "\n\n".join(parts)


# --- targets ---------------------------------------------------------------------------------------


def weights():
    """By group and program, the sum over its processes of resident, proportional, private dirty memory in kB."""
    total = defaultdict(lambda: [0, 0, 0, 0])
    for group, name, *values in rows("memory"):
        entry = total[group, name]
        for i, value in enumerate(values):
            entry[i] += int(value)
        entry[3] += 1
    return total


def targets():
    groups = races()
    found = []

    def limit(what, value, at_most, spread=""):
        if value is not None:
            found.append([what, f"{at_most:.2f}", f"{value:.2f}{spread}", "met" if value <= at_most else "MISSED"])

    def race(what, key, one, other, at_most):
        value = ratio(groups.get(key, {}), one, other)
        if value is not None:
            limit(what, value[0], at_most, f" ({value[1]:.2f} to {value[2]:.2f})")

    for n, most in ("1", 1.0), ("2", 1.0), ("3", 0.9), ("4", 0.9):
        race(f"stage {n} of unshare", n, "stage", "unshare", most)
    for n in "1234":
        race(f"stage {n} of the floor", n, "stage", "floor", 1.1)
    race("stage 4 of bubblewrap", "4", "stage", "bubblewrap", 0.6)
    race("stage 5, private, of by hand", "5", "stage, private", "by hand", 0.15)
    race("stage 5, host, of by hand", "5", "stage, host", "by hand", 0.5)
    race("stage 5, host, of the floor", "5", "stage, host", "floor, host", 1.1)
    race("stage 5, host, of runc", "5", "stage, host", "runc", 0.25)
    race("stage 5, private, of runc", "5", "stage, private", "runc", 0.25)
    memory = weights()
    for key in ("1", "stage"), ("2", "stage"), ("3", "stage"), ("4", "stage"), ("5", "stage, host"), ("5", "stage, private"):
        if key not in memory or (key[0], "unshare") not in memory:
            continue
        ours, theirs = memory[key], memory[key[0], "unshare"]
        name = f"stage {key[0]}{key[1][len('stage'):]}"
        limit(f"{name}: resident memory of unshare's", ours[0] / theirs[0], 0.6)
        limit(f"{name}: private dirty memory of unshare's", ours[2] / theirs[2], 1.0)
    return table(["target", "at most", "measured", ""], found)


def memory_table():
    body = []
    memory = weights()
    for group, name in memory:
        rss, pss, dirty, processes = memory[group, name]
        body.append([group, name, processes, rss, pss, dirty])
    head = ["stage", "who waits", "processes", "resident kB", "proportional kB", "private dirty kB"]
    return table(head, sorted(body, key=lambda row: row[0]))


def calls_table():
    return table(["stage", "program", "system calls"], sorted(rows("calls"), key=lambda row: row[0]))


def sizes_table():
    body = [[STAGES.get(n, name), f"{int(size):,}"] for n, name, size in rows("sizes")]
    return table(["program", "bytes"], body)


def conditions():
    facts = dict(row for row in rows("machine") if len(row) == 2)
    virtual = facts.get("virtual")
    text = [f"- {facts['machine']}{f' (a virtual machine: {virtual})' if virtual not in (None, 'none') else ''}; {facts['kernel']}"]
    text.append(f"- stages built with {facts['compiler']}; " + "; ".join(facts[name] for name in ("unshare", "bubblewrap", "hakoniwa", "runc", "crun", "youki") if facts.get(name)))
    text.append(f"- load when it began: {facts['load']}")
    gone = [row[0] for row in rows("missing")]
    text.append("- peers that were missing: " + ("; ".join(gone) if gone else "none"))
    return "\n".join(text)


def times(runs, quick=False):
    print(f"{conditions()}\n\n{times_tables()}\n")
    print("Who waits while the container runs:\n\n" + memory_table() + "\n")
    print("System calls, the command's own and those of all helpers included:\n\n" + calls_table() + "\n")
    print(sizes_table() + "\n")
    if quick:
        print("bench.sh: everything works; a smoke run judges no times")
    else:
        print(targets())


# --- bundles ---------------------------------------------------------------------------------------


def bundle(path, rootfs, stage):
    """The runtime's own template, on this root file system; for stage 4 without a network of its own."""
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/true"]
    config["root"] = {"path": rootfs, "readonly": False}
    if stage == "4":
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
        # A new sysfs is for whoever owns the network namespace.
        config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "sysfs"]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)


def command(path, *words):
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config["process"]["args"] = words
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    if word == "times":
        times(rest[0], "--quick" in rest)
    elif word == "bundle":
        bundle(*rest)
    elif word == "command":
        command(*rest)
    else:
        sys.exit(f"report.py: unknown: {word}")
