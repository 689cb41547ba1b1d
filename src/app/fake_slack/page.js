// What one account sees, asked for every second. All text is set as text; nothing is parsed as HTML.
const at = (id) => document.getElementById(id);
let user = '', shown = '', formShown = '';

const make = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};
const words = (t) => (t?.text ?? '')
  .replace(/<!date\^(\d+)\^[^|]*\|[^>]*>/g, (_, s) => new Date(s * 1000).toLocaleString())
  .replaceAll('\u2060', '').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
const act = async (what) => {
  const answer = await fetch('/act', {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ user, ...what }),
  });
  const done = answer.status === 200 ? await answer.json() : {};
  await look();
  return done;
};

const button = (e, where) => {
  if (e.url) {
    return make('a', { className: 'link', href: e.url, target: '_blank', rel: 'noreferrer', textContent: words(e.text) });
  }
  const node = make('button', { type: 'button', className: e.style ?? '', textContent: words(e.text) });
  node.setAttribute('aria-label', e.accessibility_label ?? words(e.text));
  node.onclick = () => {
    if (e.confirm && !confirm(words(e.confirm.text))) return;
    act({ do: 'click', channel: where.channel ?? '', ts: where.ts ?? '', action: e.action_id, value: e.value });
  };
  return node;
};

const block = (b, where) => {
  const row = make('div');
  if (b.type === 'divider') return make('hr');
  if (b.type === 'header') row.append(make('div', { className: 'head', textContent: words(b.text) }));
  if (b.type === 'section') {
    if (b.text) row.append(make('div', { className: 'pre', textContent: words(b.text) }));
    if (b.fields) row.append(make('div', { className: 'fields' },
      ...b.fields.map((f) => make('div', { className: 'pre', textContent: words(f) }))));
    if (b.accessory) row.append(button(b.accessory, where));
  }
  if (b.type === 'context') row.append(make('div', { className: 'small', textContent: b.elements.map(words).join(' · ') }));
  if (b.type === 'actions') row.append(...b.elements.map((e) => button(e, where)));
  return row;
};

const message = (m) => make('article', { className: (m.only ? 'only' : '') + (m.thread ? ' thread' : '') },
  ...(m.blocks?.length ? m.blocks.map((b) => block(b, m)) : [document.createTextNode(words(m))]));

const field = (b) => {
  const e = b.element;
  let input;
  if (e.type === 'external_select') {
    input = make('input', { value: e.initial_option?.value ?? '', autocomplete: 'off' });
    const list = make('datalist', { id: 'choices' });
    input.setAttribute('list', 'choices');
    input.oninput = input.onfocus = async () => {
      const found = await fetch('/act', {
        method: 'POST', headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ user, do: 'search', text: input.value }),
      }).then((r) => r.json());
      list.replaceChildren(...(found.answer?.options ?? []).map((o) => make('option', { value: o.value, textContent: words(o.text) })));
    };
    return [input, make('label', {}, words(b.label), input, list)];
  }
  if (e.type === 'static_select') {
    input = make('select', {}, make('option', { value: '', textContent: '–' }),
      ...e.options.map((o) => make('option', { value: o.value, textContent: words(o.text) })));
    input.value = e.initial_option?.value ?? '';
  } else {
    input = make(e.multiline ? 'textarea' : 'input', { value: e.initial_value ?? '' });
  }
  return [input, make('label', {}, words(b.label), input)];
};

const form = (open) => {
  const key = JSON.stringify(open);
  if (key === formShown) return;
  formShown = key;
  const dialog = at('form');
  if (!open) return dialog.close();
  const inputs = {};
  const body = make('form', { method: 'dialog' }, make('div', { className: 'head', textContent: words(open.view.title) }));
  for (const b of open.view.blocks) {
    if (b.type === 'input') {
      const [input, row] = field(b);
      inputs[b.block_id] = input;
      body.append(row);
    } else body.append(block(b, {}));
  }
  const error = make('p', { className: 'error' });
  error.setAttribute('role', 'alert');
  body.append(error);
  if (open.view.submit) {
    const send = make('button', { className: 'primary', type: 'button', textContent: words(open.view.submit) });
    send.onclick = async () => {
      const values = Object.fromEntries(Object.entries(inputs).map(([k, i]) => [k, i.value]));
      const done = await act({ do: 'submit', values });
      error.textContent = Object.values(done.answer?.errors ?? {}).join(' ');
    };
    body.append(send);
  }
  const close = make('button', { type: 'button', textContent: 'Close' });
  close.onclick = () => act({ do: 'close' });
  body.append(close);
  dialog.replaceChildren(body);
  if (!dialog.open) dialog.showModal();
};

async function look() {
  const now = await fetch('/state?user=' + encodeURIComponent(user)).then((r) => r.json());
  const select = at('user');
  if (select.options.length !== now.users.length) {
    select.replaceChildren(...now.users.map((u) => make('option', { value: u.id, textContent: u.name })));
    user = select.value = user || now.users[0]?.id || '';
    return look();
  }
  form(now.view);
  const key = JSON.stringify([now.messages, now.home]);
  if (key === shown) return;
  shown = key;
  const of = (channel) => now.messages.filter((m) => m.channel === channel).reverse().map(message);
  at('channel').replaceChildren(...of(now.channel));
  at('direct').replaceChildren(...of(now.direct));
  at('page').replaceChildren(...(now.home?.blocks ?? []).map((b) => block(b, {})));
}
at('user').onchange = (e) => { user = e.target.value; shown = formShown = ''; at('form').close(); look(); };
at('ask').onclick = () => act({ do: 'command', text: '' });
at('home').onclick = () => act({ do: 'home' });
setInterval(look, 1000);
look();
