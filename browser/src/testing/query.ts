/**
 * Queries over documents in memory, as every server answers them; and merge patches between two values. Pure.
 */
import { arrange, compare, field, rank } from '../arrange.js';
import { equal, membersOf } from '../merge.js';
import type { Condition, Json, Query } from '../wire.js';

const meets = (condition: Condition, document: Json): boolean => {
  const value = (path: string): unknown => {
    const found = field(document, path);
    // What cannot be compared is like what is not there.
    return found === null || typeof found !== 'object' ? found : undefined;
  };
  /** How the field stands to a value of its own kind; nothing if it is of another. */
  const against = ([path, other]: readonly [string, number | string], holds: (sign: number) => boolean): boolean => {
    const [a, b] = [rank(value(path)), rank(other)];
    return a[0] === b[0] && holds(compare(a[1], b[1]));
  };
  if ('and' in condition) return condition.and.every((each) => meets(each, document));
  if ('or' in condition) return condition.or.some((each) => meets(each, document));
  if ('not' in condition) return !meets(condition.not, document);
  if ('eq' in condition) return condition.eq[1] === value(condition.eq[0]);
  if ('in' in condition) return condition.in[1].includes(value(condition.in[0]) as string);
  if ('lt' in condition) return against(condition.lt, (sign) => sign < 0);
  if ('lte' in condition) return against(condition.lte, (sign) => sign <= 0);
  if ('gt' in condition) return against(condition.gt, (sign) => sign > 0);
  if ('gte' in condition) return against(condition.gte, (sign) => sign >= 0);
  if ('exists' in condition) return field(document, condition.exists) !== undefined;
  const text = value(condition.prefix[0]);
  return typeof text === 'string' && text.startsWith(condition.prefix[1]);
};

/** Whether a query without its window has a document. */
export const selects = ({ key, where }: Query, at: string, document: Json): boolean =>
  (key === undefined || key === at) && (where === undefined || meets(where, document));

/** The documents of a query, its window in order. */
export const select = (documents: ReadonlyMap<string, Json>, query: Query): ReadonlyMap<string, Json> => {
  const selected = [...documents].filter(([key, document]) => selects(query, key, document));
  return new Map([...arrange(new Map(selected), query)].slice(0, query.limit));
};

const hasNull = (value: Json): boolean => value === null || (typeof value === 'object' && Object.values(value).some(hasNull));

/** The merge patch (RFC 7396) that makes `after` of `before`; nothing if none can. */
export const patchBetween = (before: Json, after: Json): Json | undefined => {
  const [members, others] = [membersOf(before) as Map<string, Json> | undefined, membersOf(after) as Map<string, Json> | undefined];
  if (!members || !others) return hasNull(after) ? undefined : after;
  const patch = new Map<string, Json>();
  for (const name of members.keys()) if (!others.has(name)) patch.set(name, null);
  for (const [name, value] of others) {
    const old = members.get(name);
    if (old !== undefined && equal(old, value)) continue;
    const change = patchBetween(old ?? 0, value);
    if (change === undefined) return undefined;
    patch.set(name, change);
  }
  return Object.fromEntries(patch);
};
