/** Pages of documents: order, cursors, and reading what one wrote. */
import { afterEach, expect, test } from 'vitest';
import { append, documents, pages, type Client, type Json } from '../src/index.js';
import type { FakeProjection, FakeServer, Project } from '../src/testing/index.js';
import { pair } from './support/connect.js';

const latest: Project = ({ stream, data }, kept) => (data === null ? kept.delete(stream) : kept.put(stream, data));

let client: Client;
let server: FakeServer;
let things: FakeProjection;
afterEach(() => client.disconnect());
const begin = async (count: number): Promise<void> => {
  ({ client, server } = pair());
  things = server.log.projection('things', latest);
  for (let n = 0; n < count; n++) put(`k${String(n).padStart(2, '0')}`, { n: (n * 7) % 10 });
  await client.connect();
};
const put = (key: string, data: Json): number => server.log.append(key, [{ type: 'T', data }]).position;
const failure = (promise: Promise<unknown>): Promise<unknown> => promise.catch((error: unknown) => error);

test('a page has the documents in the order, and says where the next one begins', async () => {
  await begin(10);
  const query = { projection: 'things', where: { gt: ['n', 2] }, order: { by: 'n', direction: 'descending' } } as const;
  const first = await documents<{ n: number }>(client, query, { limit: 4 });
  expect(first.documents.map(({ document }) => document.n)).toEqual([9, 8, 7, 6]);
  expect(first).toMatchObject({ more: true, position: 10, generation: things.generation() });
  const second = await documents<{ n: number }>(client, query, { limit: 4, cursor: first.next! });
  expect(second.documents.map(({ document }) => document.n)).toEqual([5, 4, 3]);
  expect(second.more).toBe(false);
  expect('next' in second).toBe(false);
});

test('one document, or none', async () => {
  await begin(3);
  expect((await documents(client, { projection: 'things', key: 'k01' })).documents).toEqual([{ key: 'k01', document: { n: 7 } }]);
  expect(await documents(client, { projection: 'things', key: 'k99' })).toMatchObject({ documents: [], more: false });
});

test('all pages, each read when it is asked for', async () => {
  await begin(10);
  const keys: string[] = [];
  for await (const page of pages(client, { projection: 'things' }, { limit: 3 })) {
    keys.push(...page.documents.map(({ key }) => key));
    // What changes behind the cursor is not seen, what changes before it is.
    if (keys.length === 3) {
      put('k00', null);
      put('k05', null);
      put('k99', { n: 1 });
    }
  }
  expect(keys).toEqual(['k00', 'k01', 'k02', 'k03', 'k04', 'k06', 'k07', 'k08', 'k09', 'k99']);
  const asked = server.received.filter(({ type }) => type === 'fetch').length;
  for await (const _ of pages(client, { projection: 'things' }, { limit: 3 })) break;
  expect(server.received.filter(({ type }) => type === 'fetch').length).toBe(asked + 1);
});

test('a rebuild between two pages ends them', async () => {
  await begin(10);
  const reading = pages(client, { projection: 'things' }, { limit: 3 });
  await reading.next();
  things.rebuild();
  await expect(reading.next()).rejects.toMatchObject({ code: 'stale_cursor', retryable: false });
});

test('one reads what one wrote', async () => {
  await begin(1);
  things.hold(true);
  const { position } = await append(client, 'k00', [{ type: 'T', data: { n: 42 } }]);
  expect((await documents(client, { projection: 'things', key: 'k00' })).documents[0]?.document).toEqual({ n: 0 });
  const reading = documents(client, { projection: 'things', key: 'k00' }, { wait: position });
  await expect.poll(() => server.received.filter(({ type }) => type === 'fetch').length).toBe(2);
  things.hold(false);
  expect(await reading).toMatchObject({ documents: [{ document: { n: 42 } }], position });
});

test('waiting has an end, which is not waited for again', async () => {
  await begin(1);
  const error = await failure(documents(client, { projection: 'things' }, { wait: 99, timeout: 50 }));
  expect(error).toMatchObject({ retryable: true });
  expect(['wait_timeout', 'timeout']).toContain((error as { code: string }).code);
  server.intercept((message) => {
    if (message.type === 'fetch') server.send({ type: 'error', id: message.id, code: 'wait_timeout', message: 'late', retryable: true });
    return message.type !== 'fetch';
  });
  expect(await failure(documents(client, { projection: 'things' }, { wait: 99 }))).toMatchObject({ code: 'wait_timeout' });
  expect(server.received.filter(({ type }) => type === 'fetch')).toEqual([
    expect.objectContaining({ wait: 99, timeout_ms: 50 }),
    expect.not.objectContaining({ timeout_ms: expect.anything() as unknown }),
  ]);
});

test('a read that the connection breaks under is asked again', async () => {
  await begin(3);
  let swallowed = 0;
  server.intercept((message) => message.type !== 'fetch' || swallowed++ > 0);
  const reading = documents(client, { projection: 'things' });
  await expect.poll(() => swallowed).toBe(1);
  server.cut();
  expect((await reading).documents.length).toBe(3);
});

test('the server’s refusal is the error', async () => {
  await begin(0);
  expect(await failure(documents(client, { projection: 'nothing' }))).toMatchObject({ code: 'unknown_projection' });
});
