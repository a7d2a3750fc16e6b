// Goes through a page of replay.sh, and sends what it has found to the page around it: see replay.py.
addEventListener('load', async () => {
    const found = { errors: [], steps: pairs.map(({ at, mark }, position) => ({ at, mark, title: document.querySelectorAll('#steps a')[position].innerText })) };
    const check = (is, what) => is || found.errors.push(`step ${current}: ${what}`);
    addEventListener('error', ({ message }) => found.errors.push(message));
    const moved = async act => {
        const done = new Promise(resolve => addEventListener('hashchange', () => setTimeout(resolve), { once: true }));
        act();
        await done;
    };
    const press = key => moved(() => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })));
    const seen = [], last = pairs.length - 1;
    const look = (at, how) => {
        check(current === at && location.hash === (at || how !== 'start' ? `#step=${at}` : ''), `${how} to ${at}`);
        check(document.querySelectorAll('[aria-current]').length === 1, 'one step is the current one');
        check(element('now').textContent.startsWith(`Step ${at} of ${last}, `), element('now').textContent);
        check(Number(element('slider').value) === at, 'the slider');
        const parts = ['now', 'pictures', 'calls', 'words'].map(id => element(id).innerHTML).join('\n');
        const wrong = parts.match(/.{30}(undefined|NaN|\[object|>null<).{20}/);
        check(!wrong, wrong?.[0]);
        const run = runs[0], step = pairs[at].at[0], changes = step === null ? [] : run.steps[step].events.filter(({ kind }) => kind === 'change');
        const state = stateAt(run, step ?? 0);
        for (const { side, what, name, after } of changes) {
            const same = state.filter(fact => fact.what === what && fact.name === name);
            const isShown = after === null ? !same.some(fact => fact.side === side && fact.now) : same.some(({ now, mark }) => now === after && mark);
            check(isShown, `${what} ${name} is not shown as changed to ${after}`);
        }
        check(changes.length === 0 || element('pictures').querySelector('.new, .changed, .gone'), 'no change is highlighted');
        seen[at] ??= parts;
        check(seen[at] === parts, `${how}: another page than before`);
    };
    // No text leaves its box or the picture, and nothing is wider than the window.
    const fits = () => {
        for (const svg of document.querySelectorAll('svg')) {
            const outer = svg.viewBox.baseVal;
            for (const text of svg.querySelectorAll('text')) {
                const box = text.getBBox(), rect = text.parentNode.querySelector(':scope > rect')?.getBBox() ?? outer;
                check(box.x >= rect.x - 1 && box.x + box.width <= rect.x + rect.width + 1 && box.y + box.height <= outer.height, `"${text.textContent}" does not fit`);
            }
        }
        check(document.documentElement.scrollWidth <= innerWidth, `${document.documentElement.scrollWidth} wide, of ${innerWidth}`);
    };
    look(0, 'start');
    for (let at = 1; at <= last; at++) { await press('ArrowRight'); look(at, 'forwards'); fits(); }
    for (let at = last - 1; at >= 0; at--) { await press('ArrowLeft'); look(at, 'backwards'); }
    for (const at of [last, 1, Math.floor(last / 2)]) { await moved(() => { location.hash = `step=${at}`; }); look(at, 'jump'); }
    await moved(() => { element('slider').value = last - 1; element('slider').dispatchEvent(new Event('input')); });
    look(last - 1, 'slider');
    await press('End');
    look(last, 'End');
    await moved(() => element('back').click());
    look(last - 1, 'back');
    check(new Set(seen).size === seen.length, 'two steps look the same');
    check(performance.getEntriesByType('resource').length === 0, 'a request');
    found.state = stateAt(runs[0], waiting(runs[0])).filter(({ now }) => now !== null).map(({ side, what, name, now }) => [side, what, name, now]);
    parent.postMessage({ page: location.pathname, ...found }, '*');
});
