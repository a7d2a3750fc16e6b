// From the lines of --explain=json to the state of the machine at each step. Nothing here touches the page.
'use strict';

const ENDED = 'the command has ended';
const word = text => String(text).split(' ')[0];

// A run: its steps, each with the events below it, and its facts, each with what it was from which step on.
// A fact is known by its changes alone. What a change finds before it was there since the side is there.
function readRun({ stage, command, lines }) {
    const steps = [{ side: 'host', heading: '', shell: '', does: 'before the first step', events: [] }];
    const facts = new Map(), peers = new Map();
    let child = null, begin = 0, created = null;
    const first = lines.find(line => line.process);
    if (first) facts.set(`host process ${first.process}`, { side: 'host', what: 'process', name: String(first.process), states: [[-1, stage]] });
    const here = () => steps.length - 1;
    const fact = (side, what, name) => {
        const key = `${side} ${what} ${name}`;
        if (!facts.has(key)) facts.set(key, { side, what, name, states: [] });
        return facts.get(key);
    };
    const change = (side, what, name, before, after) => {
        const { states } = fact(side, what, name);
        if (!states.length && before !== null) states.push([side === 'host' ? -1 : begin, before]);
        states.push([here(), after]);
    };
    const end = fact => fact.states.push([here(), null]);
    // The kernel removes what is in the namespaces of the last process, and the pair of a link that was there.
    const endOfChild = () => {
        for (const fact of facts.values()) {
            if (fact.side === 'container') end(fact);
            if (peers.has(fact.name.split(' dev ').pop()) && fact.side === 'host') end(fact);
        }
    };
    lines.forEach((line, at) => {
        const { kind, side, process, what, name, before, after } = line;
        if (kind === 'step') {
            steps.push({ ...line, events: [] });
            created = null;
            return;
        }
        if (kind === 'change' && what === 'process' && name === child && after === null)
            steps.push({ side: 'host', process, heading: 'clean-up', shell: '', does: ENDED, events: [] });
        steps[here()].events.push(line);
        if (kind !== 'change') return;
        if (what === 'process') {
            const next = lines.slice(at + 1).find(other => other.process === process);
            if (after !== null && next && next.what === 'namespace') {
                [child, begin, created] = [name, here(), name];
                if (name === String(first.process)) change('host', what, name, stage, null); // unshare(1) without -f becomes it
            }
            change(name === child ? 'container' : 'host', what, name, before, after);
            if (name === child && after === null) endOfChild();
        } else if (what === 'namespace' && created !== null) {
            change('container', what, name, null, after);
            if (!facts.has(`host namespace ${name}`)) fact('host', what, name).states.push([-1, before]);
        } else if (what === 'map') {
            change('container', what, name, before, after); // the host writes it, for the container
        } else {
            change(side, what, name, before, after);
        }
        if (what === 'peer' && after !== null) {
            peers.set(name, word(after));
            change('container', 'link', word(after), null, 'DOWN veth');
        }
        // A new UTS namespace has a copy of the host's name.
        if (what === 'hostname' && !facts.has('host hostname hostname')) fact('host', what, name).states.push([-1, before]);
    });
    return { stage, command, steps, begin, child, peers, facts: [...facts.values()] };
}

const valueAt = ({ states }, step) => states.reduce((value, [at, state]) => (at <= step ? state : value), null);

// The facts at a step. A mark says what the step has done: + added, ~ changed, - removed.
function stateAt(run, step) {
    return run.facts.map(fact => {
        const now = valueAt(fact, step), before = valueAt(fact, step - 1);
        const mark = now === before ? '' : before === null ? '+' : now === null ? '-' : '~';
        return { ...fact, now, before, mark, value: now ?? before };
    }).filter(({ value }) => value !== null);
}

// The last step before the command ends: the container waits for it.
function waiting(run) {
    const end = run.steps.findIndex(({ does }) => does === ENDED);
    return end < 0 ? run.steps.length - 1 : end - 1;
}

// A text without what differs in each run: the numbers of processes, namespaces, groups of links, variables.
function normal(run, text) {
    const processes = new Set(run.steps.flatMap(({ events }) => events.map(({ process }) => String(process))));
    return String(text).replace(/\d+/g, number => (processes.has(number) || number === run.child || /^402653\d{4}$/.test(number) ? 'N' : number))
        .replace(/IFLA_GROUP=\d+|\d+ vars/g, 'N').replace(/\/(?=\s|$)(?<=\S\S)/g, '').replace(/ set dev /, ' set ').replace('> ', '>');
}
// A fact in words: the number of a mount says nothing, and some names say all.
const words = ({ what, name, value }) => {
    if (what === 'process') return /^\d+$/.test(value) && name !== value ? `process ${name}, inside ${value}` : `process ${name}`;
    return what === 'mount' || name === value || name === what ? `${what} ${value}` : `${what} ${name}: ${value}`;
};

// What one run has at a step, and the other has not. Every run has processes of its own.
function onlyIn([run, step], [other, otherStep]) {
    const facts = (run, step) => stateAt(run, step).filter(({ what, now }) => now !== null && what !== 'process')
        .map(fact => ({ ...fact, normal: normal(run, `${fact.side} ${words(fact)}`) }));
    const known = new Set(facts(other, otherStep).map(({ normal }) => normal));
    return facts(run, step).filter(({ normal }) => !known.has(normal));
}
const eventText = (run, event) => event.kind === 'call' ? normal(run, `${event.call} = ${event.result}`)
    : event.kind === 'change' ? normal(run, `${event.what} ${event.what === 'mount' ? '' : event.name} ${event.before} ${event.after}`)
    : normal(run, event.message);

// Calls are compared if both runs have some: a run by hand has none.
const isCompared = (runs, { kind, what }) => (kind === 'call'
    ? runs.every(({ steps }) => steps.some(({ events }) => events.some(({ kind }) => kind === 'call'))) : what !== 'process');

// Two runs side by side: pairs of steps, the longest common sequence of their commands.
function align(run, other) {
    if (!other) return run.steps.map((_, at) => ({ at: [at, null], mark: '' }));
    const texts = ([run, at]) => run.steps[at].events.filter(event => isCompared([run, other], event)).map(event => eventText(run, event)).sort().join('\n');
    const name = (run, { side, shell, does }) => `${side} ${/^(unshare|exec) /.test(shell) ? word(shell) : normal(run, shell || does)}`;
    const [a, b] = [run, other].map(run => run.steps.map(step => name(run, step)));
    const length = [...a, 0].map(() => new Array(b.length + 1).fill(0));
    for (let i = a.length - 1; i >= 0; i--)
        for (let j = b.length - 1; j >= 0; j--)
            length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    const pairs = [];
    for (let i = 0, j = 0; i < a.length || j < b.length;) {
        if (i < a.length && j < b.length && a[i] === b[j]) {
            pairs.push({ mark: texts([run, i]) === texts([other, j]) ? '=' : '≠', at: [i++, j++] });
        } else if (j >= b.length || (i < a.length && length[i + 1][j] >= length[i][j + 1])) {
            pairs.push({ mark: b.includes(a[i]) ? '⇅' : '◀', at: [i++, null] });
        } else {
            pairs.push({ mark: a.includes(b[j]) ? '⇅' : '▶', at: [null, j++] });
        }
    }
    return pairs;
}
