/** Collections: edits show at once, count once, are undone when refused, and never overwrite what was not seen. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { collection, ConflictError, type Client, type Collection, type CollectionOptions } from '../src/index.js';
import { createFakeServer, type FakeProjection, type FakeServer } from '../src/testing/index.js';
import { pair } from './support/connect.js';

interface Todo {
  readonly title: string;
  readonly done?: boolean;
  readonly tags?: { readonly [name: string]: number };
}

const clients: Client[] = [];
let server: FakeServer;
let kept: FakeProjection;
afterEach(() => clients.splice(0).forEach((client) => client.disconnect()));

const begin = (): void => {
  server = createFakeServer();
  kept = server.log.collection('todos');
};
const open = async (options?: CollectionOptions): Promise<{ client: Client; todos: Collection<Todo> }> => {
  const { client } = pair({}, server);
  clients.push(client);
  const todos = collection<Todo>(client, 'todos', options);
  await client.connect();
  await vi.waitFor(() => expect(todos.getSnapshot().phase).toBe('live'));
  return { client, todos };
};
const shown = (todos: Collection<Todo>) => Object.fromEntries(todos.getSnapshot().documents);
const pending = (todos: Collection<Todo>) => [...todos.getSnapshot().pending];
const failure = (promise: Promise<unknown>): Promise<unknown> => promise.catch((error: unknown) => error);
const edits = () => server.received.flatMap((message) => (message.type === 'command' ? [message] : []));
/** Holds the answers of commands back, by swallowing them as the network would. */
const swallow = (swallowed: boolean): void => server.intercept((message) => !swallowed || message.type !== 'command');

describe('an edit', () => {
  test('shows at once, and lands', async () => {
    begin();
    const { todos } = await open();
    const landing = todos.insert('t1', { title: 'rest' });
    expect(shown(todos)).toEqual({ t1: { title: 'rest' } });
    expect(pending(todos)).toEqual(['t1']);
    expect(await landing).toEqual({ position: 1, revision: 0 });
    await expect.poll(() => shown(todos)).toEqual({ t1: { title: 'rest', $revision: 0 } });
    expect(pending(todos)).toEqual([]);
    const updating = todos.update('t1', { done: true });
    expect(shown(todos)).toEqual({ t1: { title: 'rest', done: true, $revision: 0 } });
    expect(await updating).toEqual({ position: 2, revision: 1 });
    await expect.poll(() => shown(todos)).toEqual({ t1: { title: 'rest', done: true, $revision: 1 } });
    const deleting = todos.delete('t1');
    expect(shown(todos)).toEqual({});
    await deleting;
    await expect.poll(() => kept.documents().size).toBe(0);
    expect([shown(todos), pending(todos)]).toEqual([{}, []]);
    expect(edits().map(({ data }) => data)).toEqual([
      { collection: 'todos', key: 't1', op: 'insert', document: { title: 'rest' } },
      { collection: 'todos', key: 't1', op: 'update', patch: { done: true }, revision: 0 },
      { collection: 'todos', key: 't1', op: 'delete', revision: 1 },
    ]);
  });

  test('stays until the live query has come to it, so that nothing flickers', async () => {
    begin();
    const { todos } = await open();
    await todos.insert('t1', { title: 'a' });
    const seen: string[] = [];
    todos.subscribe(({ documents }) => void seen.push(documents.get('t1')?.title ?? '-'));
    kept.hold(true);
    const { position } = await todos.update('t1', { title: 'b' });
    expect(pending(todos)).toEqual(['t1']);
    // Upon what has landed, though the live query does not know of it.
    await todos.update('t1', { title: 'c' });
    expect(edits().at(-1)?.data).toMatchObject({ revision: 1 });
    expect(todos.getSnapshot().position).toBeLessThan(position);
    kept.hold(false);
    await expect.poll(() => pending(todos)).toEqual([]);
    expect(shown(todos)).toEqual({ t1: { title: 'c', $revision: 2 } });
    expect(seen.filter((each, index) => each !== 'a' && each !== seen[index - 1])).toEqual(['b', 'c']);
  });

  test('keeps the identity of the documents that it does not touch, and of its own while nothing changes', async () => {
    begin();
    const { todos } = await open();
    await todos.insert('t1', { title: 'a', tags: { x: 1 } });
    await todos.insert('t2', { title: 'b' });
    await expect.poll(() => pending(todos)).toEqual([]);
    swallow(true);
    void failure(todos.update('t1', { tags: { y: 2 } }));
    const { documents } = todos.getSnapshot();
    expect(documents.get('t1')).toEqual({ title: 'a', tags: { x: 1, y: 2 }, $revision: 0 });
    const other = await open();
    await other.client.connect();
    swallow(false);
    await other.todos.insert('t3', { title: 'c' });
    await expect.poll(() => todos.getSnapshot().documents.size).toBe(3);
    for (const key of ['t1', 't2']) expect(todos.getSnapshot().documents.get(key)).toBe(documents.get(key));
  });

  test('counts once, whatever the connection does', async () => {
    begin();
    const { todos } = await open();
    // It takes effect, and the answer is lost.
    let lost = false;
    server.intercept((message) => {
      if (message.type === 'command' && !lost) {
        lost = true;
        queueMicrotask(() => server.cut());
      }
      return true;
    });
    await todos.insert('t1', { title: 'once' });
    expect(edits().length).toBe(2);
    expect(new Set(edits().map(({ key }) => key)).size).toBe(1);
    expect(server.log.events.length).toBe(1);
  });

  test('made while there is no connection waits for the next one', async () => {
    begin();
    const { todos } = await open();
    server.refuse(true);
    server.cut();
    const landing = Promise.all([todos.insert('t1', { title: 'later' }), todos.update('t1', { done: true }), todos.insert('t2', { title: 'too' })]);
    expect(shown(todos)).toEqual({ t1: { title: 'later', done: true }, t2: { title: 'too' } });
    server.refuse(false);
    await landing;
    await expect.poll(() => shown(todos)).toEqual({ t1: { title: 'later', done: true, $revision: 1 }, t2: { title: 'too', $revision: 0 } });
    expect(pending(todos)).toEqual([]);
  });
});

describe('edits of one document', () => {
  test('go one after the other, each upon the one before', async () => {
    begin();
    const { todos } = await open();
    const landed = await Promise.all([
      todos.insert('t1', { title: 'a' }),
      todos.update('t1', { title: 'b' }),
      todos.update('t1', { done: true }),
      todos.delete('t1'),
      todos.insert('t1', { title: 'again' }),
    ]);
    expect(landed.map(({ revision }) => revision)).toEqual([0, 1, 2, 3, 4]);
    await expect.poll(() => shown(todos)).toEqual({ t1: { title: 'again', $revision: 4 } });
    expect(edits().map(({ data }) => (data as { revision?: number }).revision)).toEqual([undefined, 0, 1, 2, undefined]);
  });

  test('are not lost when they are made in the moment that the last one lands', async () => {
    begin();
    const { todos } = await open();
    let last = todos.insert('t1', { title: '0' });
    for (let n = 1; n <= 20; n++) {
      const title = String(n);
      const before = last;
      last = before.then(() => todos.update('t1', { title }));
    }
    await last;
    await expect.poll(() => shown(todos)).toEqual({ t1: { title: '20', $revision: 20 } });
  });

  test('fall together when the first is refused, and those of others stand', async () => {
    begin();
    const one = await open();
    const two = await open();
    await one.todos.insert('t1', { title: 'a' });
    await one.todos.insert('t2', { title: 'x' });
    await expect.poll(() => shown(two.todos)).toEqual(shown(one.todos));
    // The second client sees the first one's change too late.
    swallow(true);
    const mine = [two.todos.update('t1', { title: 'mine' }), two.todos.update('t1', { done: true })].map(failure);
    const other = two.todos.update('t2', { title: 'y' });
    expect(shown(two.todos)).toMatchObject({ t1: { title: 'mine', done: true }, t2: { title: 'y' } });
    server.log.append('todos-t1', [{ type: 'Updated', data: { patch: { title: 'theirs' } } }]);
    swallow(false);
    server.cut();
    const errors = await Promise.all(mine);
    for (const error of errors) {
      expect(error).toBeInstanceOf(ConflictError);
      expect(error).toMatchObject({ code: 'conflict', present: { title: 'theirs', $revision: 1 }, revision: 1, retryable: false });
    }
    await other;
    await expect.poll(() => shown(two.todos)).toEqual({ t1: { title: 'theirs', $revision: 1 }, t2: { title: 'y', $revision: 1 } });
    expect(pending(two.todos)).toEqual([]);
    expect(edits().filter(({ data }) => (data as { patch?: object }).patch && 'done' in (data as { patch: object }).patch)).toEqual([]);
  });
});

describe('a refusal', () => {
  test('tells what there is now, to be edited upon', async () => {
    begin();
    const { todos } = await open();
    await todos.insert('t1', { title: 'a' });
    const error = (await failure(todos.update('t1', { title: 'b' }, { revision: 7 }))) as ConflictError<Todo>;
    expect(error.present?.title).toBe('a');
    expect(shown(todos)).toMatchObject({ t1: { title: 'a' } });
    expect(await todos.update('t1', { title: 'b' }, { revision: error.revision! })).toMatchObject({ revision: 1 });
  });

  test('of an insertion of what is there already leaves that', async () => {
    begin();
    const { todos } = await open();
    await todos.insert('t1', { title: 'a' });
    await expect.poll(() => pending(todos)).toEqual([]);
    const again = failure(todos.insert('t1', { title: 'b' }));
    expect(shown(todos)).toEqual({ t1: { title: 'a', $revision: 0 } });
    expect(await again).toMatchObject({ code: 'conflict', present: { title: 'a' }, revision: 0 });
  });

  test('of an edit of nothing is told', async () => {
    begin();
    const { todos } = await open();
    expect(await failure(todos.update('t9', { title: 'b' }))).toMatchObject({ code: 'no_such_document' });
    expect(await failure(todos.delete('t9'))).toMatchObject({ code: 'no_such_document' });
    expect([shown(todos), pending(todos)]).toEqual([{}, []]);
  });

  test('of a collection that is none is told', async () => {
    begin();
    const { client } = await open();
    server.log.projection('orders', () => {});
    const orders = collection(client, 'orders');
    expect(await failure(orders.insert('t1', { title: 'a' }))).toMatchObject({ code: 'unknown_collection' });
  });

  test('comes at once when too much is pending', async () => {
    begin();
    const { client } = pair({ queue: { max: 2 } }, server);
    clients.push(client);
    const todos = collection<Todo>(client, 'todos');
    const landing = [todos.insert('a', { title: '1' }), todos.update('a', { title: '2' })];
    expect(await failure(todos.update('a', { title: '3' }))).toMatchObject({ code: 'queue_full', retryable: true });
    expect(shown(todos)).toEqual({ a: { title: '2' } });
    await client.connect();
    await Promise.all(landing);
    await expect.poll(() => shown(todos)).toEqual({ a: { title: '2', $revision: 1 } });
  });

  test('comes with the end of the connection', async () => {
    begin();
    const { todos } = await open();
    swallow(true);
    const landing = failure(todos.insert('t1', { title: 'a' }));
    await expect.poll(() => edits().length).toBe(1);
    server.cut(4503, 'unauthorized');
    expect(await landing).toMatchObject({ code: 'closed' });
    expect([shown(todos), pending(todos)]).toEqual([{}, []]);
  });
});

test('two clients are in step, window and all', async () => {
  begin();
  const one = await open({ order: { by: 'title' }, limit: 3 });
  const two = await open({ order: { by: 'title' }, limit: 3 });
  for (const title of ['d', 'b', 'e', 'a']) await one.todos.insert(`k${title}`, { title });
  const titles = (todos: Collection<Todo>) => [...todos.getSnapshot().documents.values()].map(({ title }) => title).join('');
  await expect.poll(() => [titles(one.todos), titles(two.todos)]).toEqual(['abd', 'abd']);
  await two.todos.delete('kb');
  await expect.poll(() => [titles(one.todos), titles(two.todos)]).toEqual(['ade', 'ade']);
  // What is pending stands where it will.
  swallow(true);
  void failure(one.todos.update('kd', { title: '0' }));
  expect(titles(one.todos)).toBe('0ae');
});

test('what landed in a log that is gone is not pending in another', async () => {
  begin();
  const { todos } = await open();
  server.log.append('other-1', [{ type: 'T', data: null }, { type: 'T', data: null }]);
  kept.hold(true);
  await todos.insert('t1', { title: 'a' });
  expect(pending(todos)).toEqual(['t1']);
  server.log.replace('0190b5a0-0000-7000-8000-00000000000f');
  kept.hold(false);
  server.cut();
  await expect.poll(() => [shown(todos), pending(todos)]).toEqual([{}, []]);
});

test('a collection that is stopped shows no more, and what is on its way goes on', async () => {
  begin();
  const { todos } = await open();
  const landing = todos.insert('t1', { title: 'a' });
  todos.stop();
  await landing;
  expect(kept.documents().get('t1')).toEqual({ title: 'a', $revision: 0 });
});
