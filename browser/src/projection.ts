/**
 * `projection`: the documents of a query, and whatever becomes of them, as one observable value.
 *
 * The reducer (`picture.ts`) decides; this carries. What is shown is always one consistent picture of one
 * moment of the log: while a state is loaded, at first or after the server has lost track, the picture before
 * it stays.
 */
import { arrange } from './arrange.js';
import type { Client } from './client.js';
import { TidewireError } from './error.js';
import { NOTHING, receive, resume, type Known, type QueryInput } from './picture.js';
import { createStore, guard, type Observable, type Stop } from './store.js';
import type { ErrorMessage, Json, Query } from './wire.js';

/** Where a live query stands. `loading`: what is shown is not up to date yet. */
export type QueryPhase = Known<unknown>['phase'] | 'ended';

/** The documents, and how far they have come. */
export interface QueryState<D = Json> {
  readonly phase: QueryPhase;
  /** By key; with `order` or `limit` in that order. A document keeps its identity until it changes. */
  readonly documents: ReadonlyMap<string, D>;
  /** Everything up to here in the log is in the documents; nothing before the first picture. */
  readonly position: number | undefined;
  /** Which life of the projection they are from; a rebuild begins a new one. */
  readonly generation: number | undefined;
  /** Why it ended, unless it was stopped. */
  readonly error?: TidewireError;
}

/** How a live query behaves. */
export interface ProjectionOptions {
  /** Most documents kept; more end it with `too_many_documents`. Default: 10 000. */
  readonly documents?: number;
  /** It ended without being stopped. The snapshot has the error, too. */
  onError?(error: TidewireError): void;
}

/** A running live query. */
export interface LiveQuery<D = Json> extends Observable<QueryState<D>> {
  readonly stop: Stop;
}

/** Milliseconds before a query that was refused for now is tried again, unless the server says otherwise. */
const RETRY_MS = 1_000;
/** As many documents are kept, unless the options say otherwise. */
const DOCUMENTS = 10_000;

/**
 * Follows documents of the projection `name`: all, the one of a key, or those of a query.
 *
 * Begins at once, and goes on after every loss from where it was, or from a fresh state where the server
 * cannot tell any more what was missed.
 */
export const projection = <D = Json>(client: Client, name: string, which: string | Query = {}, options: ProjectionOptions = {}): LiveQuery<D> => {
  const { link } = client;
  const { documents: most = DOCUMENTS } = options;
  const query = typeof which === 'string' ? { key: which } : which;
  const store = createStore<QueryState<D>>({ phase: 'loading', documents: new Map(), position: undefined, generation: undefined });
  let known: Known<D> = NOTHING;
  let sub = 0;
  let retry: ReturnType<typeof setTimeout> | undefined;

  const publish = (before: Known<D>): void => {
    const { phase, shown } = known;
    if (phase === before.phase && shown === before.shown) return;
    const documents = shown && shown.documents !== before.shown?.documents && { documents: arrange(shown.documents, query) };
    store.set({ ...store.getSnapshot(), phase, ...(shown && { position: shown.position, generation: shown.generation }), ...documents });
  };
  const pause = (): void => {
    clearTimeout(retry);
    link.close(sub);
  };
  const end = (error?: TidewireError): void => {
    if (store.getSnapshot().phase === 'ended') return;
    pause();
    store.set({ ...store.getSnapshot(), phase: 'ended', ...(error && { error }) });
    if (error) guard(() => options.onError?.(error));
  };
  const move = (next: Known<D>): void => {
    const before = known;
    known = next;
    publish(before);
  };
  const open = (): void => {
    pause();
    sub = link.open({
      request() {
        move(resume(known));
        const { next, epoch } = known;
        return { to: { projection: name, ...query }, after: next?.position, generation: next?.generation, epoch };
      },
      receive(message) {
        if (message.type === 'unsubscribed' || message.type === 'error') {
          if (message.retryable) {
            pause();
            retry = setTimeout(open, (message as ErrorMessage).retry_after_ms ?? RETRY_MS);
          } else end(new TidewireError(message.code ?? message.type, message.message, false, (message as ErrorMessage).details));
          return;
        }
        const next = receive(known, message as QueryInput, link.welcome()?.epoch);
        const size = next.next?.documents.size ?? 0;
        if (size > most) end(new TidewireError('too_many_documents', `${size} documents of at most ${most}`));
        else move(next);
      },
    });
  };
  open();
  return { ...store, stop: () => end() };
};
