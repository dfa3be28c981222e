/**
 * A server without a network: a WebSocket class for `createClient({ WebSocket })`, and a hand on the wire.
 *
 * Messages arrive in microtasks, in order. The wire can be cut, stopped (open, but nothing passes: a
 * zombie) and refuse connections; everything that clients sent is kept in `received`.
 */
import type { Payload, WebSocketConstructor, WebSocketLike } from '../connection.js';
import type { ClientMessage, ServerMessage } from '../wire.js';
import { createFakeLog, type FakeLog, type FakeSession } from './log.js';

/** A fake server. */
export interface FakeServer {
  readonly WebSocket: WebSocketConstructor;
  readonly log: FakeLog;
  /** Every message from every client, oldest first. */
  readonly received: readonly ClientMessage[];
  /** Connections opened so far. */
  readonly opened: () => number;
  /** Connections open now. */
  readonly connections: () => number;
  /** Sends a message to every client, as it is. */
  send(message: ServerMessage): void;
  /** Sends every client any text. */
  sendText(text: string): void;
  /** Sends every client a heartbeat. */
  heartbeat(): void;
  /** As if the time of the oldest unsettled event of each subscription were up. */
  expire(): void;
  /** Closes every connection; without a code as if the network had. */
  cut(code?: number, reason?: string): void;
  /** Whether connections are refused. */
  refuse(refused: boolean): void;
  /** Whether the wire swallows everything, both ways. */
  stall(stalled: boolean): void;
  /** Looks at what a client sent before the server does; `false` swallows it. */
  intercept(interceptor: (message: ClientMessage) => boolean): void;
}

type Listener = (event: { readonly type: string }) => void;

/** Makes a fake server, with a log of its own unless given one. */
export function createFakeServer(log: FakeLog = createFakeLog()): FakeServer {
  const live = new Set<FakeSocket>();
  const received: ClientMessage[] = [];
  let opened = 0;
  let refused = false;
  let stalled = false;
  let interceptor = (_: ClientMessage): boolean => true;

  class FakeSocket implements WebSocketLike {
    binaryType = 'blob';
    readyState = 0;
    session: FakeSession | undefined;
    readonly #listeners: [string, Listener][] = [];

    constructor(
      readonly url: string,
      readonly protocols?: string[],
    ) {
      queueMicrotask(() => {
        if (this.readyState !== 0 || stalled) return;
        if (refused) return this.end(1006, '', false);
        opened++;
        this.readyState = 1;
        live.add(this);
        this.session = log.session((message) => this.deliver(JSON.stringify(message)));
        this.#emit('open', {});
      });
    }

    addEventListener(type: string, listener: Listener): void {
      this.#listeners.push([type, listener]);
    }

    send(data: Payload): void {
      queueMicrotask(() => {
        if (stalled || this.readyState !== 1) return;
        const message = JSON.parse(data as string) as ClientMessage;
        received.push(message);
        if (interceptor(message)) this.session!.receive(message);
      });
    }

    close(code = 1005, reason = ''): void {
      if (this.readyState < 2) this.end(code, reason, true);
    }

    deliver(data: string): void {
      queueMicrotask(() => {
        if (!stalled && this.readyState === 1) this.#emit('message', { data });
      });
    }

    end(code: number, reason: string, wasClean: boolean): void {
      this.readyState = 3;
      live.delete(this);
      this.session?.close();
      this.#emit('close', { code, reason, wasClean });
    }

    #emit(type: string, facts: object): void {
      for (const [wanted, listener] of this.#listeners) if (wanted === type) listener({ type, ...facts });
    }
  }

  return {
    WebSocket: FakeSocket,
    log,
    received,
    opened: () => opened,
    connections: () => live.size,
    send: (message) => live.forEach((socket) => socket.deliver(JSON.stringify(message))),
    sendText: (text) => live.forEach((socket) => socket.deliver(text)),
    heartbeat: () => live.forEach((socket) => socket.session!.heartbeat()),
    expire: () => live.forEach((socket) => socket.session!.expire()),
    cut: (code = 1006, reason = '') => live.forEach((socket) => socket.end(code, reason, code !== 1006)),
    refuse(value) {
      refused = value;
    },
    stall(value) {
      stalled = value;
    },
    intercept(next) {
      interceptor = next;
    },
  };
}
