/**
 * Live queries in a page, with everything real: what it shows is what the server's documents are, through crashes,
 * a network that breaks, and a rebuild under it; and every picture on the way is whole.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Summarized } from '../src/index.js';
import { proxyTo, type Proxy } from '../test/support/proxy.js';
import { chromiumBrowser } from './chromium.js';
import { program, type Program } from './program.js';
import { site, type Site } from './site.js';

const SETTINGS = `
[[projections]]
name = "orders"
kind = "latest_by"
category = "order"
key = "stream_id"
delete_on = ["OrderRemoved"]
fields = ["status"]
indexes = [["total"]]
`;
const until = (check: () => unknown) => expect.poll(check, { interval: 50, timeout: 60_000 });

/** `proxy` is where the page's socket goes. It keeps every picture that it was shown. */
const html = (programAt: number, proxyAt: number): string => `<!doctype html>
<title>orders</title>
<script type="module">
  import { createClient, pages, projection, summary } from 'http://127.0.0.1:${programAt}/tidewire.js';
  const client = createClient({ url: 'ws://127.0.0.1:${proxyAt}/ws', reconnect: { initialDelay: 50, maxDelay: 200 } });
  const all = projection(client, 'orders');
  const open = projection(client, 'orders', { where: { eq: ['status', 'open'] } });
  const top = projection(client, 'orders', { order: { by: 'total', direction: 'descending' }, limit: 5 });
  const summaries = [];
  summary(client, { category: 'order' }, { everyMs: 100, after: 'start', onSummary: (told) => void summaries.push(told) });
  const pictures = [];
  all.subscribe(({ documents, generation, position }) => {
    const last = pictures.at(-1);
    if (documents !== last?.documents) pictures.push({ documents, generation, position });
  });
  const plain = ({ documents }) => [...documents].map(([key, { total, status }]) => key + ' ' + total + ' ' + status);
  Object.assign(window, {
    orders: () => ({
      connection: client.getSnapshot().status,
      phases: [all, open, top].map((query) => query.getSnapshot().phase),
      position: all.getSnapshot().position,
      generation: all.getSnapshot().generation,
      all: plain(all.getSnapshot()).sort(),
      open: plain(open.getSnapshot()).sort(),
      top: plain(top.getSnapshot()),
    }),
    stored: async (wait) => {
      const found = [];
      for await (const page of pages(client, { projection: 'orders' }, { limit: 200, wait, timeout: 30000 })) found.push(...page.documents);
      return plain({ documents: found.map(({ key, document }) => [key, document]) }).sort();
    },
    summaries: () => summaries,
    pictures: () => pictures.map(({ documents, generation, position }) => ({ count: documents.size, generation, position })),
    shared: () => {
      const [a, b] = [pictures.find(({ documents }) => documents.size), pictures.at(-1)];
      return [...b.documents].filter(([key, document]) => a.documents.get(key) === document).length;
    },
  });
  client.connect();
</script>`;

interface Orders {
  readonly connection: string;
  readonly phases: readonly string[];
  readonly position: number | undefined;
  readonly generation: number | undefined;
  readonly all: readonly string[];
  readonly open: readonly string[];
  readonly top: readonly string[];
}
declare global {
  interface Window {
    orders(): Orders;
    stored(wait: number): Promise<string[]>;
    pictures(): { readonly count: number; readonly generation: number; readonly position: number }[];
    shared(): number;
    summaries(): Summarized[];
  }
}

let browser: Browser;
let folder: string;
let web: Site;
let log: Program;
let proxy: Proxy;
let page: Page;
beforeAll(async () => {
  browser = await chromiumBrowser();
  folder = mkdtempSync(join(tmpdir(), 'tidewire-settings-'));
});
afterAll(async () => {
  await browser?.close();
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
  page = await browser.newPage();
});
afterEach(async () => {
  await page?.close();
  await proxy?.close();
  await log?.remove();
  web?.close();
});

/** What the documents have to be, kept by the test itself. */
const model = new Map<string, { readonly total: number; readonly status: string }>();
beforeEach(() => model.clear());
const place = async (key: number, total: number, status = 'open'): Promise<number> => {
  model.set(`${key}`, { total, status });
  return append(key, 'OrderChanged', { total, status, note: 'the same in all of them, so that a patch is smaller' });
};
const remove = async (key: number): Promise<number> => {
  model.delete(`${key}`);
  return append(key, 'OrderRemoved', {});
};
const append = async (key: number, type: string, data: object): Promise<number> => {
  const body = JSON.stringify({ events: [{ type, data }] });
  const answer = await fetch(`http://127.0.0.1:${log.port}/streams/order-${key}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  expect(answer.status).toBe(201);
  return ((await answer.json()) as { position: number }).position;
};
const rebuild = async (): Promise<void> => {
  const answer = await fetch(`http://127.0.0.1:${log.port}/projections/orders/rebuild`, { method: 'POST', headers: { 'content-type': 'application/json' } });
  expect([answer.status, await answer.text()]).toEqual([202, expect.any(String)]);
};

const orders = (): Promise<Orders> => page.evaluate(() => window.orders());
const expected = (): Pick<Orders, 'all' | 'open' | 'top' | 'phases'> => {
  const text = ([key, { total, status }]: [string, { total: number; status: string }]) => `${key} ${total} ${status}`;
  const entries = [...model];
  const descending = [...model].sort(([a, x], [b, y]) => y.total - x.total || (a < b ? -1 : 1));
  return {
    all: entries.map(text).sort(),
    open: entries.filter(([, { status }]) => status === 'open').map(text).sort(),
    top: descending.slice(0, 5).map(text),
    phases: ['live', 'live', 'live'],
  };
};
/** Waits until the page shows what there is, and reads the same a page at a time. */
const inStep = async (position: number): Promise<void> => {
  await until(orders).toMatchObject(expected());
  expect(await page.evaluate((wait) => window.stored(wait), position)).toEqual(expected().all);
};

test('the page shows the documents, and what becomes of them', async () => {
  for (let key = 1; key <= 30; key++) await place(key, key * 10, key % 3 ? 'open' : 'paid');
  await page.goto(web.origin);
  await inStep(30);
  await place(7, 5_000, 'paid');
  await place(3, 1, 'open');
  await remove(29);
  await inStep(await place(99, 295));
  expect((await orders()).top).toEqual(['7 5000 paid', '30 300 paid', '99 295 open', '28 280 open', '27 270 paid']);
});

test('the server is killed and started again under the page', async () => {
  for (let key = 1; key <= 50; key++) await place(key, key);
  await page.goto(web.origin);
  await inStep(50);
  // Before that, the page may have been shown what the projection had come to when it opened.
  const first = (await page.evaluate(() => window.pictures())).length - 1;
  for (let crash = 1; crash <= 3; crash++) {
    await log.kill();
    await until(async () => (await orders()).connection).toBe('reconnecting');
    // What it had stays.
    expect((await orders()).all).toEqual(expected().all);
    await log.start();
    await place(crash, crash * 1_000);
    await remove(10 + crash);
    await inStep(await place(100 + crash, crash));
  }
  // Killed, it goes on in the same generation, and no picture had fewer documents than there were.
  const pictures = (await page.evaluate(() => window.pictures())).slice(first);
  expect(new Set(pictures.map(({ generation }) => generation)).size).toBe(1);
  expect(Math.min(...pictures.map(({ count }) => count))).toBeGreaterThanOrEqual(49);
});

test('a network that breaks at any byte, while documents change', async () => {
  for (let key = 1; key <= 300; key++) await place(key, key);
  await page.goto(web.origin);
  let last = 0;
  for (let cut = 0; cut < 8; cut++) {
    const carried = proxy.carried();
    for (let n = 0; n < 10; n++) last = await place(1 + ((cut * 37 + n * 11) % 300), cut * 100 + n, n % 2 ? 'open' : 'paid');
    await until(() => proxy.carried()).toBeGreaterThan(carried);
    proxy.cut();
  }
  await inStep(last);
  // Summed up, every event was counted once, whatever broke.
  const told = (): Promise<Summarized[]> => page.evaluate(() => window.summaries());
  await until(async () => (await told()).reduce((sum, { counts }) => sum + (counts['OrderChanged'] ?? 0), 0)).toBe(380);
  for (const [index, { after, position }] of (await told()).entries()) {
    expect(after).toBeGreaterThanOrEqual((await told())[index - 1]?.position ?? 0);
    expect(position).toBeGreaterThan(after);
  }
});

test('the projection is rebuilt under the page, twice, while documents change', async () => {
  for (let key = 1; key <= 200; key++) await place(key, key);
  await page.goto(web.origin);
  await inStep(200);
  const changed = new Set<number>();
  for (let time = 1; time <= 2; time++) {
    const { generation } = await orders();
    await rebuild();
    let last = await place(1, time * 100_000);
    for (let n = 1; (await orders()).generation === generation; n++) {
      changed.add(1 + (n % 20));
      last = await place(1 + (n % 20), time * 100_000 + n);
    }
    await inStep(last);
    expect((await orders()).generation).not.toBe(generation);
  }
  // Never fewer than there are, never of two minds; and what has not changed is the same object still.
  const pictures = (await page.evaluate(() => window.pictures())).filter(({ position }) => position >= 200);
  expect(new Set(pictures.map(({ count }) => count))).toEqual(new Set([200]));
  expect(new Set(pictures.map(({ generation }) => generation)).size).toBe(3);
  expect(await page.evaluate(() => window.shared())).toBe(200 - changed.add(1).size);
  for (const [index, { position, generation }] of pictures.entries()) {
    const before = pictures[index - 1];
    if (before?.generation === generation) expect(position).toBeGreaterThanOrEqual(before.position);
  }
});
