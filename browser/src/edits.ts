/**
 * Edits of a collection that its live query has not told back yet, and the documents with them. Pure.
 */
import { equal, merge } from './merge.js';
import type { Json } from './wire.js';

/** What is done to a document. */
export type Operation =
  | { readonly op: 'insert'; readonly document: Json }
  | { readonly op: 'update'; readonly patch: Json }
  | { readonly op: 'delete' };

/** Where an edit landed. */
export interface Edited {
  /** For a read that must have seen it: `documents(client, …, { wait: position })`. */
  readonly position: number;
  /** The revision that it led to. */
  readonly revision: number;
}

/** An edit of one document. */
export interface Edit {
  readonly key: string;
  readonly operation: Operation;
  /** The revision that it is made upon, as far as that is known. */
  readonly revision: number | undefined;
  /** None while the server has not answered. */
  readonly landed?: Edited;
}

/** The edits that are not in documents which have come to `position`. */
export const unseen = (edits: readonly Edit[], position: number | undefined): readonly Edit[] =>
  edits.filter(({ landed }) => !(landed && landed.position <= position!));

/** `documents` with `edits`; what is as it was in `before` keeps its identity. */
export const withEdits = <D extends { readonly $revision?: number }>(
  documents: ReadonlyMap<string, D>,
  edits: readonly Edit[],
  before: ReadonlyMap<string, D>,
): ReadonlyMap<string, D> => {
  const edited = new Map(documents);
  for (const { key, operation, revision, landed } of edits) {
    const present = edited.get(key);
    const at = present?.$revision;
    // It came with the documents already; or others were faster, and it is about to be refused.
    if (landed ? at! >= landed.revision : at! > revision! || (present && operation.op === 'insert')) continue;
    if (operation.op === 'delete') edited.delete(key);
    else if (operation.op === 'insert' || present) {
      const made = operation.op === 'insert' ? operation.document : merge(present, operation.patch);
      edited.set(key, { ...(made as unknown as D), ...(landed && { $revision: landed.revision }) });
    }
  }
  for (const { key } of edits) {
    const old = before.get(key);
    if (old && equal(old, edited.get(key))) edited.set(key, old);
  }
  return edited;
};
