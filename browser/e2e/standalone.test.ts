/** The page of the README, served by somebody else than the program, whose client it imports. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { chromiumBrowser } from './chromium.js';
import { program } from './program.js';

const README = new URL('../README.md', import.meta.url);
/** Where the page expects the program. */
const PROGRAM = 'localhost:7377';

test('a page of another origin imports the client and follows the log', async () => {
  const [, page] = /```html\n(.*?)```/s.exec(readFileSync(README, 'utf8'))!;
  expect(page).toContain(`http://${PROGRAM}/tidewire.js`);

  let port = 0;
  const site = createServer((_, answer) => {
    answer.setHeader('content-type', 'text/html').end(page!.replaceAll(PROGRAM, `127.0.0.1:${port}`));
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
  const origin = `http://127.0.0.1:${(site.address() as AddressInfo).port}`;
  const log = await program('serve', '--set', `transport.origins=["${origin}"]`);
  port = log.port;
  const browser = await chromiumBrowser();
  try {
    await log.start();
    const place = async (stream: string): Promise<void> => {
      const body = JSON.stringify({ events: [{ type: 'OrderPlaced', data: { total: 12 } }] });
      const headers = { 'content-type': 'application/json' };
      const answer = await fetch(`http://127.0.0.1:${port}/streams/${stream}`, { method: 'POST', headers, body });
      expect(answer.status).toBe(201);
    };
    const tab = await browser.newPage();
    const lines = (): Promise<string[]> => tab.locator('li').allTextContents();
    const until = (expected: string[]) => expect.poll(lines, { timeout: 30_000 }).toEqual(expected);

    await place('order-1');
    await tab.goto(origin);
    await until(['1 order-1 OrderPlaced']);
    await place('cart-1');
    await place('order-2');
    await until(['1 order-1 OrderPlaced', '3 order-2 OrderPlaced']);
    await log.kill();
    await log.start();
    await place('order-3');
    await until(['1 order-1 OrderPlaced', '3 order-2 OrderPlaced', '4 order-3 OrderPlaced']);
  } finally {
    await browser.close();
    await log.remove();
    site.close();
  }
});
