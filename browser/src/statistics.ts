/**
 * `statistics`: what goes through a connection, counted for whoever wants to know.
 */
import type { ConnectionState, Payload, Tap } from './connection.js';
import { quality, type Quality } from './quality.js';
import { sizeOf } from './queue.js';
import type { Observable } from './store.js';

/** What went through a connection since it is counted. */
export interface Statistics {
  readonly messagesSent: number;
  readonly messagesReceived: number;
  /** UTF-8 bytes of text, or bytes of binary messages; frames and compression are not visible here. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Connections established after one was lost. */
  readonly reconnects: number;
  /** Connections lost, and attempts that failed. */
  readonly errors: number;
  /** The last round trip in milliseconds, once measured: from `hello` to `welcome`, or from a `ping` to its `pong`. */
  readonly latency: number | undefined;
  readonly quality: Quality;
  /** Milliseconds since the present connection was established; 0 without one. */
  readonly uptime: number;
}

/** A connection that can be counted: a client, or a socket. */
export interface Measurable extends Observable<ConnectionState> {
  /** Sets who sees what goes through. */
  attach(tap: Tap): void;
}

/** What is answered as soon as it arrives, and the answers to that. */
const ASKS = /^{"type":"(hello|ping)"/;
const ANSWERS = /^{"type":"(welcome|pong)"/;

const isOf = (kind: RegExp, data: Payload): boolean => typeof data === 'string' && kind.test(data);

/** Counts from now on; the function that it returns reads the counts. Call it once, right after the client or socket was made. */
export const statistics = (connection: Measurable): (() => Statistics) => {
  const counts = { messagesSent: 0, messagesReceived: 0, bytesSent: 0, bytesReceived: 0, reconnects: 0, errors: 0 };
  let latency: number | undefined;
  let askedAt = 0;
  let before = connection.getSnapshot();
  connection.subscribe(() => {
    const now = connection.getSnapshot();
    if ('error' in now) counts.errors++;
    if (now.status === 'connected' && before.status === 'reconnecting') counts.reconnects++;
    before = now;
  });
  connection.attach((data, direction) => {
    if (direction === 'sent') {
      counts.messagesSent++;
      counts.bytesSent += sizeOf(data);
      if (isOf(ASKS, data)) askedAt = Date.now();
    } else {
      counts.messagesReceived++;
      counts.bytesReceived += sizeOf(data);
      if (askedAt && isOf(ANSWERS, data)) {
        latency = Date.now() - askedAt;
        askedAt = 0;
      }
    }
  });
  return () => ({ ...counts, latency, quality: quality(latency), uptime: before.status === 'connected' ? Date.now() - before.since : 0 });
};
