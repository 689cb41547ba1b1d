// Keys: j and k choose a row, Enter opens it, a and d decide on it, / searches, ? lists them.
const rows = () => [...document.querySelectorAll('main [data-row]')].filter(row => row.offsetParent !== null);
const chosen = () => document.querySelector('main .selected');
let pending = '', timer = 0;

function choose(step) {
  const all = rows();
  if (all.length === 0) return;
  const at = all.indexOf(chosen());
  const next = all[Math.max(0, Math.min(all.length - 1, at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step))];
  chosen()?.classList.remove('selected');
  next.classList.add('selected');
  next.scrollIntoView({ block: 'nearest' });
  const link = next.querySelector('a[href]');
  (link || next).focus({ preventScroll: true });
}

function decide(kind) {
  const scope = chosen() || document;
  const button = scope.querySelector(`[data-${kind}]`);
  if (!button) return;
  const field = button.form.querySelector('[data-comment]');
  field.dataset.then = kind;
  field.focus();
  field.placeholder = kind === 'approve' ? 'Comment, then Enter approves' : 'Say why, then Enter denies';
}

document.addEventListener('keydown', event => {
  const target = event.target;
  if (event.key === 'Enter' && target.matches?.('[data-comment]')) {
    event.preventDefault();
    // Only what was chosen with a or d just now: whoever types a comment and presses Enter has not decided anything.
    const kind = target.dataset.then;
    if (!kind) return;
    if (kind === 'deny' && !target.value.trim()) return;
    const button = target.form.querySelector(`[data-${kind}]`);
    target.form.requestSubmit(button);
    return;
  }
  if (event.key === 'Escape' && target.matches?.('[data-comment]')) delete target.dataset.then;
  if (event.key === 'Escape' && target.matches?.('input, textarea, select')) { target.blur(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches?.('input, textarea, select') || document.querySelector('dialog[open]')) return;
  if (pending === 'g') {
    pending = '';
    const to = { h: '/', c: '/catalog', a: '/approvals', g: '/grants' }[event.key];
    if (to) { event.preventDefault(); location.assign(to); }
    return;
  }
  switch (event.key) {
    case 'j': choose(1); break;
    case 'k': choose(-1); break;
    case 'a': decide('approve'); break;
    case 'd': decide('deny'); break;
    case 'g': pending = 'g'; clearTimeout(timer); timer = setTimeout(() => { pending = ''; }, 1200); break;
    case '/': {
      const search = document.querySelector('[data-search]');
      if (search) search.focus(); else location.assign('/catalog');
      break;
    }
    case '?': document.getElementById('keys')?.showModal(); break;
    default: return;
  }
  event.preventDefault();
});

for (const button of document.querySelectorAll('[data-show-keys]')) {
  button.hidden = false;
  button.addEventListener('click', () => document.getElementById('keys').showModal());
}
