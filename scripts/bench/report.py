#!/usr/bin/env python3
"""The arithmetic, tables and charts of bench.sh, which calls it in the directory with the figures."""

import glob
import json
import os
import re
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
                groups[group][result["command"]][int(number.rstrip("+"))] = [time * 1e6 for time in result["times"]]
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
        parts.append(f"{TITLES[key]}:\n\n{table(head, body)}")
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
    if os.path.exists("missing"):
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


# --- counts ----------------------------------------------------------------------------------------

GROWTH = 1.05  # of the instructions; system calls may not become more


def read_counts(name):
    with open(name, encoding="utf-8") as file:
        lines = file.read().splitlines()
    compiler = [line for line in lines if line.startswith("#")][-1]
    words = [line.split() for line in lines if not line.startswith("#")]
    return compiler, {word[0]: (int(word[1]), int(word[4])) for word in words}


def counts(recorded):
    if not os.path.exists(recorded):
        sys.exit("bench.sh: nothing is recorded yet: bench.sh --counts --update")
    (their_compiler, before), (our_compiler, now) = read_counts(recorded), read_counts("counts")
    body, more, fewer = [], False, False
    for name in now:
        (calls, instructions), verdict = now[name], "not recorded"
        old_calls, old_instructions = before.get(name, (0, 0))
        if name not in before:
            more = True
        elif calls > old_calls * 1.01:  # how many events of links there are to read varies
            verdict, more = f"{calls - old_calls} MORE CALLS", True
        elif their_compiler == our_compiler and instructions > old_instructions * GROWTH:
            verdict, more = f"{instructions / old_instructions - 1:.0%} MORE INSTRUCTIONS", True
        elif calls < old_calls * 0.99 or instructions * GROWTH < old_instructions:
            verdict, fewer = "less than recorded", True
        else:
            verdict = "as recorded"
        body.append([name, calls, old_calls, f"{instructions:,}", f"{old_instructions:,}", verdict])
    print(table(["", "system calls", "recorded", "instructions", "recorded", ""], body))
    if their_compiler != our_compiler:
        print(f"instructions NOT COMPARED: recorded with {their_compiler[2:]}, counted with {our_compiler[2:]}")
    if more or fewer:
        print("bench.sh --counts --update records it as it is now")
    if more:
        sys.exit(1)


# --- where the time goes ----------------------------------------------------------------------------

LINE = re.compile(r"^\s*(.+)-(\d+)\s+\[\d+\]\s+\S+\s+([\d.]+): (\w+): (.*)$")
ASLEEP, USER, NOBODY = "asleep", "in user mode", "nobody runs"


class Process:
    """What a traced process does, as a list of (begin, what)."""

    def __init__(self, begin, what, image):
        self.steps = [(begin, what)]
        self.call = what
        self.image = image
        self.end = None

    def now(self, time, what):
        self.steps.append((time, what))

    def at(self, time):
        """What it does at this moment, or None before its begin and after its end."""
        if self.end is not None and time >= self.end:
            return None
        found = None
        for begin, what in self.steps:
            if begin > time:
                break
            found = what
        return found


def starts(trace, program, names):
    """Each start of `program` in the trace: its processes, oldest first, begin, end and page faults."""
    tree, first, faults, began = {}, None, 0, {}
    with open(trace, encoding="utf-8", errors="replace") as file:
        for line in file:
            match = LINE.match(line)
            if not match:
                if "LOST" in line:
                    sys.exit(f"bench.sh: the trace has lost events: {line.strip()}")
                continue
            pid, time, event, text = int(match[2]), float(match[3]) * 1e6, match[4], match[5]
            if event == "sys_enter":
                name = names.get(text.split()[1], text.split()[1])
                began[pid] = (time, name)
                if pid in tree:
                    tree[pid].call = name
                    if name == "execve":
                        name = "execve (of the command)"
                    tree[pid].now(time, name)
            elif event == "sys_exit" and pid in tree:
                tree[pid].call = None
                tree[pid].now(time, f"{USER} ({tree[pid].image})")
            elif event == "page_fault_user" and pid in tree:
                faults += 1
            elif event == "sched_process_exec":
                if f"filename={program} " in text and first is None and pid in began:
                    first, faults = pid, 0
                    tree = {pid: Process(began[pid][0], "execve (of the program)", "the program")}
                elif pid in tree:
                    tree[pid].image = "the command"
            elif event == "sched_process_fork" and pid in tree:
                child = int(re.search(r"child_pid=(\d+)", text)[1])
                tree[child] = Process(time, NOBODY, tree[pid].image)
            elif event == "sched_switch":
                out, state, into = re.search(r"prev_pid=(\d+) prev_prio=\d+ prev_state=(\S+) ==> .*next_pid=(\d+)", text).groups()
                out, into = int(out), int(into)
                if out in tree:
                    if state[0] in "ZX":
                        tree[out].end = time
                        if out == first:
                            yield list(tree.values()), tree[first].steps[0][0], time, faults
                            tree, first = {}, None
                            continue
                    elif state[0] == "S":
                        tree[out].now(time, ASLEEP)
                if into in tree:
                    process = tree[into]
                    process.now(time, process.call or f"{USER} ({process.image})")


def spent(processes, begin, end):
    """How the time from begin to end divides: at each moment, the youngest process that is not asleep, since
    the older ones wait for it."""
    moments = sorted({begin, end, *(time for process in processes for time, _ in process.steps), *(p.end for p in processes if p.end)})
    moments = [time for time in moments if begin <= time <= end]
    share = defaultdict(float)
    # The container comes before the keeper of the network, which is younger, but works beside it.
    order = processes[1:2] + processes[2:] + processes[:1]
    for time, until in zip(moments, moments[1:]):
        doing = next((what for what in (process.at(time) for process in order) if what not in (None, ASLEEP, NOBODY)), NOBODY)
        share[doing] += until - time
    return share


def divide():
    """By program, the mean of the half of its starts around the median: what takes how many microseconds."""
    names = {number: name for number, name in rows("syscalls")}
    result = {}
    for number, name, program in rows("where-names"):
        found = [(end - begin, spent(processes, begin, end), faults) for processes, begin, end, faults in starts(f"where-{number}", program, names)]
        if not found:
            sys.exit(f"bench.sh: no start of {program} in the trace")
        found.sort(key=lambda one: one[0])
        middle = found[len(found) // 4 : max(len(found) // 4 + 1, len(found) * 3 // 4)]
        total = defaultdict(float)
        for _, share, _ in middle:
            for what, time in share.items():
                total[what] += time / len(middle)
        result[name] = (dict(total), statistics.median(faults for *_, faults in middle), len(found))
    return result


WORDS = {NOBODY: "nobody runs: from one process to the next"}


def where_rows(divided, most=18):
    """The rows of the table: what is the largest part somewhere, the rest in one."""
    everything = {what for total, *_ in divided.values() for what in total}
    order = sorted(everything, key=lambda what: -max(total.get(what, 0) / sum(total.values()) for total, *_ in divided.values()))
    return order[:most], order[most:]


def where_table(divided):
    shown, rest = where_rows(divided)
    body = [[WORDS.get(what, what)] + [f"{total.get(what, 0):.0f}" if what in total else "" for total, *_ in divided.values()] for what in shown]
    body.append([f"{len(rest)} other system calls"] + [f"{sum(total.get(what, 0) for what in rest):.0f}" for total, *_ in divided.values()])
    body.append(["together, us"] + [f"{sum(total.values()):.0f}" for total, *_ in divided.values()])
    body.append(["page faults"] + [f"{faults:.0f}" for _, faults, _ in divided.values()])
    return table(["us"] + list(divided), body)


# --- growth ----------------------------------------------------------------------------------------

KINDS = {"stage4": "stage 4", "host": "stage 5, host", "private": "stage 5, private"}
MODES = {"one": "one after another", "all": "at once"}


def grown():
    """By kind, mode and count: when each was up, and all were gone, in us; memory in kB; how many were silent."""
    result = {}
    for name in glob.glob("grow-*-*-*"):
        match = re.fullmatch(r"grow-(\w+)-(one|all)-(\d+)", name)
        if not match:
            continue
        lines = [line[0].split() for line in rows(name)]
        times = [int(words[1]) for words in lines if words[0] in ("up", "silent")]
        silent = sum(words[0] == "silent" for words in lines)
        gone = [int(words[1]) for words in lines if words[0] == "gone"]
        memory = [int(word) for word in rows(name + ".memory")[0][0].split()[1:]] if rows(name + ".memory") else [0, 0, 0]
        result[match[1], match[2], int(match[3])] = (times, gone[0] if gone else None, memory, silent)
    return result


def growth_table(all_grown):
    body = []
    for kind in KINDS:
        for mode in MODES:
            for key in sorted(key for key in all_grown if key[:2] == (kind, mode)):
                times, gone, (pss, dirty, used), silent = all_grown[key]
                count = key[2]
                up = max(times) if len(times) == count else None
                body.append([KINDS[kind], MODES[mode], f"{count:,}"]
                    + ([f"{up / 1000:,.0f}", f"{count / up * 1e6:,.0f}"] if up else [f"only {len(times)}", ""])
                    + [f"{gone / 1000:,.0f}" if gone else "", pss, dirty, f"{used:,}" if count >= 100 else "", silent or ""])
    head = ["", "", "containers", "all up, ms", "a second", "all gone, ms", "PSS kB", "private dirty kB", "all memory kB", "no answer"]
    return table(head, body)


# Between a caller's frame and the lock's slow path.
LOCKING = re.compile(r"mutex|rwsem|down_|up_|lock_slowpath|_lock$|^lock_|schedule|percpu")


def locks():
    """Which locks were waited for, how often, how long in all, at most, and in which functions, from
    lock:contention_begin and _end."""
    waits, begun, wanting = defaultdict(lambda: [0, 0.0, 0.0, defaultdict(float)]), {}, None
    pattern = re.compile(r"^\s*(-?\d+)\s+([\d.]+): +lock:contention_(begin|end): +0x([0-9a-f]+) \((\S+)\)")
    with open("contention", encoding="utf-8", errors="replace") as file:
        for line in file:
            match = pattern.match(line)
            if not match:
                frame = line.split()
                if wanting and len(frame) > 1 and not LOCKING.search(frame[1]):
                    begun[wanting][2] = frame[1]
                    wanting = None
                continue
            key, time, what, text = (match[1], match[4]), float(match[2]), match[3], match[5]
            wanting = None
            if what == "begin" and key not in begun:
                begun[key] = [time, text.removeprefix("flags=").replace("SPIN|MUTEX", "MUTEX").lower(), "?"]
                wanting = key
            elif what == "end" and key in begun:
                begin, kind, caller = begun.pop(key)
                entry = waits[kind, key[1]]
                entry[0] += 1
                entry[1] += time - begin
                entry[2] = max(entry[2], time - begin)
                entry[3][caller] += time - begin
    return waits


def locks_table(most=5):
    body = []
    for (kind, _), (times, total, longest, callers) in sorted(locks().items(), key=lambda item: -item[1][1])[:most]:
        names = sorted(callers, key=lambda name: -callers[name])[:6]
        body.append([kind, f"{times:,}", f"{total:,.1f}", f"{longest * 1000:,.0f}", ", ".join(names)])
    return table(["lock", "waits", "seconds waited, all together", "longest, ms", "by whom"], body)


def profile(parts=4):
    """What the processors do in the first and the last quarter of a run, by the kernel's function, in percent."""
    samples = []
    pattern = re.compile(r"^\s*(.*?)\s+([\d.]+):\s+([0-9a-f]+)\s+(\S+)")
    if not os.path.exists("profile"):
        return []
    with open("profile", encoding="utf-8", errors="replace") as file:
        for line in file:
            match = pattern.match(line)
            if match:
                samples.append((float(match[2]), match[4]))
    if not samples:
        return []
    # From the first start until the last one is up; the end is another story.
    lines = [line[0].split() for line in rows("profiled")]
    begin = next(float(words[1]) for words in lines if words[0] == "began")
    length = max(float(words[1]) for words in lines if words[0] in ("up", "silent")) / 1e6
    samples = [(time, symbol) for time, symbol in samples if begin <= time <= begin + length]
    quarters = [defaultdict(float) for _ in range(parts)]
    for time, symbol in samples:
        quarters[min(parts - 1, int((time - begin) / length * parts))][symbol] += 1
    shares = []
    for quarter in quarters:
        total = sum(quarter.values()) or 1
        shares.append({symbol: count / total * 100 for symbol, count in quarter.items()})
    return shares


def profile_table(most=10):
    shares = profile()
    if not shares:
        return "(no profile: perf is not installed)"
    idle = {"pv_native_safe_halt", "default_idle", "acpi_idle_do_entry", "native_safe_halt", "intel_idle", "cpuidle_enter_state"}
    symbols = sorted(set(shares[0]) | set(shares[-1]), key=lambda symbol: -abs(shares[-1].get(symbol, 0) - shares[0].get(symbol, 0)))
    body = [[symbol + (" (idle)" if symbol in idle else ""), f"{shares[0].get(symbol, 0):.1f}", f"{shares[-1].get(symbol, 0):.1f}"] for symbol in symbols[:most]]
    return table(["function", "% in the first quarter", "% in the last quarter"], body)


def growth():
    print(conditions() + "\n\n" + growth_table(grown()) + "\n")
    if os.path.exists("contention"):
        print("Waiting for locks, many at once on one bridge:\n\n" + locks_table() + "\n")
        print("What the processors do, one after another on one bridge:\n\n" + profile_table())
    else:
        print("(perf is not installed: no evidence for why the curves bend)")


# --- charts and page --------------------------------------------------------------------------------

INK = "#010203"  # becomes the colour of the page's text, see `save`
COLOURS = {"stage": "#2f81f7", "floor": "#8b949e", "unshare": "#d29922", "bubblewrap": "#a371f7", "other": "#3fb950"}
SCALE = ["#2f81f7", "#d29922", "#3fb950", "#a371f7", "#f778ba", "#db6d28", "#56d4dd", "#e5534b", "#bc9c74", "#7ee787", "#39739d", "#8b949e"]


def plotter():
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "bench", "font.family": "sans-serif", "font.size": 10, "axes.titlesize": 11,
        "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK,
        "grid.color": INK, "grid.alpha": 0.18, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    })  # fmt: skip
    import matplotlib.pyplot

    return matplotlib.pyplot


def save(figure, path):
    """Text and lines take the reader's colours, light or dark: an SVG image has its own media query."""
    figure.savefig(path, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    with open(path, encoding="utf-8") as file:
        text = file.read()
    text = text.replace(INK, "currentColor")
    style = "<style>svg{color:#1f2328}@media (prefers-color-scheme:dark){svg{color:#e6edf3}}text{font-family:system-ui,sans-serif}</style>"
    text = re.sub(r"(<svg [^>]*>)", lambda match: match[1] + style, text, count=1)
    with open(path, "w", encoding="utf-8") as file:
        file.write(re.sub(r"[ \t]+$", "", text, flags=re.M))


def colour(name):
    for word, value in COLOURS.items():
        if name.startswith(word):
            return value
    return COLOURS["other"]


def chart_times(path):
    pyplot = plotter()
    groups = races()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.6), width_ratios=[1.1, 1])
    programs = ["floor, static", "floor", "stage", "unshare", "bubblewrap"]  # in this order at each stage
    shades = {"floor, static": 0.55, "floor": 1}
    for i, name in enumerate(programs):
        at = [n for n in range(1, 5) if name in groups.get(str(n), {})]
        values = [statistics.median(merged(groups[str(n)][name])) / 1000 for n in at]
        left.bar([n + (i - 2) * 0.16 for n in at], values, 0.15, label=name, color=colour(name), alpha=shades.get(name, 1))
    left.set_xticks(range(1, 5), [f"stage {n}" for n in range(1, 5)])
    left.set_ylabel("ms, median")
    left.set_title("Start and end of one container")
    left.grid(axis="y")
    left.set_axisbelow(True)
    left.legend(fontsize=8, loc="upper left")
    five = {name: statistics.median(merged(times)) / 1000 for name, times in groups.get("5", {}).items() if "static" not in name}
    names = sorted(five, key=five.get, reverse=True)
    right.barh(names, [five[name] for name in names], color=[colour(name) for name in names])
    for i, name in enumerate(names):
        right.text(five[name] * 1.08, i, f"{five[name]:.1f}", va="center", fontsize=8)
    right.set_xscale("log")
    right.set_xlabel("ms, median; each step ten times as long")
    right.set_title("Stage 5, with a network")
    right.grid(axis="x")
    right.set_axisbelow(True)
    figure.tight_layout()
    save(figure, path)


def chart_where(path, divided):
    pyplot = plotter()
    shown, rest = where_rows(divided, most=11)
    small = [name for name in divided if "5" not in name]
    large = [name for name in divided if "5" in name]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.6), width_ratios=[max(1, len(small)), max(1, len(large))])
    for axis, names in zip(axes, (small, large)):
        bottom = [0.0] * len(names)
        for i, what in enumerate(shown + ["other system calls"]):
            if what == "other system calls":
                values = [sum(divided[name][0].get(one, 0) for one in rest) / 1000 for name in names]
            else:
                values = [divided[name][0].get(what, 0) / 1000 for name in names]
            axis.bar([name.replace("stage", "").replace("-net-", "\n").replace(" ", "\n") for name in names], values, 0.7, bottom=bottom,
                     label=WORDS.get(what, what), color=SCALE[i % len(SCALE)])
            bottom = [low + value for low, value in zip(bottom, values)]
        axis.grid(axis="y")
        axis.set_axisbelow(True)
        axis.tick_params(axis="x", labelsize=8)
    axes[0].set_ylabel("ms")
    axes[0].set_title("Where a start's time goes")
    axes[1].set_title("Stage 5")
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    save(figure, path)


def chart_growth(path, all_grown):
    pyplot = plotter()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.6))
    most = max(key[2] for key in all_grown)
    for i, kind in enumerate(KINDS):
        for mode in MODES:
            keys = sorted(key for key in all_grown if key[:2] == (kind, mode) and len(all_grown[key][0]) == key[2])
            style = {"color": SCALE[i], "linestyle": "-" if mode == "all" else "--", "label": f"{KINDS[kind]}, {MODES[mode]}"}
            left.plot([key[2] for key in keys], [max(all_grown[key][0]) / 1e6 for key in keys], marker="o", markersize=3, **style)
            if (kind, mode, most) in all_grown:
                times = sorted(all_grown[kind, mode, most][0])
                right.plot(range(1, len(times) + 1), [time / 1e6 for time in times], **style)
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("containers")
    left.set_ylabel("seconds until all are up")
    left.set_title("Both axes logarithmic: straight is proportional")
    right.set_xlabel(f"containers that are up, of {most:,}")
    right.set_ylabel("seconds")
    right.set_title("One by one")
    for axis in left, right:
        axis.grid()
        axis.set_axisbelow(True)
    right.legend(fontsize=8)
    figure.tight_layout()
    save(figure, path)


def page(runs, directory):
    divided, all_grown = divide(), grown()
    chart_times(os.path.join(directory, "times.svg"))
    chart_where(os.path.join(directory, "where.svg"), divided)
    chart_growth(os.path.join(directory, "growth.svg"), all_grown)
    with open("counts", encoding="utf-8") as file:
        counted = file.read().rstrip("\n")
    parts = {
        "conditions": conditions(),
        "targets": targets(),
        "times": times_tables(),
        "memory": memory_table(),
        "calls": calls_table(),
        "sizes": sizes_table(),
        "where": where_table(divided),
        "growth": growth_table(all_grown),
        "locks": locks_table() if os.path.exists("contention") else "(perf was not installed)",
        "profile": profile_table(),
        "counts": f"```text\n{counted}\n```",
    }
    path = os.path.join(directory, "README.md")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, part in parts.items():
        text, found = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda match: f"{match[1]}\n{part}\n\n{match[2]}", text, flags=re.S)
        if not found:
            sys.exit(f"bench.sh: {path} has no place for {name}: <!-- {name} --> … <!-- end -->")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(conditions() + "\n\n" + targets() + f"\n\n{runs} runs; written: {path} and its charts")


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
    elif word == "counts":
        counts(*rest)
    elif word == "where":
        print(where_table(divide()))
    elif word == "growth":
        growth()
    elif word == "page":
        page(*rest)
    elif word == "bundle":
        bundle(*rest)
    elif word == "command":
        command(*rest)
    else:
        sys.exit(f"report.py: unknown: {word}")
