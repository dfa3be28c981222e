/**
 * Requests that take effect once: they wait in the client's one outbox until they are answered, and are sent
 * again, the same, after each reconnect and each refusal that may pass.
 */
import type { Client } from './client.js';
import { TidewireError } from './error.js';
import { admit, answered, due, EMPTY_OUTBOX, interrupted, mark } from './outbox.js';
import { QUEUE_LIMITS, sizeOf } from './queue.js';
import { uuidv7 } from './uuid.js';
import type { ClientMessage, ErrorMessage, ServerMessage } from './wire.js';

/** A request's fields; its id is made here. */
export type Request = ClientMessage extends infer M ? (M extends { readonly type: 'append' | 'command' } ? Omit<M, 'id'> : never) : never;

/** What answers a request. */
export type Answer = Extract<ServerMessage, { type: 'appended' | 'result' }>;

/** Sends requests. Those of one `lane` go one after the other. */
type Sender = (lane: string | undefined, request: Request, timeout?: number) => Promise<Answer>;

interface Waiter {
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
  const waiters = new Map<string, Waiter>();
  let outbox = EMPTY_OUTBOX;

  const finish = (id: string): Waiter | undefined => {
    const waiter = waiters.get(id);
    waiters.delete(id);
    outbox = answered(outbox, id);
    return waiter;
  };
  const flush = (): void => {
    if (getSnapshot().status !== 'connected') return;
    for (const { id, text, sends } of due(outbox)) {
      if (sends >= attempts) {
        const waiter = finish(id)!;
        waiter.reject(waiter.refusal ?? new TidewireError('unanswered', `sent ${sends} times without an answer`, true));
        return flush();
      }
      if (link.send(text)) outbox = mark(outbox, id, true);
    }
  };
  const refused = (id: string, { code, message, retryable, retry_after_ms, details }: ErrorMessage): void => {
    const refusal = new TidewireError(code, message, retryable, details);
    if (!retryable) return finish(id)!.reject(refusal);
    waiters.get(id)!.refusal = refusal;
    setTimeout(() => {
      outbox = mark(outbox, id, false);
      flush();
    }, retry_after_ms ?? RETRY_MS);
  };

  onMessage((message) => {
    if (!('id' in message) || !waiters.has(message.id!)) return;
    if (message.type === 'error') refused(message.id!, message);
    else finish(message.id!)!.resolve(message as Answer);
    flush();
  });
  subscribe((state) => {
    if (state.status !== 'connected') outbox = interrupted(outbox);
    if (state.status === 'failed') for (const id of [...waiters.keys()]) finish(id)!.reject(state.error);
    flush();
  });

  return (lane, request, timeout) =>
    new Promise((resolve, reject) => {
      const id = uuidv7();
      const text = JSON.stringify({ ...request, id });
      const bytes = sizeOf(text);
      const most = link.welcome()?.limits?.['message_bytes'] ?? Infinity;
      if (bytes > most) return reject(new TidewireError('too_large', `${bytes} bytes of at most ${most}`));
      const longer = admit(outbox, { id, lane: lane ?? id, text, bytes, sent: false, sends: 0 }, limits);
      if (!longer) return reject(new TidewireError('queue_full', 'the outbox is full', true));
      outbox = longer;
      waiters.set(id, { resolve, reject });
      if (timeout) setTimeout(() => finish(id)?.reject(new TidewireError('timeout', `no answer in ${timeout} ms`, true)), timeout);
      flush();
    });
};

/** Sends a request over the client's one outbox. */
export const ask = (client: Client, lane: string | undefined, request: Request, timeout?: number): Promise<Answer> => {
  let sender = senders.get(client);
  if (!sender) senders.set(client, (sender = createSender(client)));
  return sender(lane, request, timeout);
};
