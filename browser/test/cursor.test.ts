/** A durable subscription goes on where it was after a reload, whatever keeps its position. */
import { IDBFactory } from 'fake-indexeddb';
import { describe, expect, test, vi } from 'vitest';
import { createClient, stream } from '../src/index.js';
import { cursorOver, indexedDbCursor, localStorageCursor, memoryCursor, type Cursor, type Saved } from '../src/cursor.js';
import { createFakeServer } from '../src/testing/index.js';
import { some, upTo } from './support/connect.js';

const storage = (): Pick<Storage, 'getItem' | 'setItem' | 'removeItem'> => {
  const items = new Map<string, string>();
  return { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => void items.set(key, value), removeItem: (key) => void items.delete(key) };
};

describe.each<[string, () => () => Cursor]>([
  ['memory', () => ((cursor) => () => cursor)(memoryCursor())],
  ['localStorage', () => ((kept) => () => localStorageCursor('t:', kept))(storage())],
  ['IndexedDB', () => ((factory) => () => indexedDbCursor('t', factory))(new IDBFactory())],
])('%s', (_, make) => {
  test('five pages one after the other get every event once', async () => {
    const server = createFakeServer();
    const reload = make();
    const got: number[] = [];
    for (let page = 1; page <= 5; page++) {
      server.log.append('a-1', some(20));
      const cursor = reload();
      const client = createClient({ url: 'ws://fake', WebSocket: server.WebSocket, cursor });
      stream(client, 'a-1', { after: 'start', durable: 'inbox', onEvent: ({ position }) => void got.push(position) });
      await client.connect();
      await expect.poll(() => got.length).toBe(page * 20);
      await expect.poll(async () => (await cursor('inbox').load())?.position).toBe(page * 20);
      client.disconnect();
    }
    expect(got).toEqual(upTo(100));
    expect((await reload()('inbox').load())?.epoch).toBe(server.log.epoch());
  });

  test('a position that was dropped is forgotten, and the name can be used again', async () => {
    const open = make();
    const failed = vi.fn();
    open()('inbox').save({ position: 7, epoch: 'e' }, failed);
    open()('other').save({ position: 8, epoch: 'e' }, failed);
    await expect.poll(async () => (await open()('inbox').load())?.position).toBe(7);
    await expect.poll(async () => (await open()('other').load())?.position).toBe(8);
    await open()('inbox').drop();
    expect(await open()('inbox').load()).toBeUndefined();
    expect((await open()('other').load())?.position).toBe(8);
    open()('inbox').save({ position: 9, epoch: 'e' }, failed);
    await expect.poll(async () => (await open()('inbox').load())?.position).toBe(9);
    expect(failed).not.toHaveBeenCalled();
  });

  test('an unknown name begins where the subscription says', async () => {
    expect(await make()()('other').load()).toBeUndefined();
  });
});

test('nothing is subscribed before the cursor was read', async () => {
  const server = createFakeServer();
  server.log.append('a-1', some(3));
  let loaded = (_: Saved): void => {};
  const cursor = cursorOver({ get: () => new Promise((resolve) => (loaded = resolve)), put() {}, delete() {} });
  const client = createClient({ url: 'ws://fake', WebSocket: server.WebSocket, cursor });
  const got: number[] = [];
  stream(client, 'a-1', { after: 'start', durable: 'x', onEvent: ({ position }) => void got.push(position) });
  await client.connect();
  expect(server.received).toMatchObject([{ type: 'hello', subscriptions: [] }]);
  loaded({ position: 2, epoch: server.log.epoch() });
  await expect.poll(() => got).toEqual([3]);
  client.disconnect();
});

test('one save at a time, always of the newest position', async () => {
  const puts: number[] = [];
  const release: (() => void)[] = [];
  const keeper = cursorOver({
    get: () => undefined,
    put(__, { position }) {
      puts.push(position);
      return new Promise((resolve) => void release.push(resolve));
    },
    delete() {},
  })('x');
  const failed = vi.fn();
  for (const position of upTo(10)) keeper.save({ position, epoch: 'e' }, failed);
  await expect.poll(() => puts).toEqual([10]);
  for (const position of [11, 12]) keeper.save({ position, epoch: 'e' }, failed);
  expect(puts).toEqual([10]);
  release[0]!();
  await expect.poll(() => puts).toEqual([10, 12]);
  expect(failed).not.toHaveBeenCalled();
});

test('a cursor that cannot save ends the subscription with its error', async () => {
  const server = createFakeServer();
  server.log.append('a-1', some(1));
  const cursor = cursorOver({ get: () => undefined, put: () => Promise.reject(new Error('quota')), delete() {} });
  const client = createClient({ url: 'ws://fake', WebSocket: server.WebSocket, cursor });
  const errors: unknown[] = [];
  const subscription = stream(client, 'a-1', { after: 'start', durable: 'x', onEvent() {}, onError: (error) => void errors.push(error) });
  await client.connect();
  await expect.poll(() => subscription.getSnapshot().phase).toBe('ended');
  expect(errors).toEqual([new Error('quota')]);
  client.disconnect();
});
