/**
 * What a live query knows, and what each message makes of it. Pure.
 *
 * There are two pictures: the one that is shown, and the one that comes to be while pages of a state and what
 * changed meanwhile arrive. A page is read at a moment of its own, so nothing of the second is shown before
 * the server says that it is whole. Documents that are the same as before keep their identity throughout.
 */
import { equal, merge } from './merge.js';
import type { SubscriptionMessage } from './wire.js';

/** The documents of a query at a position. */
export interface Picture<D> {
  /** Which life of the projection's documents they are from. */
  readonly generation: number;
  /** What happened up to here is in it. */
  readonly position: number;
  readonly documents: ReadonlyMap<string, D>;
  /** Whether it is all there, so that changes after `position` are all that it misses. */
  readonly whole: boolean;
}

/** What is known. */
export interface Known<D> {
  readonly phase: 'loading' | 'live' | 'behind';
  readonly shown: Picture<D> | undefined;
  /** What comes next; the same as `shown` while nothing is being built. */
  readonly next: Picture<D> | undefined;
  /** The log that the positions belong to. */
  readonly epoch: string | undefined;
}

/** The messages about a live query that move it on; a heartbeat's position comes as `scanned`. */
export type QueryInput =
  | Extract<SubscriptionMessage, { type: 'subscribed' | 'state' | 'changes' | 'live' | 'behind' }>
  | { readonly type: 'scanned'; readonly position: number };

/** Nothing is known. */
export const NOTHING: Known<never> = { phase: 'loading', shown: undefined, next: undefined, epoch: undefined };

/** The connection is a new one: a state that was cut off is worth nothing, and what is whole can be resumed. */
export const resume = <D>(known: Known<D>): Known<D> => ({ ...known, phase: 'loading', next: known.next?.whole ? known.next : known.shown });

/** `documents` with one more, which keeps its identity if it is what one of the two has. */
const put = <D>(documents: Map<string, D>, before: Picture<D> | undefined, key: string, document: D): void =>
  void documents.set(key, [documents.get(key), before?.documents.get(key)].find((old) => equal(old, document)) ?? document);

/** What `message` makes of what is known. `current` is the connection's epoch. Throws at a malformed message. */
export const receive = <D>(known: Known<D>, message: QueryInput, current: string | undefined): Known<D> => {
  const { shown } = known;
  let { phase, next } = known;
  if (message.type === 'subscribed') return { phase: 'loading', shown, next: message.resumed ? next : undefined, epoch: current };
  const { position } = message;
  if (!Number.isSafeInteger(position)) throw position;
  if (message.type === 'state') {
    const { generation, more, reset } = message;
    // Its first page: the others add to what there is.
    if (!next || reset) {
      phase = 'loading';
      next = { generation, position, documents: new Map(), whole: false };
    }
    const documents = new Map(next.documents);
    for (const { key, document } of message.documents) put(documents, shown, key, document as D);
    next = { ...next, documents, whole: !more };
  } else if (!next) throw message;
  else if (message.type === 'changes') {
    const { more } = message;
    const documents = new Map(next.documents);
    for (const change of message.changes) {
      const { key } = change;
      if (change.op === 'delete') documents.delete(key);
      else put(documents, shown, key, (change.op === 'put' ? change.document : merge(documents.get(key), change.patch)) as D);
    }
    next = { ...next, documents, position, whole: !more };
  } else {
    if (message.type !== 'scanned') phase = message.type;
    next = { ...next, position: Math.max(position, next.position) };
  }
  return { ...known, phase, next, shown: phase === 'loading' || !next.whole ? shown : next };
};
