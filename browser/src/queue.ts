/**
 * A queue bounded by count and by bytes. Pure: every operation returns the next queue.
 */
import type { Payload } from './connection.js';

/** A message's size: UTF-8 bytes of text. */
export const sizeOf = (data: Payload): number =>
  typeof data === 'string' ? new TextEncoder().encode(data).length : data.byteLength;

/** How much may wait, and what happens beyond that. */
export interface QueueOptions {
  /** Most messages waiting. Default: 200. */
  readonly max?: number;
  /** Most bytes waiting. Default: 1 MiB. */
  readonly maxBytes?: number;
}

/** The default bounds. */
export const QUEUE_LIMITS: Required<QueueOptions> = { max: 200, maxBytes: 1_048_576 };

/** What waits, oldest first, and its size. */
export interface Queue<T> {
  readonly items: readonly T[];
  readonly bytes: number;
}

/** A queue with nothing in it. */
export const EMPTY: Queue<never> = { items: [], bytes: 0 };

/** The queue with `item` at its end, or `undefined` if that would break a bound. */
export const enqueue = <T extends { readonly bytes: number }>(
  queue: Queue<T>,
  item: T,
  limits: Required<QueueOptions>,
): Queue<T> | undefined =>
  queue.items.length >= limits.max || queue.bytes + item.bytes > limits.maxBytes
    ? undefined
    : { items: [...queue.items, item], bytes: queue.bytes + item.bytes };
