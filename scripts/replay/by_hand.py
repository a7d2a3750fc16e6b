"""Explains a script of scripts/by-hand as --explain=json does a stage: its commands, and what each has changed.

Before each of the slide's commands the script is made to write its number to a pipe, and to wait for an answer.
Meanwhile this looks at both sides, from outside. What differs at the next command is the work of the one before.
"""

import json
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

KINDS = "uts user pid mnt net ipc cgroup".split()
# The slide's commands, not what the script does for itself.
SLIDE = re.compile(
    r"\s*(?:if command -v brctl.*; then |exec |setpriv --pdeathsig KILL )?("
    r"(?:unshare|hostname|mount|umount|pivot_root|cd|mkdir|brctl|ip|echo leopard|exec(?! \d)) ?[^;#']*)"
)


def namespaces(process):
    return {kind: re.sub(r"\D", "", os.readlink(f"/proc/{process}/ns/{kind}")) for kind in KINDS}


def mounts(process):
    found = {}
    for line in Path(f"/proc/{process}/mountinfo").read_text().splitlines():
        (number, _, _, _, target, options, *_), (fstype, source, *_) = (part.split(" ") for part in line.split(" - "))
        found["mount", number] = f"{target} {source} {fstype} {options}"
    return found


def facts(process, side, own, ends):
    """What there is on a side, as (what, name): state, in the words of the explanation."""
    found = {}
    enter = []
    if own["user"] != namespaces("self")["user"]:
        enter = ["nsenter", "--preserve-credentials", "-t", process, "-U"]
    if side == "container":
        read = lambda name: Path(f"/proc/{process}/{name}").read_text()
        found["process", process] = read("status").split("NSpid:")[1].splitlines()[0].split()[-1]
        found |= {("namespace", kind): inode for kind, inode in own.items() if inode != namespaces("self")[kind]}
        if ("namespace", "user") in found:
            found |= {("map", name): " ".join(read(name).split()) or "empty" for name in ("uid_map", "gid_map", "setgroups")}
        uts = (enter or ["nsenter", "-t", process]) + ["-u", "hostname"]
        found["hostname", "hostname"] = subprocess.check_output(uts, text=True).strip()
        if ("namespace", "mnt") in found:
            found |= mounts(process)
    if side == "host" or ("namespace", "net") in found:
        net = (enter or ["nsenter", "-t", process]) + ["-n"] if side == "container" else []
        show = lambda *what: json.loads(subprocess.check_output([*net, "ip", "-j", "-d", "-4", *what]) or b"[]")
        for link in show("link"):
            ends[side, link["ifname"]] = link["ifindex"], link.get("link_index")
            kind, master = link.get("linkinfo", {}).get("info_kind", ""), link.get("master")
            state = f"{'UP' if 'UP' in link['flags'] else 'DOWN'} {kind}{f' master {master}' if master else ''}"
            found["link", link["ifname"]] = state.strip()
        for link in show("addr"):
            for address in link.get("addr_info", []):
                name = f"{address['local']}/{address['prefixlen']} dev {link['ifname']}"
                found["address", name] = name
        for route in show("route"):
            name = f"{route['dst']} dev {route['dev']}"
            found["route", name] = name
    return found


def descendants(process):
    """The namespaces of a process and of all below it."""
    try:
        found = {process: namespaces(process)}
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            for child in children.read_text().split():
                found |= descendants(child)
        return found
    except OSError:
        return {}  # it has ended meanwhile


def look(script):
    """The facts of both sides. The container is the last process in another UTS namespace: unshare -f waits for it."""
    host, ends, container = namespaces("self"), {}, {}
    inside = [item for item in descendants(str(script)).items() if item[1]["uts"] != host["uts"]] if script else []
    for process, own in inside[-1:]:
        container = facts(process, "container", own, ends)
    sides = {"host": facts("self", "host", host, ends), "container": container}
    for (side, name), (index, other) in ends.items():
        for (_, peer), found in ends.items():
            if side == "host" and found == (other, index):  # each names the other's index
                sides["host"]["peer", name] = f"{peer} netns {inside[-1][0]}"
    return sides


def run(script, arguments):
    """Runs the script; returns its lines, in the words of --explain=json."""
    rootfs = arguments[1] if arguments[0] == "--rootfs" else "/tmp/rootfs"
    lines, commands, sides = [], [], look(0)
    text = ""  # of the script
    for line in script.read_text().splitlines(keepends=True):
        if match := SLIDE.match(line):
            text += f"echo $$ {len(commands)} >&8; read -r _ <&9\n"
            command = match[1].split(" /bin/sh")[0].strip().replace("$rootfs", rootfs).replace('"', "")
            commands.append(command.replace("exec $@", f"exec {shlex.join(arguments[arguments.index('--') + 1 :])}"))
        text += line
    with tempfile.NamedTemporaryFile("w", prefix=script.name) as copy:
        copy.write(text)
        copy.flush()
        (ask, asked), (answer, answered) = os.pipe(), os.pipe()
        start = ["sh", "-c", f'exec 8>&{asked} 9<&{answer}; exec sh "$@"', "sh", copy.name, *arguments]
        process = subprocess.Popen(start, pass_fds=(asked, answer))
        os.close(asked)
        with os.fdopen(ask) as questions:
            for question in questions:
                shell, number = question.split()
                sides, before = look(process.pid), sides
                lines += changes(process.pid, before, sides)
                child = sides["container"] and next(iter(sides["container"]))[1]
                side, asking = ("container", child) if shell in ("1", child) else ("host", shell)
                lines.append({"kind": "step", "side": side, "process": int(asking), "heading": "by hand", "shell": commands[int(number)], "does": ""})
                os.write(answered, b"\n")
        process.wait()
    return lines + changes(process.pid, sides, look(0))


def changes(script, before, after):
    """What differs between two looks."""
    lines = []
    for side in ("container", "host"):
        old, new = before[side], after[side]
        for what, name in [*old, *(fact for fact in new if fact not in old)]:
            was, now = old.get((what, name)), new.get((what, name))
            if what == "namespace":
                was = was or namespaces("self")[name]
            elif what == "map":
                was = was or ("allow" if name == "setgroups" else "empty")
            elif not old and what != "process" and (what != "mount" or now in mounts("self").values()):
                was = now  # a new namespace begins with a copy
            if was != now and (now or new or what == "process"):
                actor = "host" if what in ("process", "namespace", "map") else side
                lines.append({"kind": "change", "side": actor, "process": script, "what": what, "name": name, "before": was, "after": now})
    return lines
