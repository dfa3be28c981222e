/** Ids are UUIDs of version 7, and rise with time. */
import { expect, test } from 'vitest';
import { uuidv7 } from '../src/uuid.js';

test('version, variant and time are where they belong', () => {
  const id = uuidv7(0x0123456789ab);
  expect(id).toMatch(/^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('ids rise with time and do not repeat', () => {
  const ids = Array.from({ length: 2_000 }, (_, now) => uuidv7(1_700_000_000_000 + now));
  expect(ids.toSorted()).toEqual(ids);
  expect(new Set(Array.from({ length: 2_000 }, () => uuidv7(5))).size).toBe(2_000);
});
