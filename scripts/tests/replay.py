#!/usr/bin/env python3
"""Tests replay.sh: its pages in headless Chromium, and their last state beside lsns, findmnt and ip.

Usage: replay.py

Needs root, and the stages in target/debug or STAGE_BIN_DIR. Each stage waits with its command until this has looked at
the container. Then the browser goes through each step of the page: forwards, backwards, and by jump.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPLAY = HERE.parent / "replay.sh"
# The width of each page: five stages, the simulated host, and two runs side by side.
WIDTHS = [1600, 1200, 1000, 600, 390, 1200, 1600, 390]


def output(*command):
    return subprocess.check_output(command, text=True)


def by_json(*command):
    return json.loads(output(*command) or "[]")


def inside(process):
    """The container's process: the first below this one in another UTS namespace."""
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        if os.readlink(f"/proc/{child}/ns/uts") != os.readlink("/proc/self/ns/uts"):
            return process, child
        if found := inside(child):
            return found
    return None


def network(process, side):
    """What ip shows of the network of a process, in the words of the explanation."""
    ip = ["nsenter", "-t", process, "-n", "ip", "-j", "-d", "-4"]
    facts = {}
    for link in by_json(*ip, "link"):
        state = ["UP" if "UP" in link["flags"] else "DOWN", link.get("linkinfo", {}).get("info_kind", "")]
        state += ["master", link["master"]] if "master" in link else []
        facts[side, "link", link["ifname"]] = " ".join(state).strip()
    for link in by_json(*ip, "addr"):
        for address in link.get("addr_info", []):
            facts[side, "address", f"{address['local']}/{address['prefixlen']} dev {link['ifname']}"] = None
    for route in by_json(*ip, "route"):
        facts[side, "route", f"{route['dst']} dev {route['dev']}"] = None
    return {fact: fact[2] if state is None else state for fact, state in facts.items()}


def look(stage, process):
    """What the tools show of the waiting container, and of the host beside it."""
    facts = {("container", "hostname", "hostname"): output("nsenter", "-t", process, "-u", "hostname").strip()}
    shared = [os.readlink(f"/proc/{stage}/ns/{kind}") for kind in os.listdir("/proc/self/ns")]
    # lsns reads all of /proc, and gives up when a process ends meanwhile, whichever it is.
    for _ in range(50):
        listed = subprocess.run(["lsns", "-J", "-p", process, "-o", "NS,TYPE"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if listed.returncode == 0:
            break
    for namespace in json.loads(listed.stdout)["namespaces"]:
        if f"{namespace['type']}:[{namespace['ns']}]" not in shared:
            facts["container", "namespace", namespace["type"]] = str(namespace["ns"])
    if ("container", "namespace", "user") in facts:
        for name in ("uid_map", "gid_map", "setgroups"):
            facts["container", "map", name] = " ".join(Path(f"/proc/{process}/{name}").read_text().split())
    if ("container", "namespace", "mnt") in facts:
        columns = "ID,TARGET,SOURCE,FSTYPE,VFS-OPTIONS,PROPAGATION"
        for mount in by_json("findmnt", "--task", process, "-J", "--list", "-v", "-o", columns)["filesystems"]:
            tags = "" if mount["propagation"] == "private" else f",{mount['propagation'].split(',')[-1]}"
            facts["container", "mount", str(mount["id"])] = f"{mount['target']} {mount['source']} {mount['fstype']} {mount['vfs-options']}{tags}"
    if ("container", "namespace", "net") in facts:
        facts |= network(process, "container") | network(stage, "host")
        facts.pop(("host", "link", "lo"))
        facts["host", "peer", "veth0"] = f"veth1 netns {process}"
    own = Path(f"/proc/{process}/status").read_text().split("NSpid:")[1].splitlines()[0].split()[-1]
    facts["container", "process", process] = own
    return facts


def run(directory, name, *arguments):
    """Runs replay.sh with a command that waits; returns the page, and what the tools have shown meanwhile."""
    page = directory / f"{name}.html"
    command = ["unshare", "-n", REPLAY, "--output", page, *arguments, "--", "sh", "-c", "echo up; read -r line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n", process.stderr.read()
        facts = look(*inside(str(process.pid)))
        _, said = process.communicate("\n")
    assert process.returncode == 0 and said == f"replay.sh: {page}\n", said
    return page, facts


def browse(pages, widths):
    """Opens copies of the pages, which test themselves, in frames of these widths; returns what they found."""
    script = (HERE / "replay.js").read_text()
    frames = ""
    for page, width in zip(pages, widths):
        copy = page.with_suffix(".test.html")
        copy.write_text(f"{page.read_text()}<script>{script}</script>")
        frames += f'<iframe src="{copy.name}" width="{width}" height="900"></iframe>'
    around = pages[0].with_name("all.html")
    around.write_text(f"""<body>{frames}<script>
        const found = {{}};
        addEventListener("message", ({{ data }}) => {{
            found[data.page.replace(/.*\\/|\\.test.*/g, "")] = data;
            document.body.dataset.found = JSON.stringify(found);
        }});
        </script>""")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    options = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --enable-logging=stderr --virtual-time-budget=600000 --dump-dom"
    command = [browser, *options.split(), f"--user-data-dir={around.with_suffix('')}", f"file://{around}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            dom, said = process.communicate(timeout=300)
        finally:
            process.kill()
    console = [line for line in said.splitlines() if "CONSOLE" in line]
    assert not console, console
    found = re.search(r'data-found="(.*?)"', dom)
    found = json.loads(html.unescape(found.group(1))) if found else {}
    for page in pages:
        assert page.stem in found, f"{page.stem}: the page did not come to its end"
        errors = found[page.stem]["errors"]
        assert not errors, f"{page.stem}: " + "\n".join(errors[:20])
    return [found[page.stem] for page in pages]


def compare(stage, found, facts):
    """The state that was computed from the changes is what the tools showed."""
    state = {(side, what, name): value for side, what, name, value in found["state"]}
    namespaces = {fact for fact in state if fact[:2] == ("host", "namespace")}
    assert {name for _, _, name in namespaces} == {fact[2] for fact in facts if fact[1] == "namespace"}
    for _, _, kind in namespaces:
        assert state["container", "namespace", kind] != state["host", "namespace", kind]
    host = {("host", "process"), ("host", "hostname"), ("host", "namespace")}
    kinds = {what for _, what, _ in facts}
    state = {fact: value for fact, value in state.items() if fact[:2] not in host and fact[1] in kinds}
    if stage < 4:  # the changes do not name the mounts that the new namespace has a copy of
        facts = {fact: value for fact, value in facts.items() if fact[1] != "mount" or fact in state}
    differing = {fact: (state.get(fact), facts.get(fact)) for fact in state.keys() | facts.keys() if state.get(fact) != facts.get(fact)}
    assert not differing, f"stage {stage}, in the page and in the system: {differing}"
    return len(state)


def main():
    if os.geteuid() != 0:
        sys.exit("replay.py: needs root")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        directory = Path(name)
        pages = [(number, *run(directory, f"stage{number}", str(number))) for number in range(1, 6)]
        pages.append((5, *run(directory, "private", "5", "--net", "private")))
        del pages[-1][2]["container", "map", "setgroups"]  # denied on the simulated host already: no change
        # Side by side: the slide, and a run that fails.
        by_hand, failing = directory / "by-hand.html", directory / "failing.html"
        subprocess.run(["unshare", "-n", REPLAY, "--output", by_hand, "--against", "by-hand", "3"], check=True)
        against = [REPLAY, "--output", failing, "--against", pages[2][1], "3", "--", "/nowhere"]
        assert subprocess.run(["unshare", "-n", *against], stderr=subprocess.DEVNULL).returncode == 127
        results = browse([*(page for _, page, _ in pages), by_hand, failing], WIDTHS)
        for (stage, page, facts), found in zip(pages, results):
            print(f"ok {page.stem}: {len(found['steps'])} steps, {compare(stage, found, facts)} facts")
        marks = {step["title"].split("\n")[-1]: step["mark"] for step in results[-2]["steps"]}
        assert marks["hostname leopard"] == "=" and marks["exec true"] == "=", marks
        marks = [step["mark"] for step in results[-1]["steps"]]
        assert marks[-2:] != ["=", "="] and marks.count("=") > 5 and "≠" in marks, marks
        print("ok side by side: by hand, and a run that fails")


main()
