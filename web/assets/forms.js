// Small comforts of forms. Each of them works without.
document.addEventListener('click', async event => {
  const button = event.target.closest('[data-copy], [data-copy-previous]');
  if (!button) return;
  const text = button.dataset.copy ?? button.previousElementSibling.textContent;
  try {
    await navigator.clipboard.writeText(text);
    const before = button.innerHTML;
    button.textContent = 'Copied';
    setTimeout(() => { button.innerHTML = before; }, 1500);
  } catch { /* the text stands there to be selected */ }
});

// The button says what it will do.
document.addEventListener('change', event => {
  const select = event.target.closest('[data-duration]');
  const words = select?.form.querySelector('[data-approve-words]');
  if (words) words.textContent = select.selectedOptions[0].textContent.replace(', as asked', '');
});

// A form is sent once.
document.addEventListener('submit', event => {
  const form = event.target;
  if (form.method !== 'post') return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = '1';
  setTimeout(() => { delete form.dataset.sent; }, 4000);
});

// What would happen, as the form is filled in.
const form = document.querySelector('form[data-preview]');
if (form) {
  const place = document.getElementById(form.dataset.preview);
  let timer = 0, turn = 0;
  const look = async () => {
    const mine = ++turn;
    const body = new URLSearchParams(new FormData(form));
    body.set('do', 'check');
    try {
      const response = await fetch(form.action, { method: 'POST', body, credentials: 'same-origin', headers: { accept: 'text/html' } });
      const page = new DOMParser().parseFromString(await response.text(), 'text/html');
      if (mine !== turn) return;
      const plan = page.getElementById(form.dataset.preview);
      const trouble = page.getElementById('trouble');
      if (response.ok && plan) place.replaceChildren(...document.importNode(plan, true).childNodes);
      else if (trouble) {
        const words = document.createElement('p');
        words.className = 'sub';
        words.textContent = trouble.textContent.replace('It was not sent.', '').trim().replace(/\s+/g, ' ');
        place.replaceChildren(words);
      }
    } catch { /* the Check button says it */ }
  };
  form.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(look, 350); });
  // Another duration takes the place of the chips.
  form.elements.other?.addEventListener('input', () => {
    if (form.elements.other.value) for (const chip of form.querySelectorAll('[name="duration"]')) chip.checked = false;
  });
  for (const chip of form.querySelectorAll('[name="duration"]')) chip.addEventListener('change', () => { form.elements.other.value = ''; });
}

// Light and dark: what the reader chose stays for a year, for display only.
for (const button of document.querySelectorAll('[data-theme-switch]')) {
  button.hidden = false;
  button.addEventListener('click', () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
    const secure = location.protocol === 'https:' ? '; Secure' : '';
    document.cookie = `tidegate-theme=${root.dataset.theme}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
  });
}

// A panel closes when something else is chosen.
document.addEventListener('click', event => {
  for (const panel of document.querySelectorAll('.more details[open]')) if (!panel.contains(event.target)) panel.open = false;
});
