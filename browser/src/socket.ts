/**
 * `tidewire/socket`: a WebSocket that comes back, for any server and any messages.
 *
 * States, backoff with jitter, a heartbeat that finds dead connections, and a queue for what is sent
 * meanwhile, bounded by count and bytes: what does not fit is refused, visibly. It promises nothing
 * about what was on its way when a connection broke; for that, speak the protocol (`tidewire`).
 */
import {
  createConnection,
  type ConnectionEvent,
  type ConnectionOptions,
  type ConnectionState,
  type Payload,
  type Statistics,
} from './connection.js';
import { TidewireError } from './error.js';
import type { HeartbeatOptions } from './liveness.js';
import { EMPTY, enqueue, QUEUE_LIMITS, type Queue, type QueueOptions } from './queue.js';
import { enlist, guard, type Observable, type Stop } from './store.js';

export type { ReconnectOptions } from './backoff.js';
export type { ConnectionEvent, ConnectionState, Payload, Statistics, WebSocketConstructor, WebSocketLike } from './connection.js';
export { TidewireError } from './error.js';
export type { HeartbeatOptions } from './liveness.js';
export { quality, type Quality } from './quality.js';
export type { QueueOptions } from './queue.js';
export type { Observable, Stop } from './store.js';

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

/** What a socket tells. */
export type SocketEvent<M> = ConnectionEvent | { readonly type: 'message'; readonly message: M };

/** A WebSocket that comes back. */
export interface Socket<M> extends Observable<ConnectionState> {
  /** Opens it and keeps it open; settles with the first outcome. */
  connect(): Promise<void>;
  /** Closes it; what waits goes on waiting for the next `connect`. */
  disconnect(): void;
  /**
   * Sends now, or as soon as there is a connection.
   * Throws `queue_full` if neither is possible, and whatever the serializer throws.
   */
  send(message: M): void;
  /** Tells `listener` everything that happens, messages included. */
  on(listener: (event: SocketEvent<M>) => void): Stop;
  statistics(): Statistics;
}

/** Makes a socket; it does nothing before `connect`. */
export function createSocket<M = Payload>(options: SocketOptions<M>): Socket<M> {
  const { serializer, heartbeat } = options;
  const listeners = new Set<(event: SocketEvent<M>) => void>();
  const limits = { ...QUEUE_LIMITS, ...options.queue };
  let waiting: Queue<{ data: Payload; bytes: number }> = EMPTY;

  const emit = (event: SocketEvent<M>): void => {
    for (const listener of listeners) guard(() => listener(event));
  };
  const encode = (message: M): Payload => (serializer ? serializer.encode(message) : (message as Payload));
  const connection = createConnection(options, {
    ...(options.protocols && { protocols: options.protocols }),
    ...(heartbeat && { probe: () => void connection.send(encode(heartbeat.message())) }),
    open() {
      connection.ready();
      const { items } = waiting;
      waiting = EMPTY;
      for (const { data } of items) connection.send(data);
    },
    message: (data) => guard(() => emit({ type: 'message', message: serializer ? serializer.decode(data) : (data as M) })),
    event: emit,
  });

  return {
    getSnapshot: connection.getSnapshot,
    subscribe: connection.subscribe,
    connect: connection.connect,
    disconnect: connection.disconnect,
    statistics: connection.statistics,
    on: (listener) => enlist(listeners, (event) => listener(event)),
    send(message) {
      const data = encode(message);
      if (connection.send(data)) return;
      const bytes = typeof data === 'string' ? new TextEncoder().encode(data).length : data.byteLength;
      const longer = enqueue(waiting, { data, bytes }, limits);
      if (!longer) throw new TidewireError('queue_full', 'the queue is full', true);
      waiting = longer;
    },
  };
}
