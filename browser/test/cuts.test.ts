/** Over real sockets and a network that breaks at any byte, every event arrives once and in order, and every append counts once. */
import { afterEach, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { append, createClient, events, statistics, type Client } from '../src/index.js';
import { proxyTo, type Proxy } from './support/proxy.js';
import { serve, type RealServer } from './support/real_server.js';
import { some, upTo } from './support/connect.js';

let server: RealServer;
let proxy: Proxy;
let client: Client;
const begin = async (heartbeat = { interval: 30_000, timeout: 5_000 }): Promise<void> => {
  server = await serve();
  proxy = await proxyTo(server.port);
  client = createClient({ url: `ws://127.0.0.1:${proxy.port}/ws`, WebSocket, heartbeat, reconnect: { initialDelay: 5, maxDelay: 20 } });
};
afterEach(async () => {
  client.disconnect();
  await proxy.close();
  await server.close();
});

test('twenty cuts in the midst of a stream', async () => {
  await begin();
  const counts = statistics(client);
  const got: number[] = [];
  events(client, { all: true }, { after: 'start', onEvent: ({ position }) => void got.push(position) });
  await client.connect();
  for (let cut = 1; cut <= 20; cut++) {
    const carried = proxy.carried();
    server.log.append('a-1', some(500));
    // Somewhere within the frames that these events make.
    await expect.poll(() => proxy.carried(), { interval: 1 }).toBeGreaterThan(carried);
    proxy.cut();
    await expect.poll(() => counts().reconnects, { interval: 1, timeout: 10_000 }).toBe(cut);
  }
  await expect.poll(() => got.length, { timeout: 10_000 }).toBe(10_000);
  expect(got).toEqual(upTo(10_000));
});

test('appends through cuts count once each, in order', async () => {
  await begin();
  await client.connect();
  const answers = [];
  for (const n of upTo(100)) {
    answers.push(append(client, 'a-1', [{ type: 'T', data: n }]));
    if (n % 20 === 0) {
      proxy.cut();
      await Promise.all(answers);
    }
  }
  await Promise.all(answers);
  expect(server.log.events.map(({ data }) => data)).toEqual(upTo(100));
});

test('a network that swallows everything is found and left', async () => {
  await begin({ interval: 50, timeout: 50 });
  const got: number[] = [];
  events(client, { all: true }, { after: 'start', onEvent: ({ position }) => void got.push(position) });
  await client.connect();
  proxy.blackhole(true);
  server.log.append('a-1', some(3));
  await expect.poll(() => client.getSnapshot().status, { interval: 1 }).toBe('reconnecting');
  proxy.blackhole(false);
  proxy.cut();
  await expect.poll(() => got, { timeout: 5_000 }).toEqual([1, 2, 3]);
});
