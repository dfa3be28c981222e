/**
 * A client of one server: the greeting, who gets which message, and the connection under it.
 *
 * Subscriptions and appends are functions over a client (`stream`, `events`, `append`), so that a
 * bundle holds only what is used. They plug in through {@link Link}.
 */
import { createConnection, type ConnectionOptions } from './connection.js';
import { MALFORMED, TOKEN_EXPIRED } from './closing.js';
import type { Cursor } from './cursor_types.js';
import { TidewireError } from './error.js';
import type { QueueOptions } from './queue.js';
import type { Measurable } from './statistics.js';
import { enlist, tell, type Stop } from './store.js';
import type { SubscriptionInput } from './subscription.js';
import type { ClientMessage, ServerMessage, Subscribe, Welcome } from './wire.js';

/** Why a token is asked for. */
export type TokenReason = 'connect' | 'reconnect' | 'expired';

/** How a client behaves. */
export interface ClientOptions extends ConnectionOptions {
  /** A bearer token, or who makes one; it travels in the greeting, never in the URL. */
  readonly token?: string | ((why: TokenReason) => string | Promise<string>);
  /** What appends and commands may wait, and how often one is sent. Default: 200, 1 MiB, and 10 times. */
  readonly queue?: QueueOptions & { readonly attempts?: number };
  /** Where `durable` subscriptions keep their position. */
  readonly cursor?: Cursor;
  /** A name for the server's list of sessions. */
  readonly name?: string;
}

/** A subscription's end of the line. */
export interface Route {
  /** What to ask for, at each connection anew. */
  request(): Omit<Subscribe, 'sub'>;
  receive(message: SubscriptionInput): void;
}

/** What the functions of this package use of a client. */
export interface Link {
  readonly options: ClientOptions;
  /** The present connection's welcome, or the last one's. */
  welcome(): Welcome | undefined;
  /** Whether it was sent; `text` is one encoded message. */
  send(text: string): boolean;
  /** Gives a route a handle that was never used before, and subscribes if there is a connection. */
  open(route: Route): number;
  /** Forgets a handle, and unsubscribes if there is a connection. */
  close(sub: number): void;
}

/** A client. Its snapshot is the state of its connection. */
export interface Client extends Measurable {
  /** Connects and stays connected; settles with the first outcome. */
  connect(): Promise<void>;
  /** Closes the connection. Subscriptions and waiting appends go on with the next `connect`. */
  disconnect(): void;
  /** Gives `listener` every message of the server, before anything else sees it. */
  onMessage(listener: (message: ServerMessage) => void): Stop;
  /** For the functions of this package. */
  readonly link: Link;
}

/** Makes a client; it does nothing before `connect`. */
export function createClient(options: ClientOptions): Client {
  const routes = new Map<number, Route>();
  const listeners = new Set<(message: ServerMessage) => void>();
  const { token: source } = options;
  let subs = 0;
  let welcome: Welcome | undefined;
  let token: string | undefined;

  const say = (message: ClientMessage): boolean => connection.send(JSON.stringify(message));

  const receive = (message: ServerMessage): void => {
    tell(listeners, message);
    switch (message.type) {
      case 'welcome':
        welcome = message;
        connection.ready(message.reconnect);
        break;
      case 'heartbeat':
        for (const sub in message.positions) routes.get(+sub)?.receive({ type: 'scanned', position: message.positions[sub]! });
        break;
      case 'goodbye':
        connection.advise(message.after_ms, !message.reconnect);
        break;
      default:
        if (!message.type) throw message;
        if ('sub' in message) routes.get(message.sub!)?.receive(message as SubscriptionInput);
        else if (message.type === ('events' as string)) throw message;
    }
  };

  const connection = createConnection(options, {
    protocols: ['tidewire.v1.json'],
    async prepare(lastCode) {
      const last = token;
      const expired = lastCode === TOKEN_EXPIRED;
      token = typeof source === 'function' ? await source(expired ? 'expired' : lastCode ? 'reconnect' : 'connect') : source;
      if (expired && token === last) throw new TidewireError('token_expired');
    },
    open() {
      say({
        type: 'hello',
        protocol: 1,
        token,
        client: options.name,
        subscriptions: Array.from(routes, ([sub, route]) => ({ sub, ...route.request() })),
      });
    },
    message(data) {
      try {
        ([] as ServerMessage[]).concat(JSON.parse(data as string) as ServerMessage).forEach(receive);
      } catch {
        // Whatever it was is missing now; resuming from the position gets it again.
        connection.lose(MALFORMED, 'malformed message', false);
      }
    },
    probe: () => void say({ type: 'ping', id: 'p' }),
  });

  return {
    ...connection,
    onMessage: (listener) => enlist(listeners, listener),
    link: {
      options,
      welcome: () => welcome,
      send: connection.send,
      open(route) {
        routes.set(++subs, route);
        // The first thing said on an open socket is hello, so this cannot come before it.
        say({ type: 'subscribe', sub: subs, ...route.request() });
        return subs;
      },
      close(sub) {
        if (routes.delete(sub)) say({ type: 'unsubscribe', sub });
      },
    },
  };
}
