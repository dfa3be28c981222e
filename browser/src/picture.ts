/**
 * What a live query knows, and what each message makes of it. Pure.
 *
 * There are two pictures: the one that is shown, and the next one, while pages of a state and what changed
 * meanwhile arrive. What is read a page at a time is of several moments, so nothing of the next one is shown
 * before the server says `live`: all that was told is one picture then, and each step leads to another. Documents that are the same as before keep their identity throughout.
 */
import { arrange } from './arrange.js';
import type { TidewireError } from './error.js';
import { equal, merge } from './merge.js';
import type { Change, Json, Query, SubscriptionMessage } from './wire.js';

/** Where a live query stands. Only while it is `live` the documents are up to date; `behind`: the connection was too slow, or the documents are made anew. */
export type QueryPhase = 'loading' | 'live' | 'behind' | 'ended';

/** The documents, and how far they have come. */
export interface QueryState<D = Json> {
  readonly phase: QueryPhase;
  /** By key; with `order` or `limit` in that order. A document keeps its identity until it changes. */
  readonly documents: ReadonlyMap<string, D>;
  /** Everything up to here in the log is in the documents; nothing before the first picture. */
  readonly position?: number;
  /** Which life of the projection they are from; a rebuild begins a new one. */
  readonly generation?: number;
  /** Why it ended, unless it was stopped. */
  readonly error?: TidewireError;
}

/** The documents of a query at a position. */
interface Picture<D> {
  readonly generation: number;
  readonly position: number;
  readonly documents: ReadonlyMap<string, D>;
}

/** What is known: the picture that is shown, of which the state tells, and two that come after it. */
export interface Known<D> extends QueryState<D> {
  readonly shown?: Picture<D> | undefined;
  /** Of what was told last, as far as it was told. */
  readonly next?: Picture<D> | undefined;
  /** The same, up to where it is complete: changes after its position are all that it misses. */
  readonly held?: Picture<D> | undefined;
  /** The log that the positions belong to. */
  readonly epoch?: string | undefined;
}

/** The messages about a live query that move it on; a heartbeat's position comes as `scanned`. */
export type QueryInput =
  | Extract<SubscriptionMessage, { type: 'subscribed' | 'state' | 'changes' | 'live' | 'behind' }>
  | { readonly type: 'scanned'; readonly position: number };

/** The connection is a new one: what was told in part is worth nothing, and what is held can be resumed. */
export const resume = <D>(known: Known<D>): Known<D> => ({ ...known, phase: 'loading', next: known.held });

/** What `message` makes of what is known of `query`. `epoch` is the connection's. Throws at a malformed message. */
export const receive = <D>(known: Known<D>, message: QueryInput, query: Query, epoch: string | undefined): Known<D> => {
  let { phase, shown, next, held } = known;
  if (message.type === 'subscribed') {
    if (!message.resumed) next = undefined;
    return { ...known, phase: 'loading', epoch, next, held: next };
  }
  const { position } = message;
  if (!Number.isSafeInteger(position)) throw position;
  if (message.type === 'state' && (!next || message.reset)) {
    phase = 'loading';
    next = { generation: message.generation, position, documents: new Map() };
    held = undefined;
  }
  if (!next) {
    if (message.type === 'scanned') return known;
    throw message;
  }
  if (message.type === 'state' || message.type === 'changes') {
    // A document of a state is like one that was put.
    const changes = message.type === 'state' ? (message.documents as readonly Change[]) : message.changes;
    const documents = new Map(next.documents);
    for (const change of changes) {
      const { key } = change;
      if (change.op === 'delete') documents.delete(key);
      else {
        const document = change.op === 'patch' ? merge(documents.get(key), change.patch) : change.document;
        const old = shown?.documents.get(key);
        documents.set(key, (equal(old, document) ? old : document) as D);
      }
    }
    // Changes up to a position that was told already are those of a projection that lost its last steps.
    if (message.type === 'changes' && position <= next.position) return known;
    next = { ...next, documents: arrange(documents, query) };
    if (!message.more) held = next = { ...next, position };
  } else {
    if (message.type !== 'scanned') phase = message.type;
    if (held === next && position > next.position) held = next = { ...next, position };
  }
  if (phase === 'live' && held === next) shown = next;
  return { ...known, ...shown, phase, shown, next, held };
};
