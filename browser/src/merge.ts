/**
 * JSON values: merge patches (RFC 7396), equality, fields. Pure; what is given is never changed.
 */

/** Whether a value is a JSON object. */
export const isObject = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** What `patch` makes of `target`. Members are set as data, whatever they are called. */
export const merge = (target: unknown, patch: unknown): unknown => {
  if (!isObject(patch)) return patch;
  const members = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name);
    else members.set(name, merge(members.get(name), value));
  }
  return Object.fromEntries(members);
};

/** Whether two JSON values are the same, in whatever order their members stand. */
export const equal = (a: unknown, b: unknown): boolean => {
  if (a === b) return true;
  if (!(a instanceof Object && b instanceof Object) || Array.isArray(a) !== Array.isArray(b)) return false;
  const members = new Map(Object.entries(b));
  const own = Object.entries(a);
  return own.length === members.size && own.every(([name, value]) => members.has(name) && equal(value, members.get(name)));
};
