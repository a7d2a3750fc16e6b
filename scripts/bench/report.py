#!/usr/bin/env python3
"""Ratios, tables and charts of scripts/bench.sh, which calls it in the directory with the figures."""

import glob
import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

GROUPS = {"1": "stage 1", "2": "stage 2", "3": "stage 3", "4": "stage 4", "host": "5, host", "private": "5, private"}
NAMES = ["stage", "unshare", "unshare, LC_ALL=C", "floor", "static floor", "bubblewrap", "crun", "runc", "by hand"]
# The most that a stage may need of what another program needs, by group.
TARGETS = {
    "unshare": {"1": 1.0, "2": 1.0, "3": 0.9, "4": 0.9},
    "floor": {"1": 1.1, "2": 1.1, "3": 1.1, "4": 1.1, "host": 1.1},
    "bubblewrap": {"4": 0.6},
    "by hand": {"host": 0.5, "private": 0.15},
    "runc": {"host": 0.25, "private": 0.25},
}
MEMORY_TARGETS = {"unshare, resident memory": 0.6, "unshare, private dirty memory": 1.0}


def rows(name):
    """The lines of a file, split at tabs."""
    return [line.split("\t") for line in Path(name).read_text().splitlines() if line]


def table(head, body):
    """A Markdown table with aligned columns, so that it is readable on a terminal as well."""
    lines = [head, *body]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    text = ["| " + " | ".join(cell.rjust(w) if at else cell.ljust(w) for at, (cell, w) in enumerate(zip(line, widths))) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 1) + ("-" if at == 0 else ":") for at, w in enumerate(widths)) + "|")
    return "\n".join(text)


def matrix(title, names, cell):
    """A table with a row for each name that has a figure, and a column for each group."""
    body = [[name] + [cell(name, group) or "" for group in GROUPS] for name in names]
    return table([title, *GROUPS.values()], [line for line in body if any(line[1:])])


def races():
    """The medians of all rounds, in microseconds: medians[group][name][round]."""
    medians = defaultdict(lambda: defaultdict(list))
    for name in sorted(glob.glob("race-*.json")):
        for result in json.loads(Path(name).read_text())["results"]:
            medians[name.split("-")[1]][result["command"]].append(result["median"] * 1e6)
    return medians


def ratio(medians, group, name, other):
    """The median of the rounds' ratios, and the range of the middle half of them."""
    pairs = [a / b for a, b in zip(medians[group].get(name, []), medians[group].get(other, []))]
    if len(pairs) < 2:
        return (pairs * 3) or None
    low, middle, high = statistics.quantiles(pairs, n=4)
    return middle, low, high


def judged(value, most, spread=""):
    """A ratio beside its target, if it has one."""
    text = f"{value:.2f}{spread}"
    return text if most is None else f"{text}, max {most:.2f}" if value <= most else f"**{text}, max {most:.2f}**"


def memory():
    """By group and name: the sums of resident and private dirty memory of the processes that wait, in kB."""
    sums = defaultdict(lambda: [0, 0])
    for group, name, rss, dirty in rows("memory"):
        sums[group, name][0] += int(rss)
        sums[group, name][1] += int(dirty)
    return sums


def tables():
    """All tables, by the name of their place in the page."""
    medians, weights = races(), memory()
    calls = {(group, name): count for group, name, count in rows("calls")}
    facts = rows("facts")

    def time(name, group):
        return f"{statistics.median(medians[group][name]):,.0f}" if name in medians[group] else None

    def stage_of(other, group):
        if other in MEMORY_TARGETS:
            at, unshare = list(MEMORY_TARGETS).index(other), weights.get((group.replace("host", "private"), "unshare"))
            return judged(weights[group, "stage"][at] / unshare[at], MEMORY_TARGETS[other])
        found = ratio(medians, group, "stage", other)
        return found and judged(found[0], TARGETS.get(other, {}).get(group), f" ({found[1]:.2f}–{found[2]:.2f})")

    def weight(name, group):
        return "{:,} / {:,}".format(*weights[group, name]) if (group, name) in weights else None

    return {
        "machine": "\n".join(f"- {row[1]}" for row in facts if row[0] == "machine")
        + "\n- " + "; ".join(row[1] for row in facts if row[0] == "versions" and row[1]),
        "ratios": matrix("stage's of …'s", [*NAMES[1:], *MEMORY_TARGETS], stage_of),
        "times": matrix("median, µs", NAMES, time),
        "memory": matrix("resident / private dirty, kB", NAMES, weight),
        "calls": matrix("system calls", NAMES, lambda name, group: calls.get((group, name))),
        "sizes": "; ".join(f"{row[1]} {int(row[2]) / 1000:,.0f} kB" for row in facts if row[0] == "size"),
        "where": where(),
    }  # fmt: skip


WAITING = {"wait4", "waitid", "read", "poll", "ppoll", "restart_syscall"}


def where(most=7):
    """The system calls that take longest, in microseconds a start; those that wait for the other process left out."""
    total = defaultdict(lambda: defaultdict(float))
    for group, call, milliseconds in rows("where"):
        if call not in WAITING:
            total[call][group] += float(milliseconds) * 1000 / 20
    names = sorted(total, key=lambda call: -max(total[call].values()))[:most]
    return matrix("µs a start", names, lambda call, group: f"{total[call][group]:,.0f}" if group in total[call] else None) if names else "(perf is not installed)"


def counts(recorded, write):
    weights, calls = memory(), {group: count for group, _, count in rows("calls")}
    now = {group: [int(calls[group]), weights[group, "stage"][1]] for group in GROUPS}
    path = Path(recorded)
    if write:
        head = "# Written by bench.sh --counts --write. A stage with /bin/true: system calls, and private dirty kB of the processes that wait.\n"
        lines = [f"{group:8} {count:4} calls {dirty:4} kB\n" for group, (count, dirty) in now.items()]
        path.write_text(head + "".join(lines))
        print("".join([head, *lines]), end="")
        return
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    before = {line[0]: [int(word) for word in line[1:] if word.isdigit()] for line in lines}
    worse, body = False, []
    for group, values in now.items():
        # In stage 5 the number of replies that one recvmsg(2) returns varies a little.
        limits = [before[group][0] * (1 if group in "1234" else 1.02), before[group][1] * 1.1 + 16]
        more = any(value > limit for value, limit in zip(values, limits))
        worse |= more
        pairs = [f"{value:,} ({old:,})" for value, old in zip(values, before[group])]
        body.append([GROUPS[group], *pairs, "WORSE" if more else "as recorded" if values[0] == before[group][0] else "changed"])
    print(table(["now (recorded)", "system calls", "private dirty kB", ""], body))
    if worse:
        sys.exit("bench.sh: worse than recorded; if that is intended, run bench.sh --counts --write")


INK = "#010203"  # replaced by the text colour of the reader's page
COLOURS = {"stage": "#2f81f7", "floor": "#8b949e", "static floor": "#b6bdc4", "unshare": "#d29922", "bubblewrap": "#a371f7"}


def charts(directory, growth):
    import matplotlib

    matplotlib.use("svg")
    style = {f"{key}.color": INK for key in ("text", "xtick", "ytick", "grid")} | {"axes.labelcolor": INK, "axes.edgecolor": INK}
    style |= {"svg.fonttype": "none", "svg.hashsalt": "bench", "grid.alpha": 0.2, "axes.spines.top": False, "axes.spines.right": False}
    matplotlib.rcParams.update(style | {"legend.frameon": False, "axes.axisbelow": True})
    from matplotlib import pyplot

    def save(figure, name):
        figure.tight_layout()
        path = directory / name
        figure.savefig(path, transparent=True, metadata={"Date": None})
        css = "<style>svg{color:#1f2328}@media (prefers-color-scheme:dark){svg{color:#e6edf3}}text{font-family:system-ui,sans-serif}</style>"
        text = re.sub(r"(<svg [^>]*>)", lambda match: match[1] + css, path.read_text().replace(INK, "currentColor"), count=1)
        path.write_text(re.sub(r"[ \t]+$", "", text, flags=re.M))

    medians = races()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.4))
    for i, (name, colour) in enumerate(COLOURS.items()):
        at = [n for n in range(1, 5) if name in medians[str(n)]]
        left.bar([n + (i - 2) * 0.16 for n in at], [statistics.median(medians[str(n)][name]) / 1000 for n in at], 0.15, label=name, color=colour)
    left.set_xticks(range(1, 5), [f"stage {n}" for n in range(1, 5)])
    left.set(title="Start and end of one container", ylabel="ms, median")
    left.grid(axis="y")
    left.legend(fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.08), columnspacing=1, handlelength=1)
    bars = {name: statistics.median(times) / 1000 for name, times in medians["private"].items() if name in [*COLOURS, "crun", "runc"]}
    bars |= {f"{name}, host": statistics.median(times) / 1000 for name, times in medians["host"].items() if name in ("stage", "floor")}
    bars["by hand"] = statistics.median(medians["host"]["by hand"]) / 1000
    names = sorted(bars, key=bars.get, reverse=True)
    drawn = right.barh(names, [bars[name] for name in names], color=[COLOURS.get(name.removesuffix(", host"), "#3fb950") for name in names])
    right.bar_label(drawn, fmt="%.1f", padding=3, fontsize=8)
    right.set(title="With a network namespace (stage 5)", xlabel="ms, median, logarithmic scale", xscale="log")
    right.grid(axis="x")
    save(figure, "times.svg")

    figure, axis = pyplot.subplots(figsize=(7, 4))
    lines = [[float(re.sub("[^0-9.]", "", cell) or 0) for cell in line.split("|")[1:-1]] for line in growth if re.match(r"\| *\d", line)]
    for column, label in (2, "until all answer"), (4, "until all are gone"):
        axis.plot([line[0] for line in lines], [line[column] / 1000 for line in lines], marker="o", markersize=4, label=label)
    axis.set(title="Many containers of stage 5 on one bridge, started at once", xscale="log", yscale="log", xlabel="containers", ylabel="seconds")
    axis.grid()
    axis.legend()
    save(figure, "growth.svg")


def page(directory, runs):
    directory, growth = Path(directory), Path("growth").read_text().splitlines()
    parts = tables() | {"growth": "\n".join(line for line in growth if line.startswith("|"))}
    parts["machine"] += f"\n- {runs} runs of each program, in stage 5 {-(-int(runs) // 100) * 20}"
    charts(directory, growth)
    path = directory / "README.md"
    text = path.read_text()
    for name, part in parts.items():
        text, found = re.subn(rf"(<!-- {name} -->\n)(?:.+\n)*", lambda match: f"{match[1]}{part}\n", text)
        if not found:
            sys.exit(f"bench.sh: {path} has no line <!-- {name} -->")
    path.write_text(text)
    print(f"{parts['ratios']}\n\nwritten: {path} and its charts")


def bundle(path, rootfs, *command):
    """Changes what `runc spec` has written: this root file system, this command, no terminal."""
    config = json.loads(Path(path).read_text())
    config["process"] |= {"terminal": False, "args": command}
    config["root"] = {"path": rootfs, "readonly": False}
    Path(path).write_text(json.dumps(config))


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    if word == "tables":
        print("\n\n".join(part for name, part in tables().items() if name != "where"))
        if rest == ["quick"]:
            print("\nbench.sh: every measurement works; a quick run judges nothing")
    else:
        {"counts": counts, "page": page, "bundle": bundle}[word](*rest)
