/**
 * `tidewire/socket`: a WebSocket that comes back, for any server and any messages.
 *
 * States, backoff with jitter, a heartbeat that finds dead connections, and a queue for what is sent
 * meanwhile, bounded by count and bytes: what does not fit is refused, visibly. It promises nothing
 * about what was on its way when a connection broke; for that, speak the protocol (`tidewire`).
 */
import { createConnection, type ConnectionOptions, type Payload } from './connection.js';
import { TidewireError } from './error.js';
import type { HeartbeatOptions } from './liveness.js';
import { EMPTY, enqueue, QUEUE_LIMITS, sizeOf, type Queue, type QueueOptions } from './queue.js';
import type { Measurable } from './statistics.js';
import { enlist, guard, tell, type Stop } from './store.js';

export type { ReconnectOptions } from './backoff.js';
export type { ClosedError, ConnectionState, Payload, WebSocketConstructor, WebSocketLike } from './connection.js';
export { TidewireError } from './error.js';
export type { HeartbeatOptions } from './liveness.js';
export { quality, type Quality } from './quality.js';
export type { QueueOptions } from './queue.js';
export { statistics, type Statistics } from './statistics.js';
export type { Observable, Stop } from './store.js';
export { watch, type ConnectionEvent } from './watch.js';

/** Turns messages into what goes over the socket, and back. */
export interface Serializer<M> {
  encode(message: M): Payload;
  decode(data: Payload): M;
}

/** How a socket behaves. */
export interface SocketOptions<M> extends Omit<ConnectionOptions, 'heartbeat'> {
  readonly protocols?: readonly string[];
  /** Default: text and binary as they are. */
  readonly serializer?: Serializer<M>;
  /** Without a `message` to send there is no heartbeat, for the peer would not know to answer. */
  readonly heartbeat?: HeartbeatOptions & { message(): M };
  /** What may wait for a connection. */
  readonly queue?: QueueOptions;
}

/** A WebSocket that comes back. */
export interface Socket<M> extends Measurable {
  /** Opens it and keeps it open; settles with the first outcome. */
  connect(): Promise<void>;
  /** Closes it; what waits goes on waiting for the next `connect`. */
  disconnect(): void;
  /**
   * Sends now, or as soon as there is a connection.
   * Throws `queue_full` if neither is possible, and whatever the serializer throws.
   */
  send(message: M): void;
  /** Gives `listener` every message. One that cannot be decoded surfaces as an uncaught error. */
  onMessage(listener: (message: M) => void): Stop;
}

/** Makes a socket; it does nothing before `connect`. */
export function createSocket<M = Payload>(options: SocketOptions<M>): Socket<M> {
  const { serializer, heartbeat, protocols } = options;
  const listeners = new Set<(message: M) => void>();
  const limits = { ...QUEUE_LIMITS, ...options.queue };
  let waiting: Queue<{ readonly data: Payload; readonly bytes: number }> = EMPTY;

  const encode = (message: M): Payload => (serializer ? serializer.encode(message) : (message as Payload));
  const connection = createConnection(options, {
    protocols,
    probe: heartbeat && (() => void connection.send(encode(heartbeat.message()))),
    open() {
      const { items } = waiting;
      waiting = EMPTY;
      for (const { data } of items) connection.send(data);
      connection.ready();
    },
    message: (data) =>
      guard(() => {
        const message = serializer ? serializer.decode(data) : (data as M);
        tell(listeners, message);
      }),
  });
  const { getSnapshot, subscribe, connect, disconnect, attach } = connection;

  return {
    getSnapshot,
    subscribe,
    connect,
    disconnect,
    attach,
    onMessage: (listener) => enlist(listeners, listener),
    send(message) {
      const data = encode(message);
      if (connection.send(data)) return;
      const longer = enqueue(waiting, { data, bytes: sizeOf(data) }, limits);
      if (!longer) throw new TidewireError('queue_full', 'the queue is full', true);
      waiting = longer;
    },
  };
}
