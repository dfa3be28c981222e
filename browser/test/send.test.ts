/** A command takes effect once, whatever happens to the connection; what has no room or no answer is told. */
import { expect, test, vi } from 'vitest';
import { append, command, send, type Send } from '../src/index.js';
import { Refusal } from '../src/testing/index.js';
import { pair, some, upTo } from './support/connect.js';

const fast = { reconnect: { initialDelay: 1, maxDelay: 4, jitter: false } };
type Shop = { placeOrder: { input: { cart: number }; output: { orderId: string } } };

/** A server whose command appends, and counts how often its handler ran. */
const shop = (options: Parameters<typeof pair>[0] = fast) => {
  const both = pair(options);
  const ran = vi.fn((input: unknown) => {
    const { cart } = input as { cart: number };
    const { position } = both.server.log.append(`order-${cart}`, [{ type: 'OrderPlaced', data: { cart } }]);
    return { orderId: `order-${cart}`, position };
  });
  both.server.log.command('placeOrder', ran);
  const place: Send<Shop> = send;
  return { ...both, ran, place };
};

test('a command gets its result, and one under a key that was used gets the first one', async () => {
  const { client, place, ran } = shop();
  await client.connect();
  const { orderId } = await place(client, 'placeOrder', { cart: 7 }, { key: 'cart-7' });
  expect(orderId).toBe('order-7');
  expect(await place(client, 'placeOrder', { cart: 7 }, { key: 'cart-7' })).toEqual({ orderId: 'order-7', position: 1 });
  expect(ran).toHaveBeenCalledTimes(1);
  client.disconnect();
});

test('a command tells where it was recorded, if it recorded anything', async () => {
  const { client, server } = shop();
  server.log.collection('carts');
  server.log.command('look', () => ({ orders: 0 }));
  server.log.append('order-1', [{ type: 'OrderPlaced', data: {} }]);
  await client.connect();
  const insert = { collection: 'carts', op: 'insert', key: '1', document: {} };
  expect(await command(client, '$collection', insert)).toEqual({ data: { revision: 0 }, position: 2 });
  expect(await command(client, 'look', null)).toEqual({ data: { orders: 0 } });
  client.disconnect();
});

test('refusals come with their code and details', async () => {
  const { client, server } = shop();
  server.log.command('refuse', () => {
    throw new Refusal('command_failed', { why: 'sold out' });
  });
  await client.connect();
  await expect(send(client, 'refuse', 1)).rejects.toMatchObject({ code: 'command_failed', retryable: false, details: { why: 'sold out' } });
  await expect(send(client, 'dance', 1)).rejects.toMatchObject({ code: 'unknown_command' });
  client.disconnect();
});

test('what is sent offline goes at the connection; answers that are lost are got again, the effect is one', async () => {
  const { client, server, ran, place } = shop();
  let lost = 0;
  server.intercept((message) => {
    if (message.type !== 'command' || lost >= 6) return true;
    // Handled or not, the answer never arrives.
    lost++;
    if (lost % 2) server.stall(true);
    queueMicrotask(() => {
      server.stall(false);
      server.cut();
    });
    return lost % 2 === 1;
  });
  const orders = upTo(5).map((cart) => place(client, 'placeOrder', { cart }));
  await client.connect();
  expect((await Promise.all(orders)).map(({ orderId }) => orderId)).toEqual(upTo(5).map((cart) => `order-${cart}`));
  expect(lost).toBe(6);
  expect(ran).toHaveBeenCalledTimes(5);
  expect(server.log.events).toHaveLength(5);
  const keys = new Map(server.received.flatMap((message) => (message.type === 'command' ? [[message.id, message.key]] : [])));
  expect(new Set(keys.values()).size).toBe(5);
  client.disconnect();
});

test('commands do not wait for each other, appends to a stream do', async () => {
  const { client, server } = shop();
  await client.connect();
  server.intercept(({ type }) => type !== 'command' && type !== 'append');
  for (const cart of upTo(3)) {
    send(client, 'placeOrder', { cart }).catch(() => {});
    append(client, 'a-1', some(1)).catch(() => {});
  }
  const said = (type: string): number => server.received.filter((message) => message.type === type).length;
  await expect.poll(() => [said('command'), said('append')]).toEqual([3, 1]);
  client.disconnect();
});

test('commands and appends share one outbox, which refuses visibly', async () => {
  const { client, server, place, ran } = shop({ queue: { max: 2 } });
  const kept = [append(client, 'a-1', some(1)), place(client, 'placeOrder', { cart: 1 })];
  await expect(place(client, 'placeOrder', { cart: 2 })).rejects.toMatchObject({ code: 'queue_full', retryable: true });
  await client.connect();
  await Promise.all(kept);
  await place(client, 'placeOrder', { cart: 3 });
  expect(ran.mock.calls).toEqual([[{ cart: 1 }], [{ cart: 3 }]]);
  expect(server.log.head()).toBe(3);
  client.disconnect();
});

test('a refusal that may pass is tried again, but not for ever', async () => {
  const { client, server, place } = shop({ ...fast, queue: { attempts: 3 } });
  await client.connect();
  let refused = 0;
  server.intercept((message) => {
    if (message.type !== 'command') return true;
    refused++;
    server.send({ type: 'error', id: message.id, code: 'overloaded', message: '', retryable: true, retry_after_ms: 1 });
    return false;
  });
  await expect(place(client, 'placeOrder', { cart: 1 })).rejects.toMatchObject({ code: 'overloaded', retryable: true });
  expect(refused).toBe(3);
  client.disconnect();
});

test('a command that brings every connection down is given up', async () => {
  const { client, server, place } = shop({ ...fast, queue: { attempts: 3 } });
  await client.connect();
  let sent = 0;
  server.intercept((message) => {
    if (message.type !== 'command') return true;
    sent++;
    server.cut();
    return false;
  });
  await expect(place(client, 'placeOrder', { cart: 1 })).rejects.toMatchObject({ code: 'unanswered', retryable: true });
  expect(sent).toBe(3);
  client.disconnect();
});

test('a time limit ends the waiting and frees the place; the same key asks again', async () => {
  const { client, server, ran, place } = shop({ ...fast, queue: { max: 1 } });
  await client.connect();
  server.intercept((message) => {
    if (message.type === 'command') server.stall(true);
    return true;
  });
  await expect(place(client, 'placeOrder', { cart: 1 }, { key: 'k', timeout: 5 })).rejects.toMatchObject({ code: 'timeout', retryable: true });
  server.intercept(() => true);
  server.stall(false);
  expect(await place(client, 'placeOrder', { cart: 1 }, { key: 'k', timeout: 5_000 })).toMatchObject({ orderId: 'order-1' });
  expect(ran).toHaveBeenCalledTimes(1);
  client.disconnect();
});

test('a connection that has failed for good rejects what waits, and a command that is too large is never sent', async () => {
  const { client, server } = shop();
  await client.connect();
  server.send({ type: 'welcome', session: '', node: '', epoch: '', head: 0, heartbeat_ms: 0, limits: { message_bytes: 500 } });
  await expect.poll(() => client.link.welcome()?.limits).toEqual({ message_bytes: 500 });
  await expect(send(client, 'placeOrder', 'x'.repeat(500))).rejects.toMatchObject({ code: 'too_large' });
  server.intercept(({ type }) => type !== 'command');
  const waiting = send(client, 'placeOrder', {});
  server.cut(4503);
  await expect(waiting).rejects.toMatchObject({ code: 'closed', details: { code: 4503 } });
});
