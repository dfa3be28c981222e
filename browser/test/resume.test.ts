import { expect, test } from 'vitest';
import { createClient, events, stream } from '../src/index.js';
import { createFakeServer } from '../src/testing/index.js';
test('x', async () => {
  const server = createFakeServer();
  server.log.append('a-1', [{ type: 'T', data: 1 }, { type: 'T', data: 2 }]);
  const c = createClient({ url: 'ws://x/ws', WebSocket: server.WebSocket, reconnect: { initialDelay: 1 } });
  const got: number[] = [];
  stream(c, 'a-1', { after: 'start', onEvent: (e) => void got.push(e.position) });
  await c.connect();
  await expect.poll(() => got).toEqual([1, 2]);
  server.cut();
  server.log.append('a-1', [{ type: 'T', data: 3 }]);
  await expect.poll(() => got).toEqual([1, 2, 3]);
  for await (const e of events(c, { all: true }, { after: 'start' })) { if (e.position === 3) break; }
  c.disconnect();
});
