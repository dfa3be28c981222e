/** A page of another origin than the program, served by this test, with the program's own client in it. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Site {
  readonly origin: string;
  /** What is served from now on. */
  show(html: string): void;
  close(): void;
}

/** Starts it with an empty page. */
export async function site(): Promise<Site> {
  let page = '';
  const server = createServer((_, answer) => void answer.setHeader('content-type', 'text/html').end(page)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    show(html) {
      page = html;
    },
    close: () => void server.close(),
  };
}
