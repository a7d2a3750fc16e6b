#!/usr/bin/env python3
"""Draws the diagrams of the READMEs from the text in scripts/pictures.txt.

Usage: pictures.py [--check]
       pictures.py --session LOG SVG

  --check    draw nothing; exit with 1 if a diagram is not as the text says, and name it
  --session  draw a recording of script(1), for scripts/record.sh

Each picture has a background of its own, so it can be read on any page, and follows the reader's
choice of light or dark.
"""

import re
import sys
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent

COLOURS = {
    "light": ("#fff", "#1f2328", "#59636e", "#818b98", "#eaeef2", "#ddf4ff", "#0969da", "#9a6700"),
    "dark": ("#0d1117", "#e6edf3", "#9198a1", "#656c76", "#262c36", "#0c2d5a", "#58a6ff", "#d29922"),
}


def colours(scheme):
    """The rules that differ between light and dark. (No CSS variables: not every viewer has them.)"""
    page, text, quiet, line, own, new, edge, host = COLOURS[scheme]
    return (
        f".page{{fill:{page};stroke:{line}}}text{{fill:{text}}}.quiet{{fill:{quiet}}}"
        f".own{{fill:{own};stroke:{line}}}.new{{fill:{new};stroke:{edge}}}.tag{{fill:{edge}}}"
        f".shared,.wall{{stroke:{line}}}.wire{{stroke:{edge}}}"
        f".host{{fill:{host}}}.container{{fill:{edge}}}"
    )


STYLE = f"""\
text{{font:14px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}}
.title{{font-size:17px;font-weight:600}}
.head{{font-weight:600}}
.quiet,.tag{{font-size:12px}}
.tag{{font-weight:600}}
.mid{{text-anchor:middle}}
.end{{text-anchor:end}}
.shared,.wire,.wall{{fill:none}}
.new,.wire{{stroke-width:2}}
.shared{{stroke-dasharray:5 4}}
.wall{{stroke-dasharray:2 4}}
{colours("light")}
@media (prefers-color-scheme:dark){{{colours("dark")}}}
"""


class Svg:
    """A picture that grows by elements."""

    def __init__(self, width, height, title, words, style=STYLE):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-labelledby="t d">',
            f'<title id="t">{escape(title)}</title>',
            f'<desc id="d">{escape(words)}</desc>',
            f"<style>{style}</style>",
            f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        ]

    def box(self, kind, x, y, width, height):
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')

    def text(self, kind, x, y, words):
        self.parts.append(f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>')

    def path(self, kind, way):
        self.parts.append(f'<path class="{kind}" d="{way}"/>')

    def __str__(self):
        return "\n".join([*self.parts, "</svg>", ""])


def fields(text):
    return [field.strip() for field in text.split("|")]


def read(source):
    """The stages and networks of the text: [(head, title, [(kind, text)])]."""
    pictures = []
    for line in source.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        head, _, text = line.partition(":")
        words = head.split()
        if words[0] in ("stage", "network"):
            pictures.append((words, text.strip(), []))
        else:
            pictures[-1][2].append((words, text.strip()))
    return pictures


def stage(number, title, rows):
    """What one stage shares, and what it does not: two columns, a row a resource."""
    left, host, container, width, step = 160, 170, 420, 250, 48
    height = 84 + step * len(rows) + 34
    told = []
    for words, text in rows:
        part = fields(text)
        told.append(f"{part[1]}: shared" if words[0] == "shared" else f"{part[1]}: {words[0]}")
    svg = Svg(720, height, f"Stage {number}: {title}", "; ".join(told))
    svg.text("title", 20, 32, f"Stage {number}: {title}")
    svg.text("head mid", host + width / 2 - 5, 66, "host")
    svg.text("head mid", container + width / 2 + 15, 66, "container")
    y = 78
    for words, text in rows:
        part = fields(text)
        svg.text("end", left - 8, y + 19, part[1])
        svg.text("quiet end", left - 8, y + 34, f"{part[0]} namespace")
        if words[0] == "shared":
            svg.box("shared", host, y + 4, 530, step - 10)
            svg.text("quiet mid", host + 265, y + 28, part[2])
        else:
            svg.box("own", host, y + 4, width - 10, step - 10)
            svg.text("mid", host + width / 2 - 5, y + 28, part[2])
            svg.box(words[0], container + 10, y + 4, width + 20, step - 10)
            svg.text("mid", container + 20 + width / 2, y + 28, part[3])
        y += step
    svg.box("new", 170, y + 12, 14, 14)
    svg.text("quiet", 190, y + 24, "new in this stage")
    svg.box("own", 320, y + 12, 14, 14)
    svg.text("quiet", 340, y + 24, "each has its own")
    svg.box("shared", 470, y + 12, 14, 14)
    svg.text("quiet", 490, y + 24, "one, shared by both")
    return str(svg)


def overview(stages):
    """All stages: a column a stage, a row a resource."""
    names = [fields(text)[1] for _, text in stages[-1][2]]
    left, column, step = 160, 110, 42
    svg = Svg(
        left + column * len(stages) + 20,
        104 + step * len(names) + 34,
        "Five stages, and what each isolates",
        "; ".join(f"stage {number} adds {title}" for (_, number, _), title, _ in stages),
    )
    svg.text("title", 20, 32, "Five stages, and what each isolates")
    for at, ((_, number, directory), _, _) in enumerate(stages):
        middle = left + column * at + column / 2
        svg.text("head mid", middle, 66, f"stage {number}")
        svg.text("quiet mid", middle, 84, directory)
    for row, name in enumerate(names):
        y = 94 + step * row
        svg.text("end", left - 12, y + 26, name)
        for at, (_, _, rows) in enumerate(stages):
            kinds = {fields(text)[1]: words[0] for words, text in rows}
            kind = kinds[name]
            x = left + column * at
            svg.box(kind, x + 5, y + 4, column - 10, step - 8)
            word = {"new": "its own", "own": "its own", "shared": "the host's"}[kind]
            svg.text({"new": "tag mid"}.get(kind, "quiet mid"), x + column / 2, y + 25, word)
    y = 94 + step * len(names)
    svg.box("new", left + 5, y + 14, 14, 14)
    svg.text("quiet", left + 26, y + 26, "new in this stage")
    return str(svg)


def network(title, rows):
    """Links and their addresses: boxes in a grid, the wall between host and container, wires."""
    width, height, x0, y0, dx, dy = 170, 62, 34, 84, 236, 92
    boxes, places, wires = [], {}, []
    for words, text in rows:
        if words[0] == "box":
            _, side, column, row = words
            part = fields(text)
            x, y = x0 + dx * (int(column) - 1), y0 + dy * (int(row) - 1)
            boxes.append((side, x, y, part))
            places[f"{column}.{row}"] = (x, y, part[0])
        else:
            wires.append((words[1], words[2], text))
    bottom = max(y for _, _, y, _ in boxes) + height
    told = "; ".join(f"{places[a][2]} is connected to {places[b][2]}" for a, b, _ in wires)
    svg = Svg(720, bottom + 24, title, told)
    svg.text("title", 20, 32, f"The network of stage 5: {title}")
    wall = x0 + dx * 2 - (dx - width) / 2
    svg.text("head mid", (20 + wall) / 2, 66, "host")
    svg.text("head mid", wall + (720 - wall) / 2, 66, "containers")
    svg.path("wall", f"M{wall} 50V{bottom + 12}")
    for a, b, words in wires:
        (ax, ay, _), (bx, by, _) = places[a], places[b]
        ay, by, ax = ay + height / 2, by + height / 2, ax + width
        middle = (ax + bx) / 2
        svg.path("wire", f"M{ax} {ay}" + (f"H{bx}" if ay == by else f"H{middle}V{by}H{bx}"))
        if words:
            svg.text("quiet mid", middle, by - 6 if ay == by else by + 16, words)
    for side, x, y, (name, address, what) in boxes:
        svg.box("new" if side == "container" else "own", x, y, width, height)
        svg.text("head mid", x + width / 2, y + 19, name)
        svg.text("mid", x + width / 2, y + 36, address)
        svg.text("quiet mid", x + width / 2, y + 53, what)
    return str(svg)


TERMINAL = """\
text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}
.typed{font-weight:700}
"""


def session(log, path, columns=112, rows=28):
    """A recording of script(1): the lines as they came, the last ones staying in sight.

    What came at once is shown a line after the other, and pauses are cut short; the text is all there.
    """
    output = Path(log).read_text().splitlines(keepends=True)[1:]  # without script's own first line
    if output and output[-1].startswith("Script done"):
        output.pop()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "".join(output)).replace("\r", "")
    lines = []
    for line in text.rstrip("\n").split("\n"):
        kind = next((side for side in ("host", "container") if line.startswith(f"{side:<10}")), "")
        kind = "typed" if line.startswith(("# ", "-> ")) else kind
        pieces = [line[at : at + columns] for at in range(0, len(line), columns)] or [""]
        lines += [(kind, piece) for piece in pieces]
    # When each line appears, in seconds.
    moments, now = [], 0.0
    for kind, _ in lines:
        now += {"typed": 1.0, "host": 0.05, "container": 0.05}.get(kind, 0.15)
        moments.append(now)
    height, top, step = 16 * rows + 24, 22, 16
    hidden = max(0, len(lines) - rows)
    frames = ["0%{transform:translateY(0)}"]
    for at in range(rows, len(lines)):
        share = 100 * moments[at] / now
        frames.append(f"{share:.2f}%{{transform:translateY(-{step * (at - rows + 1)}px)}}")
    style = STYLE + TERMINAL + (
        f".all{{transform:translateY(-{step * hidden}px);animation:scroll {now:.1f}s step-end backwards}}"
        f"@keyframes scroll{{{''.join(frames)}}}"
        "@keyframes appear{from{opacity:0}}"
        ".all text{animation:appear .01s step-end backwards}"
        "@media (prefers-reduced-motion:reduce){.all,.all text{animation:none}}"
    )
    width = columns * 7.3 + 28
    svg = Svg(int(width), height, "A recorded session of stage 5", "Its text is in the README.", style)
    svg.parts.append(f'<clipPath id="c"><rect x="0" y="8" width="{int(width)}" height="{height - 20}"/></clipPath>')
    svg.parts.append('<g clip-path="url(#c)"><g class="all" xml:space="preserve">')
    for at, ((kind, line), moment) in enumerate(zip(lines, moments)):
        mark = f' class="{kind}"' if kind else ""
        if line:
            svg.parts.append(
                f'<text{mark} x="14" y="{top + step * at}" style="animation-delay:{moment:.1f}s">{escape(line)}</text>'
            )
    svg.parts.append("</g></g>")
    Path(path).write_text(str(svg))


def draw():
    pictures = read((HERE / "pictures.txt").read_text())
    stages = [picture for picture in pictures if picture[0][0] == "stage"]
    drawn = {"stage5-net/stages.svg": overview(stages)}
    for words, title, rows in pictures:
        if words[0] == "stage":
            drawn[f"{words[2]}/shared.svg"] = stage(words[1], title, rows)
        else:
            drawn[f"{words[1]}/network.svg"] = network(title, rows)
    return drawn


def main():
    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]):
        print(__doc__.strip())
    elif arguments == []:
        for name, text in draw().items():
            (REPOSITORY / name).write_text(text)
    elif arguments == ["--check"]:
        stale = [
            name
            for name, text in draw().items()
            if not (REPOSITORY / name).exists() or (REPOSITORY / name).read_text() != text
        ]
        for name in stale:
            print(f"pictures.py: {name} is out of date; run scripts/pictures.py", file=sys.stderr)
        sys.exit(1 if stale else 0)
    elif arguments[:1] == ["--session"] and len(arguments) == 3:
        session(*arguments[1:])
    else:
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
