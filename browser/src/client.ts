/**
 * A client of one server: the greeting, who gets which message, and the connection under it.
 *
 * Subscriptions and appends are functions over a client (`stream`, `events`, `append`), so that a
 * bundle holds only what is used. They plug in through {@link Link}.
 */
import {
  createConnection,
  type ConnectionEvent,
  type ConnectionOptions,
  type ConnectionState,
  type Statistics,
} from './connection.js';
import { TOKEN_EXPIRED } from './closing.js';
import type { Cursor } from './cursor_types.js';
import { TidewireError } from './error.js';
import type { QueueOptions } from './queue.js';
import { enlist, guard, type Observable, type Stop } from './store.js';
import type { ClientMessage, ErrorMessage, ServerMessage, Subscribe, SubscriptionMessage, Welcome } from './wire.js';

/** Why a token is asked for. */
export type TokenReason = 'connect' | 'reconnect' | 'expired';

/** How a client behaves. */
export interface ClientOptions extends ConnectionOptions {
  /** A bearer token, or who makes one; it travels in the greeting, never in the URL. */
  readonly token?: string | ((why: TokenReason) => string | Promise<string>);
  /** What appends may wait while offline. Default: 200, and 1 MiB. */
  readonly queue?: QueueOptions;
  /** Where `durable` subscriptions keep their position. */
  readonly cursor?: Cursor;
  /** A name for the server's list of sessions. */
  readonly name?: string;
}

/** What a client tells. */
export type ClientEvent = ConnectionEvent | { readonly type: 'message'; readonly message: ServerMessage };

/** A subscription's end of the line. */
export interface Route {
  /** What to ask for, at each connection anew. */
  request(): Omit<Subscribe, 'sub'>;
  receive(message: SubscriptionMessage | ErrorMessage | { readonly type: 'scanned'; readonly position: number }): void;
}

/** Something else that takes part in a connection. */
export interface Plug {
  welcomed?(): void;
  receive?(message: ServerMessage): void;
  lost?(): void;
}

/** What the functions of this package use of a client. */
export interface Link {
  readonly options: ClientOptions;
  /** The present connection's welcome, or the last one's. */
  welcome(): Welcome | undefined;
  /** Whether it was sent; `text` is one encoded message. */
  sendText(text: string): boolean;
  /** Gives a route a handle that was never used before, and subscribes if there is a connection. */
  open(route: Route): number;
  /** Forgets a handle, and unsubscribes if there is a connection. */
  close(sub: number): void;
  plug(plug: Plug): Stop;
}

/** A client. Its snapshot is the state of its connection. */
export interface Client extends Observable<ConnectionState> {
  /** Connects and stays connected; settles with the first outcome. */
  connect(): Promise<void>;
  /** Closes the connection. Subscriptions and waiting appends go on with the next `connect`. */
  disconnect(): void;
  /** Tells `listener` everything that happens, messages included. */
  on(listener: (event: ClientEvent) => void): Stop;
  statistics(): Statistics;
  /** For the functions of this package. */
  readonly link: Link;
}

/** Makes a client; it does nothing before `connect`. */
export function createClient(options: ClientOptions): Client {
  const routes = new Map<number, Route>();
  const plugs = new Set<Plug>();
  const listeners = new Set<(event: ClientEvent) => void>();
  let subs = 0;
  let welcome: Welcome | undefined;
  let greeted = false;
  let askedAt = 0;
  let token: string | undefined;
  let why: TokenReason = 'connect';

  const emit = (event: ClientEvent): void => {
    for (const listener of listeners) guard(() => listener(event));
  };
  const send = (message: ClientMessage): boolean => connection.send(JSON.stringify(message));

  const receive = (message: ServerMessage): void => {
    emit({ type: 'message', message });
    switch (message.type) {
      case 'welcome':
        welcome = message;
        why = 'reconnect';
        connection.measured(Date.now() - askedAt);
        connection.ready();
        for (const plug of plugs) plug.welcomed?.();
        return;
      case 'pong':
        connection.measured(Date.now() - askedAt);
        return;
      case 'heartbeat':
        for (const [sub, position] of Object.entries(message.positions)) routes.get(+sub)?.receive({ type: 'scanned', position });
        return;
      case 'goodbye':
        connection.advise(message.after_ms, !message.reconnect);
        return;
      default:
        if ('sub' in message && message.sub !== undefined) routes.get(message.sub)?.receive(message);
        else for (const plug of plugs) plug.receive?.(message);
    }
  };

  const connection = createConnection(options, {
    protocols: ['tidewire.v1.json'],
    async prepare() {
      const source = options.token;
      const last = token;
      token = typeof source === 'function' ? await source(why) : source;
      if (why === 'expired' && token === last) throw new TidewireError('token_expired');
    },
    open() {
      askedAt = Date.now();
      greeted = send({
        type: 'hello',
        protocol: 1,
        ...(token && { token }),
        ...(options.name && { client: options.name }),
        ...(welcome && { epoch: welcome.epoch }),
        subscriptions: Array.from(routes, ([sub, route]) => ({ sub, ...route.request() })),
      });
    },
    message(data) {
      let message: ServerMessage | readonly ServerMessage[];
      try {
        message = JSON.parse(data as string) as typeof message;
      } catch {
        // Whatever it was is missing now; resuming from the position gets it again.
        connection.lose(4000, 'malformed message', false);
        return;
      }
      if (message instanceof Array) message.forEach(receive);
      else receive(message as ServerMessage);
    },
    probe() {
      askedAt = Date.now();
      send({ type: 'ping', id: 'p' });
    },
    event(event) {
      if (event.type === 'disconnected') {
        greeted = false;
        if (event.code === TOKEN_EXPIRED) why = 'expired';
        for (const plug of plugs) plug.lost?.();
      }
      emit(event);
    },
  });

  return {
    getSnapshot: connection.getSnapshot,
    subscribe: connection.subscribe,
    connect: connection.connect,
    disconnect: connection.disconnect,
    statistics: connection.statistics,
    on: (listener) => enlist(listeners, (event) => listener(event)),
    link: {
      options,
      welcome: () => welcome,
      sendText: connection.send,
      open(route) {
        routes.set(++subs, route);
        if (greeted) send({ type: 'subscribe', sub: subs, ...route.request() });
        return subs;
      },
      close(sub) {
        if (routes.delete(sub) && greeted) send({ type: 'unsubscribe', sub });
      },
      plug: (plug) => enlist(plugs, plug),
    },
  };
}
