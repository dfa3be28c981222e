/**
 * Requests that take effect once: they wait in the client's one outbox until they are answered, and are sent
 * again, the same, after each reconnect and each refusal that may pass.
 */
import type { Client } from './client.js';
import { TidewireError } from './error.js';
import { due, hasRoom, type Entry } from './outbox.js';
import { QUEUE_LIMITS, sizeOf } from './queue.js';
import { uuidv7 } from './uuid.js';
import type { ClientMessage, ErrorMessage, ServerMessage } from './wire.js';

/** A request's fields; its id is made here. */
export type Request = ClientMessage extends infer M ? (M extends { readonly type: 'append' | 'command' | 'fetch' } ? Omit<M, 'id'> : never) : never;

/** What answers a request. */
export type Answer = Extract<ServerMessage, { type: 'appended' | 'result' | 'page' }>;

/** Sends requests. Those of one `lane` go one after the other. */
type Sender = (lane: string | undefined, request: Request, timeout?: number) => Promise<Answer>;

interface Waiting extends Entry {
  resolve(answer: Answer): void;
  reject(error: TidewireError): void;
  /** Why it was refused the last time. */
  refusal?: TidewireError;
}

/** Milliseconds before a retryable refusal is tried again, unless the server says otherwise. */
const RETRY_MS = 1_000;
/** How often one request is sent, unless the client's options say otherwise. */
const ATTEMPTS = 10;

const senders = new WeakMap<Client, Sender>();

const createSender = ({ link, getSnapshot, subscribe, onMessage }: Client): Sender => {
  const { attempts, ...limits } = { ...QUEUE_LIMITS, attempts: ATTEMPTS, ...link.options.queue };
  const outbox = new Map<string, Waiting>();

  const fail = (id: string, error: TidewireError): void => {
    outbox.get(id)?.reject(error);
    outbox.delete(id);
  };
  const flush = (): void => {
    if (getSnapshot().status !== 'connected') return;
    for (const [id, entry] of due(outbox)) {
      if (entry.sends >= attempts) {
        fail(id, entry.refusal ?? new TidewireError('unanswered', `sent ${attempts} times without an answer`, true));
        return flush();
      }
      entry.sent = link.send(entry.text);
      entry.sends += +entry.sent;
    }
  };
  const refused = (id: string, entry: Waiting, { code, message, retryable, retry_after_ms, details }: ErrorMessage): void => {
    entry.refusal = new TidewireError(code, message, retryable, details);
    // Who sets a time to wait does not want it twice.
    if (!retryable || code === 'wait_timeout') return fail(id, entry.refusal);
    setTimeout(() => {
      entry.sent = false;
      flush();
    }, retry_after_ms ?? RETRY_MS);
  };

  onMessage((message) => {
    const { id } = message as { id?: string };
    const entry = outbox.get(id!);
    if (!entry) return;
    if (message.type === 'error') refused(id!, entry, message);
    else {
      outbox.delete(id!);
      entry.resolve(message as Answer);
    }
    flush();
  });
  subscribe((state) => {
    for (const [id, entry] of outbox) {
      if (state.status !== 'connected') entry.sent = false;
      if (state.status === 'failed') fail(id, state.error);
    }
    flush();
  });

  return (lane, request, timeout) =>
    new Promise((resolve, reject) => {
      const id = uuidv7();
      const text = JSON.stringify({ ...request, id });
      const bytes = sizeOf(text);
      const most = link.welcome()?.limits?.['message_bytes'] ?? Infinity;
      if (bytes > most) throw new TidewireError('too_large', `${bytes} bytes of at most ${most}`);
      if (!hasRoom(outbox, bytes, limits)) throw new TidewireError('queue_full', 'the outbox is full', true);
      outbox.set(id, { lane: lane ?? id, text, bytes, sent: false, sends: 0, resolve, reject });
      if (timeout) setTimeout(() => fail(id, new TidewireError('timeout', `no answer in ${timeout} ms`, true)), timeout);
      flush();
    });
};

/** Sends a request over the client's one outbox. */
export const ask = (client: Client, lane: string | undefined, request: Request, timeout?: number): Promise<Answer> => {
  let sender = senders.get(client);
  if (!sender) senders.set(client, (sender = createSender(client)));
  return sender(lane, request, timeout);
};
