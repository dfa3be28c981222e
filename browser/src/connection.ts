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
import { slept, type HeartbeatOptions } from './liveness.js';
import { createStore, type Observable } from './store.js';

/** Where a connection stands. */
export type ConnectionState =
  | { readonly status: 'disconnected' }
  | { readonly status: 'connecting' }
  | {
      readonly status: 'connected';
      /** When it was established (`Date.now()` time). */
      readonly since: number;
    }
  | {
      readonly status: 'reconnecting';
      /** From 1; starts over after a connection that lasted 5 s. */
      readonly attempt: number;
      /** Milliseconds from the loss to the attempt. */
      readonly delay: number;
      /** When the attempt is made (`Date.now()` time); in the past while it is under way. */
      readonly retryAt: number;
      /** What was lost, or what the last attempt met. */
      readonly error: ClosedError;
    }
  | { readonly status: 'failed'; readonly error: ClosedError };

/** How a connection ended: `details` says what the close event said. */
export interface ClosedError extends TidewireError {
  readonly details: { readonly code: number; readonly reason: string; readonly wasClean: boolean };
}

/** Who sees what goes through a connection, before anything else does. */
export type Tap = (data: Payload, direction: 'sent' | 'received') => void;

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
  /** `ws:`, `wss:`, `http:`, `https:`, or relative to the page, as the WebSocket class takes it. */
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

/** How the peer would have its clients come back; the client's own options go first. */
export interface ReconnectHint {
  readonly min_ms: number;
  readonly max_ms: number;
  /** A further random delay up to this. */
  readonly spread_ms: number;
}

/** What the owner of a connection does. */
export interface ConnectionHooks {
  readonly protocols?: readonly string[] | undefined;
  /** Runs before each attempt with the code of the last close, if any; an error that is not retryable is final. */
  prepare?(lastCode: number): unknown;
  /** The socket is open. The owner calls `ready` once it counts as connected. */
  open(): void;
  message(data: Payload): void;
  /** Sends something that the peer must answer. Without it there is no heartbeat. */
  probe?: (() => void) | undefined;
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
  ready(hint?: ReconnectHint): void;
  /** Gives the socket up and goes the way of a close with this code. */
  lose(code: number, reason: string, final?: boolean): void;
  /** The peer's advice for the next close: wait at least so long, or stay away. */
  advise(delay: number, final: boolean): void;
  /** Sets who sees what goes through, from now on. */
  attach(tap: Tap): void;
}

/** A connection that lasted so long ends a row of failures. */
const STABLE_MS = 5_000;
/** What makes a page look at its connection at once. */
const WAKERS = ['visibilitychange', 'online', 'pageshow'];

/** Makes a connection; it does nothing before `connect`. */
export const createConnection = (options: ConnectionOptions, hooks: ConnectionHooks): Connection => {
  const store = createStore<ConnectionState>({ status: 'disconnected' });
  const { interval = 30_000, timeout = 5_000 } = options.heartbeat ?? {};
  let policy = reconnectPolicy(options.reconnect);
  let spread = 0;
  let socket: WebSocketLike | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let turn = 0;
  let waiting = false;
  let attempts = 0;
  let connectedAt = 0;
  let askedAt = 0;
  let advice = 0;
  let lastCode = 0;
  let banned = false;
  let kept = false;
  let tap: Tap | undefined;
  let outcome: Promise<void>;
  let resolve: () => void;
  let reject: ((error: TidewireError) => void) | undefined;

  const arm = (ms: number, run: () => void): void => {
    clearTimeout(timer);
    timer = setTimeout(run, ms);
  };

  /** Asks for a sign of life. `again`: the last question was slept through; a page that is late every time gets no third. */
  const ask = (again?: boolean): void => {
    askedAt = Date.now();
    arm(timeout, () => {
      if (!askedAt) arm(interval - timeout, ask);
      else if (!again && slept(askedAt, Date.now(), timeout)) ask(true);
      else lose(NO_ANSWER, 'no answer');
    });
    hooks.probe!();
  };

  const wake = (): void => {
    if (globalThis.document?.hidden) return;
    if (waiting) void open();
    else if (connectedAt && !askedAt && hooks.probe) ask();
  };
  const keep = (on: boolean): void => {
    kept = on;
    WAKERS.forEach((type) => globalThis[on ? 'addEventListener' : 'removeEventListener']?.(type, wake));
  };

  /** Lets go of the socket and of whatever was planned. */
  const release = (code: number): void => {
    const old = socket;
    socket = undefined;
    turn++;
    waiting = false;
    connectedAt = askedAt = 0;
    clearTimeout(timer);
    old?.close(code);
  };

  /** Stays away until `connect`. */
  const end = (state: ConnectionState, error: TidewireError): void => {
    keep(false);
    store.set(state);
    reject?.(error);
  };

  const lose = (code: number, reason: string, final = banned || isFinal(code), wasClean = false): void => {
    if (connectedAt && Date.now() - connectedAt >= STABLE_MS) attempts = 0;
    release(NO_ANSWER);
    lastCode = code;
    final ||= !policy.enabled || attempts >= (policy.maxAttempts || Infinity);
    const error = new TidewireError('closed', `${code} ${reason}`, !final, { code, reason, wasClean }) as ClosedError;
    if (final) end({ status: 'failed', error }, error);
    else {
      const delay = Math.max(advice, retryDelay(policy, ++attempts, Math.random()) + spread * Math.random());
      waiting = true;
      arm(delay, open);
      store.set({ status: 'reconnecting', attempt: attempts, delay, retryAt: Date.now() + delay, error });
    }
    advice = 0;
    banned = false;
  };

  const open = async (): Promise<void> => {
    const mine = ++turn;
    waiting = false;
    arm(options.connectionTimeout ?? 10_000, () => lose(TIMED_OUT, 'timed out'));
    try {
      await hooks.prepare?.(lastCode);
      if (mine !== turn) return;
      const Impl = options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor);
      const opened = (socket = new Impl(String(options.url), hooks.protocols as string[]));
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
        tap?.(data, 'received');
        hooks.message(data);
      });
      on<CloseEvent>('close', ({ code, reason, wasClean }) => lose(code, reason, undefined, wasClean));
    } catch (cause) {
      if (mine === turn) lose(TIMED_OUT, String(cause), (cause as Partial<TidewireError>).retryable === false);
    }
  };

  return {
    ...store,
    attach(next) {
      tap = next;
    },
    connect() {
      if (!kept) {
        attempts = 0;
        outcome = new Promise((yes, no) => {
          resolve = yes;
          reject = no;
        });
        // Whoever does not wait for the outcome sees it in the state.
        outcome.catch(() => {});
        keep(true);
        store.set({ status: 'connecting' });
        void open();
      }
      return outcome;
    },
    disconnect() {
      release(1000);
      end({ status: 'disconnected' }, new TidewireError('disconnected'));
    },
    send(data) {
      if (socket?.readyState !== 1) return false;
      socket.send(data);
      tap?.(data, 'sent');
      return true;
    },
    ready(hint) {
      if (hint) {
        policy = reconnectPolicy({ initialDelay: hint.min_ms, maxDelay: hint.max_ms, ...options.reconnect });
        spread = hint.spread_ms;
      }
      const since = (connectedAt = Date.now());
      clearTimeout(timer);
      if (hooks.probe && interval) arm(interval, ask);
      store.set({ status: 'connected', since });
      resolve();
    },
    lose,
    advise(delay, final) {
      advice = delay;
      banned = final;
    },
  };
};
