// The picture of the machine at a step, as SVG text. Nothing here touches the page.
'use strict';

const CHAR = 7.25, LINE = 16, GAP = 10, MOST_MOUNTS = 16;
const KINDS = ['uts', 'user', 'pid', 'mnt', 'net', 'ipc', 'cgroup', 'time'];
const MARKS = { '+': 'new', '~': 'changed', '-': 'gone', '≠': 'differs' };
const NAMES = { '+': 'added', '~': 'changed', '-': 'removed', '≠': 'different' };

const escaped = text => String(text).replace(/[&<>"]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const fit = (text, width) => {
    const most = Math.max(1, Math.floor(width / CHAR));
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
};
const text = (x, y, words, kind = '') => `<text class="${kind}" x="${x}" y="${y}">${escaped(words)}</text>`;
// What a step has changed has a thick border and a sign in the corner: also without colour it is seen.
const sign = (x, y, mark) => (mark ? `<g class="${MARKS[mark]}"><circle cx="${x}" cy="${y}" r="8"/>${text(x, y + 4, mark === '-' ? '−' : mark, 'sign')}</g>` : '');
const box = (x, y, width, height, lines, mark, kind = '') =>
    `<g class="box ${MARKS[mark] ?? ''} ${kind}"><rect x="${x}" y="${y}" width="${width}" height="${height}" rx="5"/>` +
    lines.map((line, at) => text(x + 8, y + 17 + at * LINE, fit(line, width - (at || !mark ? 12 : 26)), at ? '' : 'head')).join('') +
    `</g>${sign(x + width - 4, y + 4, mark)}`;

// Cells of equal width, as many a row as there is room for.
function grid(cells, width) {
    const columns = Math.max(1, Math.floor((width + GAP) / (100 + GAP)));
    const cell = (width - (columns - 1) * GAP) / columns;
    const height = Math.ceil(cells.length / columns) * (42 + GAP);
    const draw = (x, y) => cells.map(({ lines, mark, kind }, at) =>
        box(x + (at % columns) * (cell + GAP), y + Math.floor(at / columns) * (42 + GAP), cell, 42, lines, mark, kind)).join('');
    return { height, draw };
}

function titled(title, { height, draw }) {
    if (!title) return { height, draw };
    return height ? { height: height + 22, draw: (x, y) => text(x, y + 12, title, 'quiet') + draw(x, y + 20) } : { height: 0, draw: () => '' };
}

function processes(facts, side) {
    const label = ({ name, value }) => side === 'container' ? `process ${value}` : value === name ? 'janitor' : value;
    return facts.filter(({ what }) => what === 'process')
        .map(fact => ({ lines: [label(fact), `${side === 'container' ? 'host' : 'pid'} ${fact.name}`], mark: fact.mark }));
}

function namespaces(facts, side) {
    const own = facts.filter(({ what }) => what === 'namespace');
    const cells = own.map(({ name, value, mark }) => ({ lines: [name, value], mark }));
    const shared = KINDS.filter(kind => !own.some(({ name }) => name === kind));
    if (side === 'container') cells.push(...shared.map(kind => ({ lines: [kind, "the host's"], mark: '', kind: 'shared' })));
    return cells;
}

const ordered = ['hostname', 'process', 'namespace', 'mount', 'link', 'peer', 'address', 'route'];
const others = facts => facts.filter(({ what }) => !ordered.includes(what))
    .map(({ what, name, value, mark }) => ({ lines: [what === 'map' ? name : `${what} ${name}`, value], mark }));

// Boxes of links, those with a cable first.
function links(facts, run, side, width, isReversed) {
    const inside = [...run.peers.values()];
    const hasCable = name => (side === 'host' ? run.peers.has(name) : inside.includes(name));
    const all = facts.filter(({ what }) => what === 'link').sort((a, b) => hasCable(b.name) - hasCable(a.name));
    const of = (kind, link) => facts.filter(({ what, name }) => what === kind && name.endsWith(` dev ${link}`));
    const boxes = all.map(({ name, value, mark }) => {
        const parts = [...of('address', name), ...of('route', name)];
        const lines = [`${name}  ${value}`, ...parts.map(({ what, value, mark }) =>
            `${mark === '-' ? '−' : mark || ' '} ${what === 'route' ? 'to ' : ''}${value.split(' dev ')[0]}`)];
        const marks = [mark, ...parts.map(({ mark }) => mark)].filter(mark => mark);
        return { name, lines, mark: marks.length && !mark ? '~' : mark, master: value.match(/ master (\S+)/)?.[1], isUp: word(value) === 'UP' };
    });
    if (isReversed) boxes.reverse();
    const height = boxes.length * (62 + 18) - (boxes.length ? 8 : 0);
    const place = at => at * (62 + 18);
    const draw = (x, y) => boxes.map(({ name, lines, mark, master }, at) => {
        const port = boxes.findIndex(({ name }) => name === master);
        const [from, to] = port > at ? [place(at) + 62, place(port)] : [place(port) + 62, place(at)];
        return (port >= 0 ? `<path class="wire" d="M${x + 30} ${y + from}V${y + to}"/>` : '') + box(x, y + place(at), width, 62, lines, mark);
    }).join('');
    return { height, draw, at: name => boxes.findIndex(box => box.name === name) * 80 + 31, boxes };
}

// The mounts as a tree by their directories, cut where it grows too long.
function mountTree(facts) {
    const parts = value => value.split(' ')[0].split('/').filter(part => part);
    const rows = facts.filter(({ what }) => what === 'mount').map(fact => ({ ...fact, path: parts(fact.value) }));
    rows.sort((a, b) => a.path.join('/ ').localeCompare(b.path.join('/ '), 'en') || a.name - b.name);
    const stack = [];
    for (const row of rows) {
        while (stack.length && !stack.at(-1).path.every((part, at) => row.path[at] === part)) stack.pop();
        while (stack.length && stack.at(-1).path.length === row.path.length) stack.pop(); // mounted on the same directory
        Object.assign(row, { depth: stack.length, parent: stack.at(-1) });
        stack.push(row);
    }
    // What the step has changed is shown, and the rest down to a depth for which there is room.
    const isFew = rows.filter(({ mark }) => mark).length <= MOST_MOUNTS - 4;
    let most = Math.max(0, ...rows.map(({ depth }) => depth));
    const isShown = ({ depth, mark }) => depth <= most || (isFew && mark);
    while (most > 0 && rows.filter(isShown).length > MOST_MOUNTS) most--;
    const top = row => (!row || isShown(row) ? row : top(row.parent));
    const depth = row => (row ? depth(top(row.parent)) + 1 : -1);
    return rows.filter(isShown).map(row => {
        const below = rows.filter(other => !isShown(other) && top(other) === row), parent = top(row.parent);
        const [target, source, fstype, options] = row.value.split(' ');
        const name = parent ? row.path.slice(parent.path.length).join('/') : target;
        const parts = Object.entries(NAMES).map(([mark, name]) => [below.filter(other => other.mark === mark).length, name]);
        const changes = parts.filter(([count]) => count).map(part => `, ${part.join(' ')}`).join('');
        const count = below.length ? ` (${below.length} below${changes})` : '';
        return { mark: row.mark || (changes && '~'), depth: depth(row), name: `${name || '/'}${count}`, words: `${fstype} ${options}` };
    });
}

function mounts(facts, width) {
    const rows = mountTree(facts);
    const shown = rows.length > MOST_MOUNTS + 1 ? rows.slice(0, MOST_MOUNTS) : rows;
    if (shown.length < rows.length) shown.push({ mark: '', depth: 0, name: `… and ${rows.length - shown.length} more`, words: '' });
    const draw = (x, y) => shown.map(({ mark, name, words, depth }, at) => {
        const left = 18 + depth * 14, label = fit(name, width - left), end = left + (label.length + 1) * CHAR;
        const row = mark ? `<rect x="${x - 2}" y="${y + at * LINE - 1}" width="${width + 4}" height="${LINE}"/>` : '';
        const place = y + at * LINE + 11, details = end < width - 40 ? text(x + end, place, fit(words, width - end), 'quiet') : '';
        return `<g class="row ${MARKS[mark] ?? ''}">${row}${text(x + 3, place, mark === '-' ? '−' : mark, 'mark')}${text(x + left, place, label)}${details}</g>`;
    }).join('');
    return { height: shown.length * LINE, draw };
}

// The sections of a side in their order; `isNarrow` puts the container below the host, its links first.
function sections(run, facts, side, width, isNarrow) {
    const own = facts.filter(fact => fact.side === side);
    const hostname = own.filter(({ what }) => what === 'hostname').map(({ value, mark }) => ({ lines: ['hostname', value], mark }));
    const net = links(own, run, side, width, isNarrow && side === 'host');
    const all = {
        head: titled('', grid([...hostname, ...processes(own, side)], width)),
        namespaces: titled('namespaces', grid(namespaces(own, side), width)),
        others: titled('ids, and what else has changed', grid(others(own), width)),
        links: titled('links', net),
        mounts: titled('mounts', mounts(own, width)),
    };
    return { all, net };
}

const STYLE = `text{font:12px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}.head,.title{font-weight:700}
.title{font-size:15px}.side,.box rect,.row rect{stroke-width:1}.new rect,.changed rect,.differs rect{stroke-width:2.5}
.row.new text:not(.quiet),.row.changed text:not(.quiet),.row.differs text:not(.quiet){font-weight:700}
.gone rect,.shared rect,.missing{stroke-dasharray:5 4}.gone text:not(.sign,.mark){text-decoration:line-through}.sign{text-anchor:middle;font-weight:700}
.wire{fill:none;stroke-width:2}.cable{fill:none;stroke-width:4}.down{stroke-dasharray:7 5}`;
// Not CSS variables: some viewers do not know them.
const colours = (page, ink, quiet, line, side, box, fresh, strong) => `.page{fill:${page}}text{fill:${ink}}.quiet{fill:${quiet}}.side{fill:${side};stroke:${line}}
.box rect{fill:${box};stroke:${line}}.shared rect{fill:none}.shared text{fill:${quiet}}.new rect,.changed rect,.differs rect{fill:${fresh};stroke:${strong}}.row.row rect{fill:${fresh};stroke:none}.gone rect{fill:none}
.wire,.cable{stroke:${strong}}circle{fill:${strong}}.sign{fill:${page}!important}`;
const SVG_STYLE = `${STYLE}${colours('#fff', '#1f2328', '#59636e', '#818b98', '#f6f8fa', '#fff', '#ddf4ff', '#0969da')}
@media screen and (prefers-color-scheme:dark){${colours('#0d1117', '#e6edf3', '#9198a1', '#656c76', '#161b22', '#0d1117', '#0c2d5a', '#58a6ff')}}`;

function highestSections(run, at) {
    const highest = { host: {}, container: {} };
    run.steps.forEach((_, step) => {
        for (const [name, { all }] of Object.entries(at(step)))
            for (const [section, { height }] of Object.entries(all)) highest[name][section] = Math.max(highest[name][section] ?? 0, height);
    });
    return highest;
}

// The picture at a step. The places are those of the highest sections of the run, so that nothing jumps.
function picture(run, step, width, title, differs = () => false) {
    const isNarrow = width < 560, pad = 12;
    const side = isNarrow ? width : (width - 36) / 2, inner = side - 2 * pad;
    const at = step => Object.fromEntries(['host', 'container'].map(name => [name, sections(run, stateAt(run, step)
        .map(fact => (fact.mark || !differs(fact) ? fact : { ...fact, mark: '≠' })), name, inner, isNarrow)]));
    run.highest ??= {};
    const highest = run.highest[width] ??= highestSections(run, at);
    const now = at(step), order = ['head', 'namespaces', 'others', 'links', 'mounts'];
    const ends = { host: 0, container: 0 }, places = { host: {}, container: {} }, parts = [];
    const put = (name, section, y) => {
        places[name][section] = y;
        ends[name] = y + (highest[name][section] || -GAP) + GAP;
    };
    const top = 34;
    if (isNarrow) {
        let y = top;
        for (const section of order) { put('host', section, y); y = ends.host; }
        y += top + 24;
        for (const section of ['links', 'head', 'namespaces', 'others', 'mounts']) { put('container', section, y); y = ends.container; }
    } else {
        let y = { host: top, container: top };
        for (const section of order) {
            if (section === 'links') y = { host: Math.max(y.host, y.container), container: Math.max(y.host, y.container) };
            for (const name of ['host', 'container']) { put(name, section, y[name]); y[name] = ends[name]; }
        }
    }
    const height = Math.max(ends.host, ends.container) + pad;
    const frames = isNarrow ? { host: [0, 0, ends.host], container: [0, ends.host + 24, height - ends.host - 24] }
        : { host: [0, 0, height], container: [side + 36, 0, height] };
    for (const [name, [x, y, tall]] of Object.entries(frames)) {
        const isThere = name === 'host' || (step >= run.begin && run.child !== null && step <= waiting(run));
        parts.push(`<rect class="side ${isThere ? '' : 'missing'}" x="${x + 0.5}" y="${y + 0.5}" width="${side - 1}" height="${tall - 1}" rx="8"/>`,
            text(x + pad, y + 22, `${name}${isThere ? '' : step > run.begin && run.child !== null ? ': it has ended' : ': not there yet'}`, 'title'));
        if (!isThere && !stateAt(run, step).some(fact => fact.side === name)) continue;
        for (const section of order) parts.push(now[name].all[section].draw(x + pad, places[name][section]));
    }
    for (const [outside, inside] of run.peers) {
        const [a, b] = [now.host.net, now.container.net], ends = [a.boxes.find(({ name }) => name === outside), b.boxes.find(({ name }) => name === inside)];
        if (ends.some(end => !end)) continue;
        const [ax, ay] = [frames.host[0] + pad, places.host.links + 20 + a.at(outside)], [bx, by] = [frames.container[0] + pad, places.container.links + 20 + b.at(inside)];
        const way = isNarrow ? `M${ax + inner / 2} ${ay + 31}V${by - 31}` : `M${ax + inner} ${ay}C${ax + inner + 30} ${ay} ${bx - 30} ${by} ${bx} ${by}`;
        parts.push(`<path class="cable ${ends.every(({ isUp, mark }) => isUp && mark !== '-') ? '' : 'down'}" d="${way}"><title>cable: ${escaped(outside)} to ${escaped(inside)}</title></path>`);
    }
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(title)}">` +
        `<style>${SVG_STYLE}</style><rect class="page" width="${width}" height="${height}"/>${parts.join('')}</svg>`;
}
