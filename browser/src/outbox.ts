/**
 * The outbox: requests that wait for their answer, bounded by count and bytes. Pure.
 *
 * An entry stays until it is answered, whatever happens to the connection, and is sent again, the same, after
 * each reconnect; the server makes that one effect. Of each lane one entry is on its way at a time, so that
 * one which must be tried again is never overtaken by its successor.
 */
import { EMPTY, enqueue, type Queue, type QueueOptions } from './queue.js';

/** A request that waits. */
export interface Entry {
  readonly id: string;
  /** What keeps its order: a stream's appends share one. */
  readonly lane: string;
  /** The message as it goes over the wire, encoded once. */
  readonly text: string;
  /** The size of `text` in UTF-8 bytes. */
  readonly bytes: number;
  /** On its way over the present connection. */
  readonly sent: boolean;
  /** How often it was. */
  readonly sends: number;
}

/** What waits, oldest first. */
export type Outbox = Queue<Entry>;

/** An outbox with nothing in it. */
export const EMPTY_OUTBOX: Outbox = EMPTY;

/** Takes an entry in, or `undefined` if that would break a bound. */
export const admit = (outbox: Outbox, entry: Entry, limits: Required<QueueOptions>): Outbox | undefined =>
  enqueue(outbox, entry, limits);

/** The entries to send now: the oldest of each lane, unless it is on its way. */
export const due = (outbox: Outbox): readonly Entry[] => {
  const seen = new Set<string>();
  return outbox.items.filter((entry) => {
    const first = !seen.has(entry.lane);
    seen.add(entry.lane);
    return first && !entry.sent;
  });
};

const map = (outbox: Outbox, run: (entry: Entry) => Entry): Outbox => ({ ...outbox, items: outbox.items.map(run) });

/** Notes that `id` is on its way, or (`sent` false) is to be sent again. */
export const mark = (outbox: Outbox, id: string, sent: boolean): Outbox =>
  map(outbox, (entry) => (entry.id === id ? { ...entry, sent, sends: entry.sends + +sent } : entry));

/** The connection is gone: nothing is on its way. */
export const interrupted = (outbox: Outbox): Outbox => map(outbox, (entry) => ({ ...entry, sent: false }));

/** `id` was answered for good. */
export const answered = (outbox: Outbox, id: string): Outbox => {
  const items = outbox.items.filter((entry) => entry.id !== id);
  return { items, bytes: items.reduce((sum, { bytes }) => sum + bytes, 0) };
};
