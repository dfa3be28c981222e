/** The main promise, with everything real: the page gets every event of the log exactly once, whatever breaks. */
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { proxyTo, type Proxy } from '../test/support/proxy.js';
import { chromiumBrowser } from './chromium.js';
import { folded } from './departures.js';
import { openDemo, type DemoPage } from './page.js';
import { demoAt, type Program } from './program.js';

const shots = fileURLToPath(new URL('shots/', import.meta.url));

let browser: Browser;
beforeAll(async () => {
  browser = await chromiumBrowser();
  mkdirSync(shots, { recursive: true });
});
afterAll(() => browser?.close());

const until = (check: () => unknown) => expect.poll(check, { interval: 50, timeout: 30_000 });

describe('the page and the log', () => {
  let demo: Program;
  let proxy: Proxy;
  let open: DemoPage;

  beforeEach(async () => {
    demo = await demoAt(3_000);
    await demo.start();
    proxy = await proxyTo(demo.port);
    open = await openDemo(browser, proxy.port);
  });
  afterEach(async () => {
    await open?.close();
    await proxy?.close();
    await demo?.remove();
  });

  test('the page receives exactly 1..head, and draws flights', async () => {
    await open.complete(await demo.grownTo(1_500));
    await until(() => open.page.locator('#rows .row').count()).toBeGreaterThan(5);
    expect(await open.page.locator('#status').textContent()).toBe('Connected');
    expect(await open.page.locator('#holes').textContent()).toBe('0');
    await open.page.screenshot({ path: `${shots}desktop.png` });
  });

  test('a visitor cuts the connection and sees it resume from the position', async () => {
    await open.complete(await demo.grownTo(1_000));
    for (let cut = 1; cut <= 3; cut++) {
      await open.page.locator('#cut:enabled').click();
      await until(() => open.sent.filter(({ type }) => type === 'hello').length).toBe(cut + 1);
      await until(() => open.status()).toBe('connected');
      await until(() => open.page.locator('#story').textContent()).toMatch(/^Back after/);
    }
    const resumes = open.sent.filter(({ type }) => type === 'hello').slice(1);
    // Of the clock, of the count and of the flights.
    for (const { subscriptions } of resumes) expect(subscriptions?.map(({ after }) => after)).toEqual([expect.any(Number), expect.any(Number), expect.any(Number)]);
    for (const { subscriptions } of resumes) for (const { after } of subscriptions!) expect(after).toBeGreaterThan(1_000);
    await open.complete(await demo.grownTo((await open.positions()).max + 50));
  });

  test('five seconds offline are made up for', async () => {
    await open.complete(await demo.grownTo(1_000));
    await open.page.locator('#offline').check();
    await open.page.locator('#cut').click();
    await until(() => open.status()).toBe('reconnecting');
    const before = (await open.positions()).max;
    await until(() => open.page.locator('#detail').textContent()).toMatch(/attempt \d/);
    await until(() => open.status()).toBe('connected');
    await open.complete(await demo.head());
    expect((await open.positions()).max).toBeGreaterThan(before);
  });

  test('a network that breaks at any byte, ten times during the catch-up', async () => {
    for (let cut = 0; cut < 10; cut++) {
      const carried = proxy.carried();
      await until(() => proxy.carried()).toBeGreaterThan(carried);
      proxy.cut();
      await until(() => open.status()).toBe('connected');
    }
    await open.complete(await demo.head());
  });

  test('the server is killed and started again under the page', async () => {
    await open.complete(await demo.grownTo(1_000));
    for (let crash = 0; crash < 2; crash++) {
      await demo.kill();
      await until(() => open.status()).toBe('reconnecting');
      await demo.start();
      await until(() => open.status()).toBe('connected');
      await open.complete(await demo.grownTo((await open.positions()).max + 50));
    }
    const resumes = open.sent.filter(({ type }) => type === 'hello').slice(1);
    expect(resumes.length).toBeGreaterThanOrEqual(2);
    expect(resumes.every(({ subscriptions }) => subscriptions?.every(({ after }) => typeof after === 'number'))).toBe(true);
  });
});

describe('the board and the log', () => {
  let demo: Program;
  let proxy: Proxy;
  beforeEach(async () => {
    demo = await demoAt(3_000);
    await demo.start();
    proxy = await proxyTo(demo.port);
  });
  afterEach(async () => {
    await proxy?.close();
    await demo?.remove();
  });
  /** Waits until the pages are live, each beyond `least`, and compares each with a fold of the log. */
  const right = async (pages: readonly DemoPage[], least: number): Promise<void> => {
    for (const each of pages) {
      await until(async () => (await each.departures()).phase === 'live' && (await each.departures()).position).toBeGreaterThan(least);
      const { position, days, documents } = await each.departures();
      expect(Object.keys(documents).length).toBeGreaterThan(100);
      expect(documents).toEqual(Object.fromEntries(await folded(demo.port, position, days)));
    }
  };
  const rebuilt = async (): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${demo.port}/projections/departures/rebuild`, { method: 'POST', headers: { 'content-type': 'application/json' } });
    expect([answer.status, await answer.text()]).toEqual([202, expect.any(String)]);
  };

  test('two browsers show what the log says, and the same, before, during and after a rebuild', async () => {
    const other = await chromiumBrowser();
    try {
      const pages = [await openDemo(browser, demo.port), await openDemo(other, proxy.port, { viewport: { width: 1_100, height: 760 }, colorScheme: 'light' })];
      await right(pages, await demo.grownTo(1_500));
      const { generation } = await pages[0]!.departures();
      await rebuilt();
      await right(pages, (await pages[0]!.departures()).position);
      for (const each of pages) await until(async () => (await each.departures()).generation).not.toBe(generation);
      proxy.cut();
      await right(pages, await demo.grownTo((await demo.head()) + 100));
      for (const each of pages) expect(await each.page.locator('#rows .row').count()).toBeGreaterThan(5);
      await pages[0]!.page.screenshot({ path: `${shots}two-browsers-1.png` });
      await pages[1]!.page.screenshot({ path: `${shots}two-browsers-2.png` });
      for (const each of pages) await each.complete(await demo.head());
      for (const each of pages) await each.close();
    } finally {
      await other.close();
    }
  });

  test('the board is right after the server was killed, again and again', async () => {
    const open = await openDemo(browser, proxy.port);
    await right([open], await demo.grownTo(1_500));
    for (let crash = 0; crash < 3; crash++) {
      const { documents } = await open.departures();
      await demo.kill();
      await until(() => open.status()).toBe('reconnecting');
      // What it had stays on the board meanwhile.
      expect(Object.keys((await open.departures()).documents).length).toBeGreaterThanOrEqual(Object.keys(documents).length);
      await demo.start();
      await right([open], await demo.grownTo((await open.positions()).max + 100));
    }
    await open.close();
  });
});

describe('the page on a screen', () => {
  let demo: Program;
  beforeAll(async () => {
    demo = await demoAt(3_000);
    await demo.start();
    await demo.grownTo(1_500);
  });
  afterAll(() => demo?.remove());

  test.each([
    ['phone-light', 390, 844, 'light'],
    ['phone-dark', 390, 844, 'dark'],
    ['small-phone', 320, 640, 'light'],
    ['tablet', 820, 1_180, 'dark'],
    ['desktop-light', 1_280, 860, 'light'],
  ] as const)('%s: nothing runs over the edge', async (name, width, height, colorScheme) => {
    const open = await openDemo(browser, demo.port, { viewport: { width, height }, colorScheme, isMobile: width < 500, hasTouch: width < 500 });
    await open.complete(1_000);
    await until(() => open.page.locator('#rows .row').count()).toBeGreaterThan(3);
    await open.page.screenshot({ path: `${shots}${name}.png` });
    const over = await open.page.evaluate(() => ({
      page: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      nodes: [...document.querySelectorAll('button, dd, .status, .delay')]
        .filter((node) => node.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
        .map((node) => node.textContent),
      figures: [...document.querySelectorAll('.figures div')].filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.textContent),
    }));
    expect(over).toEqual({ page: 0, nodes: [], figures: [] });
    if (width < 500) {
      const small = await open.page.locator('button').evaluateAll((nodes) => nodes.filter((node) => node.getBoundingClientRect().height < 44).map((node) => node.textContent));
      expect(small).toEqual([]);
    }
    await open.close();
  });

  test('the tabs choose an airport, by pointer and by key, and only what is in view is drawn', async () => {
    const open = await openDemo(browser, demo.port);
    await open.complete(1_000);
    await open.page.getByRole('radio', { name: 'Whole day' }).click();
    await open.page.getByRole('radio', { name: 'JFK' }).click();
    const origins = (): Promise<string[]> => open.page.locator('#rows .origin').allTextContents();
    await until(async () => [...new Set(await origins())]).toEqual(['JFK']);
    await open.page.keyboard.press('ArrowRight');
    await until(async () => [...new Set(await origins())]).toEqual(['LGA']);
    expect((await origins()).length).toBeLessThan(40);
    // After midnight the day's flights are announced by and by.
    await until(async () => Number(await open.page.locator('#table').getAttribute('aria-rowcount'))).toBeGreaterThan(100);
    expect((await origins()).length).toBeLessThan(40);
    await open.close();
  });
});
