/**
 * `append`: events into the log, once, whatever happens to the connection meanwhile.
 */
import type { Client } from './client.js';
import { TidewireError } from './error.js';
import { admit, answered, due, EMPTY_OUTBOX, interrupted, mark } from './outbox.js';
import { QUEUE_LIMITS } from './queue.js';
import { uuidv7 } from './uuid.js';
import type { Appended, ErrorMessage, Expected, NewEvent } from './wire.js';

/** How to append. */
export interface AppendOptions {
  /** What the stream must look like. Default: `'any'`. */
  readonly expected?: Expected;
}

interface Waiter {
  resolve(appended: Appended): void;
  reject(error: TidewireError): void;
}

type Appender = (stream: string, events: readonly NewEvent[], options: AppendOptions) => Promise<Appended>;

/** Milliseconds before a retryable refusal is tried again, unless the server says otherwise. */
const RETRY_MS = 1_000;

const appenders = new WeakMap<Client, Appender>();

const createAppender = ({ link, getSnapshot, subscribe, onMessage }: Client): Appender => {
  const limits = { ...QUEUE_LIMITS, ...link.options.queue };
  const waiters = new Map<string, Waiter>();
  let outbox = EMPTY_OUTBOX;

  const flush = (): void => {
    if (getSnapshot().status !== 'connected') return;
    for (const { id, text } of due(outbox)) {
      if (link.send(text)) outbox = mark(outbox, id, true);
    }
  };
  const finish = (id: string): Waiter | undefined => {
    const waiter = waiters.get(id);
    waiters.delete(id);
    outbox = answered(outbox, id);
    return waiter;
  };
  const refused = (id: string, { code, message, retryable, retry_after_ms, details }: ErrorMessage): void => {
    if (retryable) {
      setTimeout(() => {
        outbox = mark(outbox, id, false);
        flush();
      }, retry_after_ms ?? RETRY_MS);
    } else finish(id)?.reject(new TidewireError(code, message, false, details));
  };

  onMessage((message) => {
    if (!('id' in message) || message.id === undefined || !waiters.has(message.id)) return;
    const { id } = message;
    if (message.type === 'appended') finish(id)?.resolve({ position: message.position, revision: message.revision });
    else if (message.type === 'error') refused(id, message);
    flush();
  });
  subscribe(() => {
    const state = getSnapshot();
    if (state.status !== 'connected') outbox = interrupted(outbox);
    if (state.status === 'failed') for (const id of [...waiters.keys()]) finish(id)?.reject(state.error);
    flush();
  });

  return (stream, events, { expected }) =>
    new Promise((resolve, reject) => {
      const named = events.map((event) => ({ ...event, id: event.id ?? uuidv7() }));
      const id = uuidv7();
      const text = JSON.stringify({ type: 'append', id, stream, ...(expected !== undefined && { expected }), events: named });
      const bytes = new TextEncoder().encode(text).length;
      const { message_bytes = Infinity, append_events = Infinity } = link.welcome()?.limits ?? {};
      if (bytes > message_bytes || events.length > append_events) {
        const why = `${bytes} bytes of at most ${message_bytes}, ${events.length} events of at most ${append_events}`;
        reject(new TidewireError('too_large', why));
        return;
      }
      const longer = admit(outbox, { id, stream, text, bytes, sent: false }, limits);
      if (!longer) {
        reject(new TidewireError('queue_full', 'the outbox is full', true));
        return;
      }
      outbox = longer;
      waiters.set(id, { resolve, reject });
      flush();
    });
};

/**
 * Appends events to a stream, at once and together, and tells where the last of them landed.
 *
 * Every event gets an id here, so an append that is sent again after a reconnect takes effect once. It waits
 * in the client's outbox until it is answered; appends to one stream take effect in the order of the calls.
 * Rejects with `queue_full` when the outbox has no room (nothing was queued then), with `too_large` when the
 * server would not take it, with the server's code when it was refused for good, and with the connection's
 * error once that has failed.
 */
export const append = (client: Client, stream: string, events: readonly NewEvent[], options: AppendOptions = {}): Promise<Appended> => {
  let appender = appenders.get(client);
  if (!appender) appenders.set(client, (appender = createAppender(client)));
  return appender(stream, events, options);
};
