/**
 * The example `mail` in two browsers at once: lists and counts that go with each other, what one does shown in the
 * other, pages of older messages, edits that wait while the program is away, and edits that are refused undone.
 */
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core';
import { chromiumBrowser } from './chromium.js';
import { mail, type Program } from './program.js';

const SHOTS = fileURLToPath(new URL('shots/', import.meta.url));
const PATIENCE = { timeout: 30_000 };

let program: Program;
let browser: Browser;
const errors: string[] = [];

beforeEach(async () => {
  errors.length = 0;
  program = await mail();
  await program.start();
  browser = await chromiumBrowser();
});
afterEach(async () => {
  await browser?.close();
  await program?.remove();
  expect(errors).toEqual([]);
});

/** Opens the page in a browser profile of its own. */
const open = async (options: BrowserContextOptions = {}): Promise<Page> => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.on('pageerror', (error) => void errors.push(error.message));
  page.on('console', (message) => {
    if (/content security policy/i.test(message.text())) errors.push(message.text());
  });
  await page.goto(`http://127.0.0.1:${program.port}/`);
  await expect.poll(() => messages(page).count(), PATIENCE).toBeGreaterThan(0);
  return page;
};

const messages = (page: Page): Locator => page.locator('#messages > li');
const mailbox = (page: Page, name: string): Locator => page.locator('#mailboxes > li', { has: page.getByText(name, { exact: true }) });
const message = (page: Page, subject: string): Locator => messages(page).filter({ hasText: subject });
const number = async (place: Locator): Promise<number> => Number(await place.textContent());
/** How many messages a mailbox has, and how many of them are unread, as the page shows it. */
const counts = async (page: Page, name: string): Promise<[total: number, unread: number]> => [
  await number(mailbox(page, name).locator('.total')),
  await number(mailbox(page, name).locator('.unread')),
];
const untilCounts = (page: Page, name: string, expected: [number, number]) => expect.poll(() => counts(page, name), PATIENCE).toEqual(expected);
/** The subjects and senders of all messages that are listed. */
const listed = (page: Page): Promise<string[]> => messages(page).locator('.subject').allTextContents();

/** What somebody without a page does: a command over HTTP. */
const command = async (name: string, data: unknown): Promise<unknown> => {
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`http://127.0.0.1:${program.port}/log/commands/${name}`, { method: 'POST', headers, body: JSON.stringify({ data }) });
  const body = (await answer.json()) as { readonly data: unknown; readonly error?: unknown };
  if (!answer.ok) throw new Error(`${name} was refused`, { cause: body.error });
  return body.data;
};

const deliver = (subject: string): Promise<unknown> =>
  command('deliver', { mailbox: 'inbox', from: 'The other side', subject, body: `About ${subject}.` });

test('two browsers stay in step, whatever is done in either', async () => {
  const [ann, bob] = [await open(), await open({ viewport: { width: 390, height: 844 }, colorScheme: 'dark' })];
  await untilCounts(ann, 'Inbox', [180, 30]);
  await untilCounts(ann, 'Archive', [60, 1]);
  expect(await messages(ann).count()).toBe(50);

  // A new message comes to the top of both lists, and is counted.
  await deliver('The lighthouse is on');
  for (const page of [ann, bob]) {
    await expect.poll(async () => (await listed(page))[0], PATIENCE).toBe('The lighthouse is on');
    expect(await messages(page).count()).toBe(50);
  }
  await untilCounts(ann, 'Inbox', [181, 31]);

  // One reads it: it is read in both.
  await message(ann, 'The lighthouse is on').locator('button').click();
  await expect.poll(() => ann.locator('#reader .body').textContent(), PATIENCE).toBe('About The lighthouse is on.');
  for (const page of [ann, bob]) {
    await expect.poll(() => message(page, 'The lighthouse is on').locator('.new').count(), PATIENCE).toBe(0);
    await expect.poll(() => mailbox(page, 'Inbox').locator('.unread').textContent(), PATIENCE).toBe('30');
  }

  // The other moves it away, and then deletes it.
  await message(bob, 'The lighthouse is on').locator('button').click();
  await bob.locator('#reader select').selectOption({ label: 'Archive' });
  await expect.poll(() => message(ann, 'The lighthouse is on').count(), PATIENCE).toBe(0);
  await untilCounts(ann, 'Inbox', [180, 30]);
  await untilCounts(ann, 'Archive', [61, 1]);
  expect(await ann.locator('#reader').isHidden()).toBe(true);
  await mailbox(ann, 'Archive').locator('button').click();
  await expect.poll(async () => (await listed(ann))[0], PATIENCE).toBe('The lighthouse is on');
  await mailbox(bob, 'Archive').locator('button').click();
  await message(bob, 'The lighthouse is on').locator('button').click();
  await bob.locator('#reader .delete').click();
  await expect.poll(() => message(ann, 'The lighthouse is on').count(), PATIENCE).toBe(0);
  await untilCounts(ann, 'Archive', [60, 1]);

  // Mailboxes are made, renamed and deleted.
  await ann.locator('#new-mailbox input').fill('Regatta');
  await ann.locator('#new-mailbox button').click();
  await untilCounts(bob, 'Regatta', [0, 0]);
  await expect.poll(() => ann.locator('#title').textContent(), PATIENCE).toBe('Regatta');
  ann.once('dialog', (dialog) => void dialog.accept('Regatta 2027'));
  await ann.locator('#rename').click();
  await untilCounts(bob, 'Regatta 2027', [0, 0]);
  await ann.locator('#remove').click();
  for (const page of [ann, bob]) await expect.poll(() => mailbox(page, 'Regatta 2027').count(), PATIENCE).toBe(0);
  await expect.poll(() => ann.locator('#title').textContent(), PATIENCE).toBe('Inbox');
});

test('older messages come by the page, and the list is whole at its end', async () => {
  const ann = await open();
  const shown: number[] = [];
  while (await ann.locator('#older').isVisible()) {
    const before = await messages(ann).count();
    await ann.locator('#older').click();
    await expect.poll(() => messages(ann).count(), PATIENCE).toBeGreaterThan(before);
    await expect.poll(() => ann.locator('#older').isEnabled().catch(() => true), PATIENCE).toBe(true);
    shown.push(await messages(ann).count());
  }
  expect(shown).toEqual([100, 150, 180]);
  const times = await messages(ann).locator('time').evaluateAll((all) => all.map((each) => (each as HTMLTimeElement).dateTime));
  expect(times).toEqual([...times].sort().reverse());

  // What falls out of the live window stays in the list.
  await deliver('One more');
  await expect.poll(() => messages(ann).count(), PATIENCE).toBe(181);

  // An older message is edited as a new one is.
  const last = messages(ann).last();
  await last.locator('button').click();
  await ann.locator('#reader .delete').click();
  await expect.poll(() => messages(ann).count(), PATIENCE).toBe(180);
  await untilCounts(ann, 'Inbox', [180, 31]);
});

test('what is done while the program is away shows at once and takes effect later', async () => {
  const [ann, bob] = [await open(), await open()];
  await deliver('Before the storm');
  await expect.poll(() => message(ann, 'Before the storm').count(), PATIENCE).toBe(1);
  await expect.poll(() => message(bob, 'Before the storm').count(), PATIENCE).toBe(1);
  await program.kill();
  await expect.poll(() => ann.locator('#status').getAttribute('data-state'), PATIENCE).not.toBe('connected');

  await message(ann, 'Before the storm').locator('button').click();
  await ann.locator('#reader .delete').click();
  expect(await message(ann, 'Before the storm').count()).toBe(0);
  await untilCounts(ann, 'Inbox', [180, 30]);
  expect(await message(bob, 'Before the storm').count()).toBe(1);

  await program.start();
  await expect.poll(() => message(bob, 'Before the storm').count(), PATIENCE).toBe(0);
  for (const page of [ann, bob]) await untilCounts(page, 'Inbox', [180, 30]);
});

test('what is refused is undone, and said so', async () => {
  const ann = await (await browser.newContext()).newPage();
  // What the page sends can be held back on its way.
  let held: (string | Buffer)[] | undefined;
  let release = (): void => undefined;
  await ann.routeWebSocket(/\/log\/ws/, (page) => {
    const server = page.connectToServer();
    page.onMessage((text) => (held ? void held.push(text) : server.send(text)));
    release = () => {
      for (const text of held ?? []) server.send(text);
      held = undefined;
    };
  });
  await ann.goto(`http://127.0.0.1:${program.port}/`);
  await command('create-mailbox', { name: 'Regatta' });
  const { id } = (await command('deliver', { mailbox: 'inbox', from: 'A', subject: 'For the regatta', body: '' })) as { id: string };
  await untilCounts(ann, 'Regatta', [0, 0]);
  await message(ann, 'For the regatta').locator('button').click();
  await untilCounts(ann, 'Inbox', [181, 30]);

  held = [];
  await ann.locator('#reader select').selectOption({ label: 'Regatta' });
  await untilCounts(ann, 'Regatta', [1, 0]);
  await untilCounts(ann, 'Inbox', [180, 30]);
  expect(await message(ann, 'For the regatta').count()).toBe(0);
  await command('move', { message: id, to: 'archive' });
  await command('delete', { message: id });
  await untilCounts(ann, 'Archive', [60, 1]);
  release();
  await expect.poll(() => ann.locator('#notice').textContent(), PATIENCE).toBe('That message is gone.');
  await untilCounts(ann, 'Regatta', [0, 0]);
  await untilCounts(ann, 'Inbox', [180, 30]);

  // The same where the message is still there, and the mailbox is not.
  await deliver('For the regatta, again');
  await message(ann, 'For the regatta, again').locator('button').click(PATIENCE);
  await untilCounts(ann, 'Inbox', [181, 30]);
  held = [];
  await ann.locator('#reader select').selectOption({ label: 'Regatta' });
  await expect.poll(() => message(ann, 'For the regatta, again').count(), PATIENCE).toBe(0);
  const regatta = await mailbox(ann, 'Regatta').getAttribute('data-key');
  await command('delete-mailbox', { mailbox: regatta });
  await expect.poll(() => mailbox(ann, 'Regatta').count(), PATIENCE).toBe(0);
  expect(await message(ann, 'For the regatta, again').count()).toBe(0);
  release();
  await expect.poll(() => ann.locator('#notice').textContent(), PATIENCE).toBe('That mailbox is gone.');
  await expect.poll(() => message(ann, 'For the regatta, again').count(), PATIENCE).toBe(1);
  await untilCounts(ann, 'Inbox', [181, 30]);
});

test('a mailbox that is not empty is kept', async () => {
  const ann = await open();
  expect(await ann.locator('#remove').isDisabled()).toBe(true);
  await expect(command('delete-mailbox', { mailbox: 'inbox' })).rejects.toMatchObject({
    cause: { details: { code: 'mailbox_not_empty', details: { total: 180 } } },
  });
});

test.each([
  ['mail-desktop-light', { viewport: { width: 1280, height: 800 }, colorScheme: 'light' }],
  ['mail-desktop-dark', { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' }],
  ['mail-tablet', { viewport: { width: 820, height: 1100 } }],
  ['mail-phone', { viewport: { width: 390, height: 844 } }],
] as const)('fits its screen: %s', async (name, options) => {
  const page = await open(options);
  const fits = async (): Promise<void> => {
    const { scroll, width } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, width: innerWidth }));
    expect(scroll).toBeLessThanOrEqual(width);
  };
  await fits();
  const inbox = mailbox(page, 'Inbox').locator('.name');
  expect(await inbox.evaluate((place) => place.scrollWidth <= place.clientWidth)).toBe(true);
  await page.screenshot({ path: `${SHOTS}${name}-list.png` });
  await messages(page).nth(1).locator('button').click();
  await expect.poll(() => page.locator('#reader .body').textContent(), PATIENCE).toContain('Best wishes');
  await fits();
  await page.screenshot({ path: `${SHOTS}${name}.png` });
});
