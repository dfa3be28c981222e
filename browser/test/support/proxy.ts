/** A TCP proxy on loopback that can cut, stop and refuse: what a network does and test tools' offline switches do not. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Proxy {
  readonly port: number;
  /** Connections opened so far. */
  opened(): number;
  /** Bytes that went to the client so far. */
  carried(): number;
  /** Breaks every connection, with a reset. */
  cut(): void;
  /** Keeps connections open and lets nothing through, or goes on. */
  blackhole(swallow: boolean): void;
  close(): Promise<void>;
}

export async function proxyTo(port: number): Promise<Proxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let swallow = false;
  let opened = 0;
  let carried = 0;
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    const pair = [client, upstream] as const;
    pairs.add(pair);
    opened++;
    const drop = (): void => {
      pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    client.on('data', (data) => swallow || upstream.write(data));
    upstream.on('data', (data) => {
      if (swallow) return;
      carried += data.length;
      client.write(data);
    });
    for (const socket of pair) socket.on('error', drop).on('close', drop);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    opened: () => opened,
    carried: () => carried,
    cut: () => pairs.forEach(([client]) => client.resetAndDestroy()),
    blackhole(value) {
      swallow = value;
    },
    async close() {
      for (const [client, upstream] of pairs) {
        client.destroy();
        upstream.destroy();
      }
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
