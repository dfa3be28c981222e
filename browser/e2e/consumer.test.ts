/**
 * A page with a durable consumer that is reloaded, crashed with its browser, and cut off from a server that
 * crashes too: every event has its effect, what comes twice came again after one of those, and the page tells
 * that by the position.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Page } from 'playwright-core';
import { profile, type Profile } from './profile.js';
import { program, type Program } from './program.js';

const until = (check: () => unknown) => expect.poll(check, { interval: 20, timeout: 60_000 });

/** What the page did, as it told this test before it settled the event. */
interface Effect {
  readonly position: number;
  readonly stream: string;
  readonly revision: number;
  readonly attempt: number;
  /** Which load of the page it was. */
  readonly load: number;
  /** Whether the page's own database had it before. */
  readonly again: boolean;
}

/**
 * The page: it keeps every event's effect in IndexedDB, once by its position, tells this test, and only then is
 * done with it. The first time it sees an event with a multiple of `FAILS`, it throws.
 */
const html = (programAt: string, load: number): string => `<!doctype html>
<title>consumer</title>
<script type="module">
  import { consume, createClient } from 'http://${programAt}/tidewire.js';

  const request = indexedDB.open('effects', 1);
  request.onupgradeneeded = () => request.result.createObjectStore('done');
  await new Promise((resolve, reject) => Object.assign(request, { onsuccess: resolve, onerror: reject }));
  const keep = (position, stream) =>
    new Promise((resolve, reject) => {
      const transaction = request.result.transaction('done', 'readwrite', { durability: 'strict' });
      const done = transaction.objectStore('done');
      let again = false;
      done.getKey(position).onsuccess = ({ target }) => {
        again = target.result !== undefined;
        if (!again) done.put(stream, position);
      };
      transaction.oncomplete = () => resolve(again);
      transaction.onabort = () => reject(transaction.error);
    });
  window.kept = () => new Promise((resolve) => {
    request.result.transaction('done').objectStore('done').getAllKeys().onsuccess = ({ target }) => resolve(target.result);
  });

  const client = createClient({ url: 'ws://${programAt}/ws', reconnect: { initialDelay: 50, maxDelay: 200 } });
  window.consumption = consume(client, { category: 'order' }, {
    consumer: 'inbox',
    after: 'start',
    window: 32,
    backoff: { initialDelay: 5 },
    async onEvent({ position, stream, revision, attempt = 1 }) {
      if (position % ${FAILS} === 0 && attempt === 1) throw new Error('not now');
      const again = await keep(position, stream);
      await fetch('/effect', { method: 'POST', body: JSON.stringify({ position, stream, revision, attempt, again, load: ${load} }) });
    },
    onThrow() {},
    onError: (error) => (window.ended = error.code),
  });
  client.connect();
</script>`;
const FAILS = 37;

let log: Program;
let site: Server;
let chromium: Profile;
let effects: Effect[];
let loads: number;
let url: string;

beforeEach(async () => {
  effects = [];
  loads = 0;
  site = createServer((request, answer) => {
    if (request.method === 'POST') {
      let body = '';
      request.on('data', (part) => (body += String(part)));
      // A request that broke off told nothing.
      request.on('end', () => {
        effects.push(JSON.parse(body) as Effect);
        answer.end();
      });
    } else if (request.url === '/') answer.setHeader('content-type', 'text/html').end(html(`127.0.0.1:${log.port}`, ++loads));
    else answer.writeHead(404).end();
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
  url = `http://127.0.0.1:${(site.address() as AddressInfo).port}`;
  log = await program('serve', '--set', `transport.origins=["${url}"]`);
  await log.start();
  chromium = profile();
});
afterEach(async () => {
  await chromium?.remove();
  await log?.remove();
  site?.closeAllConnections();
  site?.close();
});

const STREAMS = 7;
let written = 0;
/** Appends `count` events, over several streams and through restarts of the server, and none of them twice. */
const write = async (count: number): Promise<void> => {
  for (const last = written + count; written < last; written++) {
    const events = [{ id: crypto.randomUUID(), type: 'OrderPlaced', data: { order: written } }];
    const post = (): Promise<Response | undefined> =>
      fetch(`http://127.0.0.1:${log.port}/streams/order-${written % STREAMS}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ events }),
      }).catch(() => undefined);
    await until(async () => (await post())?.status).toBe(201);
  }
};
const positions = (): number[] => [...new Set(effects.map(({ position }) => position))].sort((a, b) => a - b);
const handled = (least: number) => until(() => positions().length).toBeGreaterThanOrEqual(least);
const upTo = (n: number): number[] => Array.from({ length: n }, (_, index) => index + 1);

test('reloads and crashes of the browser and of the server: every effect, and once', { timeout: 180_000 }, async () => {
  written = 0;
  let page: Page = await chromium.open(url);
  const writing = write(900);
  // What goes wrong in a handler while the page or the browser goes away is none of the page's business any more.
  for (let round = 1; round <= 3; round++) {
    await handled(round * 250 - 200);
    await page.reload();
    await handled(round * 250 - 130);
    await chromium.kill();
    page = await chromium.open(url);
    await handled(round * 250 - 60);
    await log.kill();
    await log.start();
  }
  await writing;
  await until(() => positions().length).toBe(900);

  expect(positions()).toEqual(upTo(900));
  expect(await page.evaluate(() => (window as unknown as { kept(): Promise<number[]> }).kept())).toEqual(upTo(900));
  expect(loads).toBe(7);
  // The page knows each event that it had before, and nothing else.
  const seen = new Set<number>();
  const unknown = effects.filter(({ position, again }) => {
    const before = seen.has(position);
    seen.add(position);
    // Kept, and killed before it could tell: again for the page, news for this test.
    return before && !again;
  });
  expect(unknown).toEqual([]);
  // What came twice came to another load of the page, or was sent again by a server that had crashed.
  const twice = effects.filter(({ again }) => again);
  expect(twice.length).toBeLessThan(9 * 32);
  // Each stream in order, by what is new.
  for (const stream of upTo(STREAMS).map((n) => `order-${n - 1}`)) {
    const revisions = effects.filter((effect) => effect.stream === stream && !effect.again).map(({ revision }) => revision);
    const told = [...revisions].sort((a, b) => a - b);
    expect(revisions).toEqual(told);
  }
  // Each that failed at first came again, as a further attempt.
  const failed = upTo(900).filter((position) => position % FAILS === 0);
  for (const position of failed) expect(effects.find((effect) => effect.position === position)?.attempt).toBeGreaterThan(1);
  expect(await page.evaluate(() => (window as unknown as { ended?: string }).ended)).toBeUndefined();

  // All of it is settled: whoever takes the consumer next gets what is new, and nothing else.
  const before = effects.length;
  await until(() => page.evaluate(() => (window as unknown as { consumption: { getSnapshot(): { pending: number } } }).consumption.getSnapshot().pending)).toBe(0);
  await chromium.remove();
  chromium = profile();
  page = await chromium.open(url);
  await write(10);
  await until(() => positions().length).toBe(910);
  expect(effects.slice(before).every(({ position }) => position > 900 - 32)).toBe(true);
});

test('a second page takes the consumer over, and the first is told for good', async () => {
  written = 0;
  const first = await chromium.open(url);
  await write(5);
  await handled(5);
  const second = profile();
  try {
    await second.open(url);
    const ended = (): Promise<string | undefined> => first.evaluate(() => (window as unknown as { ended?: string }).ended);
    await until(ended).toBe('consumer_taken');
    await write(5);
    await handled(10);
    expect(effects.filter(({ position }) => position > 5).every(({ load }) => load === 2)).toBe(true);
  } finally {
    await second.remove();
  }
});
