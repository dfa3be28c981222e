/**
 * Commands from a page to an application's own handler, over a network that breaks and a server that crashes:
 * each takes effect once, and the page learns what it came to.
 */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Browser, Page } from 'playwright-core';
import { proxyTo, type Proxy } from '../test/support/proxy.js';
import { chromiumBrowser } from './chromium.js';
import { embed, type Program } from './program.js';

const CLIENT = new URL('../../server/assets/tidewire.js', import.meta.url);
const PAGE = `<!doctype html>
<title>shop</title>
<script type="module">
  import { createClient, send } from '/tidewire.js';
  const client = createClient({ url: '/log/ws', reconnect: { initialDelay: 20, maxDelay: 100 } });
  client.connect();
  window.order = (customer, key, product = 'bread') =>
    send(client, 'place-order', { customer, items: [{ product, quantity: 1 }] }, { key, timeout: 60000 }).then(
      ({ order }) => order,
      ({ code, details }) => ({ code, details }),
    );
</script>`;

interface Refusal {
  readonly code: string;
  readonly details: { readonly code?: string };
}
declare global {
  interface Window {
    order(customer: string, key?: string, product?: string): Promise<string | Refusal>;
  }
}

let shop: Program;
let proxy: Proxy;
let browser: Browser;
let page: Page;

beforeEach(async () => {
  shop = await embed();
  await shop.start();
  proxy = await proxyTo(shop.port);
  browser = await chromiumBrowser();
  page = await browser.newPage();
  await page.route('**/page', (route) => route.fulfill({ contentType: 'text/html', body: PAGE }));
  await page.route('**/tidewire.js', (route) => route.fulfill({ contentType: 'text/javascript', body: readFileSync(CLIENT, 'utf8') }));
  await page.goto(`http://127.0.0.1:${proxy.port}/page`);
  await page.waitForFunction(() => typeof window.order === 'function');
});
afterEach(async () => {
  await browser?.close();
  await proxy?.close();
  await shop?.remove();
});

/** The orders in the log. */
const placed = async (): Promise<string[]> => {
  const orders: string[] = [];
  for (let after = 0, more = true; more; ) {
    const answer = await fetch(`http://127.0.0.1:${shop.port}/log/events?after=${after}&limit=100`);
    const read = (await answer.json()) as { events: { position: number; data: { order: string } }[]; more: boolean };
    orders.push(...read.events.map(({ data }) => data.order));
    after = read.events.at(-1)?.position ?? after;
    more = read.more;
  }
  return orders;
};

test('cuts and crashes while orders are placed: each is placed once, and each is answered', async () => {
  const customers = ['ann', 'ben', 'cem', 'dee'];
  const orders: (string | Refusal)[] = [];
  for (let round = 0; round < 8; round++) {
    // One customer's orders after each other, the customers' beside each other.
    const answers = page.evaluate(
      (names) =>
        Promise.all(
          names.map(async (name) => {
            const placed = [];
            for (let each = 0; each < 5; each++) placed.push(await window.order(name));
            return placed;
          }),
        ),
      customers,
    );
    const before = orders.length;
    await expect.poll(async () => (await placed()).length, { interval: 5, timeout: 30_000 }).toBeGreaterThan(before);
    if (round % 4 === 3) {
      await shop.kill();
      await shop.start();
    } else proxy.cut();
    orders.push(...(await answers).flat());
  }
  // Somebody had to come back.
  expect(proxy.opened()).toBeGreaterThan(8);
  const expected = customers.flatMap((name) => Array.from({ length: 40 }, (_, index) => `${name}-${index + 1}`)).sort();
  expect([...orders].sort()).toEqual(expected);
  expect((await placed()).sort()).toEqual(expected);
});

test('a key that was used gets the first answer, on another page too; a refusal says why', async () => {
  const order = (key?: string, product?: string): Promise<string | Refusal> => page.evaluate(([name, used, what]) => window.order(name, used, what), ['ann', key, product] as const);
  expect(await order('cart-7')).toBe('ann-1');
  expect(await order('cart-7')).toBe('ann-1');
  await page.reload();
  await page.waitForFunction(() => typeof window.order === 'function');
  expect(await order('cart-7')).toBe('ann-1');
  expect(await order()).toBe('ann-2');
  expect(await order(undefined, 'gold')).toMatchObject({ code: 'command_failed', details: { code: 'unknown_product' } });
  expect(await placed()).toEqual(['ann-1', 'ann-2']);
});
