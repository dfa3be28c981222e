/** Every event once and in order, through cuts, resets, slow and failing callbacks. */
import { expect, test, vi } from 'vitest';
import { createClient, erasable, events, stream, type RecordedEvent } from '../src/index.js';
import { pair, some, upTo } from './support/connect.js';

const until = (check: () => unknown) => expect.poll(check, { interval: 2, timeout: 5_000 });
const fast = { reconnect: { initialDelay: 1, jitter: false } };

test('a stream resumes from its position after each cut', async () => {
  const { client, server } = pair(fast);
  const got: number[] = [];
  stream(client, 'a-1', { after: 'start', onEvent: ({ revision }) => void got.push(revision + 1) });
  await client.connect();
  for (let cut = 0; cut < 10; cut++) {
    server.log.append('a-1', some(5));
    server.log.append('b-1', some(3));
    server.cut();
    server.log.append('a-1', some(5));
    await until(() => got.length).toBe((cut + 1) * 10);
  }
  expect(got).toEqual(upTo(100));
  const resumed = server.received.filter((message) => message.type === 'hello').slice(1);
  expect(resumed).toHaveLength(10);
  expect(resumed.every(({ subscriptions }) => typeof subscriptions?.[0]?.after === 'number')).toBe(true);
  expect(resumed.every(({ subscriptions }) => subscriptions?.[0]?.epoch === server.log.epoch())).toBe(true);
  client.disconnect();
});

test('subscriptions by category and by type get only theirs', async () => {
  const { client, server } = pair();
  server.log.append('order-1', [...some(1, 'Paid'), ...some(1, 'Shipped')]);
  server.log.append('cart-1', some(1, 'Paid'));
  const category: string[] = [];
  const paid: string[] = [];
  events(client, { category: 'order' }, { after: 'start', onEvent: ({ type }) => void category.push(type) });
  events(client, { all: true }, { after: 'start', types: ['Paid'], onEvent: (event) => void paid.push(event.stream) });
  await client.connect();
  await until(() => [category, paid]).toEqual([['Paid', 'Shipped'], ['order-1', 'cart-1']]);
  client.disconnect();
});

test('from the end only what is new comes, also across a reconnect before the first event', async () => {
  const { client, server } = pair(fast);
  server.log.append('a-1', some(5));
  const got: number[] = [];
  const subscription = stream(client, 'a-1', { onEvent: ({ position }) => void got.push(position) });
  await client.connect();
  await until(() => subscription.getSnapshot().phase).toBe('live');
  server.cut();
  server.log.append('a-1', some(2));
  await until(() => got).toEqual([6, 7]);
  client.disconnect();
});

test('a heartbeat advances the position of a subscription that got nothing', async () => {
  const { client, server } = pair();
  const subscription = stream(client, 'quiet-1', { after: 'start', onEvent() {} });
  await client.connect();
  await until(() => subscription.getSnapshot().phase).toBe('live');
  server.log.append('loud-1', some(50));
  server.heartbeat();
  await until(() => subscription.getSnapshot().position).toBe(50);
  client.disconnect();
});

test('a heartbeat does not overtake callbacks that still run', async () => {
  const { client, server } = pair();
  const gates: (() => void)[] = [];
  const subscription = stream(client, 'a-1', { after: 'start', onEvent: () => new Promise<void>((resolve) => void gates.push(resolve)) });
  await client.connect();
  await until(() => subscription.getSnapshot().phase).toBe('live');
  server.log.append('a-1', some(1));
  server.heartbeat();
  await until(() => subscription.getSnapshot().received).toBe(1);
  expect(subscription.getSnapshot().position).toBe(0);
  gates[0]!();
  await until(() => subscription.getSnapshot().position).toBe(1);
  client.disconnect();
});

test('another epoch resets: the callback clears, then everything of the new log comes', async () => {
  const { client, server } = pair(fast);
  server.log.append('a-1', some(3));
  let got: number[] = [];
  const resets: string[] = [];
  stream(client, 'a-1', {
    after: 'start',
    onEvent: ({ position }) => void got.push(position),
    async onReset(reason) {
      await Promise.resolve();
      resets.push(reason);
      got = [];
    },
  });
  await client.connect();
  await until(() => got).toEqual([1, 2, 3]);
  server.cut();
  server.log.replace('0190b5a0-0000-7000-8000-00000000000f');
  server.log.append('a-1', some(5));
  await until(() => got).toEqual(upTo(5));
  expect(resets).toEqual(['epoch']);
  server.cut();
  server.log.append('a-1', some(1));
  await until(() => got).toEqual(upTo(6));
  expect(resets).toEqual(['epoch']);
  client.disconnect();
});

test('what waited for a slow callback is dropped at a reset', async () => {
  const { client, server } = pair(fast);
  server.log.append('a-1', some(3, 'Old'));
  const got: string[] = [];
  let release = (): void => {};
  stream(client, 'a-1', {
    after: 'start',
    onEvent: ({ type }) => {
      got.push(type);
      return got.length === 1 ? new Promise<void>((resolve) => (release = resolve)) : undefined;
    },
    onReset: () => void got.push('reset'),
  });
  await client.connect();
  await until(() => got).toEqual(['Old']);
  server.cut();
  server.log.replace('0190b5a0-0000-7000-8000-00000000000f');
  server.log.append('a-1', some(1, 'New'));
  await until(() => server.received.filter(({ type }) => type === 'hello').length).toBe(2);
  await until(() => client.getSnapshot().status).toBe('connected');
  release();
  await until(() => got).toEqual(['Old', 'reset', 'New']);
  client.disconnect();
});

test('a truncated log resets to its first event', async () => {
  const { client, server } = pair(fast);
  server.log.append('a-1', some(3));
  const got: number[] = [];
  const subscription = stream(client, 'a-1', { after: 'start', onEvent: ({ position }) => void got.push(position), onReset: (reason) => void got.push(reason === 'truncated' ? -1 : -2) });
  await client.connect();
  await until(() => got).toEqual([1, 2, 3]);
  server.refuse(true);
  server.cut();
  server.log.append('a-1', some(5));
  server.log.truncate(6);
  server.refuse(false);
  await until(() => got).toEqual([1, 2, 3, -1, 7, 8]);
  expect(subscription.getSnapshot().position).toBe(8);
  client.disconnect();
});

test('a callback that throws ends the subscription before its event', async () => {
  const { client, server } = pair();
  server.log.append('a-1', some(5));
  const error = vi.fn();
  const got: number[] = [];
  const subscription = stream(client, 'a-1', {
    after: 'start',
    onEvent({ position }) {
      if (position === 3) throw new Error('no');
      got.push(position);
    },
    onError: error,
  });
  await client.connect();
  await until(() => subscription.getSnapshot().phase).toBe('ended');
  expect(got).toEqual([1, 2]);
  expect(subscription.getSnapshot().position).toBe(2);
  expect(error).toHaveBeenCalledExactlyOnceWith(new Error('no'));
  client.disconnect();
});

test('a slow callback never holds more than its buffer and a frame, and misses nothing', async () => {
  const { client, server } = pair();
  server.log.append('a-1', some(3_000));
  const got: number[] = [];
  let most = 0;
  const subscription = stream(client, 'a-1', {
    after: 'start',
    buffer: 100,
    async onEvent({ position }) {
      await Promise.resolve();
      got.push(position);
      most = Math.max(most, (subscription.getSnapshot().received as number) - position);
    },
  });
  await client.connect();
  await until(() => got.length).toBe(3_000);
  expect(got).toEqual(upTo(3_000));
  expect(most).toBeLessThanOrEqual(300);
  expect(server.received.some(({ type }) => type === 'unsubscribe')).toBe(true);
  client.disconnect();
});

test('a frame for a subscription of before is never taken for one of now', async () => {
  const { client, server } = pair();
  const got: number[] = [];
  const first = stream(client, 'a-1', { onEvent: ({ position }) => void got.push(position) });
  await client.connect();
  await until(() => first.getSnapshot().phase).toBe('live');
  first.stop();
  const second = stream(client, 'a-1', { onEvent: ({ position }) => void got.push(position) });
  await until(() => second.getSnapshot().phase).toBe('live');
  server.send({ type: 'events', sub: 1, events: [{ position: 99 } as RecordedEvent] });
  server.log.append('a-1', some(1));
  await until(() => got).toEqual([1]);
  client.disconnect();
});

test('a refused subscription ends with the code; one that may be retried is', async () => {
  const { client, server } = pair();
  const errors: unknown[] = [];
  let refusals = 0;
  server.intercept((message) => {
    if (message.type !== 'subscribe') return true;
    const retryable = refusals++ < 2;
    server.send({ type: 'error', sub: message.sub, code: retryable ? 'unavailable' : 'forbidden', message: 'no', retryable, retry_after_ms: 1 });
    return false;
  });
  await client.connect();
  const subscription = stream(client, 'a-1', { onEvent() {}, onError: (error) => void errors.push(error) });
  await until(() => subscription.getSnapshot().phase).toBe('ended');
  expect(refusals).toBe(3);
  expect(errors).toMatchObject([{ code: 'forbidden' }]);
  client.disconnect();
});

test('a message that cannot be read loses the connection, and the resume makes up for it', async () => {
  const { client, server } = pair(fast);
  const got: number[] = [];
  stream(client, 'a-1', { after: 'start', onEvent: ({ position }) => void got.push(position) });
  await client.connect();
  server.log.append('a-1', some(2));
  await until(() => got).toEqual([1, 2]);
  server.send({ type: 'events', sub: 1, events: [{ position: 'x' } as unknown as RecordedEvent] });
  await until(() => server.opened()).toBe(2);
  server.log.append('a-1', some(1));
  await until(() => got).toEqual([1, 2, 3]);
  client.disconnect();
});

test('a loop gets every event, and one left early resumes with the event that it was at', async () => {
  const { client, server } = pair(fast);
  server.log.append('a-1', some(4));
  await client.connect();
  const got: number[] = [];
  for await (const { position } of events(client, { all: true }, { after: 'start' })) {
    got.push(position);
    if (position === 2) server.cut();
    if (position === 4) server.log.append('a-1', some(1));
    if (position === 5) break;
  }
  expect(got).toEqual(upTo(5));
  client.disconnect();
});

test('a loop ends at its signal, and throws when the connection has failed', async () => {
  const { client, server } = pair();
  await client.connect();
  const signal = AbortSignal.timeout(20);
  for await (const event of events(client, { all: true }, { signal })) expect(event).toBeUndefined();
  expect(signal.aborted).toBe(true);
  const loop = events(client, { all: true }).next();
  server.cut(4503, 'forbidden');
  await expect(loop).rejects.toMatchObject({ code: 'closed', details: { code: 4503 } });
});

test('stop before the server answered gets nothing more', async () => {
  const { client, server } = pair();
  server.log.append('a-1', some(5));
  const onEvent = vi.fn();
  const subscription = stream(client, 'a-1', { after: 'start', onEvent });
  subscription.stop();
  await client.connect();
  const probe: number[] = [];
  createClient({ url: 'ws://fake', WebSocket: server.WebSocket });
  stream(client, 'a-1', { after: 'start', onEvent: ({ position }) => void probe.push(position) });
  await until(() => probe.length).toBe(5);
  expect(onEvent).not.toHaveBeenCalled();
  client.disconnect();
});

test('an erasure is told, whatever the types, and later readers see that the payload is gone', async () => {
  const { client, server } = pair();
  server.log.append('person-7', [{ type: 'Named', data: 'Ann' }, { type: 'Left', data: 1 }]);
  const kept = new Map<number, unknown>();
  stream<{ Named: string }>(
    client,
    'person-7',
    erasable({
      after: 'start',
      types: ['Named'],
      onEvent: ({ position, data }) => void kept.set(position, data),
      onErased: ({ data }) => void kept.delete(data.position),
    }),
  );
  await client.connect();
  await until(() => [...kept]).toEqual([[1, 'Ann']]);
  server.log.erase(1);
  await until(() => [...kept]).toEqual([]);
  const plain: unknown[] = [];
  stream(client, 'person-7', { after: 'start', onEvent: ({ type, data, erased }) => void plain.push([type, data, erased]) });
  await until(() => plain).toEqual([
    ['Named', null, true],
    ['Left', 1, undefined],
    ['$erased', { position: 1, revision: 0, id: server.log.events[0]!.id }, undefined],
  ]);
  client.disconnect();
});
