/**
 * UUIDs of version 7 (RFC 9562, section 5.7): 48 bits of time, then chance, so that ids rise with time.
 */

/** Makes an id. */
export const uuidv7 = (now: number = Date.now()): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  new DataView(bytes.buffer).setBigUint64(0, (BigInt(now) << 16n) | 0x7000n | (BigInt(bytes[6]! << 8 | bytes[7]!) & 0xfffn));
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
};
