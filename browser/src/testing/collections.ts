/**
 * Collections: documents that clients edit by the command `$collection`, over a log in memory.
 */
import { merge } from '../merge.js';
import type { Json, RecordedEvent } from '../wire.js';
import type { FakeDocuments, FakeProjection, Project } from './projections.js';
import { Refusal } from './refusal.js';

/** The command that edits. */
export const EDIT = '$collection';

/** What an edit says. */
interface Asked {
  readonly collection: string;
  readonly op: 'insert' | 'update' | 'delete';
  readonly key: string;
  readonly document?: Json;
  readonly patch?: Json;
  readonly revision?: number;
}

/** What collections use of their log. */
export interface Editable {
  revision(stream: string): number | undefined;
  append(stream: string, type: string, data: Json): { readonly position: number; readonly revision: number };
  /** None where there is no collection of that name. */
  collection(name: string): FakeProjection | undefined;
}

const EVENTS = { insert: 'Inserted', update: 'Updated', delete: 'Deleted' } as const;

/** What the events of the collection `name` do to its documents. */
export const projectCollection =
  (name: string): Project =>
  ({ stream, type, data, revision }: RecordedEvent, documents: FakeDocuments) => {
    if (!stream.startsWith(`${name}-`)) return;
    const key = stream.slice(name.length + 1);
    const { document, patch } = data as { readonly document?: Json; readonly patch?: Json };
    if (type === EVENTS.insert) documents.put(key, merge(document, { $revision: revision }) as Json);
    else if (type === EVENTS.update) documents.put(key, merge(merge(documents.get(key), patch), { $revision: revision }) as Json);
    else if (type === EVENTS.delete) documents.delete(key);
  };

/** Carries an edit out, or throws its refusal. */
export const edit = (log: Editable, data: Json): { readonly data: Json; readonly position: number } => {
  const { collection, op, key, document, patch, revision } = data as unknown as Asked;
  const stream = `${collection}-${key}`;
  const kept = log.collection(collection);
  if (!kept) throw new Refusal('unknown_collection');
  const present = kept.documents().get(key);
  const at = log.revision(stream);
  const conflict = (): Refusal => new Refusal('conflict', { document: present ?? null, revision: present === undefined ? null : at! });
  if (op === 'insert' ? present !== undefined : revision !== undefined && at !== undefined && revision !== at) throw conflict();
  if (op !== 'insert' && present === undefined) throw new Refusal('no_such_document');
  const content: Json = op === 'insert' ? { document: document! } : op === 'update' ? { patch: patch! } : {};
  const landed = log.append(stream, EVENTS[op], content);
  return { data: { revision: landed.revision }, position: landed.position };
};
