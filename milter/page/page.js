'use strict';
/* What comes from the server is put in as text; nothing here makes HTML of it. */
(() => {
const $ = id => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const state = { by: 'refused', kind: 'addresses', open: null, hidden: new Set(), now: null, top: null, why: null, at: 0, failed: 0, hover: -1, more: false };
const ROWS = 10;

function el(tag, attributes, ...children) {
	const e = document.createElement(tag);
	for (const [k, v] of Object.entries(attributes || {}))
		if (k === 'on') for (const [name, fn] of Object.entries(v)) e.addEventListener(name, fn);
		else if (k === 'class') e.className = v;
		else e.setAttribute(k, v);
	e.append(...children.filter(c => c !== null && c !== undefined));
	return e;
}
function svg(tag, attributes, text) {
	const e = document.createElementNS(SVG, tag);
	for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
	if (text !== undefined) e.textContent = text;
	return e;
}
function fill(id, ...children) { $(id).replaceChildren(...children.filter(c => c)); }

const plain = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const num = n => Math.abs(n) < 100000 ? plain.format(n) : short.format(n);
const sum = list => list.reduce((a, b) => a + b, 0);
function figure(n) { return n >= 100 ? num(n) : String(Math.round(n * 10) / 10); }
function span(s) {
	s = Math.max(0, Math.round(s));
	if (s < 100) return s + ' s';
	if (s < 6000) return Math.round(s / 60) + ' min';
	if (s < 172800) return Math.round(s / 3600) + ' h';
	return Math.round(s / 86400) + ' d';
}
function micro(us) { return us < 1000 ? [num(us), 'µs'] : [(us / 1000).toFixed(us < 10000 ? 1 : 0), 'ms']; }
function meter(share, over) {
	const m = el('div', { class: 'meter' + (over || share >= 1 ? ' full' : share >= .75 ? ' near' : '') }, el('i'));
	m.firstChild.style.width = Math.min(100, Math.max(share > 0 ? 2 : 0, share * 100)) + '%';
	return m;
}

/* --- tiles and pills ------------------------------------------------------------------------- */

function tile(label, value, unit, note, kind) {
	return el('div', { class: 'tile' + (kind ? ' ' + kind : '') }, el('div', { class: 'label' }, label),
		el('div', { class: 'value' }, String(value), unit ? el('small', null, unit) : null), el('div', { class: 'note', title: note }, note));
}
function pill(text, kind) { return el('span', { class: 'pill ' + (kind || '') }, text); }

function drawHead(d) {
	const w = d.workers, well = w.serving && !d.maintenance && !d.redis.gone && d.load.level === 0 && w.ready === w.wanted;
	$('node').textContent = d.node;
	document.title = (well ? '' : '! ') + 'weir ' + d.node;
	fill('pills', well ? pill('all well', 'good') : null,
		!w.serving ? pill('no worker serves', 'bad') : w.ready < w.wanted ? pill(`${w.ready} of ${w.wanted} workers`, 'warn') : null,
		d.maintenance ? pill('maintenance: new sessions are refused', 'warn') : null,
		d.redis.gone ? pill('without Redis', 'bad') : null,
		d.load.level > 0 ? pill('load level ' + d.load.level, 'bad') : null,
		d.mode === 'observe' ? pill('mode observe: nothing is refused', 'warn') : null);
	$('version').textContent = 'weir ' + d.version;
}

function drawTiles(d) {
	const h = d.hour, last = 58, limited = Object.values(h.limits).reduce((n, c) => n + c[last], 0);
	const refused = limited + h.other[last], all = h.accepted[last] + h.held[last] + refused;
	const total = sum(h.accepted) + sum(h.held) + sum(h.other) + sum(Object.values(h.limits).map(sum));
	const bad = sum(h.other) + sum(Object.values(h.limits).map(sum));
	const [p99, unit] = micro(d.redis.p99_us), [p50, unit50] = micro(d.redis.p50_us);
	fill('tiles',
		tile('Decisions', num(all), 'a minute', num(total) + ' in the last hour'),
		tile('Refused', num(refused), 'a minute', total ? (100 * bad / total).toFixed(1) + ' % of the last hour' : 'nobody came'),
		tile('Greylisted', num(h.held[last]), 'a minute', d.greylist.enabled ? num(d.greylist.passed) + ' have passed' : 'switched off'),
		tile('Sessions', num(d.workers.sessions), 'open', `${d.workers.ready} worker${d.workers.ready === 1 ? '' : 's'}`),
		tile('Load level', d.load.level, '', ['all are served', 'strangers are refused', 'all are refused'][d.load.level], d.load.level ? 'bad' : ''),
		!d.redis.used ? tile('Redis', 'none', '', "this host's memory counts")
			: d.redis.gone ? tile('Redis', 'gone', '', 'for ' + span(d.now - d.redis.since), 'bad')
			: d.redis.p99_us === 0 ? tile('Redis', 'idle', '', 'nobody asked in the last minute')
			: tile('Redis', p99, unit + ' p99', `${p50} ${unit50} in the middle`));
}

/* --- the chart ----------------------------------------------------------------------------------- */

function series(h) {
	const list = [{ name: 'accepted', label: 'Accepted', cls: 'c-accepted', data: h.accepted }, { name: 'held', label: 'Greylisted', cls: 'c-held', data: h.held }];
	Object.keys(h.limits).sort().forEach((name, i) => list.push({ name: 'limit ' + name, label: name, cls: 'c-l' + i % 6, data: h.limits[name] }));
	list.push({ name: 'other', label: 'Blocked, load, drain', cls: 'c-other', data: h.other });
	return list;
}
function clock(minute) {
	const d = new Date(minute * 60000);
	return String(d.getHours()).padStart(2, '0') + ':' + String(d.getMinutes()).padStart(2, '0');
}
function nice(most) {
	const power = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
	return [1, 2, 3, 4, 5, 6, 8, 10].map(n => n * power).find(n => n >= most) || 10 * power;
}

function drawChart(d) {
	const box = $('chart'), width = Math.max(280, box.clientWidth), height = box.clientHeight, all = series(d.hour);
	const shown = all.filter(s => !state.hidden.has(s.name));
	const left = 40, right = 2, top = 8, bottom = 20, w = width - left - right, hh = height - top - bottom, step = w / 60;
	const totals = d.hour.accepted.map((_, m) => sum(shown.map(s => s.data[m])));
	const most = nice(Math.max(4, ...totals)), y = n => top + hh - hh * n / most;
	const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': 'Decisions of the last hour, by minute' });
	for (let i = 0; i <= 2; i++) {
		const at = most * i / 2;
		root.append(svg('line', { class: 'grid', x1: left, x2: width - right, y1: Math.round(y(at)) + .5, y2: Math.round(y(at)) + .5 }));
		root.append(svg('text', { class: 'axis', x: left - 7, y: y(at) + 4, 'text-anchor': 'end' }, num(at)));
	}
	for (let m = 0; m < 60; m++) {
		const minute = d.hour.minute - 59 + m, x = left + m * step;
		let base = 0;
		if (minute % 10 === 0 && m > 1 && m < 58)
			root.append(svg('text', { class: 'axis', x: x + step / 2, y: height - 4, 'text-anchor': 'middle' }, clock(minute)));
		for (const s of shown) {
			const n = s.data[m];
			if (!n) continue;
			const up = y(base + n), low = y(base);
			root.append(svg('rect', { class: s.cls, x: x + step * .12, width: step * .76, y: up, height: Math.max(low - up, .8) }));
			base += n;
		}
		root.append(svg('rect', { class: 'column' + (m === state.hover ? ' on' : ''), x, width: step, y: top, height: hh, 'data-minute': m }));
	}
	box.replaceChildren(root);
	if (state.hover >= 0) box.append(tip(d, all, left + state.hover * step, width));
	fill('legend', ...all.filter(s => sum(s.data) > 0 || s.name === 'accepted' || s.name === 'held').map(s => el('button',
		{ type: 'button', 'aria-pressed': String(!state.hidden.has(s.name)), on: { click: () => { state.hidden.has(s.name) ? state.hidden.delete(s.name) : state.hidden.add(s.name); drawChart(state.now); } } },
		el('span', { class: 'swatch ' + s.cls }), s.label, el('b', null, num(sum(s.data))))));
}
function tip(d, all, x, width) {
	const m = state.hover, rows = all.filter(s => s.data[m] > 0);
	const t = el('div', { class: 'tip' }, el('div', null, clock(d.hour.minute - 59 + m), el('b', null, num(sum(rows.map(s => s.data[m]))))),
		...rows.map(s => el('div', null, el('span', { class: 'swatch ' + s.cls }), s.label, el('b', null, num(s.data[m])))));
	if (x > width / 2) t.style.right = (width - x + 8) + 'px';
	else t.style.left = (x + 24) + 'px';
	return t;
}
function hover(event) {
	const box = $('chart'), at = event.clientX - box.getBoundingClientRect().left - 40;
	const m = event.type === 'pointerleave' ? -1 : Math.floor(at / ((box.clientWidth - 42) / 60));
	if (state.now && m !== state.hover) { state.hover = m >= 0 && m < 60 ? m : -1; drawChart(state.now); }
}

/* --- clients and networks -------------------------------------------------------------------------- */

function count(n, cls) { return el('td', { class: 'n ' + (n ? '' : 'zero ') + (cls || '') }, num(n)); }
function because(e) {
	if (e.refused + e.held === 0) return '';
	return e.limit || (e.reason === 'greylist' ? 'greylisting' : e.reason);
}

function drawTop() {
	if (!state.top || !state.now) return;
	const list = state.top[state.kind], rows = [], few = state.more ? list : list.slice(0, ROWS);
	for (const e of few) {
		const open = state.open === e.who;
		rows.push(el('tr', open ? { class: 'open' } : null,
			el('td', null, el('button', { type: 'button', class: 'who', 'aria-expanded': String(open), 'data-who': e.who, on: { click: () => choose(e) } },
				el('span', { class: 'addr' }, e.who), e.name && e.name !== `[${e.who}]` ? el('span', { class: 'name' }, e.name) : null)),
			count(e.refused), count(e.held), count(e.decisions - e.refused - e.held, 'wide'),
			el('td', { class: 'wide after' }, because(e)), el('td', { class: 'n wide' }, span(state.now.now - e.last) + ' ago')));
		if (open) rows.push(el('tr', { class: 'detail' }, el('td', { colspan: '6' }, detail(e))));
	}
	if (!list.length)
		return fill('top', el('p', { class: 'empty' }, state.by === 'refused' ? 'Nobody was refused in the last hour.' : 'Nobody came in the last hour.'));
	const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.who : undefined;
	fill('top', el('table', null, el('thead', null, el('tr', null, el('th', null, state.kind === 'networks' ? 'Network' : 'Client'), el('th', { class: 'n' }, 'Refused'),
		el('th', { class: 'n' }, 'Greylisted'), el('th', { class: 'n wide' }, 'Accepted'), el('th', { class: 'wide after' }, 'Last by'), el('th', { class: 'n wide' }, 'Last seen'))), el('tbody', null, ...rows)),
		list.length > ROWS ? el('button', { type: 'button', class: 'all', on: { click: () => { state.more = !state.more; drawTop(); } } }, state.more ? `Show ${ROWS}` : `Show ${list.length}`) : null);
	if (focused !== undefined) for (const b of document.querySelectorAll('.who')) if (b.dataset.who === focused) b.focus({ preventScroll: true });
}

function choose(e) {
	state.open = state.open === e.who ? null : e.who;
	state.why = null;
	drawTop();
	if (state.open) askWhy(e);
}
async function askWhy(e) {
	const ask = 'api/why?client=' + encodeURIComponent(e.who) + (e.confirmed ? '&name=' + encodeURIComponent(e.name) : '');
	try {
		const why = await get(ask);
		if (state.open === e.who) { state.why = why; drawTop(); }
	} catch (error) {
		if (state.open === e.who) { state.why = { error: String(error.message) }; drawTop(); }
	}
}

function verdict(s) {
	const words = { accept: ['accepted', 'ok'], refuse: ['refused', 'no'], defer: ['deferred', 'maybe'] }[s.action] || [s.action, ''];
	let text = words[0];
	if (s.action !== 'accept' && s.reply) text += ' with ' + s.reply;
	if (s.limit) text += ` by ${s.limit}`;
	else if (s.reason !== 'ok') text += `: ${s.reason}`;
	if (s.retry_seconds > 0) text += `, fits again in ${span(s.retry_seconds)}`;
	if (s.action !== 'accept' && !s.enforced) text += ' (only observed)';
	return el('span', null, el('span', { class: 'what' }, `next ${s.step} `), el('span', { class: words[1] }, text));
}

function detail(e) {
	const w = state.why;
	if (!w) return el('p', { class: 'empty' }, 'asking');
	if (w.error) return el('p', { class: 'empty' }, w.error);
	if (!w.answered) return el('p', { class: 'empty' }, 'neither Redis nor this host has an answer now');
	const network = state.kind === 'networks', box = el('div', null), grid = el('div', { class: 'counters' });
	if (!network) box.append(el('div', { class: 'steps' }, ...w.next.map(verdict)));
	for (const c of w.counters.filter(c => !network || c.per !== 'address'))
		grid.append(el('div', { class: 'counter' }, el('span', null, c.limit, ' ', el('small', null, c.action === 'log' ? 'only logs' : '')), meter(c.used / c.of, c.over),
			el('span', { class: 'of', title: `${c.count} per ${c.per}: ${c.figures}` }, figure(c.used), ' of ', num(c.of), ' ', el('small', null, `${c.count} · ${c.per === 'all' ? 'all' : c.who}`))));
	if (!grid.childElementCount) grid.append(el('span', { class: 'more' }, 'No limit counts it just now.'));
	box.append(grid);
	const notes = [];
	if (w.known !== null && !network) notes.push(w.known ? 'A known sender.' : 'A stranger.');
	if (w.source === 'zone') notes.push("Redis does not answer: these are this host's own figures.");
	if (e.error > 0) notes.push(`Its decisions may be ${num(e.error)} too high: so many came that it was lost sight of.`);
	if (network && w.members.length) notes.push(`Busiest in it: ${w.members.slice(0, 6).map(m => `${m.who} (${num(m.decisions)})`).join(', ')}.`);
	if (notes.length) box.append(el('p', { class: 'empty' }, notes.join(' ')));
	return box;
}

/* --- limits, host, nodes ------------------------------------------------------------------------------ */

function drawLimits(d) {
	const rows = d.limits.map(l => {
		const f = l.fullest, hour = d.hour.limits[l.name] ? sum(d.hour.limits[l.name]) : 0;
		return el('tr', l.enabled ? null : { class: 'off' }, el('td', null, l.name, el('span', { class: 'name' }, `${l.count} per ${l.per}` + (l.for === 'everyone' ? '' : `, for ${l.for}`)), el('span', { class: 'name narrow' }, l.enabled ? l.figures : 'off')),
			el('td', { class: 'wide' }, l.enabled ? l.figures : 'off'), el('td', { class: 'wide' }, l.enabled ? l.action : ''), count(hour),
			el('td', { class: 'after' }, f ? el('div', { class: 'fullest' }, meter(f.used / f.of), el('span', null, `${figure(f.used)} of ${num(f.of)}`), el('span', { class: 'name' }, l.per === 'all' ? 'all together' : f.who))
				: el('span', { class: 'off' }, l.enabled ? 'empty' : '')));
	});
	fill('limits', rows.length ? el('table', null, el('thead', null, el('tr', null, el('th', null, 'Limit'), el('th', { class: 'wide' }, 'Figures'), el('th', { class: 'wide' }, 'Action'),
		el('th', { class: 'n' }, 'Refused'), el('th', { class: 'after' }, 'Fullest'))), el('tbody', null, ...rows)) : el('p', { class: 'empty' }, 'There is no limit.'));
}

function drawHost(d) {
	const list = el('dl', { class: 'facts' }), w = d.workers, m = d.memory, g = d.greylist;
	const add = (name, ...value) => list.append(el('dt', null, name), el('dd', null, ...value));
	add('Up', span(d.now - w.started));
	add('Configuration read', span(d.now - w.loaded) + ' ago');
	add('Workers', `${w.ready} of ${w.wanted}` + (w.before ? `, and ${w.before} with ${w.sessions_before} sessions of before a reload` : '') + (w.failures ? `, ${w.failures} died` : ''));
	if (d.redis.used) add('Redis lost', d.redis.lost ? d.redis.lost + (d.redis.lost === 1 ? ' time' : ' times') : 'never');
	if (d.redis.used) add('Limits in Redis', 'generation ' + (d.generation || '?'));
	add('Memory', `${num(m.entries)} of ${num(m.most)} entries` + (m.evictions ? `, ${num(m.evictions)} evicted` : ''), meter(m.entries / m.most));
	if (g.enabled) add('Greylisting', `${num(g.new)} new, ${num(g.early)} too early, ${num(g.passed)} passed, ${num(g.known)} known`);
	for (const s of d.load.signals) add(s.name, `${s.value} of ${s.mark}`, meter(s.share));
	fill('host', list);
}

function drawNodes(d) {
	if (!d.nodes) return fill('nodes', el('p', { class: 'empty' }, d.redis.used ? 'Redis does not tell now.' : 'Without Redis this host stands alone.'));
	if (!d.nodes.length) return fill('nodes', el('p', { class: 'empty' }, 'None has reported yet.'));
	fill('nodes', el('div', { class: 'scroll' }, el('table', null, el('thead', null, el('tr', null, el('th', null, 'Node'), el('th', { class: 'n' }, 'Sessions'), el('th', { class: 'n' }, 'Decisions/s'),
		el('th', { class: 'n' }, 'Refused/s'), el('th', { class: 'n' }, 'Load'), el('th', { class: 'n wide' }, 'p99'))), el('tbody', null, ...d.nodes.map(n => el('tr', null,
		el('td', null, el('span', { class: 'mono name' }, n.node), n.drain === 'on' ? pill('maintenance', 'warn') : null, n.mode === 'observe' ? pill('observe', 'warn') : null,
			n.generation !== undefined && n.generation !== d.generation ? pill('generation ' + n.generation, 'warn') : null),
		el('td', { class: 'n' }, n.sessions || '0'), el('td', { class: 'n' }, n.decisions_per_s || '0'), el('td', { class: 'n' }, n.refused_per_s || '0'),
		el('td', { class: 'n' }, n.load_level || '0'), el('td', { class: 'n wide' }, micro(Number(n.p99_us) || 0).join(' '))))))));
}

/* --- the loop ------------------------------------------------------------------------------------------- */

async function get(path) {
	const stop = new AbortController(), timer = setTimeout(() => stop.abort(), 5000);
	try {
		const r = await fetch(path, { signal: stop.signal, credentials: 'omit', cache: 'no-store' });
		if (!r.ok) throw new Error('weir-milter says ' + r.status);
		return await r.json();
	} finally {
		clearTimeout(timer);
	}
}
function freshness() {
	const age = Math.round((Date.now() - state.at) / 1000), f = $('fresh');
	f.classList.toggle('bad', state.failed > 1);
	f.textContent = state.failed > 1 ? `no answer for ${state.at ? span(age) : 'a while'}` : state.at ? (age < 5 ? 'live' : span(age) + ' ago') : 'loading';
}
async function refreshNow() {
	try {
		state.now = await get('api/now');
		state.at = Date.now();
		state.failed = 0;
		drawHead(state.now); drawTiles(state.now); drawChart(state.now); drawLimits(state.now); drawHost(state.now); drawNodes(state.now);
	} catch (error) {
		state.failed++;
	}
	freshness();
}
async function refreshTop() {
	const by = state.by;
	try {
		const top = await get('api/top?by=' + by);
		if (by === state.by) state.top = top;
		drawTop();
		const e = state.top[state.kind].find(x => x.who === state.open);
		if (e) await askWhy(e);
	} catch (error) { /* the other one says so */ }
}
async function loop(fn, ms) {
	for (;;) {
		if (!document.hidden) await fn();
		await new Promise(done => setTimeout(done, ms));
	}
}
for (const b of document.querySelectorAll('.choice button'))
	b.addEventListener('click', () => {
		const key = b.dataset.by ? 'by' : 'kind';
		state[key] = b.dataset[key];
		state.open = null;
		for (const other of b.parentNode.children) other.setAttribute('aria-pressed', String(other === b));
		if (key === 'by') refreshTop(); else drawTop();
	});
for (const name of ['pointermove', 'pointerdown', 'pointerleave']) $('chart').addEventListener(name, hover);
addEventListener('resize', () => { if (state.now) drawChart(state.now); });
document.addEventListener('visibilitychange', () => { if (!document.hidden) { refreshNow(); refreshTop(); } });
setInterval(freshness, 1000);

refreshNow().then(() => { loop(refreshTop, 4000); setTimeout(() => loop(refreshNow, 2000), 2000); });
})();
