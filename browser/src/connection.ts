/**
 * One connection that is kept: opened, checked, lost, opened again.
 *
 * It knows WebSockets and time, and nothing of any protocol: what is said on the socket, and when a
 * connection counts as established, is its owner's (`./socket` or the client). It never queues. It has
 * one timer, which is the connection time-out, the heartbeat or the retry, whichever is due next.
 */
import { reconnectPolicy, retryDelay, type ReconnectOptions } from './backoff.js';
import { isFinal, NO_ANSWER, TIMED_OUT } from './closing.js';
import { TidewireError } from './error.js';
import { judge, type HeartbeatOptions } from './liveness.js';
import { createStore, guard, type Observable, type Stop } from './store.js';

/** Where a connection stands. */
export type ConnectionState =
  | { readonly status: 'disconnected' }
  | { readonly status: 'connecting' }
  | { readonly status: 'connected'; readonly since: number }
  | {
      readonly status: 'reconnecting';
      /** From 1; starts over after a connection that lasted 5 s. */
      readonly attempt: number;
      /** Milliseconds from the loss to the attempt. */
      readonly delay: number;
      /** When the attempt is made (`Date.now()` time); in the past while it is under way. */
      readonly retryAt: number;
    }
  | { readonly status: 'failed'; readonly error: TidewireError };

/** What happens to a connection. */
export type ConnectionEvent =
  | { readonly type: 'connected' }
  | { readonly type: 'disconnected'; readonly code: number; readonly reason: string; readonly wasClean: boolean }
  | { readonly type: 'reconnecting'; readonly attempt: number; readonly delay: number; readonly maxAttempts: number }
  | { readonly type: 'reconnected'; readonly attempts: number; readonly totalDelay: number }
  | { readonly type: 'error'; readonly error: TidewireError };

/** What went through a connection since it was created. */
export interface Statistics {
  readonly messagesSent: number;
  readonly messagesReceived: number;
  /** UTF-8 bytes of text, or bytes of binary messages; frames and compression are not visible here. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly reconnects: number;
  readonly errors: number;
  /** The last round trip in milliseconds, once measured. */
  readonly latency: number | undefined;
  /** Milliseconds since the present connection was established; 0 without one. */
  readonly uptime: number;
}

/** What can be sent on a socket. */
export type Payload = string | ArrayBuffer;

/** What this package uses of a WebSocket. */
export interface WebSocketLike {
  binaryType: string;
  readonly readyState: number;
  send(data: Payload): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: 'open' | 'message' | 'close' | 'error', listener: (event: { readonly type: string }) => void): void;
}

/** A WebSocket class: the platform's, that of the package `ws`, or a fake. */
export type WebSocketConstructor = new (url: string, protocols?: string[]) => WebSocketLike;

/** What every connection can be told. */
export interface ConnectionOptions {
  /** `ws:`, `wss:`, `http:`, `https:`, or relative to the page. */
  readonly url: string | URL;
  /** See {@link ReconnectOptions}. */
  readonly reconnect?: ReconnectOptions;
  /** See {@link HeartbeatOptions}. */
  readonly heartbeat?: HeartbeatOptions;
  /** Milliseconds for a connection to be established. Default: 10 000. */
  readonly connectionTimeout?: number;
  /** Default: the platform's. */
  readonly WebSocket?: WebSocketConstructor;
}

/** What the owner of a connection does. */
export interface ConnectionHooks {
  readonly protocols?: readonly string[];
  /** Runs before each attempt; an error that is not retryable is final. */
  prepare?(): unknown;
  /** The socket is open. The owner calls `ready` once it counts as connected. */
  open(): void;
  message(data: Payload): void;
  /** Sends something that the peer must answer. Without it there is no heartbeat. */
  probe?(): void;
  event(event: ConnectionEvent): void;
}

/** A kept connection, for its owner. */
export interface Connection extends Observable<ConnectionState> {
  /** Starts, or does nothing when started. Settles with the first outcome. */
  connect(): Promise<void>;
  /** Closes for good, until `connect`. */
  disconnect(): void;
  /** Whether the socket took it. */
  send(data: Payload): boolean;
  /** The owner's word that the connection is established. */
  ready(): void;
  /** Gives the socket up and goes the way of a close with this code. */
  lose(code: number, reason: string, final?: boolean): void;
  /** The peer's advice for the next close: wait at least so long, or stay away. */
  advise(delay: number, final: boolean): void;
  /** A round trip that was seen. */
  measured(latency: number): void;
  statistics(): Statistics;
}

/** A connection that lasted so long ends a row of failures. */
const STABLE_MS = 5_000;
/** What makes a page look at its connection at once. */
const WAKERS = ['visibilitychange', 'online', 'pageshow'];

const sizeOf = (data: Payload): number =>
  typeof data === 'string' ? new TextEncoder().encode(data).length : data.byteLength;

/** Makes a connection; it does nothing before `connect`. */
export const createConnection = (options: ConnectionOptions, hooks: ConnectionHooks): Connection => {
  const store = createStore<ConnectionState>({ status: 'disconnected' });
  const policy = reconnectPolicy(options.reconnect);
  const { interval = 30_000, timeout = 5_000 } = options.heartbeat ?? {};
  const counts = { messagesSent: 0, messagesReceived: 0, bytesSent: 0, bytesReceived: 0, reconnects: 0, errors: 0 };
  let latency: number | undefined;
  let socket: WebSocketLike | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let turn = 0;
  let waiting = false;
  let attempts = 0;
  let totalDelay = 0;
  let connectedAt = 0;
  let askedAt = 0;
  let advice = 0;
  let banned = false;

  const arm = (ms: number, run: () => void): void => {
    clearTimeout(timer);
    timer = setTimeout(run, ms);
  };
  const event = (happened: ConnectionEvent): void => guard(() => hooks.event(happened));

  const ask = (): void => {
    askedAt = Date.now();
    arm(timeout, () => {
      const liveness = judge(askedAt, Date.now(), timeout);
      if (liveness === 'dead') lose(NO_ANSWER, 'no answer');
      else if (liveness === 'asleep') ask();
      else arm(interval - timeout, ask);
    });
    hooks.probe!();
  };

  const wake = (): void => {
    if (globalThis.document?.visibilityState === 'hidden') return;
    if (waiting) void open();
    else if (connectedAt && !askedAt && hooks.probe) ask();
  };
  const listen = (verb: 'addEventListener' | 'removeEventListener'): void =>
    WAKERS.forEach((type) => globalThis[verb]?.(type, wake));

  /** Lets go of the socket and of whatever was planned. */
  const release = (code: number): void => {
    const old = socket;
    socket = undefined;
    turn++;
    waiting = false;
    connectedAt = askedAt = 0;
    clearTimeout(timer);
    guard(() => old?.close(code));
  };

  const lose = (code: number, reason: string, final = banned || isFinal(code), wasClean = false): void => {
    if (connectedAt && Date.now() - connectedAt >= STABLE_MS) attempts = totalDelay = 0;
    const least = advice;
    advice = 0;
    banned = false;
    release(NO_ANSWER);
    counts.errors++;
    event({ type: 'disconnected', code, reason, wasClean });
    if (turnedOff()) return;
    const { maxAttempts } = policy;
    if (final || !policy.enabled || (maxAttempts && attempts >= maxAttempts)) {
      const error = new TidewireError('closed', `${code} ${reason}`, !final, { code, reason });
      listen('removeEventListener');
      store.set({ status: 'failed', error });
      event({ type: 'error', error });
      return;
    }
    const delay = Math.max(least, retryDelay(policy, ++attempts, Math.random()));
    totalDelay += delay;
    waiting = true;
    arm(delay, open);
    store.set({ status: 'reconnecting', attempt: attempts, delay, retryAt: Date.now() + delay });
    event({ type: 'reconnecting', attempt: attempts, delay, maxAttempts });
  };

  const status = (): ConnectionState['status'] => store.getSnapshot().status;
  const turnedOff = (): boolean => status() === 'disconnected' || status() === 'failed';

  const open = async (): Promise<void> => {
    const mine = ++turn;
    waiting = false;
    arm(options.connectionTimeout ?? 10_000, () => lose(TIMED_OUT, 'timed out'));
    try {
      await hooks.prepare?.();
      if (mine !== turn) return;
      const Impl = options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor);
      const url = new URL(options.url, globalThis.location?.href).href.replace(/^http/, 'ws');
      const opened = (socket = new Impl(url, hooks.protocols as string[]));
      opened.binaryType = 'arraybuffer';
      const on = <E>(type: 'open' | 'message' | 'close' | 'error', run: (event: E) => void): void =>
        opened.addEventListener(type, (happened) => {
          if (opened === socket) run(happened as E);
        });
      on('open', hooks.open);
      // Nothing is known beyond that a close follows; listening keeps Node from throwing.
      on('error', () => {});
      on<MessageEvent<Payload>>('message', ({ data }) => {
        askedAt = 0;
        counts.messagesReceived++;
        counts.bytesReceived += sizeOf(data);
        hooks.message(data);
      });
      on<CloseEvent>('close', ({ code, reason, wasClean }) => lose(code, reason, undefined, wasClean));
    } catch (cause) {
      if (mine === turn) lose(TIMED_OUT, String(cause), cause instanceof TidewireError && !cause.retryable);
    }
  };

  return {
    ...store,
    connect() {
      if (turnedOff()) {
        attempts = totalDelay = 0;
        listen('addEventListener');
        store.set({ status: 'connecting' });
        void open();
      }
      return new Promise((resolve, reject) => {
        const settle = (): boolean => {
          const state = store.getSnapshot();
          if (state.status === 'connected') resolve();
          else if (state.status === 'failed') reject(state.error);
          else if (state.status === 'disconnected') reject(new TidewireError('disconnected'));
          else return false;
          return true;
        };
        if (!settle()) {
          const stop: Stop = store.subscribe(() => {
            if (settle()) stop();
          });
        }
      });
    },
    disconnect() {
      if (status() === 'disconnected') return;
      const had = connectedAt;
      listen('removeEventListener');
      release(1000);
      store.set({ status: 'disconnected' });
      if (had) event({ type: 'disconnected', code: 1000, reason: '', wasClean: true });
    },
    send(data) {
      if (socket?.readyState !== 1) return false;
      socket.send(data);
      counts.messagesSent++;
      counts.bytesSent += sizeOf(data);
      return true;
    },
    ready() {
      connectedAt = Date.now();
      if (hooks.probe && interval) arm(interval, ask);
      else clearTimeout(timer);
      const again = status() === 'reconnecting';
      store.set({ status: 'connected', since: connectedAt });
      event({ type: 'connected' });
      if (again) {
        counts.reconnects++;
        event({ type: 'reconnected', attempts, totalDelay });
      }
    },
    lose,
    advise(delay, final) {
      advice = delay;
      banned = final;
    },
    measured(value) {
      latency = value;
    },
    statistics: () => ({ ...counts, latency, uptime: connectedAt && Date.now() - connectedAt }),
  };
};
