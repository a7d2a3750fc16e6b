#!/usr/bin/env python3
"""Draws the diagrams of the READMEs from the text at the top of this file.

Usage: pictures.py [--check]

  --check    draw nothing; exit with 1 if a diagram is out of date, and name it

Each picture has a background of its own and follows the reader's choice of light or dark.
"""

import sys
from html import escape
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

STAGES = {
    "stage1-uts": "a hostname of its own",
    "stage2-user": "users of its own",
    "stage3-pid": "processes of its own",
    "stage4-mount": "a root file system of its own",
    "stage5-net": "a network of its own",
}

# The stage that isolates it, the resource, what isolates it, what both share before that stage, and what the host
# and the container have from that stage on.
RESOURCES = [
    (1, "hostname", "uts namespace", "host", "host", "leopard"),
    (2, "users", "user namespace", "root is root", "you, user 1000", "root, user 0"),
    (3, "processes", "pid namespace", "every process sees every other", "1, 2, … 7001, 7002", "1, 2 are 7001, 7002 outside"),
    (3, "mounts", "mnt namespace", "one list of mounts, one /proc", "the host's mounts", "its own mounts, its own /proc"),
    (4, "root directory", "pivot_root", "the host's files", "the host's files", "/tmp/rootfs is /"),
    (5, "network", "net namespace", "the host's links and addresses", "br0, veth0", "veth1, lo"),
]

# Side, column and row, name, address, what it is; then which boxes a line connects, and what is written on it.
BOXES = [
    ("host", 0, 0, "br0", "172.20.1.2/24", "the bridge"),
    ("host", 1, 0, "veth0", "172.20.1.3/24", "the host's end"),
    ("container", 2, 0, "veth1", "172.20.1.4/24", "in the first container"),
    ("host", 1, 1, "veth2", "", "the host's end"),
    ("container", 2, 1, "veth1", "172.20.1.5/24", "in the second container"),
    ("container", 2, 2, "lo", "127.0.0.1/8", "in each container"),
]
LINES = [(0, 1, "port"), (1, 2, ""), (0, 3, "port"), (3, 4, "")]

STYLE = """\
text{font:14px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}
.title{font-size:17px;font-weight:600}
.head{font-weight:600}
.quiet,.tag{font-size:12px}
.tag{font-weight:600}
.mid{text-anchor:middle}
.end{text-anchor:end}
.shared,.wire,.wall{fill:none}
.new,.wire{stroke-width:2}
.shared{stroke-dasharray:5 4}
.wall{stroke-dasharray:2 4}
"""
# Not CSS variables: some viewers do not know them.
COLOURS = (
    ".page{{fill:{0};stroke:{3}}}text{{fill:{1}}}.quiet{{fill:{2}}}.own{{fill:{4};stroke:{3}}}.new{{fill:{5};stroke:{6}}}"
    ".tag{{fill:{6}}}.shared,.wall{{stroke:{3}}}.wire{{stroke:{6}}}"
)
STYLE += COLOURS.format("#fff", "#1f2328", "#59636e", "#818b98", "#eaeef2", "#ddf4ff", "#0969da") + "\n"
DARK = COLOURS.format("#0d1117", "#e6edf3", "#9198a1", "#656c76", "#262c36", "#0c2d5a", "#58a6ff")
STYLE += f"@media (prefers-color-scheme:dark){{{DARK}}}\n"


class Svg:
    """A picture that grows by elements."""

    def __init__(self, width, height, title, words):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-labelledby="t d">',
            f'<title id="t">{escape(title)}</title>',
            f'<desc id="d">{escape(words)}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        ]
        self.text("title", 20, 32, title)

    def box(self, kind, x, y, width, height):
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')

    def text(self, kind, x, y, words):
        self.parts.append(f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>')

    def path(self, kind, way):
        self.parts.append(f'<path class="{kind}" d="{way}"/>')

    def key(self, kind, x, y, words):
        self.box(kind, x, y, 14, 14)
        self.text("quiet", x + 20, y + 12, words)

    def __str__(self):
        return "\n".join([*self.parts, "</svg>", ""])


def kind(stage, first):
    return "new" if stage == first else "own" if stage > first else "shared"


def stage(number, title):
    """What one stage shares, and what it does not: two columns, a row for each resource."""
    words = "; ".join(f"{name}: {kind(number, first)}" for first, name, *_ in RESOURCES)
    svg = Svg(720, 118 + 48 * len(RESOURCES), f"Stage {number}: {title}", words)
    svg.text("head mid", 290, 66, "host")
    svg.text("head mid", 560, 66, "container")
    y = 78
    for first, name, by, both, host, container in RESOURCES:
        svg.text("end", 152, y + 19, name)
        svg.text("quiet end", 152, y + 34, by)
        if number < first:
            svg.box("shared", 170, y + 4, 530, 38)
            svg.text("quiet mid", 435, y + 28, both)
        else:
            svg.box("own", 170, y + 4, 240, 38)
            svg.text("mid", 290, y + 28, host)
            svg.box(kind(number, first), 430, y + 4, 270, 38)
            svg.text("mid", 565, y + 28, container)
        y += 48
    svg.key("new", 170, y + 12, "new in this stage")
    svg.key("own", 320, y + 12, "each has its own")
    svg.key("shared", 470, y + 12, "one, shared by both")
    return str(svg)


def overview():
    """All stages: a column for each stage, a row for each resource."""
    words = "; ".join(f"{name} is isolated from stage {first} on" for first, name, *_ in RESOURCES)
    svg = Svg(730, 138 + 42 * len(RESOURCES), "Five stages, and what each isolates", words)
    for number, directory in enumerate(STAGES, 1):
        x, y = 50 + 110 * number, 94
        svg.text("head mid", x + 55, 66, f"stage {number}")
        svg.text("quiet mid", x + 55, 84, directory)
        for first, *_ in RESOURCES:
            svg.box(kind(number, first), x + 5, y + 4, 100, 34)
            svg.text("tag mid" if number == first else "quiet mid", x + 55, y + 25, "the host's" if number < first else "its own")
            y += 42
    for row, (_, name, *_) in enumerate(RESOURCES):
        svg.text("end", 148, 120 + 42 * row, name)
    svg.key("new", 165, 108 + 42 * len(RESOURCES), "new in this stage")
    return str(svg)


def network():
    """Links and their addresses: boxes in a grid, the wall between host and containers, wires."""
    words = "; ".join(f"{BOXES[a][3]} is connected to {BOXES[b][3]}" for a, b, _ in LINES)
    svg = Svg(720, 354, "The network of stage 5: a bridge, and a veth pair for each container", words)
    svg.text("head mid", 246, 66, "host")
    svg.text("head mid", 596, 66, "containers")
    svg.path("wall", "M473 50V342")
    places = [(34 + 236 * column, 84 + 92 * row) for _, column, row, *_ in BOXES]
    for a, b, label in LINES:
        (ax, ay), (bx, by) = places[a], places[b]
        svg.path("wire", f"M{ax + 170} {ay + 31}H{ax + 203}V{by + 31}H{bx}")
        svg.text("quiet mid", ax + 203, by + (25 if ay == by else 47), label)
    for (side, _, _, name, address, what), (x, y) in zip(BOXES, places):
        svg.box("new" if side == "container" else "own", x, y, 170, 62)
        svg.text("head mid", x + 85, y + 19, name)
        svg.text("mid", x + 85, y + 36, address)
        svg.text("quiet mid", x + 85, y + 53, what)
    return str(svg)


def main():
    drawn = {f"{name}/shared.svg": stage(number, title) for number, (name, title) in enumerate(STAGES.items(), 1)}
    drawn |= {"stage5-net/stages.svg": overview(), "stage5-net/network.svg": network()}
    arguments = sys.argv[1:]
    if arguments == []:
        for name, text in drawn.items():
            (REPOSITORY / name).write_text(text)
    elif arguments == ["--check"]:
        stale = [name for name, text in drawn.items() if not (REPOSITORY / name).exists() or (REPOSITORY / name).read_text() != text]
        sys.exit("\n".join(f"pictures.py: {name} is out of date; run scripts/pictures.py" for name in stale) or None)
    elif arguments in (["-h"], ["--help"]):
        print(__doc__.strip())
    else:
        sys.exit(__doc__.strip())


if __name__ == "__main__":
    main()
