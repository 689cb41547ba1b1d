// Regions marked `data-live` follow what happens: the server says that something did, and the page is read again as it
// always is. What is being typed or read is left alone, and focus stays where it is.
const regions = () => document.querySelectorAll('[data-live]');
const stale = document.getElementById('stale');
const announce = document.getElementById('announce');
let waiting = 0, running = false, again = false;

function inUse(region) {
  const active = document.activeElement;
  if (active && active !== document.body && region.contains(active) && active.matches('input:not([type="checkbox"]), textarea, select')) return true;
  return [...region.querySelectorAll('input, textarea')].some(field =>
    field.type === 'checkbox' || field.type === 'radio' ? field.checked !== field.defaultChecked : field.value !== field.defaultValue);
}

// What somebody else decided meanwhile is not decided here any more; who it was stands in the page as it is now.
function closeDecided(old, next) {
  for (const form of old.querySelectorAll('form.decide')) {
    if (next.querySelector(`form.decide[action="${form.getAttribute('action')}"]`)) continue;
    for (const button of form.querySelectorAll('button')) button.disabled = true;
  }
  return next.querySelector('[data-decided]')?.textContent.trim() ?? '';
}

function keyOf(element) {
  if (!element || !element.closest) return null;
  const row = element.closest('[data-row]');
  return { id: element.id, row: row && (row.id || row.dataset.open), tag: element.tagName, text: element.textContent.trim() };
}

function restore(region, key) {
  if (!key) return;
  const rows = [...region.querySelectorAll('[data-row]')];
  const row = rows.find(r => (r.id || r.dataset.open) === key.row) || region;
  const found = (key.id && document.getElementById(key.id)) ||
    [...row.querySelectorAll(key.tag)].find(e => e.textContent.trim() === key.text);
  if (found) found.focus({ preventScroll: true });
}

async function refresh() {
  if (running) { again = true; return; }
  running = true;
  try {
    const response = await fetch(location.href, { headers: { accept: 'text/html', 'tidegate-by-itself': '1' }, credentials: 'same-origin' });
    if (response.redirected && new URL(response.url).pathname === '/login') { location.reload(); return; }
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), 'text/html');
    let changed = false, held = false, decided = '';
    for (const old of regions()) {
      const next = old.id && fresh.getElementById(old.id);
      if (!next || next.outerHTML === old.dataset.seen) continue;
      if (inUse(old)) { held = true; decided ||= closeDecided(old, next); continue; }
      const open = new Set([...old.querySelectorAll('details[open] > summary')].map(s => s.closest('[data-row], li')?.textContent.slice(0, 80) + s.textContent));
      const selected = old.querySelector('.selected');
      const focused = old.contains(document.activeElement) ? keyOf(document.activeElement) : null;
      const text = next.outerHTML;
      const node = document.importNode(next, true);
      for (const summary of node.querySelectorAll('details > summary')) {
        if (open.has(summary.closest('[data-row], li')?.textContent.slice(0, 80) + summary.textContent)) summary.parentElement.open = true;
      }
      if (selected) {
        const same = [...node.querySelectorAll('[data-row]')].find(r => r.dataset.open === selected.dataset.open);
        if (same) same.classList.add('selected');
      }
      changed ||= old.textContent.trim() !== node.textContent.trim();
      old.replaceWith(node);
      node.dataset.seen = text;
      restore(node, focused);
    }
    if (fresh.title) document.title = fresh.title;
    document.dispatchEvent(new CustomEvent('tidegate:updated'));
    if (changed && announce) announce.textContent = 'The page was brought up to date.';
    if (held && stale) {
      stale.lastElementChild.textContent = `${decided || 'This has changed meanwhile.'} What you typed is still here; reload before you send it.`;
      stale.hidden = false;
    }
  } catch { /* the stream says when the connection is back */ } finally {
    running = false;
    if (again) { again = false; refresh(); }
  }
}

function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(refresh, 150);
}

// What is being read stands still while its reader wants it to.
for (const button of document.querySelectorAll('[data-pause]')) {
  const held = () => document.querySelectorAll('main [data-live], main [data-held]');
  button.hidden = held().length === 0;
  button.addEventListener('click', () => {
    const paused = button.getAttribute('aria-pressed') !== 'true';
    button.setAttribute('aria-pressed', String(paused));
    button.querySelector('[data-pause-words]').textContent = paused ? 'Go on' : 'Pause';
    for (const region of held()) {
      if (paused) { region.removeAttribute('data-live'); region.dataset.held = ''; } else { delete region.dataset.held; region.dataset.live = ''; }
    }
    if (!paused) refresh();
  });
}

let source = null, lost = 0;
function follow() {
  if (source || document.hidden || regions().length === 0) return;
  source = new EventSource('/live');
  source.addEventListener('happened', soon);
  source.addEventListener('open', () => { clearTimeout(lost); lost = 0; if (stale) stale.hidden = true; });
  source.addEventListener('error', () => {
    if (!lost) lost = setTimeout(() => { if (stale) stale.hidden = false; }, 4000);
    if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(() => { refresh(); follow(); }, 5000); }
  });
}
function rest() { if (source) { source.close(); source = null; } }

document.addEventListener('visibilitychange', () => { if (document.hidden) { rest(); } else { refresh(); follow(); } });
addEventListener('pagehide', rest);
addEventListener('pageshow', event => { if (event.persisted) { refresh(); follow(); } });
follow();
