/** A live query over a fake server: one consistent picture, whatever happens to the connection and to the projection. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { projection, TidewireError, type Client, type Json, type LiveQuery, type ProjectionOptions, type Query, type ServerMessage } from '../src/index.js';
import type { FakeProjection, FakeServer, Project } from '../src/testing/index.js';
import { pair } from './support/connect.js';

interface Counter {
  readonly n: number;
  readonly kind?: string;
}

/** The last data of each stream; `null` deletes it. */
const latest: Project = ({ stream, data }, documents) => (data === null ? documents.delete(stream) : documents.put(stream, data));

let client: Client;
let server: FakeServer;
let counters: FakeProjection;
afterEach(() => client.disconnect());

const begin = (): void => {
  ({ client, server } = pair());
  counters = server.log.projection('counters', latest);
};
const put = (key: string, data: Json): number => server.log.append(key, [{ type: 'T', data }]).position;
const live = async (which?: string | Query, options?: ProjectionOptions): Promise<LiveQuery<Counter>> => {
  const query = projection<Counter>(client, 'counters', which, options);
  await client.connect();
  await phase(query, 'live');
  return query;
};
const phase = (query: LiveQuery<Counter>, wanted: string) => vi.waitFor(() => expect(query.getSnapshot().phase).toBe(wanted));
const shown = (query: LiveQuery<Counter>) => Object.fromEntries(query.getSnapshot().documents);
const cut = async (): Promise<void> => {
  const opened = server.opened();
  server.cut();
  await expect.poll(() => server.opened(), { interval: 5 }).toBe(opened + 1);
};
const subscribed = (): Json[] => {
  const hellos = server.received.flatMap((message) => (message.type === 'hello' ? (message.subscriptions ?? []) : message.type === 'subscribe' ? [message] : []));
  return JSON.parse(JSON.stringify(hellos)) as Json[];
};

describe('what is shown', () => {
  test('is the state, and then its changes', async () => {
    begin();
    put('a', { n: 1 });
    put('b', { n: 2 });
    const query = await live();
    expect(shown(query)).toEqual({ a: { n: 1 }, b: { n: 2 } });
    expect(query.getSnapshot()).toMatchObject({ position: 2, generation: counters.generation() });
    put('a', { n: 3 });
    put('b', null);
    put('c', { n: 4, kind: 'x' });
    await expect.poll(() => shown(query)).toEqual({ a: { n: 3 }, c: { n: 4, kind: 'x' } });
    expect(query.getSnapshot().position).toBe(5);
  });

  test('is one document, those of a condition, or a window in its order', async () => {
    begin();
    for (const n of [5, 3, 9, 1]) put(`k${n}`, { n, kind: n > 4 ? 'big' : 'small' });
    const one = await live('k3');
    const big = await live({ where: { eq: ['kind', 'big'] } });
    const top = await live({ order: { by: 'n', direction: 'descending' }, limit: 2 });
    expect(Object.keys(shown(one))).toEqual(['k3']);
    expect(Object.keys(shown(big)).sort()).toEqual(['k5', 'k9']);
    expect([...top.getSnapshot().documents.keys()]).toEqual(['k9', 'k5']);
    put('k7', { n: 7, kind: 'big' });
    await expect.poll(() => [...top.getSnapshot().documents.keys()]).toEqual(['k9', 'k7']);
    put('k9', null);
    await expect.poll(() => [...top.getSnapshot().documents.keys()]).toEqual(['k7', 'k5']);
    put('k3', { n: 3, kind: 'big' });
    await expect.poll(() => Object.keys(shown(big)).sort()).toEqual(['k3', 'k5', 'k7']);
    expect(shown(one)).toEqual({ k3: { n: 3, kind: 'big' } });
  });

  test('keeps the identity of what has not changed, over patches, cuts and a rebuild', async () => {
    begin();
    put('a', { n: 1, kind: 'long enough for a patch' });
    put('b', { n: 2 });
    const query = await live();
    const before = query.getSnapshot().documents;
    put('a', { n: 5, kind: 'long enough for a patch' });
    await expect.poll(() => query.getSnapshot().documents.get('a')?.n).toBe(5);
    expect(query.getSnapshot().documents.get('b')).toBe(before.get('b'));
    expect(before.get('a')).toEqual({ n: 1, kind: 'long enough for a patch' });
    const { documents } = query.getSnapshot();
    counters.rebuild();
    await expect.poll(() => query.getSnapshot().generation).toBe(counters.generation());
    await phase(query, 'live');
    expect([...query.getSnapshot().documents.values()]).toEqual([...documents.values()]);
    for (const [key, document] of query.getSnapshot().documents) expect(document).toBe(documents.get(key));
  });

  test('is the same snapshot until something changes, and listeners get each once', async () => {
    begin();
    put('a', { n: 1 });
    const query = await live();
    const seen: number[] = [];
    const unsubscribe = query.subscribe(({ documents }) => void seen.push(documents.get('a')!.n));
    const snapshot = query.getSnapshot();
    expect(query.getSnapshot()).toBe(snapshot);
    put('a', { n: 2 });
    put('a', { n: 3 });
    await expect.poll(() => seen).toEqual([2, 3]);
    expect(snapshot.documents.get('a')).toEqual({ n: 1 });
    unsubscribe();
    put('a', { n: 4 });
    await expect.poll(() => shown(query)).toEqual({ a: { n: 4 } });
    expect(seen).toEqual([2, 3]);
  });

  test('is nothing before the state is whole, and never a mixture', async () => {
    begin();
    for (let n = 0; n < 100; n++) put(`k${String(n).padStart(3, '0')}`, { n: 0 });
    const query = projection<Counter>(client, 'counters');
    const pictures: string[] = [];
    query.subscribe(({ documents }) => void pictures.push([...new Set([...documents.values()].map(({ n }) => n))].join()));
    await client.connect();
    await phase(query, 'live');
    // Every document changes at once; a picture has the old ones or the new ones.
    counters.rebuild(({ stream }, documents) => documents.put(stream, { n: 1 }));
    await expect.poll(() => query.getSnapshot().generation).toBe(counters.generation());
    await phase(query, 'live');
    expect(query.getSnapshot().documents.size).toBe(100);
    expect(pictures.filter((each, index) => each !== pictures[index - 1])).toEqual(['', '0', '1']);
  });
});

describe('after a loss', () => {
  test('it resumes with what it has, and shows that meanwhile', async () => {
    begin();
    put('a', { n: 1 });
    put('b', { n: 1 });
    const query = await live();
    server.refuse(true);
    server.cut();
    put('a', null);
    const at = put('c', { n: 3 });
    expect(shown(query)).toEqual({ a: { n: 1 }, b: { n: 1 } });
    server.refuse(false);
    await expect.poll(() => shown(query)).toEqual({ b: { n: 1 }, c: { n: 3 } });
    expect(subscribed().at(-1)).toMatchObject({ after: 2, generation: counters.generation(), epoch: server.log.epoch() });
    expect(query.getSnapshot()).toMatchObject({ phase: 'live', position: at });
  });

  test('a heartbeat moves the position on that it resumes from', async () => {
    begin();
    put('a', { n: 1 });
    const query = await live('a');
    for (const n of [1, 2, 3]) put('b', { n });
    server.heartbeat();
    await expect.poll(() => query.getSnapshot().position).toBe(4);
    await cut();
    await expect.poll(() => subscribed().at(-1)).toMatchObject({ after: 4 });
  });

  test.each<[string, (server: FakeServer, counters: FakeProjection) => void]>([
    ['swept changes', (_, projected) => projected.sweep()],
    ['a rebuild', (_, projected) => projected.rebuild()],
    ['another log', ({ log }) => log.replace('0190b5a0-0000-7000-8000-00000000000f')],
  ])('a fresh state takes the place of what cannot be resumed: %s', async (_, happen) => {
    begin();
    put('a', { n: 1 });
    put('b', { n: 1 });
    const query = await live();
    server.refuse(true);
    server.cut();
    put('b', null);
    happen(server, counters);
    put('a', { n: 2 });
    expect(shown(query)).toEqual({ a: { n: 1 }, b: { n: 1 } });
    server.refuse(false);
    await expect.poll(() => shown(query)).toEqual({ a: { n: 2 } });
    await phase(query, 'live');
    expect(query.getSnapshot().generation).toBe(counters.generation());
  });

  test('a state that was cut off is asked for again, from its beginning', async () => {
    begin();
    for (let n = 0; n < 100; n++) put(`k${n}`, { n });
    const query = projection<Counter>(client, 'counters');
    let pages = 0;
    client.onMessage(({ type }) => {
      if (type === 'state' && ++pages === 3) server.cut();
    });
    await client.connect();
    await phase(query, 'live');
    expect(query.getSnapshot().documents.size).toBe(100);
    expect(subscribed().map((message) => (message as { after?: Json }).after)).toEqual([undefined, undefined]);
  });

  test('a step of changes that was cut off counts for nothing', async () => {
    begin();
    put('a', { n: 0 });
    const query = await live();
    server.refuse(true);
    server.cut();
    for (let n = 0; n < 100; n++) put(`k${n}`, { n });
    let messages = 0;
    const stop = client.onMessage(({ type }) => {
      if (type === 'changes' && ++messages === 2) server.cut();
    });
    server.refuse(false);
    await expect.poll(() => query.getSnapshot().documents.size).toBe(101);
    stop();
    expect(subscribed().slice(1).map((message) => (message as { after?: Json }).after)).toEqual([1, 1]);
  });

  test('what a window resumes with is a fresh state, unless nothing has happened', async () => {
    begin();
    for (const n of [1, 2, 3]) put(`k${n}`, { n });
    const query = await live({ order: { by: 'n' }, limit: 2 });
    const resumes: unknown[] = [];
    client.onMessage((message: ServerMessage) => {
      if (message.type === 'subscribed') resumes.push([message.resumed, message.reset]);
    });
    await cut();
    await expect.poll(() => resumes).toEqual([[true, undefined]]);
    server.refuse(true);
    server.cut();
    put('k1', null);
    server.refuse(false);
    await expect.poll(() => [...query.getSnapshot().documents.keys()]).toEqual(['k2', 'k3']);
    expect(resumes).toEqual([[true, undefined], [false, 'window']]);
  });
});

describe('it ends', () => {
  test('with the server’s code where asking again is of no use', async () => {
    begin();
    const errors: TidewireError[] = [];
    const query = projection<Counter>(client, 'nothing', {}, { onError: (error) => void errors.push(error) });
    await client.connect();
    await phase(query, 'ended');
    expect(query.getSnapshot().error).toMatchObject({ code: 'unknown_projection', retryable: false });
    expect(errors).toEqual([query.getSnapshot().error]);
  });

  test('with what the server says of a query that is wrong', async () => {
    begin();
    const query = projection<Counter>(client, 'counters', { order: { by: 'n' } });
    await client.connect();
    await phase(query, 'ended');
    expect(query.getSnapshot().error).toMatchObject({ code: 'invalid_query', details: { field: 'order' } });
  });

  test('when there are more documents than it may keep', async () => {
    begin();
    for (const n of [1, 2, 3]) put(`k${n}`, { n });
    const query = await live({}, { documents: 3 });
    put('k4', { n: 4 });
    await phase(query, 'ended');
    expect(query.getSnapshot().error).toMatchObject({ code: 'too_many_documents', message: 'more than 3' });
    expect(query.getSnapshot().documents.size).toBe(3);
    await expect.poll(() => server.received.at(-1)).toEqual({ type: 'unsubscribe', sub: 1 });
  });

  test('when it is stopped, and says nothing more', async () => {
    begin();
    put('a', { n: 1 });
    const query = await live();
    query.stop();
    query.stop();
    expect(query.getSnapshot()).toMatchObject({ phase: 'ended' });
    expect(query.getSnapshot().error).toBeUndefined();
    put('a', { n: 2 });
    await cut();
    await expect.poll(() => client.getSnapshot().status).toBe('connected');
    expect(shown(query)).toEqual({ a: { n: 1 } });
  });
});

test('a query that is refused for now is asked again', async () => {
  begin();
  put('a', { n: 1 });
  const query = await live();
  server.send({ type: 'unsubscribed', sub: 1, code: 'projection_unavailable', message: 'not now', retryable: true });
  put('a', { n: 2 });
  await vi.waitFor(() => expect(shown(query)).toEqual({ a: { n: 2 } }), { timeout: 5_000 });
  expect(subscribed().at(-1)).toMatchObject({ type: 'subscribe', sub: 2, after: 1 });
});

test.each<[string, string]>([
  ['a state without documents', '{"type":"state","sub":1,"generation":1,"position":1,"more":false}'],
  ['a position that is none', '{"type":"state","sub":1,"generation":1,"position":"1","documents":[],"more":false}'],
  ['changes that are none', '{"type":"changes","sub":1,"position":1,"changes":{}}'],
  ['a change that is none', '{"type":"changes","sub":1,"position":1,"changes":[null]}'],
])('a malformed message ends the connection, and not the query: %s', async (_, text) => {
  begin();
  put('a', { n: 1 });
  const query = await live();
  server.sendText(text);
  await expect.poll(() => server.opened()).toBe(2);
  await phase(query, 'live');
  expect(shown(query)).toEqual({ a: { n: 1 } });
});
