/** The outbox is bounded by count and bytes, and sends one request a lane at a time. */
import { expect, test } from 'vitest';
import { admit, answered, due, EMPTY_OUTBOX, interrupted, mark, type Entry, type Outbox } from '../src/outbox.js';

const limits = { max: 3, maxBytes: 100 };
const entry = (id: string, lane: string, bytes = 10): Entry => ({ id, lane, text: '', bytes, sent: false, sends: 0 });
const fill = (...entries: Entry[]): Outbox =>
  entries.reduce<Outbox>((outbox, each) => admit(outbox, each, { max: 99, maxBytes: 9_999 }) ?? outbox, EMPTY_OUTBOX);
const ids = (entries: readonly Entry[]): string[] => entries.map(({ id }) => id);

test('the last place is given, the next is not', () => {
  const two = fill(entry('a', 's'), entry('b', 's'));
  const three = admit(two, entry('c', 's'), limits);
  expect(three?.items).toHaveLength(3);
  expect(admit(three!, entry('d', 's'), limits)).toBeUndefined();
});

test('the last byte is given, the next is not', () => {
  const outbox = fill(entry('a', 's', 60));
  expect(admit(outbox, entry('b', 's', 40), limits)?.bytes).toBe(100);
  expect(admit(outbox, entry('b', 's', 41), limits)).toBeUndefined();
});

test('of each lane the oldest is due, once', () => {
  let outbox = fill(entry('a1', 'a'), entry('a2', 'a'), entry('b1', 'b'));
  expect(ids(due(outbox))).toEqual(['a1', 'b1']);
  outbox = mark(outbox, 'a1', true);
  expect(ids(due(outbox))).toEqual(['b1']);
  outbox = answered(outbox, 'a1');
  expect(ids(due(outbox))).toEqual(['a2', 'b1']);
  expect(outbox.bytes).toBe(20);
});

test('after a lost connection everything is due again, in order', () => {
  const sent = mark(mark(fill(entry('a1', 'a'), entry('b1', 'b')), 'a1', true), 'b1', true);
  expect(due(sent)).toEqual([]);
  expect(ids(due(interrupted(sent)))).toEqual(['a1', 'b1']);
  expect(interrupted(sent).items.map(({ sends }) => sends)).toEqual([1, 1]);
});
