// The page: which step is shown, and what of it. The step is in the address: #step=12.
'use strict';

const element = id => document.getElementById(id);
const runs = JSON.parse(element('data').textContent).map(readRun);
const pairs = align(...runs);
const MEANING = { '=': 'the same in both runs', '≠': 'differs between the runs', '◀': 'only in this run', '⇅': 'at another place in the other run', '▶': 'only in the other run' };
let current = -1;

// The step of a run at a position; between two of its steps the one before.
const stepAt = (number, position) => {
    while (position > 0 && pairs[position].at[number] === null) position--;
    return pairs[position].at[number] ?? 0;
};
const titleOf = ({ shell, does }) => shell || `(${does})`;
const marked = mark => (mark ? `<b aria-label="${MEANING[mark] ?? NAMES[mark]}">${mark === '-' ? '−' : mark}</b>` : '');

function listOfSteps() {
    let heading = '';
    return `<h2>Steps: ◧ host, ◨ container</h2>${runs[1] ? `<p>${Object.entries(MEANING).map(entry => entry.join(' ')).join(', ')}</p>` : ''}<ol>` + pairs.map(({ at, mark }, position) => {
        const number = at[0] === null ? 1 : 0, step = runs[number].steps[at[number]];
        const title = step.heading === heading ? '' : `<h3>${escaped(step.heading)}</h3>`;
        heading = step.heading;
        return `<li>${title}<a href="#step=${position}"><span class="no">${marked(mark)} ${position} <span role="img" aria-label="${step.side}">${step.side === 'host' ? '◧' : '◨'}</span></span>` +
            `<code>${escaped(titleOf(step))}</code></a></li>`;
    }).join('') + '</ol>';
}

// The calls and changes of a run's step; those that the other run does not have are marked.
function listOfEvents(number, position) {
    const run = runs[number], at = pairs[position].at[number];
    if (at === null) return '<p>This run has no such step.</p>';
    const step = run.steps[at], other = pairs[position].at[1 - number];
    const missing = (other ?? null) === null ? [] : runs[1 - number].steps[other].events.map(event => eventText(runs[1 - number], event));
    const isOther = event => {
        if (!runs[1] || other === null || !isCompared(runs, event)) return false;
        const at = missing.indexOf(eventText(run, event));
        return at < 0 || (missing.splice(at, 1), false);
    };
    const row = (event, html, mark, kind = '') => `<li class="${kind}">${mark ? marked(mark) : '<b></b>'}${isOther(event) ? marked('≠') : ''}<code>${html}</code></li>`;
    const of = process => (process === step.process || process === undefined ? '' : `${process}: `);
    const rows = { change: [], call: [], error: [] };
    for (const event of step.events) {
        const { kind, call, result, what, name, before, after, message, hint } = event;
        if (kind === 'call') {
            rows.call.push(row(event, `${of(event.process)}${escaped(call)}<span class="result">${result === null ? '' : ` = ${escaped(result)}`}</span>`, '', /^-1 /.test(result) ? 'failed' : ''));
        } else if (kind === 'change') {
            const value = before === null ? after : after === null ? before : `${before} → ${after}`;
            rows.change.push(row(event, escaped(words({ what, name, value })), before === null ? '+' : after === null ? '-' : '~'));
        } else {
            rows.error.push(row(event, escaped(message) + (hint ? `<br>hint: ${escaped(hint)}` : ''), '', kind === 'error' ? 'failed' : ''));
        }
    }
    const part = (title, rows) => (rows.length ? `<h3>${title}</h3><ul>${rows.join('')}</ul>` : '');
    return part('Messages', rows.error) + part('Calls', rows.call) + part('Changes', rows.change) || '<p>Nothing.</p>';
}

const differing = number => (runs[1] ? onlyIn(...[number, 1 - number].map(number => [runs[number], stepAt(number, current)])) : []);

function wordsOf(number, position) {
    const facts = stateAt(runs[number], stepAt(number, position));
    const list = side => facts.filter(fact => fact.side === side).map(fact =>
        `<li>${fact.mark ? `<strong>${NAMES[fact.mark]}:</strong> ` : ''}<code>${escaped(words(fact))}</code></li>`).join('');
    return ['host', 'container'].map(side => `<h3>${side}</h3><ul>${list(side)}</ul>`).join('');
}

const nameOf = number => (runs[1] ? `${number ? 'The other run' : 'This run'}: ` : '') + runs[number].command;

function show(position) {
    current = Math.min(Math.max(position, 0), pairs.length - 1);
    const { at, mark } = pairs[current], number = at[0] === null ? 1 : 0;
    const step = runs[number].steps[at[number]], count = step.events.filter(({ kind }) => kind === 'change').length;
    element('now').innerHTML = `Step ${current} of ${pairs.length - 1}, ${current ? `on the ${step.side === 'host' ? 'host' : 'container\'s side'}` : 'nothing has been done'}: ` +
        `<code>${escaped(step.shell)}</code> ${escaped(step.does)}. ${count ? `${count} change${count > 1 ? 's' : ''}.` : ''} ${mark ? `${MEANING[mark][0].toUpperCase()}${MEANING[mark].slice(1)}.` : ''}`;
    element('slider').value = current;
    element('slider').setAttribute('aria-valuetext', `step ${current}: ${titleOf(step)}`);
    element('back').setAttribute('aria-disabled', current === 0);
    element('on').setAttribute('aria-disabled', current === pairs.length - 1);
    for (const link of element('steps').querySelectorAll('a')) link.removeAttribute('aria-current');
    const link = element('steps').querySelectorAll('a')[current];
    link.setAttribute('aria-current', 'step');
    const list = element('steps');
    if (list.scrollHeight > list.clientHeight) list.scrollTop = link.offsetTop - list.clientHeight / 2;
    element('calls').innerHTML = runs.map((_, number) => (runs[1] ? `<h2>${number ? 'The other run' : 'This run'}</h2>` : '') + listOfEvents(number, current)).join('') +
        (runs[1] ? `<h2>The machine differs at this step</h2>${runs.map((_, number) => `<h3>Only in ${number ? 'the other' : 'this'} run</h3><ul>` +
            `${differing(number).map(fact => `<li>${marked('≠')}<code>${escaped(`${fact.side}: ${words(fact)}`)}</code></li>`).join('') || '<li>Nothing.</li>'}</ul>`).join('')}` : '');
    element('words').innerHTML = runs.map((_, number) => (runs[1] ? `<h2>${escaped(nameOf(number))}</h2>` : '') + wordsOf(number, current)).join('');
    draw();
    const changed = element('pictures').querySelector('.new, .changed, .gone')?.getBoundingClientRect();
    const top = document.querySelector('header').getBoundingClientRect().bottom;
    if (changed && (changed.top < top || changed.bottom > innerHeight)) scrollBy(0, changed.top - top - 40);
}

function draw() {
    element('pictures').innerHTML = runs.map((_, number) => '<figure></figure>').join('');
    [...element('pictures').children].forEach((figure, number) => {
        const run = runs[number], at = stepAt(number, current), width = Math.max(320, Math.floor(figure.clientWidth));
        const others = differing(number);
        const title = `The machine after step ${current}: ${titleOf(run.steps[at])}`;
        figure.innerHTML = (runs[1] ? `<figcaption>${escaped(nameOf(number))}</figcaption>` : '') +
            picture(run, at, width, title, ({ side, what, name }) => others.some(fact => fact.side === side && fact.what === what && fact.name === name));
    });
}

const go = position => { location.hash = `step=${Math.min(Math.max(position, 0), pairs.length - 1)}`; };
const fromAddress = () => show(Number(location.hash.match(/^#step=(\d+)$/)?.[1] ?? 0));
element('title').textContent = document.title = `Watch it being built: ${runs[0].command}`;
element('steps').innerHTML = listOfSteps();
element('slider').max = pairs.length - 1;
element('pictures').classList.toggle('two', runs.length > 1);
element('slider').addEventListener('input', ({ target }) => go(Number(target.value)));
element('back').addEventListener('click', () => go(current - 1));
element('on').addEventListener('click', () => go(current + 1));
addEventListener('hashchange', fromAddress);
addEventListener('resize', draw);
addEventListener('keydown', event => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target === element('slider')) return;
    const to = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: pairs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
});
fromAddress();
