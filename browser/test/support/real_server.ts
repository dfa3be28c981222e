/**
 * The fake log behind a real WebSocket server on loopback, for tests that need real sockets.
 */
import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:http';
import { WebSocketServer } from 'ws';
import { createFakeLog, type FakeLog } from '../../src/testing/index.js';
import type { ClientMessage } from '../../src/wire.js';

export interface RealServer {
  readonly log: FakeLog;
  readonly port: number;
  close(): Promise<void>;
}

/** Serves `log` at `/ws` of a free port; other requests go to `http`. */
export async function serve(log: FakeLog = createFakeLog(), http?: Server, port = 0): Promise<RealServer> {
  const server = http ?? createServer((_, response) => void response.writeHead(404).end());
  const sockets = new WebSocketServer({ server, path: '/ws', handleProtocols: (offered) => (offered.has('tidewire.v1.json') ? 'tidewire.v1.json' : false) });
  sockets.on('connection', (socket) => {
    const session = log.session((message) => socket.send(JSON.stringify(message)));
    socket.on('message', (data) => session.receive(JSON.parse(String(data)) as ClientMessage));
    socket.on('close', () => session.close());
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    log,
    port: (server.address() as AddressInfo).port,
    async close() {
      for (const socket of sockets.clients) socket.terminate();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
