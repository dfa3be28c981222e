/** The reducer of a live query: message by message. */
import { describe, expect, test } from 'vitest';
import { receive, resume, type Known, type QueryInput } from '../src/picture.js';
import type { Keyed } from '../src/index.js';

type Doc = { readonly v: number };
const EPOCH = 'e';
const docs = (...keyed: readonly [string, number][]): Keyed[] => keyed.map(([key, v]) => ({ key, document: { v } }));
const subscribed = (resumed = false): QueryInput => ({ type: 'subscribed', sub: 1, head: 9, after: 3, generation: 1, resumed });
const state = (documents: Keyed[], more = false, generation = 1, reset?: 'generation'): QueryInput => ({ type: 'state', sub: 1, generation, position: 3, documents, more, ...(reset && { reset }) });
const put = (position: number, key: string, v: number, more?: true): QueryInput => ({ type: 'changes', sub: 1, position, changes: [{ op: 'put', key, document: { v } }], ...(more && { more }) });
const word = (type: 'live' | 'behind' | 'scanned', position: number): QueryInput => ({ type, sub: 1, position }) as QueryInput;

const after = (messages: readonly QueryInput[], from: Known<Doc> = { phase: 'loading', documents: new Map() }): Known<Doc> => messages.reduce<Known<Doc>>((known, message) => receive(known, message, {}, EPOCH), from);
const shown = ({ shown: picture }: Known<Doc>) => picture && Object.fromEntries([...picture.documents].map(([key, { v }]) => [key, v]));
const LIVE = after([subscribed(), state(docs(['a', 1], ['b', 2])), word('live', 3)]);

describe('nothing is shown', () => {
  test.each<[string, readonly QueryInput[]]>([
    ['of an answer', [subscribed()]],
    ['of a page that is not the last', [subscribed(), state(docs(['a', 1]), true)]],
    ['of a state that changes are missing from', [subscribed(), state(docs(['a', 1]))]],
    ['of the changes that make it whole, before it is said', [subscribed(), state(docs(['a', 1])), put(5, 'a', 2)]],
  ])('%s', (_, messages) => expect(shown(after(messages))).toBeUndefined());
});

test('the pages of a state and what changed meanwhile are one picture', () => {
  const known = after([subscribed(), state(docs(['a', 1]), true), state(docs(['b', 2])), put(5, 'a', 7), word('live', 6)]);
  expect(shown(known)).toEqual({ a: 7, b: 2 });
  expect(known).toMatchObject({ phase: 'live', epoch: EPOCH, shown: { position: 6, generation: 1 } });
});

test('another state takes the place of the first once it is whole', () => {
  const steps = [state(docs(['a', 5]), true, 2, 'generation'), put(4, 'c', 6), state(docs(['b', 2]), false, 2)];
  for (let count = 1; count <= steps.length; count++) {
    const known = after(steps.slice(0, count), LIVE);
    expect([known.phase, shown(known)]).toEqual(['loading', { a: 1, b: 2 }]);
  }
  const known = after([...steps, word('live', 4)], LIVE);
  expect(shown(known)).toEqual({ a: 5, b: 2, c: 6 });
  expect(known.shown).toMatchObject({ generation: 2, position: 4 });
  expect(known.shown?.documents.get('b')).toBe(LIVE.shown?.documents.get('b'));
});

test('a step in several messages shows when it is complete, and is not resumed from before', () => {
  const half = after([put(8, 'a', 10, true)], LIVE);
  expect([shown(half), half.shown?.position]).toEqual([{ a: 1, b: 2 }, 3]);
  expect(resume(half).next).toMatchObject({ position: 3 });
  expect(resume(half).next?.documents.get('a')).toEqual({ v: 1 });
  const whole = after([put(8, 'b', 20)], half);
  expect([shown(whole), whole.shown?.position]).toEqual([{ a: 10, b: 20 }, 8]);
});

test('what it resumes with is the newest whole, shown or not', () => {
  const pages = after([subscribed(), state(docs(['a', 1]), true)]);
  expect(resume(pages).next).toBeUndefined();
  const whole = after([subscribed(), state(docs(['a', 1])), put(5, 'a', 2)]);
  expect(resume(whole)).toMatchObject({ phase: 'loading', shown: undefined, next: { position: 5, generation: 1 } });
  const resumed = after([subscribed(true), put(6, 'b', 3), word('live', 6)], resume(whole));
  expect(shown(resumed)).toEqual({ a: 2, b: 3 });
});

test('while it is behind the picture before stays, and what is told can be resumed from', () => {
  const behind = after([word('behind', 3), put(5, 'a', 7), put(7, 'b', 8)], LIVE);
  expect([behind.phase, shown(behind), behind.position]).toEqual(['behind', { a: 1, b: 2 }, 3]);
  expect(resume(behind).next).toMatchObject({ position: 7 });
  expect(shown(after([word('live', 7)], behind))).toEqual({ a: 7, b: 8 });
});

test('a heartbeat before the first state says nothing', () => {
  const known = after([subscribed()]);
  expect(after([word('scanned', 3)], known)).toBe(known);
});

test.each<[string, readonly QueryInput[]]>([
  ['it is not resumed', [subscribed()]],
  ['a state has begun in its place', [subscribed(), state(docs(['a', 1]), true)]],
  ['the projection was rebuilt', [state(docs(['a', 1]), true, 2, 'generation')]],
])('there is nothing to come back with once %s, and the picture before stays', (_, messages) => {
  const known = after(messages, LIVE);
  expect(resume(known)).toMatchObject({ phase: 'loading', held: undefined, next: undefined });
  expect(shown(resume(known))).toEqual({ a: 1, b: 2 });
});

test('what a projection tells again that had lost its last steps is passed over', () => {
  const known = after([put(8, 'a', 10)], LIVE);
  expect(after([put(6, 'a', 7), put(8, 'b', 9)], known)).toBe(known);
  expect(shown(after([put(9, 'b', 20)], known))).toEqual({ a: 10, b: 20 });
});

test('while it catches up the picture before stays', () => {
  const back = after([subscribed(true), put(7, 'a', 9)], resume(LIVE));
  expect([back.phase, shown(back)]).toEqual(['loading', { a: 1, b: 2 }]);
  expect(shown(after([word('live', 7)], back))).toEqual({ a: 9, b: 2 });
});

test('a patch makes a new document, a delete of nothing is nothing', () => {
  const known = after([{ type: 'changes', sub: 1, position: 4, changes: [{ op: 'patch', key: 'a', patch: { w: 1 } }, { op: 'delete', key: 'z' }, { op: 'delete', key: 'b' }] }], LIVE);
  expect(Object.fromEntries(known.shown!.documents)).toEqual({ a: { v: 1, w: 1 } });
  expect(LIVE.shown?.documents.get('a')).toEqual({ v: 1 });
});

test('a heartbeat moves the position only', () => {
  const known = after([word('scanned', 50)], LIVE);
  expect(known.shown?.position).toBe(50);
  expect(known.shown?.documents).toBe(LIVE.shown?.documents);
  expect(after([word('scanned', 2)], known).shown?.position).toBe(50);
});

test.each<[string, QueryInput]>([
  ['changes of nothing', put(4, 'a', 1)],
  ['live without a state', word('live', 4)],
  ['no position', { ...word('live', 0), position: 'x' as unknown as number } as QueryInput],
])('is refused: %s', (_, message) => expect(() => after([subscribed(), message])).toThrow());
