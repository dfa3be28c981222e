/** The outbox is bounded by count and bytes, and sends one request a lane at a time. */
import { expect, test } from 'vitest';
import { due, hasRoom, type Entry, type Outbox } from '../src/outbox.js';

const limits = { max: 3, maxBytes: 100 };
const outboxOf = (...entries: readonly (readonly [id: string, lane: string, facts?: Partial<Entry>])[]): Outbox =>
  new Map(entries.map(([id, lane, facts]) => [id, { lane, text: '', bytes: 10, sent: false, sends: 0, ...facts }]));
const ids = (outbox: Outbox): string[] => due(outbox).map(([id]) => id);

test('the last place is given, the next is not', () => {
  expect(hasRoom(outboxOf(['a', 's'], ['b', 's']), 10, limits)).toBe(true);
  expect(hasRoom(outboxOf(['a', 's'], ['b', 's'], ['c', 's']), 10, limits)).toBe(false);
});

test('the last byte is given, the next is not', () => {
  const outbox = outboxOf(['a', 's', { bytes: 60 }]);
  expect(hasRoom(outbox, 40, limits)).toBe(true);
  expect(hasRoom(outbox, 41, limits)).toBe(false);
});

test('of each lane the oldest is due, unless it is on its way', () => {
  expect(ids(outboxOf(['a1', 'a'], ['a2', 'a'], ['b1', 'b']))).toEqual(['a1', 'b1']);
  expect(ids(outboxOf(['a1', 'a', { sent: true }], ['a2', 'a'], ['b1', 'b']))).toEqual(['b1']);
  expect(ids(outboxOf(['a2', 'a'], ['b1', 'b', { sent: true }]))).toEqual(['a2']);
});
