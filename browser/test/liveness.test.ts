/** Dead connections are found, sleeping pages are not mistaken for them, and a page that wakes looks at once. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { slept } from '../src/liveness.js';
import { pair } from './support/connect.js';

const heartbeat = { interval: 30_000, timeout: 5_000 };
const page = new EventTarget();

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
  vi.stubGlobal('removeEventListener', page.removeEventListener.bind(page));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test.each([
  [1_000, 6_000, false],
  [1_000, 11_000, false],
  [1_000, 60_000, true],
  [60_000, 1_000, true],
])('asked at %i, looked at %i, slept: %s', (askedAt, now, expected) => {
  expect(slept(askedAt, now, 5_000)).toBe(expected);
});

test('an open socket on which nothing passes is given up after interval and timeout', async () => {
  const { client, server } = pair({ heartbeat });
  void client.connect();
  await vi.advanceTimersByTimeAsync(0);
  server.stall(true);
  await vi.advanceTimersByTimeAsync(34_999);
  expect(client.getSnapshot().status).toBe('connected');
  await vi.advanceTimersByTimeAsync(1);
  expect(client.getSnapshot()).toMatchObject({ status: 'reconnecting', error: { details: { code: 4012 } } });
  server.stall(false);
  await vi.advanceTimersByTimeAsync(100);
  expect(client.getSnapshot().status).toBe('connected');
  expect(server.opened()).toBe(2);
  client.disconnect();
});

test('any traffic is an answer', async () => {
  const { client, server } = pair({ heartbeat });
  server.intercept(({ type }) => type !== 'ping');
  void client.connect();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(server.received.at(-1)?.type).toBe('ping');
  server.heartbeat();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(client.getSnapshot().status).toBe('connected');
  await vi.advanceTimersByTimeAsync(30_000);
  expect(client.getSnapshot().status).toBe('reconnecting');
  client.disconnect();
});

test('a page that slept over the deadline asks again instead of giving up', async () => {
  const { client, server } = pair({ heartbeat });
  void client.connect();
  await vi.advanceTimersByTimeAsync(0);
  server.intercept(({ type }) => type !== 'ping');
  await vi.advanceTimersByTimeAsync(30_000);
  vi.setSystemTime(Date.now() + 3_600_000);
  server.intercept(() => true);
  await vi.advanceTimersByTimeAsync(5_000);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(client.getSnapshot().status).toBe('connected');
  expect(server.opened()).toBe(1);
  client.disconnect();
});

test('a page whose timers are always late still finds a zombie', async () => {
  const { client, server } = pair({ heartbeat });
  void client.connect();
  await vi.advanceTimersByTimeAsync(0);
  server.stall(true);
  await vi.advanceTimersByTimeAsync(30_000);
  for (let late = 0; late < 2; late++) {
    expect(client.getSnapshot().status).toBe('connected');
    vi.setSystemTime(Date.now() + 60_000);
    await vi.advanceTimersByTimeAsync(5_000);
  }
  expect(client.getSnapshot().status).toBe('reconnecting');
  client.disconnect();
});

test.each(['visibilitychange', 'online', 'pageshow'])('%s finds a zombie within the time-out', async (type) => {
  const { client, server } = pair({ heartbeat });
  void client.connect();
  await vi.advanceTimersByTimeAsync(1_000);
  server.stall(true);
  page.dispatchEvent(new Event(type));
  await vi.advanceTimersByTimeAsync(5_000);
  expect(client.getSnapshot().status).toBe('reconnecting');
  client.disconnect();
});

test('a page that wakes does not wait for the retry', async () => {
  const { client, server } = pair({ reconnect: { initialDelay: 20_000, jitter: false } });
  void client.connect();
  await vi.advanceTimersByTimeAsync(0);
  server.cut();
  expect(client.getSnapshot()).toMatchObject({ status: 'reconnecting', attempt: 1, delay: 20_000 });
  page.dispatchEvent(new Event('online'));
  await vi.advanceTimersByTimeAsync(0);
  expect(client.getSnapshot().status).toBe('connected');
  client.disconnect();
});

test('a client that was disconnected hears nothing any more', async () => {
  const { client, server } = pair();
  void client.connect();
  await vi.advanceTimersByTimeAsync(0);
  client.disconnect();
  page.dispatchEvent(new Event('online'));
  await vi.advanceTimersByTimeAsync(100_000);
  expect(server.opened()).toBe(1);
  expect(vi.getTimerCount()).toBe(0);
});
