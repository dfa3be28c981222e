/**
 * JSON values: members, merge patches (RFC 7396), equality. Pure; what is given is never changed.
 */

/** The members of a JSON object, whatever they are called; nothing of anything else. */
export const membersOf = (value: unknown): Map<string, unknown> | undefined =>
  Object(value) === value && !Array.isArray(value) ? new Map(Object.entries(value as object)) : undefined;

/** What `patch` makes of `target`. */
export const merge = (target: unknown, patch: unknown): unknown => {
  const changes = membersOf(patch);
  if (!changes) return patch;
  const members = membersOf(target) ?? new Map<string, unknown>();
  changes.forEach((value, name) => (value === null ? members.delete(name) : members.set(name, merge(members.get(name), value))));
  return Object.fromEntries(members);
};

/** Whether two JSON values are the same, in whatever order their members stand. */
export const equal = (a: unknown, b: unknown): boolean => {
  if (Object(a) !== a || Object(b) !== b || Array.isArray(a) !== Array.isArray(b)) return a === b;
  const members = new Map(Object.entries(a as object));
  const others = Object.entries(b as object);
  return members.size === others.length && others.every(([name, value]) => equal(members.get(name), value));
};
