/** A client of a fake server, and what it received. */
import { createClient, type Client, type ClientOptions, type NewEvent } from '../../src/index.js';
import { createFakeServer, type FakeServer } from '../../src/testing/index.js';

/** A client and a server of its own; retries come fast and without jitter. */
export const pair = (options: Partial<ClientOptions> = {}, server: FakeServer = createFakeServer()): { client: Client; server: FakeServer } => ({
  server,
  client: createClient({ url: 'ws://fake/ws', WebSocket: server.WebSocket, reconnect: { initialDelay: 100, jitter: false }, ...options }),
});

/** `count` events of one type. */
export const some = (count: number, type = 'T'): NewEvent[] => Array.from({ length: count }, (_, index) => ({ type, data: index }));

/** 1..n */
export const upTo = (n: number): number[] => Array.from({ length: n }, (_, index) => index + 1);
