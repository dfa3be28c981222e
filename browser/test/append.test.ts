/** An append takes effect once, and what has no room is refused at once. */
import { expect, test } from 'vitest';
import { append } from '../src/index.js';
import { pair, some, upTo } from './support/connect.js';

const fast = { reconnect: { initialDelay: 1, jitter: false } };

test('it tells where it landed, and a conflict says what was there', async () => {
  const { client, server } = pair();
  await client.connect();
  expect(await append(client, 'a-1', some(3), { expected: 'no_stream' })).toEqual({ position: 3, revision: 2 });
  await expect(append(client, 'a-1', some(1), { expected: 7 })).rejects.toMatchObject({
    code: 'wrong_expected_revision',
    details: { expected: 7, actual: 2 },
  });
  expect(server.log.events).toHaveLength(3);
  client.disconnect();
});

test('what is appended offline is sent at the connection, in order', async () => {
  const { client, server } = pair(fast);
  const answers = upTo(20).map((n) => append(client, 'a-1', [{ type: 'T', data: n }]));
  await client.connect();
  await Promise.all(answers);
  expect(server.log.events.map(({ data }) => data)).toEqual(upTo(20));
  client.disconnect();
});

test('answers lost with the connection are got again, and nothing is doubled', async () => {
  const { client, server } = pair(fast);
  await client.connect();
  let lost = 0;
  server.intercept((message) => {
    if (message.type !== 'append' || lost >= 8) return true;
    // Recorded or not, the answer never arrives.
    if (lost++ % 2) server.log.append(message.stream, message.events, message.expected);
    server.cut();
    return false;
  });
  const answers = await Promise.all(upTo(10).map((n) => append(client, 'a-1', [{ type: 'T', data: n }])));
  expect(lost).toBe(8);
  expect(server.log.events.map(({ data }) => data)).toEqual(upTo(10));
  expect(answers.map(({ revision }) => revision + 1)).toEqual(upTo(10));
  expect(new Set(server.log.events.map(({ id }) => id)).size).toBe(10);
  client.disconnect();
});

test('a retryable refusal is tried again and not overtaken', async () => {
  const { client, server } = pair();
  await client.connect();
  let refused = 0;
  server.intercept((message) => {
    if (message.type !== 'append' || refused++ > 1) return true;
    server.send({ type: 'error', id: message.id, code: 'unavailable', message: '', retryable: true, retry_after_ms: 1 });
    return false;
  });
  await Promise.all(upTo(3).map((n) => append(client, 'a-1', [{ type: 'T', data: n }])));
  expect(server.log.events.map(({ data }) => data)).toEqual([1, 2, 3]);
  client.disconnect();
});

test('the outbox refuses beyond its count, and takes again after an answer', async () => {
  const { client, server } = pair({ queue: { max: 2 } });
  const kept = [append(client, 'a-1', some(1)), append(client, 'a-1', some(1))];
  await expect(append(client, 'a-1', some(1))).rejects.toMatchObject({ code: 'queue_full', retryable: true });
  await client.connect();
  await Promise.all(kept);
  await append(client, 'a-1', some(1));
  expect(server.log.head()).toBe(3);
  client.disconnect();
});

test('the outbox refuses beyond its bytes, counted as UTF-8', async () => {
  const { client } = pair({ queue: { maxBytes: 1_000 } });
  await expect(append(client, 'a-1', [{ type: 'T', data: 'ö'.repeat(490) }])).rejects.toMatchObject({ code: 'queue_full' });
  let settled = false;
  append(client, 'a-1', [{ type: 'T', data: 'o'.repeat(490) }]).catch(() => {}).finally(() => (settled = true));
  await Promise.resolve();
  expect(settled).toBe(false);
});

test('what the server would not take is refused before it is sent', async () => {
  const { client, server } = pair();
  await client.connect();
  const limits = { message_bytes: 500, append_events: 3 };
  server.send({ type: 'welcome', session: '', node: '', epoch: '', head: 0, heartbeat_ms: 0, limits });
  await expect.poll(() => client.link.welcome()?.limits).toEqual(limits);
  await expect(append(client, 'a-1', [{ type: 'T', data: 'x'.repeat(500) }])).rejects.toMatchObject({ code: 'too_large', retryable: false });
  await expect(append(client, 'a-1', some(4))).rejects.toMatchObject({ code: 'too_large' });
  expect(server.received.some(({ type }) => type === 'append')).toBe(false);
  client.disconnect();
});

test('a connection that has failed for good rejects what waits', async () => {
  const { client, server } = pair();
  await client.connect();
  server.intercept(({ type }) => type !== 'append');
  const waiting = append(client, 'a-1', some(1));
  server.cut(4503);
  await expect(waiting).rejects.toMatchObject({ code: 'closed', details: { code: 4503 } });
});
