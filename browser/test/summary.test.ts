/** Summaries: each event is counted once, whatever breaks. */
import { afterEach, expect, test } from 'vitest';
import { summary, type Client, type Summarized } from '../src/index.js';
import { memoryCursor } from '../src/cursor.js';
import type { FakeServer } from '../src/testing/index.js';
import { pair, some } from './support/connect.js';

let client: Client;
let server: FakeServer;
afterEach(() => client.disconnect());
const counted = (told: readonly Summarized[]): number => told.reduce((sum, { count }) => sum + count, 0);
const cut = async (): Promise<void> => {
  const opened = server.opened();
  server.cut();
  await expect.poll(() => server.opened(), { interval: 5 }).toBe(opened + 1);
};

test('so many events make one summary', async () => {
  ({ client, server } = pair());
  const told: Summarized[] = [];
  summary(client, { category: 'a' }, { everyEvents: 3, after: 'start', onSummary: (each) => void told.push(each) });
  await client.connect();
  server.log.append('a-1', [...some(2, 'T'), ...some(1, 'U')]);
  server.log.append('b-1', some(1));
  server.log.append('a-2', some(4));
  await expect.poll(() => told).toEqual([
    { after: 0, position: 3, counts: { T: 2, U: 1 }, count: 3, from: expect.any(String) as string, to: expect.any(String) as string },
    { after: 3, position: 7, counts: { T: 3 }, count: 3, from: expect.any(String) as string, to: expect.any(String) as string },
  ]);
  expect(server.received).toContainEqual(expect.objectContaining({ subscriptions: [{ sub: 1, to: { category: 'a' }, after: 'start', batch: { summary_events: 3 } }] }));
});

test('so much time makes one summary, and cuts count nothing twice', async () => {
  ({ client, server } = pair());
  const told: Summarized[] = [];
  const running = summary(client, { all: true }, { everyMs: 100, after: 'start', types: ['T'], onSummary: (each) => void told.push(each) });
  await client.connect();
  for (let round = 1; round <= 3; round++) {
    server.log.append('a-1', [...some(5), ...some(2, 'Other')]);
    await cut();
    server.log.append('a-1', some(5));
    await expect.poll(() => counted(told), { timeout: 3_000 }).toBe(round * 10);
  }
  for (const [index, { after }] of told.entries()) expect(after).toBeGreaterThanOrEqual(told[index - 1]?.position ?? 0);
  expect(running.getSnapshot()).toMatchObject({ phase: 'live', position: told.at(-1)!.position });
  running.stop();
});

test('an empty time moves on with the heartbeat', async () => {
  ({ client, server } = pair());
  const running = summary(client, { category: 'a' }, { everyEvents: 2, after: 'start', onSummary() {} });
  await client.connect();
  server.log.append('b-1', some(4));
  server.heartbeat();
  await expect.poll(() => running.getSnapshot().position).toBe(4);
  // What is counted and was not told is not passed over.
  server.log.append('a-1', some(1));
  server.log.append('b-1', some(1));
  server.heartbeat();
  server.log.append('a-1', some(1));
  await expect.poll(() => running.getSnapshot().position).toBe(7);
});

test('a page that comes back goes on behind what it has handled', async () => {
  const cursor = memoryCursor();
  ({ client, server } = pair({ cursor }));
  const told: number[] = [];
  const open = () => summary(client, { all: true }, { everyEvents: 2, after: 'start', durable: 'counts', onSummary: ({ after }) => void told.push(after) });
  const first = open();
  await client.connect();
  server.log.append('a-1', some(4));
  await expect.poll(() => told).toEqual([0, 2]);
  first.stop();
  server.log.append('a-1', some(2));
  open();
  await expect.poll(() => told).toEqual([0, 2, 4]);
});

test('a handler that throws ends it before its summary', async () => {
  ({ client, server } = pair());
  const errors: unknown[] = [];
  const running = summary(client, { all: true }, {
    everyEvents: 1,
    after: 'start',
    onSummary({ position }) {
      if (position === 2) throw new Error('no');
    },
    onError: (error) => void errors.push(error),
  });
  await client.connect();
  server.log.append('a-1', some(3));
  await expect.poll(() => running.getSnapshot()).toMatchObject({ phase: 'ended', position: 1 });
  expect(errors).toEqual([new Error('no')]);
});
