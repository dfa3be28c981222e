/**
 * UUIDs of version 7 (RFC 9562, section 5.7): 48 bits of time, then chance, so that ids rise with time.
 */

/** Makes an id. */
export const uuidv7 = (now: number = Date.now()): string => {
  const chance = crypto.getRandomValues(new Uint8Array(10));
  const hex = Array.from(chance, (byte) => byte.toString(16).padStart(2, '0')).join('');
  // 12 digits of time, the version, 3 of chance, the variant, 15 of chance.
  return `${now.toString(16).padStart(12, '0')}7${hex.slice(0, 3)}${'89ab'[chance[9]! & 3]}${hex.slice(3, 18)}`.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
};
