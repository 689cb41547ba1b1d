// Walks the whole story in Chromium, as the seeded engineer, approver and administrator, at desktop and phone size.
// On every page, in both themes, axe-core must find nothing, the console must stay quiet, and nothing may be wider
// than the screen. Screenshots go into the directory that is given.
//
//   node portal.mjs URL SCREENSHOTS TOOLS TIDEGATE SLACK
//   (TOOLS: directory with node_modules; TIDEGATE: the program; SLACK: address of the fake one)
import { createRequire } from 'node:module';
import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import assert from 'node:assert/strict';

const [base, shots, tools, tidegate, slack] = process.argv.slice(2);
if (!slack) throw new Error('usage: portal.mjs URL SCREENSHOTS TOOLS TIDEGATE SLACK');
const require = createRequire(resolve(tools, 'package.json'));
const { chromium } = require('playwright-core');
const axeSource = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
mkdirSync(shots, { recursive: true });

/** Pictures of the documentation: written to $TIDEGATE_DOCS. */
const DOCS = [
  'desktop-my-access-light', 'desktop-my-access-dark', 'desktop-catalog-light', 'desktop-request-form-light', 'desktop-approvals-light',
  'desktop-grants-light', 'desktop-grant-ended-light', 'desktop-audit-light', 'phone-my-access-light', 'phone-request-to-decide-dark',
];
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update'],
});
const seen = new Set();
const wrong = [];

async function person(name, viewport, options = {}) {
  const context = await browser.newContext({ viewport, colorScheme: 'light', reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  page.on('console', m => { if (['error', 'warning'].includes(m.type()) && !/40\d|42\d/.test(m.text())) wrong.push(`${name} ${page.url()}: ${m.text()}`); });
  page.on('pageerror', e => wrong.push(`${name} ${page.url()}: ${e}`));
  page.setDefaultTimeout(15_000);
  await page.goto(base + '/login');
  await page.getByRole('button', { name }).click();
  await page.waitForURL(base + '/');
  return page;
}

/** Axe in both themes, no sideways scrolling, a screenshot of each. */
async function look(page, name) {
  await page.waitForLoadState('load');
  for (const theme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: theme });
    // Put in by the debugger, past the page's own policy, which stays in force for the page.
    if (!(await page.evaluate(() => Boolean(window.axe)))) await page.evaluate(axeSource);
    const found = await page.evaluate(async () => {
      const result = await window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] });
      return result.violations.map(v => `${v.id}: ${v.nodes.map(n => n.target.join(' ') + ' ' + (n.any[0]?.message ?? '')).slice(0, 4).join(' | ')}`);
    }).catch(error => [`axe did not run: ${error}`]);
    for (const violation of found) wrong.push(`${name} (${theme}) ${violation}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) wrong.push(`${name} (${theme}) is ${wide} px wider than the screen`);
    // A phone shows what fits; its bar would stand in the middle of a whole page.
    await page.screenshot({ path: join(shots, `${name}-${theme}.png`), fullPage: page.viewportSize().width > 800 });
  }
  await page.emulateMedia({ colorScheme: 'light' });
  seen.add(name);
}

async function story(size, viewport) {
  const tag = what => `${size}-${what}`;
  const ana = await person('ana', viewport);
  if (size === 'desktop') {
    const fresh = await (await browser.newContext({ viewport })).newPage();
    await fresh.goto(base + '/requests');
    await fresh.goto(base + '/login');
    await look(fresh, tag('sign-in'));
    await fresh.goto(base + '/nowhere-at-all');
    await look(fresh, tag('not-found'));
    await fresh.context().close();
    await look(ana, tag('my-access-empty'));
  }

  // Ana asks for what is granted at once.
  await ana.goto(base + '/catalog');
  await look(ana, tag('catalog'));
  await ana.getByRole('link', { name: 'Ask for Read orders' }).click();
  await ana.getByLabel(/^Why/).fill('Customer 4411 cannot check out');
  await ana.getByText('It will be granted at once.').waitFor();
  await look(ana, tag('request-form'));
  await ana.getByRole('button', { name: 'Send the request' }).click();
  await ana.waitForURL(/\/requests\/req_/);
  await ana.getByText('Granted at once, by policy.').waitFor();
  await look(ana, tag('request-granted'));

  // And for what people decide.
  await ana.goto(base + '/request?e=tokens:orders-admin');
  await ana.getByLabel(/^Why/).fill('Order 4411 is stuck; cancel and re-issue it');
  await ana.getByLabel(/^Ticket/).fill('INC-1042');
  await ana.getByText('30 min', { exact: true }).click();
  await ana.getByText(/It needs 1 approval/).waitFor();
  await ana.getByRole('button', { name: 'Send the request' }).click();
  await ana.waitForURL(/\/requests\/req_/);
  await ana.getByText(/0 of 1/).first().waitFor();
  const request = new URL(ana.url()).pathname;
  await look(ana, tag('request-pending'));

  // She marks what she asks for often; it stands first from then on.
  await ana.goto(base + '/catalog');
  const star = ana.getByRole('button', { name: 'Make it a favourite: Administer orders' });
  if (await star.count()) {
    await star.click();
    await ana.getByRole('button', { name: 'No favourite any more: Administer orders' }).waitFor();
  }
  await ana.goto(base + request);

  // Ben sees it, with what taking it away means, and approves it with the keyboard.
  const ben = await person('ben', viewport);
  await ben.goto(base + '/approvals');
  await ben.getByText('Order 4411 is stuck').first().waitFor();
  await ben.getByText(/Residual window/).first().waitFor();
  await look(ben, tag('approvals'));
  // Whoever types a comment and presses Enter has not decided anything.
  await ben.locator('[data-comment]').first().fill('I am not sure about this');
  await ben.locator('[data-comment]').first().press('Enter');
  await ben.waitForTimeout(300);
  assert.equal(new URL(ben.url()).search, '', 'Enter in a comment decides nothing');
  await ben.locator('[data-comment]').first().fill('');
  await ben.locator('[data-comment]').first().blur();
  if (size === 'desktop') {
    await ben.getByText('not granted to them in the last 30 days').first().waitFor();
    await ben.getByRole('button', { name: /^I look at it/ }).first().click();
    await ben.getByText('You look at it').first().waitFor();
    await ben.locator('body').press('?');
    await ben.getByRole('dialog').waitFor();
    await look(ben, tag('keys'));
    await ben.keyboard.press('Escape');
    await ben.locator('body').press('j');
    await ben.keyboard.press('a');
    await ben.keyboard.type('go ahead');
    await ben.keyboard.press('Enter');
    await ben.waitForURL(/\/approvals\?said=approved/);
  } else {
    await ben.goto(base + request);
    await ben.getByText('What it would change').waitFor();
    await look(ben, tag('request-to-decide'));
    await ben.getByLabel(/^Comment everybody/).fill('Which order exactly?');
    await ben.getByRole('button', { name: 'Comment', exact: true }).click();
    await ben.getByText('Which order exactly?').first().waitFor();
    await ben.getByRole('button', { name: /^Approve for/ }).click();
    await ben.waitForURL(/said=approved/);
  }

  // Ana's page follows by itself.
  await ana.getByText('Approved by ben.').waitFor();
  await look(ana, tag('request-approved'));
  await ana.goto(base + '/');
  await look(ana, tag('my-access'));

  // The credential is shown once, and is in no address.
  await ana.locator('article', { hasText: 'Administer orders' }).first().getByRole('link', { name: 'Administer orders' }).click();
  await ana.waitForURL(/\/grants\/grt_/);
  const grant = new URL(ana.url()).pathname;
  await look(ana, tag('grant'));
  await ana.getByRole('button', { name: 'Get the credential' }).click();
  await ana.getByText('It is shown this once.').waitFor();
  const secret = (await ana.locator('.secret-text').first().textContent()).trim();
  assert.ok(secret.length > 40, 'there is a credential');
  assert.ok(!ana.url().includes(secret), 'the credential is not in the address');
  await look(ana, tag('credential'));
  await ana.getByRole('link', { name: 'I have copied it' }).click();
  assert.ok(!(await ana.content()).includes(secret), 'the credential is not shown again');

  // Eve, the administrator, takes it away and sees the proof.
  const eve = await person('eve', viewport);
  await eve.goto(base + '/grants');
  await look(eve, tag('grants'));
  await eve.goto(base + grant);
  await eve.getByLabel('Target', { exact: true }).fill('dev-token');
  await eve.getByLabel('Why', { exact: true }).fill('the incident is over');
  await eve.getByRole('button', { name: 'Take it away' }).click();
  await eve.getByText(/Closed and verified/).first().waitFor();
  await look(eve, tag('grant-ended'));
  await ana.getByText(/Closed and verified/).first().waitFor();

  for (const [path, name] of [['/directory', 'directory'], ['/insights', 'insights'], ['/integrations', 'integrations'], ['/system', 'system'], ['/break-glass', 'break-glass'], ['/policies?tests=1', 'policy-cases'], ['/people', 'people'], ['/agents', 'agents'], ['/audit', 'audit'], ['/people/ana', 'person'], ['/people/me', 'me']]) {
    await eve.goto(base + path);
    await look(eve, tag(name));
  }
  await eve.goto(base + '/audit');
  await eve.getByRole('button', { name: 'Pause' }).click();
  await eve.getByRole('button', { name: 'Go on' }).click();
  await eve.getByRole('button', { name: 'Verify' }).click();
  await eve.getByText('The log holds.').waitFor();
  await look(eve, tag('audit-verified'));
  await eve.getByRole('searchbox', { name: 'Query' }).fill('action:request. by:ana');
  await eve.getByRole('button', { name: 'Show', exact: true }).click();
  await eve.getByText('asked for access').first().waitFor();
  if (size === 'desktop') {
    const download = eve.waitForEvent('download');
    await eve.getByRole('link', { name: 'CSV' }).click();
    assert.ok(readFileSync(await (await download).path(), 'utf8').startsWith('seq,at,action'), 'the log as a table');
  }
  await eve.goto(base + '/audit');
  await eve.locator('.seq a').first().click();
  await eve.getByText('In the signed log').waitFor();
  await look(eve, tag('event'));
  await eve.goto(base + '/policies?entitlement=tokens:orders-admin&identity=ana&duration=2h');
  await eve.getByText(/Needs 1 approval/).waitFor();
  await look(eve, tag('policies'));

  // A refusal, an empty inbox, a request that came too late.
  await ana.goto(base + '/grants/grt_01ARZ3NDEKTSV4RRFFQ69G5FAV');
  await look(ana, tag('refused'));
  await eve.goto(base + '/approvals');
  await look(eve, tag('approvals-empty'));
  await ana.goto(base + '/request?again=' + request.split('/').pop());
  assert.equal(await ana.getByLabel(/^Why/).inputValue(), 'Order 4411 is stuck; cancel and re-issue it', 'asked again, prefilled');
  if (size === 'phone') {
    await ana.goto(base + '/');
    await ana.locator('.more summary').click();
    await look(ana, tag('more'));
  }

  // Sessions are listed, and end when the person, or an administrator, says so.
  await eve.goto(base + '/people/ana');
  await eve.getByRole('button', { name: 'End all sessions' }).click();
  await eve.getByText('Nowhere.').waitFor();
  await ana.goto(base + '/grants');
  assert.equal(new URL(ana.url()).pathname, '/login', 'a session that was ended is over');
  for (const page of [ana, ben, eve]) await page.context().close();
}

/** Asking and deciding without a single script. */
async function withoutScripts() {
  const ana = await person('ana', DESKTOP, { javaScriptEnabled: false });
  await ana.goto(base + '/request?e=ssh:deploy');
  await ana.getByLabel(/^Why/).fill('release 12');
  await ana.getByRole('button', { name: 'Check', exact: true }).click();
  await ana.getByText(/It needs 1 approval/).waitFor();
  await ana.getByRole('button', { name: 'Send the request' }).click();
  await ana.waitForURL(/\/requests\/req_/);
  const path = new URL(ana.url()).pathname;
  const ben = await person('ben', DESKTOP, { javaScriptEnabled: false });
  await ben.goto(base + path);
  await ben.getByLabel(/^Comment everybody/).fill('what is in release 12?');
  await ben.getByRole('button', { name: 'Comment', exact: true }).click();
  await ben.getByText('what is in release 12?').first().waitFor();
  await ben.getByRole('button', { name: /^I look at it/ }).click();
  await ben.getByText('You look at it').first().waitFor();
  await ben.getByRole('button', { name: 'Deny' }).click();
  await ben.getByText('Denied by ben.').waitFor();
  await ben.goto(base + '/break-glass');
  await ben.getByText('For emergencies.').waitFor();
  for (const page of [ana, ben]) await page.context().close();
}

/** Signing in on the command line: by the browser here, and with a code that is typed. */
async function commandLine() {
  const home = mkdtempSync(join(tmpdir(), 'tidegate-login-'));
  const env = { PATH: process.env.PATH, HOME: home, XDG_CONFIG_HOME: join(home, 'config'), TIDEGATE_SERVER: base };
  const run = (...args) => execFileSync(tidegate, args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const login = async (args, pattern, act) => {
    const child = spawn(tidegate, ['login', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    const ended = new Promise(resolve => child.on('close', resolve));
    const found = new Promise((resolve, reject) => {
      child.stderr.on('data', chunk => { said += chunk; const m = said.match(pattern); if (m) resolve(m[1]); });
      child.on('close', code => reject(new Error(`tidegate login ended with ${code}: ${said}`)));
    });
    await act(await found);
    assert.equal(await ended, 0, said);
    assert.ok(said.includes('mode 0600'), said);
  };
  const ana = await person('ana', DESKTOP);
  await login(['--no-browser'], /Sign in here: (\S+)\n/, async url => {
    await ana.goto(url);
    await look(ana, 'desktop-authorize');
    await ana.getByRole('button', { name: 'Yes, sign in there' }).click();
    await ana.getByText('You can close this window').waitFor();
  });
  assert.equal(JSON.parse(run('whoami', '--json')).name, 'ana');
  const kept = join(home, 'config/tidegate/tokens');
  for (const file of readdirSync(kept)) assert.equal(statSync(join(kept, file)).mode & 0o777, 0o600);
  run('logout');
  assert.deepEqual(readdirSync(kept), []);
  await login(['--device'], /\n\s+([A-Z]{4}-[A-Z]{4})\n/, async code => {
    await ana.goto(base + '/device');
    await look(ana, 'desktop-device');
    await ana.getByLabel('Code').fill(code);
    await ana.getByRole('button', { name: 'Go on' }).click();
    await look(ana, 'desktop-device-warning');
    await ana.getByLabel(/I started this myself/).check();
    await ana.getByRole('button', { name: 'Yes, sign in there' }).click();
    await ana.getByText('Signed in there').waitFor();
  });
  assert.equal(JSON.parse(run('whoami', '--json')).name, 'ana');
  rmSync(home, { recursive: true });
  await ana.context().close();
}

/** The fake Slack: see a message, approve with a click, confirm in a form; the portal and Slack say the same. */
async function inSlack() {
  const ana = await person('ana', DESKTOP);
  const ask = async (entitlement, why) => {
    await ana.goto(`${base}/request?e=${entitlement}`);
    await ana.getByLabel(/^Why/).fill(why);
    const ticket = ana.getByLabel(/^Ticket/);
    if (await ticket.count()) await ticket.fill('INC-7');
    await ana.getByRole('button', { name: 'Send the request' }).click();
    await ana.waitForURL(/\/requests\/req_/);
  };
  const context = await browser.newContext({ viewport: DESKTOP });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on('pageerror', e => wrong.push(`the fake Slack: ${e}`));
  await page.goto(slack);
  const be = name => page.getByLabel('Account').selectOption({ label: name });
  await be('ben');
  // With a click.
  await ask('tokens:orders-admin', 'order 4412 is stuck');
  const message = page.locator('#channel article', { hasText: 'order 4412 is stuck' }).first();
  await message.getByText(/taking it away is/).first().waitFor();
  await message.getByRole('button', { name: /^Approve/ }).click();
  await message.getByText(/Approved/).first().waitFor();
  await ana.getByText('Approved by ben.').waitFor();
  await page.screenshot({ path: join(shots, 'desktop-slack-light.png') });
  // Ana is told how to use it.
  await be('ana');
  await page.locator('#direct article', { hasText: 'tidegate creds' }).first().waitFor();
  // A form, filled in Slack, and one that shows the terms again.
  await page.getByRole('button', { name: '/tidegate' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('What do you need?').fill('ssh:deploy');
  await dialog.getByLabel('Why?').fill('roll back release 812');
  await dialog.getByRole('button', { name: 'Send' }).click();
  await dialog.getByText(/sent. It needs/).waitFor();
  await dialog.getByText(/taking it away is/).first().waitFor();
  await dialog.getByRole('button', { name: 'Close' }).click();
  await be('ben');
  const second = page.locator('#channel article', { hasText: 'roll back release 812' }).first();
  await second.waitFor();
  await second.getByRole('button', { name: /^Review/ }).click();
  await dialog.getByLabel('Comment').fill('enjoy');
  await dialog.getByText(/taking it away is/).first().waitFor();
  await page.screenshot({ path: join(shots, 'desktop-slack-form-light.png') });
  await dialog.getByRole('button', { name: 'Approve' }).click();
  await dialog.getByText('Recorded.').waitFor();
  await dialog.getByRole('button', { name: 'Close' }).click();
  await second.getByText(/Approved/).first().waitFor();
  // The account that did this is on ben's own page, and is unlinked there.
  const ben = await person('ben', DESKTOP);
  await ben.goto(base + '/people/me');
  await ben.getByText('U0BEN').first().waitFor();
  await look(ben, 'desktop-slack-links');
  await ben.getByRole('button', { name: /^Unlink/ }).click();
  await ben.getByText('acts for nobody any more').waitFor();
  // From then on he is led to the page on which it is linked again.
  await ask('directory:oncall', 'on call this week');
  await page.locator('#channel article', { hasText: 'on call this week' }).first().getByRole('button', { name: /^Approve/ }).click();
  const link = page.getByRole('link', { name: 'Link your account' }).first();
  await ben.goto(await link.getAttribute('href'));
  await ben.getByText('Let this Slack account act as you?').waitFor();
  await look(ben, 'desktop-slack-link');
  await ben.getByRole('button', { name: 'Yes, that is my account' }).click();
  await ben.getByText('acts as you from now on').waitFor();
  for (const p of [ana, ben, page]) await p.context().close();
}

/** What a first visit costs. */
async function firstLoad() {
  const context = await browser.newContext({ viewport: DESKTOP });
  const page = await context.newPage();
  await page.goto(base + '/login');
  await page.getByRole('button', { name: 'ana' }).click();
  await page.waitForURL(base + '/');
  await page.close();
  const fresh = await browser.newContext({ viewport: DESKTOP, storageState: await context.storageState() });
  const first = await fresh.newPage();
  const cdp = await fresh.newCDPSession(first);
  let bytes = 0;
  await cdp.send('Network.enable');
  cdp.on('Network.loadingFinished', e => { bytes += e.encodedDataLength; });
  await first.goto(base + '/catalog', { waitUntil: 'load' });
  await first.waitForTimeout(300);
  console.log(`first load: ${bytes} bytes`);
  assert.ok(bytes > 10_000 && bytes <= 100_000, `first load is ${bytes} bytes`);
  await fresh.close();
  await context.close();
}

try {
  await story('desktop', DESKTOP);
  await story('phone', PHONE);
  await withoutScripts();
  await commandLine();
  await inSlack();
  await firstLoad();
} catch (error) {
  wrong.push(String(error.stack ?? error));
}
await browser.close();
if (process.env.TIDEGATE_DOCS && wrong.length === 0) {
  for (const name of DOCS) copyFileSync(join(shots, `${name}.png`), join(process.env.TIDEGATE_DOCS, `${name}.png`));
}
console.log(`${seen.size} pages looked at, in two themes each`);
if (wrong.length > 0) {
  console.error([...new Set(wrong)].join('\n'));
  process.exit(1);
}
