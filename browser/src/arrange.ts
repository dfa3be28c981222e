/**
 * The order of a window's documents, which is the server's: absent (also arrays and objects), null, false, true,
 * numbers, texts by their UTF-8 bytes; what is equal stands by its key, ascending. Pure.
 *
 * Of a long text the server looks at the first 256 bytes only; this at all of it.
 */
import { membersOf } from './merge.js';
import type { Query } from './wire.js';

const KINDS = ['', 'boolean', 'number', 'string'];

/** UTF-16 orders like UTF-8, but for surrogates, which belong behind everything else. */
const sortable = (text: string): string => text.replace(/[\ud800-\udfff]/g, '\uffff$&');

/** Where a value stands: by its kind, then among its kind. */
export const rank = (value: unknown): readonly [number, unknown] => {
  const kind = value === null ? 0 : KINDS.indexOf(typeof value);
  return [kind, kind > 2 ? sortable(value as string) : kind > 0 && value];
};

/** The value of a field, `sender.name` being inside; none if it is not there. */
export const field = (document: unknown, path: string): unknown => path.split('.').reduce((value, name) => membersOf(value)?.get(name), document);

/** Below 0 if `a` stands before `b`, above if after it. Both are of one kind. */
export const compare = (a: unknown, b: unknown): number => +((a as number) > (b as number)) - +((a as number) < (b as number));

/** The documents in the order asked for, or as they are. */
export const arrange = <D>(documents: ReadonlyMap<string, D>, { order, limit }: Query): ReadonlyMap<string, D> => {
  if (!order && !limit) return documents;
  const { by, direction } = order ?? {};
  const sign = direction === 'descending' ? -1 : 1;
  const rows = Array.from(documents, ([key, document]) => [...rank(by ? field(document, by) : key), sortable(key), key, document] as const);
  rows.sort((a, b) => sign * (compare(a[0], b[0]) || compare(a[1], b[1])) || compare(a[2], b[2]));
  return new Map(rows.map(([, , , key, document]) => [key, document]));
};
