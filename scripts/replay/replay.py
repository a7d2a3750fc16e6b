"""Writes the page of scripts/replay.sh: runs the stage, and puts its data and the template together."""

import getopt
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
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


def still(runs, step):
    """The picture of one step, drawn by the page in a browser."""
    draw = f"document.body.innerHTML = picture(runs[0], {step}, 960, `${{runs[0].command}}, step {step}: ${{titleOf(runs[0].steps[{step}])}}`)"
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "page.html").write_text(f"{page(runs)}<script>{draw}</script>")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={directory}/browser"]
        dom = subprocess.run([browser, *options, f"file://{directory}/page.html"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return re.search("<svg.*?</svg>", dom.stdout.decode(), re.S).group() + "\n"


def main():
    try:
        options, rest = getopt.getopt(sys.argv[1:], "", ["output=", "against=", "still="])
    except getopt.GetoptError as error:
        sys.exit(f"replay.sh: {error}; see --help")
    if not rest or rest[0] not in "12345":
        sys.exit("replay.sh: which stage, 1 to 5? See --help")
    options, (number, *arguments) = dict(options), rest
    stage = next(ROOT.glob(f"stage{number}-*")).name
    lines, status = run_stage(stage, arguments)
    runs = [{"stage": stage, "command": shlex.join([stage, *arguments]), "lines": lines}]
    if "--against" in options:
        runs.append(other_run(options["--against"], number, arguments))
    text = still(runs, int(options["--still"])) if "--still" in options else page(runs)
    output = Path(options.get("--output", ROOT / f"target/replay/{stage}.{'svg' if '--still' in options else 'html'}"))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)
    print(f"replay.sh: {output}", file=sys.stderr)
    sys.exit(status % 256)


main()
