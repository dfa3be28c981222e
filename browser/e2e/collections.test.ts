/**
 * Two browsers edit one collection, with everything real: each sees the other's edits, an edit upon what the other
 * has changed is refused with what there is, and edits made while the server was down land once it is back, once.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { proxyTo, type Proxy } from '../test/support/proxy.js';
import { chromiumBrowser } from './chromium.js';
import { program, type Program } from './program.js';
import { site, type Site } from './site.js';

const SETTINGS = `
[[collections]]
name = "todos"
fields = ["done"]
indexes = [["title"]]
`;
const until = (check: () => unknown) => expect.poll(check, { interval: 50, timeout: 60_000 });

const html = (programAt: number, proxyAt: number): string => `<!doctype html>
<title>todos</title>
<ul></ul>
<script type="module">
  import { collection, createClient } from 'http://127.0.0.1:${programAt}/tidewire.js';
  const client = createClient({ url: 'ws://127.0.0.1:${proxyAt}/ws', reconnect: { initialDelay: 50, maxDelay: 200 } });
  const todos = collection(client, 'todos', { order: { by: 'title' }, limit: 50 });
  const draw = () => {
    const { documents, pending } = todos.getSnapshot();
    document.querySelector('ul').replaceChildren(...Array.from(documents, ([key, { title, done, $revision }]) => {
      const line = document.createElement('li');
      line.textContent = [key, title, done ? 'done' : 'open', pending.has(key) ? 'pending' : 'at ' + $revision].join(' ');
      return line;
    }));
  };
  todos.subscribe(draw);
  const told = (edit) => edit.then(({ revision }) => revision, ({ code, present, revision }) => ({ code, present, revision }));
  const settled = [];
  Object.assign(window, {
    todos: () => ({ status: client.getSnapshot().status, phase: todos.getSnapshot().phase }),
    edit: (op, ...edit) => told(todos[op](...edit)),
    // Shows at once: what the page has in the very turn of the call.
    begin: (op, ...edit) => {
      void told(todos[op](...edit)).then((outcome) => settled.push(outcome));
      draw();
      return [...document.querySelectorAll('li')].map(({ textContent }) => textContent);
    },
    settled: () => settled,
  });
  client.connect();
</script>`;

type Outcome = number | { readonly code: string; readonly present: { readonly title: string } | null; readonly revision: number | null };
declare global {
  interface Window {
    todos(): { readonly status: string; readonly phase: string };
    edit(op: string, ...edit: readonly unknown[]): Promise<Outcome>;
    begin(op: string, ...edit: readonly unknown[]): string[];
    settled(): Outcome[];
  }
}

let browsers: Browser[];
let folder: string;
let web: Site;
let log: Program;
let proxy: Proxy;
let one: Page;
let two: Page;
beforeAll(async () => {
  browsers = [await chromiumBrowser(), await chromiumBrowser()];
  folder = mkdtempSync(join(tmpdir(), 'tidewire-settings-'));
});
afterAll(async () => {
  for (const browser of browsers ?? []) await browser.close();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  web = await site();
  const settings = join(folder, 'settings.toml');
  writeFileSync(settings, SETTINGS);
  log = await program('serve', '--config', settings, '--set', `transport.origins=["${web.origin}"]`);
  await log.start();
  proxy = await proxyTo(log.port);
  web.show(html(log.port, proxy.port));
  [one, two] = (await Promise.all(browsers.map((browser) => browser.newPage()))) as [Page, Page];
  for (const page of [one, two]) await page.goto(web.origin);
  for (const page of [one, two]) await until(() => page.evaluate(() => window.todos().phase)).toBe('live');
});
afterEach(async () => {
  await one?.close();
  await two?.close();
  await proxy?.close();
  await log?.remove();
  web?.close();
});

const edit = (page: Page, ...call: readonly [string, ...unknown[]]): Promise<Outcome> => page.evaluate(([op, ...rest]) => window.edit(op as string, ...rest), [...call] as unknown[]);
const begin = (page: Page, ...call: readonly [string, ...unknown[]]): Promise<string[]> => page.evaluate(([op, ...rest]) => window.begin(op as string, ...rest), [...call] as unknown[]);
const lines = (page: Page): Promise<string[]> => page.locator('li').allTextContents();
const both = async (expected: readonly string[]): Promise<void> => {
  for (const page of [one, two]) await until(() => lines(page)).toEqual(expected);
};

test('two browsers are in step, by the order of the window', async () => {
  expect(await begin(one, 'insert', 't1', { title: 'b' })).toEqual(['t1 b open pending']);
  await both(['t1 b open at 0']);
  expect(await edit(two, 'insert', 't2', { title: 'a' })).toBe(0);
  await both(['t2 a open at 0', 't1 b open at 0']);
  expect(await edit(two, 'update', 't1', { done: true })).toBe(1);
  await both(['t2 a open at 0', 't1 b done at 1']);
  expect(await begin(one, 'update', 't1', { title: '0' })).toEqual(['t1 0 done pending', 't2 a open at 0']);
  await both(['t1 0 done at 2', 't2 a open at 0']);
  expect(await edit(one, 'delete', 't2')).toBe(1);
  await both(['t1 0 done at 2']);
});

test('an edit upon what the other has changed is undone, and tells what there is', async () => {
  await edit(one, 'insert', 't1', { title: 'first' });
  await both(['t1 first open at 0']);
  // One is cut off while the other edits.
  proxy.blackhole(true);
  expect(await begin(one, 'update', 't1', { title: 'mine' })).toEqual(['t1 mine open pending']);
  expect(await begin(one, 'update', 't1', { done: true })).toEqual(['t1 mine done pending']);
  const body = JSON.stringify({ events: [{ type: 'Updated', data: { patch: { title: 'theirs' } } }] });
  const answer = await fetch(`http://127.0.0.1:${log.port}/streams/todos-t1`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  expect(answer.status).toBe(201);
  proxy.blackhole(false);
  proxy.cut();
  await both(['t1 theirs open at 1']);
  const conflict = { code: 'conflict', present: { title: 'theirs', $revision: 1 }, revision: 1 };
  await until(() => one.evaluate(() => window.settled())).toEqual([conflict, conflict]);
  expect(await edit(one, 'update', 't1', { title: 'agreed' }, { revision: 1 })).toBe(2);
  await both(['t1 agreed open at 2']);
  expect(await edit(two, 'insert', 't1', { title: 'again' })).toMatchObject({ code: 'conflict', revision: 2 });
  expect(await edit(two, 'update', 't9', { title: 'nothing' })).toMatchObject({ code: 'no_such_document' });
  await both(['t1 agreed open at 2']);
});

test('edits made while the server is down land once it is back, each once', async () => {
  await edit(one, 'insert', 't1', { title: 'a' });
  await both(['t1 a open at 0']);
  await log.kill();
  await until(() => one.evaluate(() => window.todos().status)).toBe('reconnecting');
  await begin(one, 'update', 't1', { done: true });
  await begin(one, 'update', 't1', { title: 'b' });
  expect(await begin(one, 'insert', 't2', { title: 'c' })).toEqual(['t1 b done pending', 't2 c open pending']);
  await log.start();
  await both(['t1 b done at 2', 't2 c open at 0']);
  expect(await one.evaluate(() => window.settled())).toHaveLength(3);
  expect(await log.head()).toBe(4);
});

test('edits through a network that breaks at any byte take effect once each', async () => {
  const keys = Array.from({ length: 8 }, (_, index) => `t${index}`);
  for (const key of keys) await begin(one, 'insert', key, { title: key });
  for (let cut = 1; cut <= 5; cut++) {
    const carried = proxy.carried();
    for (const key of keys) await begin(one, 'update', key, { title: `${key} ${cut}` });
    await until(() => proxy.carried()).toBeGreaterThan(carried);
    proxy.cut();
  }
  await both(keys.map((key) => `${key} ${key} 5 open at 5`));
  expect(await one.evaluate(() => window.settled().filter((outcome) => typeof outcome !== 'number'))).toEqual([]);
  expect(await log.head()).toBe(keys.length * 6);
});
