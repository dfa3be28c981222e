/**
 * Commands from a page to an application's own handler, over a network that breaks and a server that crashes:
 * each takes effect once, and the page learns what it came to.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Browser, Page } from 'playwright-core';
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

/** The page's own server, which hands WebSockets through to the shop. */
interface Front {
  readonly server: Server;
  readonly url: string;
  /** WebSockets so far. */
  opened(): number;
  /** Breaks every WebSocket. */
  cut(): void;
}

const frontOf = async (port: number): Promise<Front> => {
  const open = new Set<Duplex>();
  let opened = 0;
  const files: Record<string, readonly [type: string, body: string]> = {
    '/': ['text/html', PAGE],
    '/tidewire.js': ['text/javascript', readFileSync(CLIENT, 'utf8')],
  };
  const server = createServer((request, answer) => {
    const [type, body] = files[request.url ?? ''] ?? [];
    if (type) answer.setHeader('content-type', type).end(body);
    else answer.writeHead(404).end();
  });
  server.on('upgrade', (request, socket: Duplex) => {
    opened++;
    const upstream = connect(port, '127.0.0.1');
    const headers = Object.entries(request.headers).map(([name, value]) => `${name}: ${String(value)}\r\n`);
    upstream.write(`GET ${request.url} HTTP/1.1\r\n${headers.join('')}\r\n`);
    socket.pipe(upstream).pipe(socket);
    for (const each of [socket, upstream])
      each.on('error', () => {}).on('close', () => {
        open.delete(socket);
        socket.destroy();
        upstream.destroy();
      });
    open.add(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return { server, url, opened: () => opened, cut: () => open.forEach((socket) => socket.destroy()) };
};

let shop: Program;
let front: Front;
let browser: Browser;
let page: Page;

const ready = (): Promise<unknown> => page.waitForFunction(() => typeof window.order === 'function');
beforeEach(async () => {
  shop = await embed();
  await shop.start();
  front = await frontOf(shop.port);
  browser = await chromiumBrowser();
  page = await browser.newPage();
  await page.goto(front.url);
  await ready();
});
afterEach(async () => {
  await browser?.close();
  front?.cut();
  front?.server.close();
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
    } else front.cut();
    orders.push(...(await answers).flat());
  }
  // Somebody had to come back.
  expect(front.opened()).toBeGreaterThan(8);
  const expected = customers.flatMap((name) => Array.from({ length: 40 }, (_, index) => `${name}-${index + 1}`)).sort();
  expect([...orders].sort()).toEqual(expected);
  expect((await placed()).sort()).toEqual(expected);
});

test('a key that was used gets the first answer, on another page too; a refusal says why', async () => {
  const order = (key?: string, product?: string): Promise<string | Refusal> => page.evaluate(([name, used, what]) => window.order(name, used, what), ['ann', key, product] as const);
  expect(await order('cart-7')).toBe('ann-1');
  expect(await order('cart-7')).toBe('ann-1');
  await page.reload();
  await ready();
  expect(await order('cart-7')).toBe('ann-1');
  expect(await order()).toBe('ann-2');
  expect(await order(undefined, 'gold')).toMatchObject({ code: 'command_failed', details: { code: 'unknown_product' } });
  expect(await placed()).toEqual(['ann-1', 'ann-2']);
});
