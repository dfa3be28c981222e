/** The plain socket: any messages, a bounded queue, a heartbeat of the application's own. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { AddressInfo } from 'node:net';
import { createSocket, type Payload } from '../src/socket.js';

let server: WebSocketServer;
let url: string;
let heard: string[];
beforeEach(async () => {
  heard = [];
  server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await new Promise((resolve) => server.once('listening', resolve));
  url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  server.on('connection', (socket) =>
    socket.on('message', (data, binary) => {
      heard.push(String(data as Buffer));
      if (String(data as Buffer) !== 'hush') socket.send(data, { binary });
    }),
  );
});
afterEach(async () => {
  for (const socket of server.clients) socket.terminate();
  await new Promise((resolve) => server.close(resolve));
});

const json = { encode: JSON.stringify, decode: (data: Payload) => JSON.parse(data as string) as { n: number } };

test('messages are encoded and decoded, and wait for the connection in order', async () => {
  const socket = createSocket<{ n: number }>({ url, WebSocket, serializer: json });
  const got: number[] = [];
  socket.onMessage(({ n }) => void got.push(n));
  for (const n of [1, 2, 3]) socket.send({ n });
  await socket.connect();
  socket.send({ n: 4 });
  await expect.poll(() => got).toEqual([1, 2, 3, 4]);
  socket.disconnect();
});

test('binary messages arrive as bytes', async () => {
  const socket = createSocket({ url, WebSocket });
  const got: Payload[] = [];
  socket.onMessage((message) => void got.push(message));
  await socket.connect();
  socket.send(new Uint8Array([0, 255]).buffer);
  await expect.poll(() => got).toHaveLength(1);
  expect([...new Uint8Array(got[0] as ArrayBuffer)]).toEqual([0, 255]);
  socket.disconnect();
});

test('the queue refuses beyond its count and its bytes, and loses nothing that it took', async () => {
  const socket = createSocket<Payload>({ url, WebSocket, queue: { max: 2, maxBytes: 10 } });
  socket.send('12345678');
  expect(() => socket.send('öö')).toThrow(expect.objectContaining({ code: 'queue_full', retryable: true }));
  socket.send('9');
  expect(() => socket.send('')).toThrow(expect.objectContaining({ code: 'queue_full' }));
  await socket.connect();
  await expect.poll(() => heard).toEqual(['12345678', '9']);
  socket.disconnect();
});

test('a peer that does not answer the heartbeat is left', async () => {
  const socket = createSocket<Payload>({ url, WebSocket, heartbeat: { interval: 20, timeout: 20, message: () => 'hush' } });
  await socket.connect();
  await expect.poll(() => socket.getSnapshot(), { interval: 1 }).toMatchObject({ status: 'reconnecting', error: { details: { code: 4012 } } });
  socket.disconnect();
});

test('without a heartbeat message none is sent', async () => {
  const socket = createSocket({ url, WebSocket });
  await socket.connect();
  socket.send('hush');
  await expect.poll(() => heard).toEqual(['hush']);
  expect(socket.getSnapshot().status).toBe('connected');
  socket.disconnect();
});
