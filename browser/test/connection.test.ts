/** States, retries, and what is final. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { statistics, watch, type ConnectionEvent, type ConnectionState } from '../src/index.js';
import { pair } from './support/connect.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());
const tick = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

test('the way of the states', async () => {
  const { client, server } = pair();
  const states: ConnectionState['status'][] = [];
  client.subscribe(() => void states.push(client.getSnapshot().status));
  const connected = client.connect();
  await tick();
  await connected;
  server.cut();
  await tick(100);
  client.disconnect();
  expect(states).toEqual(['connecting', 'connected', 'reconnecting', 'connected', 'disconnected']);
});

test('delays grow while the server refuses, and say when the next attempt is', async () => {
  const { client, server } = pair();
  server.refuse(true);
  void client.connect();
  await tick();
  expect(client.getSnapshot()).toMatchObject({ attempt: 1, delay: 100, retryAt: Date.now() + 100 });
  await tick(100);
  expect(client.getSnapshot()).toMatchObject({ attempt: 2, delay: 200, retryAt: Date.now() + 200 });
  await tick(200);
  expect(client.getSnapshot()).toMatchObject({ attempt: 3, delay: 400 });
  client.disconnect();
});

test('a connection that opens and dies at once counts as a failure, one that lasted does not', async () => {
  const { client, server } = pair();
  void client.connect();
  await tick();
  for (const attempt of [1, 2, 3]) {
    await tick(4_999);
    server.cut();
    expect(client.getSnapshot()).toMatchObject({ status: 'reconnecting', attempt });
    await tick(100 * 2 ** (attempt - 1));
  }
  await tick(5_000);
  server.cut();
  expect(client.getSnapshot()).toMatchObject({ status: 'reconnecting', attempt: 1 });
  client.disconnect();
});

test('after the last attempt it has failed, and connect begins anew', async () => {
  const { client, server } = pair({ reconnect: { initialDelay: 10, maxAttempts: 2, jitter: false } });
  server.refuse(true);
  const outcome = client.connect();
  await tick(1_000);
  await expect(outcome).rejects.toMatchObject({ code: 'closed', details: { code: 1006 } });
  expect(client.getSnapshot().status).toBe('failed');
  server.refuse(false);
  const again = client.connect();
  await tick();
  await expect(again).resolves.toBeUndefined();
  client.disconnect();
});

test.each([4501, 4503, 4508, 1009])('close %i is final', async (code) => {
  const { client, server } = pair();
  void client.connect();
  await tick();
  server.cut(code, 'why');
  expect(client.getSnapshot()).toMatchObject({ status: 'failed', error: { details: { code, reason: 'why' } } });
  await tick(600_000);
  expect(server.opened()).toBe(1);
});

test('without reconnect the first loss is final', async () => {
  const { client, server } = pair({ reconnect: { enabled: false } });
  void client.connect();
  await tick();
  server.cut();
  expect(client.getSnapshot().status).toBe('failed');
});

test('a connection that is not established in time is tried again', async () => {
  const { client, server } = pair({ connectionTimeout: 3_000 });
  server.intercept(() => false);
  void client.connect();
  await tick(2_999);
  expect(client.getSnapshot().status).toBe('connecting');
  await tick(1);
  expect(client.getSnapshot().status).toBe('reconnecting');
  client.disconnect();
});

test('goodbye says how long to stay away', async () => {
  const { client, server } = pair();
  void client.connect();
  await tick();
  server.send({ type: 'goodbye', code: 4001, reason: 'drain', reconnect: true, after_ms: 7_000 });
  await tick();
  server.cut(4001, 'drain');
  expect(client.getSnapshot()).toMatchObject({ status: 'reconnecting', delay: 7_000 });
  client.disconnect();
});

test('goodbye for good is final whatever the code', async () => {
  const { client, server } = pair();
  void client.connect();
  await tick();
  server.send({ type: 'goodbye', code: 4001, reason: 'bye', reconnect: false, after_ms: 0 });
  await tick();
  server.cut(4001);
  expect(client.getSnapshot().status).toBe('failed');
});

test('the server advises delays, the client options go first', async () => {
  const advised = pair({ reconnect: { jitter: false } });
  void advised.client.connect();
  await tick();
  const welcome = { type: 'welcome', session: '', node: '', epoch: '', head: 0, heartbeat_ms: 0 } as const;
  advised.server.send({ ...welcome, reconnect: { min_ms: 5_000, max_ms: 9_000, spread_ms: 0 } });
  await tick();
  advised.server.cut();
  expect(advised.client.getSnapshot()).toMatchObject({ delay: 5_000 });
  advised.client.disconnect();

  const own = pair();
  void own.client.connect();
  await tick();
  own.server.send({ ...welcome, reconnect: { min_ms: 5_000, max_ms: 9_000, spread_ms: 0 } });
  await tick();
  own.server.cut();
  expect(own.client.getSnapshot()).toMatchObject({ delay: 100 });
  own.client.disconnect();
});

test('a token is asked for at each connection, and an expired one must change', async () => {
  const reasons: string[] = [];
  let token = 'a';
  const { client, server } = pair({
    token(why) {
      reasons.push(why);
      return Promise.resolve(token);
    },
  });
  void client.connect();
  await tick();
  server.cut();
  await tick(100);
  token = 'b';
  server.cut(4005, 'expired');
  await tick(200);
  expect(reasons).toEqual(['connect', 'reconnect', 'expired']);
  expect(server.received.flatMap((message) => (message.type === 'hello' ? [message.token] : []))).toEqual(['a', 'a', 'b']);
  server.cut(4005, 'expired');
  await tick(400);
  expect(client.getSnapshot().status).toBe('failed');
});

test('disconnect during an attempt wins', async () => {
  let give = (_: string): void => {};
  const { client, server } = pair({ token: () => new Promise<string>((resolve) => (give = resolve)) });
  const outcome = client.connect();
  client.disconnect();
  give('late');
  await expect(outcome).rejects.toMatchObject({ code: 'disconnected' });
  await tick(60_000);
  expect(server.opened()).toBe(0);
});

test('events tell of each loss and return, statistics count them', async () => {
  const { client, server } = pair();
  const counts = statistics(client);
  const told: ConnectionEvent[] = [];
  watch(client, (event) => void told.push(event));
  void client.connect();
  await tick();
  server.refuse(true);
  server.cut();
  await tick(100);
  server.refuse(false);
  await tick(200);
  await tick(2_000);
  expect(told.map(({ type }) => type)).toEqual([
    'connected', 'disconnected', 'error', 'reconnecting', 'error', 'reconnecting', 'connected', 'reconnected',
  ]);
  expect(told[1]).toEqual({ type: 'disconnected', code: 1006, reason: '', wasClean: false });
  expect(told.at(-1)).toEqual({ type: 'reconnected', attempts: 2, totalDelay: 300 });
  expect(counts()).toMatchObject({ reconnects: 1, errors: 2, latency: 0, quality: 'good', uptime: 2_000, messagesSent: 2, messagesReceived: 2 });
  const hello = new TextEncoder().encode(JSON.stringify(server.received[0])).length;
  expect(counts().bytesSent).toBe(hello * 2);
  client.disconnect();
  expect(counts().uptime).toBe(0);
});
