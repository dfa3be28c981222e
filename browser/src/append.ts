/**
 * `append`: events into the log, once, whatever happens to the connection meanwhile.
 */
import type { Client } from './client.js';
import { TidewireError } from './error.js';
import { ask } from './requests.js';
import { uuidv7 } from './uuid.js';
import type { Appended, Expected, NewEvent } from './wire.js';

/** How to append. */
export interface AppendOptions {
  /** What the stream must look like. Default: `'any'`. */
  readonly expected?: Expected;
  /** Milliseconds to wait for the answer; then it rejects with `timeout`, and may have taken effect. Default: no limit. */
  readonly timeout?: number;
}

/**
 * Appends events to a stream, at once and together, and tells where the last of them landed.
 *
 * Every event gets an id here, so an append that is sent again after a reconnect takes effect once. It waits
 * in the client's outbox until it is answered; appends to one stream take effect in the order of the calls.
 * Rejects with `queue_full` when the outbox has no room (nothing was queued then), with `too_large` when the
 * server would not take it, with the server's code when it was refused for good or too often, and with the
 * connection's error once that has failed.
 */
export const append = async (client: Client, stream: string, events: readonly NewEvent[], options: AppendOptions = {}): Promise<Appended> => {
  const most = client.link.welcome()?.limits?.['append_events'] ?? Infinity;
  if (events.length > most) throw new TidewireError('too_large', `${events.length} events of at most ${most}`);
  const named = events.map((event) => ({ ...event, id: event.id ?? uuidv7() }));
  const { position, revision } = (await ask(client, stream, { type: 'append', stream, expected: options.expected, events: named }, options.timeout)) as Appended;
  return { position, revision };
};
