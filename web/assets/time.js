// Instants in the reader's time zone, and clocks that run by the broker's clock. Without this, pages say the same in UTC.
const meta = document.querySelector('meta[name="now"]');
const skew = meta ? Date.parse(meta.content) - Date.now() : 0;
const now = () => Date.now() + skew;
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hour12: false });
const dayAndClock = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', hour12: false });

function words(seconds) {
  const units = [[86400, 'day'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = units.findIndex(([size]) => seconds >= size);
  if (first < 0) return '0 s';
  const parts = [];
  for (const [size, unit] of units.slice(first, first + (first >= 2 ? 1 : 2))) {
    const n = Math.floor(seconds / size);
    seconds %= size;
    if (n > 0) parts.push(`${n} ${unit}${unit === 'day' && n > 1 ? 's' : ''}`);
  }
  return parts.join(' ');
}

function localise(root) {
  for (const time of root.querySelectorAll('time[datetime]:not([data-local])')) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const sameDay = at.toDateString() === new Date(now()).toDateString();
    time.textContent = sameDay || 'clock' in time.dataset ? clock.format(at) : dayAndClock.format(at);
    time.title = `${zone}; ${time.dateTime.replace('T', ' ').replace('Z', ' UTC')}`;
    time.dataset.local = '';
  }
}

function tick() {
  let soonest = Infinity;
  for (const left of document.querySelectorAll('[data-left]')) {
    const seconds = Math.max(0, Math.floor((Date.parse(left.dataset.left) - now()) / 1000));
    // Whole minutes until the last ten, then seconds.
    const text = words(seconds >= 600 ? seconds - (seconds % 60) : seconds);
    const shown = seconds < 600 && seconds >= 60 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s` : text;
    if (left.textContent !== shown) left.textContent = shown;
    const box = left.closest('.ebb');
    if (box && seconds < 600) { box.classList.add('soon'); box.querySelector('.clock').classList.add('soon'); }
    soonest = Math.min(soonest, seconds);
  }
  for (const tide of document.querySelectorAll('svg.tide')) {
    const from = Date.parse(tide.dataset.from), until = Date.parse(tide.dataset.until);
    const part = until > from ? Math.max(0, Math.min(1, (until - now()) / (until - from))) : 0;
    tide.lastElementChild.setAttribute('width', String(Math.round(part * 1000)));
  }
  setTimeout(tick, soonest < 660 ? 1000 : 15000);
}

localise(document);
tick();
document.addEventListener('tidegate:updated', () => localise(document));
