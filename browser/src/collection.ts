/**
 * `collection`: documents that the page may change itself. What it does is shown at once, and undone if the
 * server refuses.
 *
 * The documents are a live query (`projection.ts`); an edit is a command that waits in the client's outbox and takes
 * effect once. The edits of one document go one after the other, each upon the revision that the one before
 * led to, so that nothing is overwritten that was not seen. An edit is shown until the live query has come to
 * where it landed, so that nothing flickers.
 */
import { arrange } from './arrange.js';
import type { Client } from './client.js';
import { unseen, withEdits, type Edit, type Edited, type Operation } from './edits.js';
import { TidewireError } from './error.js';
import type { Known, QueryState } from './picture.js';
import { projection, type ProjectionOptions } from './projection.js';
import { QUEUE_LIMITS } from './queue.js';
import { command } from './send.js';
import { createStore, type Observable, type Stop } from './store.js';
import type { Json, Query } from './wire.js';

/** A document of a collection: its fields, and the revision that it is at; none while its insertion is pending. */
export type Kept<D> = D & { readonly $revision?: number };

/** A JSON merge patch (RFC 7396) of a document: objects are merged, and `null` removes a field that may be absent. */
export type Patch<D> = {
  readonly [K in keyof D]?:
    | (D[K] extends readonly unknown[] ? D[K] : D[K] extends object ? Patch<D[K]> : D[K])
    | (undefined extends D[K] ? null : never);
};

/** The documents with all that is pending, and what that is. */
export interface CollectionState<D> extends QueryState<Kept<D>> {
  /** The keys of documents whose edits have not come back yet. */
  readonly pending: ReadonlySet<string>;
}

/** How to edit. */
export interface EditOptions {
  /** The revision that the document must be at. Default: the one that is shown; whatever it is, where none is. */
  readonly revision?: number;
}

/** Somebody else was faster: the document is not what the edit was made upon. */
export class ConflictError<D = Json> extends TidewireError {
  constructor(
    message: string,
    /** What the document is now; `null`: it is not there. */
    readonly present: Kept<D> | null,
    /** Its revision now: the one to edit upon, having looked at `present`. */
    readonly revision: number | null,
  ) {
    super('conflict', message, false, { document: present, revision });
  }
}

/**
 * A collection. Every edit shows at once. It rejects, undone, with a {@link ConflictError}, the server's code
 * (`no_such_document`, …) or the outbox's; what was done upon it meanwhile is undone and rejected with it.
 */
export interface Collection<D> extends Observable<CollectionState<D>> {
  insert(key: string, document: D): Promise<Edited>;
  update(key: string, patch: Patch<D>, options?: EditOptions): Promise<Edited>;
  delete(key: string, options?: EditOptions): Promise<Edited>;
  /** Ends the live query. Edits on their way go on. */
  readonly stop: Stop;
}

/** Which documents of the collection, and how its live query behaves. */
export type CollectionOptions = Query & ProjectionOptions;

/** An edit that was not answered. */
interface Pending {
  readonly edit: Edit;
  readonly options: EditOptions;
  resolve(edited: Edited): void;
  reject(error: unknown): void;
}

/** Follows the collection `name`, and edits it. */
export const collection = <D = { readonly [field: string]: Json }>(client: Client, name: string, options: CollectionOptions = {}): Collection<D> => {
  const { documents, onError, ...query } = options;
  const live = projection<Kept<D>>(client, name, query, options);
  const most = client.link.options.queue?.max ?? QUEUE_LIMITS.max;
  /** All that is shown and not told back, in the order of the calls. */
  let edits: readonly Edit[] = [];
  let epoch: string | undefined;
  /** Of each document, what was not answered; the first is on its way. */
  const chains = new Map<string, Pending[]>();
  const store = createStore<CollectionState<D>>({ ...live.getSnapshot(), pending: new Set() });

  const publish = (): void => {
    const state: Known<Kept<D>> = live.getSnapshot();
    // Where something landed in another log says nothing in this one.
    if (state.epoch !== epoch) edits = edits.filter(({ landed }) => !landed);
    epoch = state.epoch;
    edits = unseen(edits, state.position);
    const before = store.getSnapshot().documents;
    store.set({
      ...state,
      documents: edits.length ? arrange(withEdits(state.documents, edits, before), query) : state.documents,
      pending: new Set(edits.map(({ key }) => key)),
    });
  };

  const carry = async (key: string, chain: readonly Pending[]): Promise<void> => {
    let reached: number | undefined;
    try {
      // It takes up what is added meanwhile.
      for (const { edit, options: given, resolve } of chain) {
        const revision = edit.operation.op === 'insert' ? undefined : (given.revision ?? reached ?? edit.revision);
        const data = { collection: name, key, ...edit.operation, revision };
        const { data: told, position = 0 } = await command<{ readonly revision: number }>(client, '$collection', data);
        const landed = { position, revision: told.revision };
        reached = landed.revision;
        edits = edits.map((each) => (each === edit ? { ...edit, landed } : each));
        publish();
        resolve(landed);
      }
      chains.delete(key);
    } catch (cause) {
      const { code, message, details } = cause as TidewireError;
      const { document = null, revision = null } = (details ?? {}) as { readonly document?: Kept<D> | null; readonly revision?: number | null };
      const error = code === 'conflict' ? new ConflictError<D>(message, document, revision) : cause;
      chains.delete(key);
      edits = edits.filter((edit) => !chain.some((pending) => pending.edit === edit));
      publish();
      for (const { reject } of chain) reject(error);
    }
  };

  const make = (key: string, operation: Operation, given: EditOptions = {}): Promise<Edited> =>
    new Promise((resolve, reject) => {
      if (edits.length >= most) throw new TidewireError('queue_full', `${most} edits are pending`, true);
      const chain = chains.get(key) ?? [];
      const last = chain.at(-1)?.edit.revision;
      const revision = given.revision ?? (chain.length ? last !== undefined ? last + 1 : last : store.getSnapshot().documents.get(key)?.$revision);
      const edit: Edit = { key, operation, revision };
      edits = [...edits, edit];
      if (chain.push({ edit, options: given, resolve, reject }) === 1) {
        chains.set(key, chain);
        void carry(key, chain);
      }
      publish();
    });

  const unwatch = live.subscribe(publish);
  return {
    ...store,
    insert: (key, document) => make(key, { op: 'insert', document: document as Json }),
    update: (key, patch, given) => make(key, { op: 'update', patch: patch as Json }, given),
    delete: (key, given) => make(key, { op: 'delete' }, given),
    stop() {
      live.stop();
      unwatch();
    },
  };
};
