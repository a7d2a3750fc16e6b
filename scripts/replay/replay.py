"""Writes the page of scripts/replay.sh: runs the stage, and puts its data and the template together."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import by_hand

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCRIPTS = ["state.js", "draw.js", "page.js"]


def run_stage(stage, arguments):
    """Runs the stage; returns its objects. All else on its stderr is passed on at once, such as a prompt."""
    directory = Path(os.environ.get("STAGE_BIN_DIR", ROOT / "target/debug"))
    command = [directory / stage, "--explain=json", *arguments]
    if "--" not in arguments:
        command += ["--", "true"]
    lines, rest = [], b""
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while part := process.stderr.read1():
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                lines += keep(line + b"\n")
            if not b'{"kind":'.startswith(rest[:8]):
                keep(rest)
                rest = b""
        lines += keep(rest)
    return lines, process.returncode


def keep(line):
    if line.startswith(b'{"kind":'):
        return [json.loads(line)]
    sys.stderr.buffer.write(line)
    sys.stderr.flush()
    return []


def other_run(against, number, arguments):
    """The slide by hand, or a run that is in a file: lines of JSON, or a page of this script."""
    if against == "by-hand":
        script = next((ROOT / "scripts/by-hand").glob(f"{number}-*.sh"))
        command = arguments[arguments.index("--") :] if "--" in arguments else ["--", "true"]
        if "--rootfs" in arguments:
            at = arguments.index("--rootfs")
            command = [*arguments[at : at + 2], *command]
        return {"stage": script.name, "command": shlex.join([script.name, *command]), "lines": by_hand.run(script, command)}
    text = Path(against).read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    if data:
        return json.loads(data.group(1))[0]
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"kind":')]
    return {"stage": "stage", "command": against, "lines": lines}


def page(runs):
    html = (HERE / "page.html").read_text()
    data = json.dumps(runs, separators=(",", ":")).replace("<", "\\u003c")
    scripts = "\n".join((HERE / name).read_text() for name in SCRIPTS)
    return html.replace("SCRIPTS", scripts).replace("DATA", data, 1)


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--against")
    parser.add_argument("number", choices="12345")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    stage = next(ROOT.glob(f"stage{options.number}-*")).name
    lines, status = run_stage(stage, options.arguments)
    runs = [{"stage": stage, "command": shlex.join([stage, *options.arguments]), "lines": lines}]
    if options.against:
        runs.append(other_run(options.against, options.number, options.arguments))
    output = options.output or ROOT / f"target/replay/{stage}.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(runs))
    print(f"replay.sh: {output}", file=sys.stderr)
    sys.exit(status % 256)


main()
