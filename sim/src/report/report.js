// Shows and hides rows, moves what is drawn beneath them, and tells what became of a file when a row
// is hovered, focused or tapped. Without it the page shows the surroundings of the failure.
'use strict';
(() => {
  const ROW = 24, GAP = 20, GAP_NS = 1e8;
  const find = (selector) => document.querySelector(selector);
  const rows = [...find('#rows').children].map((element) => ({
    element,
    at: Number(element.dataset.t),
    lane: element.dataset.l === undefined ? null : Number(element.dataset.l),
    fates: (element.dataset.p || '').split(' ').filter(Boolean).map(Number),
    focus: !element.hidden,
    matters: !['hint', 'detail'].some((kind) => element.classList.contains(kind)),
    ofRun: ['fault', 'repair', 'phase', 'failure'].some((kind) => element.classList.contains(kind)),
    text: element.textContent.toLowerCase(),
  }));
  const fates = [...document.querySelectorAll('.fate')];
  const names = fates.map((fate) => fate.querySelector('.path').textContent.toLowerCase());
  const svg = find('.plane svg');
  const bands = [...svg.querySelectorAll('.band')];
  const arrows = [...svg.querySelectorAll('.arrow')];
  const diagram = find('#diagram');
  const controls = find('#controls');
  const heading = find('#heading'), first = heading.textContent;
  const headings = {
    focus: first,
    path: 'Everything that touched it, and the faults',
    matters: 'What happened in the whole run',
    all: 'Every event',
  };
  document.documentElement.classList.add('script');

  const span = (ns) => {
    if (ns < 1e9) return Math.floor(ns / 1e6) + ' ms';
    if (ns < 6e10) return (Math.floor(ns / 1e8) / 10).toFixed(1) + ' s';
    return Math.floor(ns / 6e10) + ' min ' + (Math.floor(ns / 1e9) % 60) + ' s';
  };
  const place = (element, visible, attributes) => {
    element.setAttribute('visibility', visible ? 'visible' : 'hidden');
    if (visible) for (const name in attributes) element.setAttribute(name, attributes[name]);
  };

  function show() {
    const form = new FormData(controls);
    const view = form.get('view');
    const wanted = form.get('path').trim().toLowerCase();
    const lanes = new Set(form.getAll('lane').map(Number));
    const inView = {
      focus: (row) => row.focus,
      path: (row) => row.fates.includes(0) || row.ofRun,
      matters: (row) => row.matters,
      all: () => true,
    }[view];
    const ofPath = (row) => !wanted || row.ofRun || row.text.includes(wanted)
      || row.fates.some((fate) => names[fate].includes(wanted));
    const ofNode = (row) => row.lane === null || lanes.has(row.lane);
    let height = 0, before = null, count = 0;
    const open = [];
    for (const row of rows) {
      const visible = row.element.id === 'first-bad' || (inView(row) && ofPath(row) && ofNode(row));
      row.element.hidden = !visible;
      row.middle = null;
      if (!visible) continue;
      const gap = before !== null && row.at - before >= GAP_NS;
      row.element.classList.toggle('gap', gap);
      if (gap) row.element.dataset.gap = span(row.at - before);
      height += (gap ? GAP : 0) + ROW;
      row.middle = height - ROW / 2;
      before = row.at;
      count += 1;
      open.push(row);
    }
    svg.setAttribute('height', height);
    heading.textContent = headings[view];
    const begun = open.length ? open[0].at : 0, last = before || 0;
    for (const band of bands) {
      const from = Number(band.dataset.from), until = Number(band.dataset.until);
      const begin = open.find((row) => row.at >= from), end = open.find((row) => row.at >= until);
      const top = from < begun || !begin ? 0 : begin.middle;
      const bottom = end ? end.middle : height;
      const visible = from <= last && until >= begun && bottom > top && lanes.has(Number(band.dataset.l));
      place(band, visible, { y: top, height: bottom - top });
    }
    for (const arrow of arrows) {
      const from = rows[arrow.dataset.a], to = arrow.dataset.b === undefined ? null : rows[arrow.dataset.b];
      const end = to ? to.middle : from.middle + ROW * 2 / 3;
      place(arrow, from.middle !== null && end !== null, { y1: from.middle, y2: end });
    }
    for (const head of document.querySelectorAll('.heads .lane')) {
      head.classList.toggle('off', !lanes.has(Number(head.style.getPropertyValue('--l'))));
    }
    diagram.classList.toggle('focused', view === 'focus' || view === 'path');
    find('#shown').textContent = count + ' of ' + rows.length + ' events of this page are shown.';
  }
  controls.addEventListener('input', show);
  controls.addEventListener('submit', (event) => event.preventDefault());

  // The panel.
  const panel = find('#panel');
  let pinned = false;
  function tell(row, pin) {
    if (!row || row.fates.length === 0) return;
    const shown = row.fates.slice(0, 8).map((fate) => {
      const copy = document.createElement('div');
      for (const child of fates[fate].children) {
        const part = document.createElement(child.tagName === 'SUMMARY' ? 'p' : 'div');
        part.append(...[...child.cloneNode(true).childNodes]);
        copy.append(part);
      }
      const link = document.createElement('a');
      link.href = '#fate-' + fate;
      link.textContent = 'In the list below';
      link.addEventListener('click', () => { fates[fate].open = true; });
      if (pin) copy.append(link);
      return copy;
    });
    const close = document.createElement('button');
    close.className = 'close';
    close.textContent = 'Close';
    close.addEventListener('click', hide);
    panel.replaceChildren(...(pin ? [close] : []), ...shown);
    if (row.fates.length > shown.length) panel.append('And ' + (row.fates.length - shown.length) + ' more.');
    panel.hidden = false;
    pinned = pin;
  }
  function hide() { panel.hidden = true; pinned = false; }
  const list = find('#rows');
  const rowOf = (event) => rows[[...list.children].indexOf(event.target.closest('li'))];
  const onLabel = (event) => event.target.closest('a.label');
  list.addEventListener('mouseover', (event) => { if (!pinned && onLabel(event)) tell(rowOf(event), false); });
  list.addEventListener('mouseleave', () => { if (!pinned) hide(); });
  list.addEventListener('focusin', (event) => { if (onLabel(event)) tell(rowOf(event), false); });
  list.addEventListener('focusout', () => { if (!pinned) hide(); });
  list.addEventListener('click', (event) => {
    if (!onLabel(event)) return;
    event.preventDefault();
    tell(rowOf(event), true);
  });
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape') hide(); });
  const follow = () => {
    const fate = /^#fate-\d+$/.test(location.hash) && find(location.hash);
    if (fate) fate.open = true;
  };
  addEventListener('hashchange', follow);
  follow();

  find('#copy').addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(find('#command').textContent);
      find('#copy').textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(find('#command'));
    }
  });
})();
