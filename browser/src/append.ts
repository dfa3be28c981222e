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

const createAppender = ({ link, getSnapshot, subscribe }: Client): Appender => {
  const limits = { ...QUEUE_LIMITS, ...link.options.queue };
  const waiters = new Map<string, Waiter>();
  let outbox = EMPTY_OUTBOX;
  let online = false;

  const flush = (): void => {
    if (!online) return;
    for (const { id, text } of due(outbox)) {
      if (link.sendText(text)) outbox = mark(outbox, id, true);
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

  link.plug({
    welcomed() {
      online = true;
      flush();
    },
    lost() {
      online = false;
      outbox = interrupted(outbox);
    },
    receive(message) {
      if (!('id' in message) || !waiters.has(message.id!)) return;
      const id = message.id!;
      if (message.type === 'appended') {
        finish(id)?.resolve({ position: message.position, revision: message.revision });
        flush();
      } else if (message.type === 'error') {
        refused(id, message);
        flush();
      }
    },
  });
  subscribe(() => {
    const state = getSnapshot();
    if (state.status === 'failed') for (const id of [...waiters.keys()]) finish(id)?.reject(state.error);
  });
  online = getSnapshot().status === 'connected';

  return (stream, events, { expected }) =>
    new Promise((resolve, reject) => {
      const named = events.map((event) => ({ ...event, id: event.id ?? uuidv7() }));
      const id = uuidv7();
      const text = JSON.stringify({ type: 'append', id, stream, ...(expected !== undefined && { expected }), events: named });
      const bytes = new TextEncoder().encode(text).length;
      const most = link.welcome()?.limits?.message_bytes ?? Infinity;
      const longer = bytes > most ? undefined : admit(outbox, { id, stream, text, bytes, sent: false }, limits);
      if (!longer) {
        const [code, why] = bytes > most ? ['too_large', `${bytes} bytes of at most ${most}`] : ['queue_full', 'the outbox is full'];
        reject(new TidewireError(code!, why, code === 'queue_full'));
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
