/**
 * The outbox: requests that wait for their answer, bounded by count and bytes. Pure.
 *
 * An entry stays until it is answered, whatever happens to the connection, and is sent again, the same, after
 * each reconnect; the server makes that one effect. Of each lane one entry is on its way at a time, so that
 * one which must be tried again is never overtaken by its successor.
 */
import type { QueueOptions } from './queue.js';

/** A request that waits. */
export interface Entry {
  /** What keeps its order: a stream's appends share one. */
  readonly lane: string;
  /** The message as it goes over the wire, encoded once. */
  readonly text: string;
  /** The size of `text` in UTF-8 bytes. */
  readonly bytes: number;
  /** On its way over the present connection. */
  sent: boolean;
  /** How often it was. */
  sends: number;
}

/** What waits, by id, oldest first. */
export type Outbox<E extends Entry = Entry> = ReadonlyMap<string, E>;

/** Whether a further entry of `bytes` breaks no bound. */
export const hasRoom = (outbox: Outbox, bytes: number, { max, maxBytes }: Required<QueueOptions>): boolean => {
  for (const entry of outbox.values()) bytes += entry.bytes;
  return outbox.size < max && bytes <= maxBytes;
};

/** The entries to send now: the oldest of each lane, unless it is on its way. */
export const due = <E extends Entry>(outbox: Outbox<E>): readonly (readonly [string, E])[] => {
  const seen = new Set<string>();
  return [...outbox].filter(([, { lane, sent }]) => seen.size < seen.add(lane).size && !sent);
};
