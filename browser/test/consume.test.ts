/** At least once, each settled by its handler: acks, retries, consumers and groups against a server that keeps its side. */
import { afterEach, expect, test, vi } from 'vitest';
import { consume, erasable, park, retry, skip, stop, type Client, type ClientMessage, type ConsumeOptions, type Verdict } from '../src/index.js';
import type { FakeServer } from '../src/testing/index.js';
import { pair, some, upTo } from './support/connect.js';

const until = (check: () => unknown) => expect.poll(check, { interval: 2, timeout: 5_000 });
const fast = { reconnect: { initialDelay: 1, maxDelay: 4, jitter: false } };
const backoff = { initialDelay: 1, jitter: false };

const open: Client[] = [];
afterEach(() => open.splice(0).forEach((client) => client.disconnect()));
const connected = async (server?: FakeServer): Promise<ReturnType<typeof pair>> => {
  const both = pair(fast, server);
  open.push(both.client);
  await both.client.connect();
  return both;
};
const of = <T extends ClientMessage['type']>(server: FakeServer, type: T): Extract<ClientMessage, { type: T }>[] =>
  server.received.filter((message): message is Extract<ClientMessage, { type: T }> => message.type === type);
const acks = (server: FakeServer): number[] => of(server, 'ack').map(({ position }) => position);
const settled = (server: FakeServer, name = 'inbox'): number[] => [...(server.log.consumer(name)?.settled ?? [])].sort((a, b) => a - b);

/** A handler whose promises are settled by hand. */
const gated = () => {
  const waiting: ((verdict?: Verdict) => void)[] = [];
  const got: number[] = [];
  const onEvent: ConsumeOptions['onEvent'] = ({ position }) => {
    got.push(position);
    return new Promise<Verdict>((resolve) => waiting.push(resolve));
  };
  return { got, onEvent, release: (verdict?: Verdict) => waiting.shift()!(verdict) };
};

test('an event is acknowledged when its handler has finished, not before', async () => {
  const { client, server } = await connected();
  const { got, onEvent, release } = gated();
  const consumption = consume(client, 'a-1', { consumer: 'inbox', after: 'start', onEvent });
  server.log.append('a-1', some(2));
  await until(() => got).toEqual([1]);
  server.heartbeat();
  await until(() => consumption.getSnapshot().pending).toBe(2);
  expect(acks(server)).toEqual([]);
  release();
  await until(() => acks(server)).toEqual([1]);
  expect(settled(server)).toEqual([1]);
  // The last one that there is, and its handler is at it.
  await until(() => got).toEqual([1, 2]);
  server.heartbeat();
  await until(() => consumption.getSnapshot()).toMatchObject({ position: 1, pending: 1 });
  server.log.append('b-1', some(1));
  const heard: number[] = [];
  client.onMessage((message) => void (message.type === 'heartbeat' && heard.push(message.positions['1']!)));
  server.heartbeat();
  await until(() => heard.at(-1)).toBe(3);
  expect(acks(server)).toEqual([1]);
  release();
  await until(() => acks(server)).toEqual([1, 3]);
  expect(settled(server)).toEqual([1, 2]);
  expect(consumption.getSnapshot()).toMatchObject({ position: 3, pending: 0 });
});

test('acks wait for each other, at most for 200 ms', async () => {
  vi.useFakeTimers();
  try {
    const { client, server } = pair();
    await client.connect();
    consume(client, 'a-1', { consumer: 'inbox', after: 'start', window: 16, onEvent() {} });
    const append = async (count: number): Promise<void> => {
      server.log.append('a-1', some(count));
      await vi.advanceTimersByTimeAsync(1);
    };
    await vi.advanceTimersByTimeAsync(1);
    await append(1);
    expect(acks(server)).toEqual([1]);
    await append(1);
    await append(1);
    await append(1);
    expect(acks(server)).toEqual([1]);
    await append(1);
    expect(acks(server)).toEqual([1, 5]);
    await append(1);
    await vi.advanceTimersByTimeAsync(198);
    expect(acks(server)).toEqual([1, 5]);
    await vi.advanceTimersByTimeAsync(2);
    expect(acks(server)).toEqual([1, 5, 6]);
    client.disconnect();
  } finally {
    vi.useRealTimers();
  }
});

test('a thousand events through a small window: each once, in order, few acks', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(1_000));
  const got: number[] = [];
  let most = 0;
  const consumption = consume(client, 'a-1', {
    consumer: 'inbox',
    after: 'start',
    window: 20,
    async onEvent({ position }) {
      most = Math.max(most, consumption.getSnapshot().pending);
      await undefined;
      got.push(position);
    },
  });
  await until(() => settled(server).length).toBe(1_000);
  expect(got).toEqual(upTo(1_000));
  expect(most).toBeLessThanOrEqual(20);
  expect(acks(server).length).toBeLessThan(400);
});

test('a handler that throws gets the event again, before the later ones of its stream, after those of others', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(2));
  server.log.append('b-1', some(1));
  server.log.append('a-1', some(1));
  const got: string[] = [];
  const onThrow = vi.fn();
  const consumption = consume(client, { all: true }, {
    consumer: 'inbox',
    after: 'start',
    backoff,
    onThrow,
    onEvent({ position, attempt = 1 }) {
      got.push(`${position}/${attempt}`);
      if (position === 1 && attempt < 3) throw new Error('not now');
    },
  });
  await until(() => settled(server)).toEqual([1, 2, 3, 4]);
  expect(got).toEqual(['1/1', '3/1', '1/2', '1/3', '2/1', '4/1']);
  expect(onThrow.mock.calls.map(([error, event, delay]) => [String(error), (event as { position: number }).position, delay])).toEqual([
    ['Error: not now', 1, 1],
    ['Error: not now', 1, 2],
  ]);
  expect(of(server, 'nack')[0]).toMatchObject({ positions: [1], action: 'retry', delay_ms: 1, reason: 'Error: not now' });
  server.heartbeat();
  await until(() => consumption.getSnapshot()).toMatchObject({ position: 4, redelivered: 2, parked: 0 });
});

test('attempts that are spent park the event, and its stream goes on', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(3));
  const got: number[] = [];
  const onParked = vi.fn();
  const consumption = consume(client, 'a-1', {
    consumer: 'inbox',
    after: 'start',
    onParked,
    onEvent({ position }) {
      got.push(position);
      return position === 2 ? retry(0) : undefined;
    },
  });
  await until(() => settled(server)).toEqual([1, 3]);
  expect(got).toEqual([1, 2, 2, 2, 3]);
  expect(onParked).toHaveBeenCalledExactlyOnceWith([2], 'attempts spent');
  expect(server.log.consumer('inbox')?.parked.get(2)).toBe('attempts spent');
  expect(consumption.getSnapshot()).toMatchObject({ redelivered: 2, parked: 1 });
});

test('park, skip and stop do as they say; a parked event comes when it is replayed', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(5));
  const verdicts: Record<number, Verdict> = { 2: park('ö'.repeat(500)), 3: skip(), 5: stop() };
  const got: number[] = [];
  const onError = vi.fn();
  const consumption = consume(client, 'a-1', {
    consumer: 'inbox',
    after: 'start',
    onError,
    onEvent({ position }) {
      got.push(position);
      const verdict = verdicts[position];
      delete verdicts[position];
      return verdict;
    },
  });
  await until(() => consumption.getSnapshot().phase).toBe('ended');
  await until(() => settled(server)).toEqual([1, 3, 4]);
  expect(onError).not.toHaveBeenCalled();
  expect(new TextEncoder().encode(server.log.consumer('inbox')?.parked.get(2)).length).toBeLessThanOrEqual(500);
  consume(client, 'a-1', { consumer: 'inbox', onEvent: ({ position }) => void got.push(position) });
  await until(() => settled(server)).toEqual([1, 3, 4, 5]);
  server.log.replay('inbox', [2]);
  await until(() => settled(server)).toEqual([1, 2, 3, 4, 5]);
  expect(got).toEqual([1, 2, 3, 4, 5, 5, 2]);
});

test('an event whose time is up while its handler runs is neither given twice nor lost', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(2));
  const { got, onEvent, release } = gated();
  const consumption = consume(client, 'a-1', { consumer: 'inbox', after: 'start', onEvent });
  await until(() => got).toEqual([1]);
  server.expire();
  await until(() => consumption.getSnapshot().redelivered).toBe(1);
  release();
  await until(() => got).toEqual([1, 2]);
  release();
  await until(() => settled(server)).toEqual([1, 2]);
  expect(got).toEqual([1, 2]);
});

test('one that was settled here and comes again is acknowledged again and not given again', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(1));
  let swallowed = 0;
  server.intercept(({ type }) => type !== 'ack' || swallowed++ > 0);
  const got: number[] = [];
  consume(client, 'a-1', { consumer: 'inbox', after: 'start', onEvent: ({ position }) => void got.push(position) });
  await until(() => swallowed).toBe(1);
  server.expire();
  await until(() => settled(server)).toEqual([1]);
  expect(got).toEqual([1]);
  expect(acks(server)).toEqual([1, 1]);
});

test('an ack that was under way when a withdrawn event came again does not settle it', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(1));
  server.log.append('b-1', some(1));
  server.log.append('a-1', some(1));
  const got: string[] = [];
  // The ack of what is beyond it arrives only after the server has sent the event again.
  const late: ClientMessage[] = [];
  server.intercept((message) => {
    if (message.type !== 'ack' || late.length) return true;
    late.push(message);
    return false;
  });
  consume(client, { all: true }, {
    after: 'start',
    consumer: 'inbox',
    onEvent({ position, attempt = 1 }) {
      got.push(`${position}/${attempt}`);
      return position === 1 && attempt === 1 ? retry(0) : undefined;
    },
  });
  await until(() => settled(server)).toEqual([1, 2, 3]);
  expect(got).toEqual(['1/1', '2/1', '1/2', '3/1']);
  expect(late).toMatchObject([{ type: 'ack', position: 2 }]);
});

test('a retry of what the server has just parked gives back what it withdrew', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(3));
  let crossed = false;
  server.intercept((message) => {
    if (message.type === 'nack' && !crossed) {
      crossed = true;
      for (let spent = 0; spent < 3; spent++) server.expire();
    }
    return true;
  });
  const got: number[] = [];
  const heard: string[] = [];
  client.onMessage((message) => void (message.type === 'error' && heard.push(message.code)));
  const consumption = consume(client, 'a-1', {
    consumer: 'inbox',
    after: 'start',
    onEvent({ position }) {
      got.push(position);
      return position === 1 ? retry(0) : undefined;
    },
  });
  await until(() => settled(server)).toEqual([2, 3]);
  expect(got).toEqual([1, 2, 3]);
  expect(heard).toEqual(['unknown_position']);
  expect([...server.log.consumer('inbox')!.parked.keys()]).toEqual([1]);
  expect(consumption.getSnapshot().parked).toBe(1);
});

test('cuts at any time: every event is handled, and on one page only once', async () => {
  const { client, server } = await connected();
  const got: number[] = [];
  consume(client, { all: true }, {
    consumer: 'inbox',
    after: 'start',
    window: 8,
    async onEvent({ position }) {
      await undefined;
      got.push(position);
    },
  });
  for (let cut = 1; cut <= 20; cut++) {
    server.log.append(`a-${cut % 3}`, some(10));
    await until(() => got.length).toBeGreaterThanOrEqual(cut * 10 - 5);
    server.cut();
    await until(() => client.getSnapshot().status).toBe('connected');
  }
  await until(() => settled(server).length).toBe(200);
  expect([...got].sort((a, b) => a - b)).toEqual(upTo(200));
});

test('a cut gives back what has not begun, and a handler that runs on is acknowledged after it', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(3));
  const { got, onEvent, release } = gated();
  const consumption = consume(client, 'a-1', { consumer: 'inbox', after: 'start', onEvent });
  await until(() => got).toEqual([1]);
  server.refuse(true);
  server.cut();
  await until(() => consumption.getSnapshot()).toMatchObject({ phase: 'waiting', pending: 1, position: 0 });
  server.refuse(false);
  await until(() => consumption.getSnapshot().pending).toBe(3);
  release();
  await until(() => settled(server)).toEqual([1]);
  release();
  await until(() => got).toEqual([1, 2, 3]);
});

test('an ack that waited when the connection was cut keeps no later one waiting', async () => {
  vi.useFakeTimers();
  try {
    const { client, server } = pair(fast);
    await client.connect();
    consume(client, 'a-1', { consumer: 'inbox', after: 'start', onEvent() {} });
    const append = async (): Promise<void> => {
      await vi.advanceTimersByTimeAsync(1);
      server.log.append('a-1', some(1));
      await vi.advanceTimersByTimeAsync(1);
    };
    await append();
    await append();
    expect(acks(server)).toEqual([1]);
    server.refuse(true);
    server.cut();
    await vi.advanceTimersByTimeAsync(300);
    server.refuse(false);
    await vi.advanceTimersByTimeAsync(300);
    expect(settled(server)).toEqual([1, 2]);
    await append();
    await vi.advanceTimersByTimeAsync(200);
    expect(settled(server)).toEqual([1, 2, 3]);
    client.disconnect();
  } finally {
    vi.useRealTimers();
  }
});

test('a consumer goes on where its checkpoint is, whatever after says, on another page too', async () => {
  const first = await connected();
  const { server } = first;
  server.log.append('a-1', some(3));
  const one = consume(first.client, 'a-1', { consumer: 'inbox', after: 'start', onEvent() {} });
  await until(() => settled(server)).toEqual([1, 2, 3]);
  one.stop();
  server.log.append('a-1', some(2));
  const got: number[] = [];
  const second = await connected(server);
  consume(second.client, 'a-1', { consumer: 'inbox', after: 'start', onEvent: ({ position }) => void got.push(position) });
  await until(() => got).toEqual([4, 5]);
});

test('the newest session takes a consumer over, and the other one is told for good', async () => {
  const first = await connected();
  const { server } = first;
  const onError = vi.fn();
  const one = consume(first.client, 'a-1', { consumer: 'inbox', after: 'start', onEvent() {}, onError });
  await until(() => one.getSnapshot().phase).not.toBe('waiting');
  const second = await connected(server);
  const got: number[] = [];
  consume(second.client, 'a-1', { consumer: 'inbox', after: 'start', onEvent: ({ position }) => void got.push(position) });
  await until(() => one.getSnapshot().phase).toBe('ended');
  expect(onError).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ code: 'consumer_taken', retryable: false }));
  server.log.append('a-1', some(1));
  await until(() => got).toEqual([1]);
  expect(of(server, 'subscribe')).toHaveLength(2);
});

test('a group shares streams: each in order at one member; who comes or leaves changes the shares', async () => {
  const first = await connected();
  const { server } = first;
  const handled: { member: number; stream: string; revision: number }[] = [];
  const join = (client: Client, member: number) =>
    consume(client, { all: true }, {
      consumer: { group: 'crew' },
      after: 'start',
      window: 16,
      onEvent: ({ stream, revision }) => void handled.push({ member, stream, revision }),
    });
  const spread = (): void => {
    for (const stream of upTo(12)) server.log.append(`s-${stream}`, some(5));
  };
  const all = (count: number) => until(() => settled(server, 'crew').length).toBe(count);
  join(first.client, 1);
  spread();
  await all(60);
  const second = await connected(server);
  join(second.client, 2);
  await until(() => of(server, 'subscribe').length).toBe(3);
  spread();
  await all(120);
  second.client.disconnect();
  spread();
  await all(180);
  for (const stream of upTo(12).map((each) => `s-${each}`)) {
    const revisions = handled.filter((each) => each.stream === stream).map(({ revision }) => revision);
    expect(revisions).toEqual(upTo(15).map((each) => each - 1));
  }
  expect(handled.filter(({ member }) => member === 2).length).toBeGreaterThan(0);
});

test('without a consumer it resumes before the first event that is not settled', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(2));
  server.log.append('b-1', some(1));
  const got: string[] = [];
  consume(client, { all: true }, {
    after: 'start',
    onEvent({ position }) {
      got.push(`${position}`);
      return position === 1 && got.length === 1 ? retry(60_000) : undefined;
    },
  });
  await until(() => got).toEqual(['1', '3']);
  server.cut();
  await until(() => got).toEqual(['1', '3', '1', '2']);
  const [, hello] = of(server, 'hello');
  expect(hello?.subscriptions).toEqual([{ sub: 1, to: { all: true }, after: 0, epoch: server.log.epoch(), ack: 'each' }]);
});

test('a reset clears, once the handler is done, and begins with the first event that there is', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(3, 'Old'));
  const got: string[] = [];
  let release = (): void => {};
  consume(client, 'a-1', {
    after: 'start',
    onEvent({ type }) {
      got.push(type);
      return got.length === 1 ? new Promise<void>((resolve) => (release = resolve)) : undefined;
    },
    onReset: (reason) => void got.push(reason),
  });
  await until(() => got).toEqual(['Old']);
  server.cut();
  server.log.replace('0190b5a0-0000-7000-8000-00000000000f');
  server.log.append('a-1', some(1, 'New'));
  await until(() => of(server, 'hello').length).toBe(2);
  await until(() => client.getSnapshot().status).toBe('connected');
  expect(got).toEqual(['Old']);
  release();
  await until(() => got).toEqual(['Old', 'epoch', 'New']);
});

test('a log that lost its beginning resets with truncated', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(5));
  server.log.truncate(3);
  const got: unknown[] = [];
  consume(client, 'a-1', { after: 1, onEvent: ({ position }) => void got.push(position), onReset: (reason) => void got.push(reason) });
  await until(() => got).toEqual(['truncated', 4, 5]);
});

test('an erasure is told, whatever the types, and settled like any event', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', [{ type: 'Named', data: 'Ann' }, { type: 'Left', data: 1 }]);
  const got: unknown[] = [];
  consume<{ Named: string }>(
    client,
    'a-1',
    erasable({
      consumer: 'inbox',
      after: 'start',
      types: ['Named'],
      onEvent: ({ data, erased }) => void got.push(erased ?? data),
      onErased: ({ data }) => void got.push(data),
    }),
  );
  await until(() => got).toEqual(['Ann']);
  server.log.erase(1);
  const { id } = server.log.events[0]!;
  await until(() => got).toEqual(['Ann', { position: 1, revision: 0, id }]);
  await until(() => settled(server)).toEqual([1, 3]);
  consume<{ Named: string }>(client, 'a-1', { after: 'start', types: ['Named'], onEvent: ({ data, erased }) => void got.push([erased, data]) });
  await until(() => got.at(-1)).toEqual([true, null]);
});

test('an error about an ack that came too late does not end it, a refused subscription does', async () => {
  const { client, server } = await connected();
  const got: number[] = [];
  consume(client, 'a-1', { consumer: 'inbox', after: 'start', onEvent: ({ position }) => void got.push(position) });
  await until(() => of(server, 'subscribe').length).toBe(1);
  server.send({ type: 'error', sub: 1, code: 'unknown_position', message: '', retryable: false, details: { positions: [9] } });
  server.log.append('a-1', some(1));
  await until(() => got).toEqual([1]);

  let refusals = 0;
  server.intercept((message) => {
    if (message.type !== 'subscribe') return true;
    const retryable = refusals++ < 1;
    server.send({ type: 'error', sub: message.sub, code: retryable ? 'unavailable' : 'consumer_mismatch', message: 'no', retryable, retry_after_ms: 1 });
    return false;
  });
  const onError = vi.fn();
  const refused = consume(client, 'b-1', { consumer: 'other', onEvent() {}, onError });
  await until(() => refused.getSnapshot().phase).toBe('ended');
  expect(refusals).toBe(2);
  expect(onError).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ code: 'consumer_mismatch' }));
});

test('stop acknowledges what is done and leaves the rest', async () => {
  const { client, server } = await connected();
  server.log.append('a-1', some(4));
  const { got, onEvent, release } = gated();
  const consumption = consume(client, 'a-1', { consumer: 'inbox', after: 'start', onEvent });
  for (const position of [1, 2, 3]) {
    await until(() => got.length).toBe(position);
    if (position < 3) release();
  }
  consumption.stop();
  await until(() => of(server, 'unsubscribe').length).toBe(1);
  expect(settled(server)).toEqual([1, 2]);
  release();
  await until(() => consumption.getSnapshot().pending).toBe(0);
  expect(got).toEqual([1, 2, 3]);
  expect(settled(server)).toEqual([1, 2]);
});

test('a server that sends more than the window loses the connection', async () => {
  const { client, server } = await connected();
  const { got, onEvent } = gated();
  consume(client, 'a-1', { after: 'start', window: 2, onEvent });
  server.log.append('a-1', some(1));
  await until(() => got).toEqual([1]);
  const event = server.log.events[0]!;
  server.send({ type: 'events', sub: 1, events: [2, 3, 4].map((position) => ({ ...event, position })) });
  await until(() => server.opened()).toBe(2);
});
