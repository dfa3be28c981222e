/** The demo's page in Chromium, and an account of its own of what came over the wire. */
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { expect } from 'vitest';
import type { Summary } from '../demo/audit.js';

export interface DemoPage {
  readonly page: Page;
  /** The positions of every frame that the browser received, in order, over all its sockets. */
  readonly wire: readonly number[];
  /** Every message that the page sent. */
  readonly sent: readonly { readonly type: string; readonly subscriptions?: readonly { readonly after: unknown }[] }[];
  /** What the page itself counted. */
  positions(): Promise<Summary & { readonly head: number }>;
  status(): Promise<string>;
  /** The documents that the board is drawn from. */
  departures(): Promise<Drawn>;
  /** Waits until the page has everything up to `head`, and checks that it has it exactly once. */
  complete(head: number): Promise<void>;
  close(): Promise<void>;
}

export interface Drawn {
  readonly phase: string | undefined;
  readonly position: number;
  readonly generation: number;
  readonly days: readonly string[];
  readonly documents: { readonly [key: string]: unknown };
}

/** Opens the demo through `port`. */
export async function openDemo(browser: Browser, port: number, options: BrowserContextOptions = {}): Promise<DemoPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const wire: number[] = [];
  const sent: DemoPage['sent'][number][] = [];
  const errors: string[] = [];
  page.on('pageerror', (error) => void errors.push(error.message));
  page.on('console', (message) => {
    if (/content security policy/i.test(message.text())) errors.push(message.text());
  });
  page.on('websocket', (socket) => {
    socket.on('framereceived', ({ payload }) => {
      for (const message of [JSON.parse(String(payload)) as unknown].flat() as { type: string; events?: { position: number }[] }[])
        if (message.type === 'events') for (const { position } of message.events ?? []) wire.push(position);
    });
    socket.on('framesent', ({ payload }) => void sent.push(JSON.parse(String(payload)) as DemoPage['sent'][number]));
  });
  await page.goto(`http://127.0.0.1:${port}/`);

  const positions: DemoPage['positions'] = () => page.evaluate(() => window.tidewireDemo.positions);
  return {
    page,
    wire,
    sent,
    positions,
    departures: () =>
      page.evaluate(() => {
        const { phase, position = 0, generation = 0, documents = new Map<string, { readonly day: string }>() } = window.tidewireDemo.departures ?? {};
        return { phase, position, generation, days: [...new Set(Array.from(documents.values(), ({ day }) => day))], documents: Object.fromEntries(documents) };
      }),
    status: () => page.evaluate(() => window.tidewireDemo.connection.status),
    async complete(head) {
      await expect.poll(async () => (await positions()).max, { timeout: 60_000, interval: 100 }).toBeGreaterThanOrEqual(head);
      const seen = await positions();
      expect(seen).toMatchObject({ min: 1, count: seen.max, duplicates: 0, holes: 0 });
      // The wire may be ahead of the page and repeat after a cut; nothing may be missing from it.
      const distinct = (): number => new Set(wire.filter((position) => position <= seen.max)).size;
      await expect.poll(distinct, { timeout: 10_000 }).toBe(seen.max);
      expect(errors).toEqual([]);
    },
    close: () => context.close(),
  };
}
