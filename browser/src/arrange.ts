/**
 * The order of a window's documents, which is the server's: absent (also arrays and objects), null, false,
 * true, numbers, texts by their UTF-8 bytes; what is equal stands by its key, ascending. Pure.
 */
import { isObject } from './merge.js';
import type { Query } from './wire.js';

/** As many bytes of a text count. */
const TEXT_BYTES = 256;

/** UTF-16 orders like UTF-8, but for surrogates, which belong behind everything else. */
const sortable = (text: string): string => text.replace(/[\ud800-\udfff]/g, '\uffff$&');

const cut = (text: string): string =>
  // So short a text never has more bytes.
  text.length * 3 > TEXT_BYTES ? text.slice(0, new TextEncoder().encodeInto(text, new Uint8Array(TEXT_BYTES)).read) : text;

/** Where a value stands: by the first, then by the second. */
export const rank = (value: unknown): readonly [number, number | string] => {
  if (typeof value === 'string') return [5, sortable(cut(value))];
  if (typeof value === 'number') return [4, value];
  return [value === null ? 1 : typeof value === 'boolean' ? 2 + +value : 0, 0];
};

/** The value of a field, `sender.name` being inside; none if it is not there. */
export const field = (document: unknown, path: string): unknown =>
  path.split('.').reduce((value, name) => (isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined), document);

/** Whether `a` stands before `b` (below 0) or after it (above). */
export const compare = <T extends number | string>(a: T, b: T): number => (a < b ? -1 : +(a > b));

/** The documents in the order asked for, or as they are. */
export const arrange = <D>(documents: ReadonlyMap<string, D>, { order, limit }: Query): ReadonlyMap<string, D> => {
  if (!order && !limit) return documents;
  const { by, direction } = order ?? {};
  const sign = direction === 'descending' ? -1 : 1;
  return new Map(
    Array.from(documents, (entry) => {
      const key = sortable(entry[0]);
      return { entry, key, at: by === undefined ? ([0, key] as const) : rank(field(entry[1], by)) };
    })
      .sort((a, b) => sign * (a.at[0] - b.at[0] || compare(a.at[1], b.at[1])) || compare(a.key, b.key))
      .map(({ entry }) => entry),
  );
};
