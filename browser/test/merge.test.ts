/** Merge patches as RFC 7396 has them, equality, and the order of windows as every server has it. */
import { describe, expect, test } from 'vitest';
import { arrange } from '../src/arrange.js';
import { equal, merge } from '../src/merge.js';
import { patchBetween } from '../src/testing/query.js';
import type { Json } from '../src/index.js';

describe('a merge patch', () => {
  // RFC 7396, appendix A.
  test.each<[Json, Json, Json]>([
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [['a', 'b'], ['c', 'd'], ['c', 'd']],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ a: 'foo' }, 'bar', 'bar'],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])('%j with %j is %j', (target, patch, result) => {
    const before = structuredClone(target);
    expect(merge(target, patch)).toEqual(result);
    expect(target).toEqual(before);
  });

  test('is data only, whatever its members are called', () => {
    const patch = JSON.parse('{"__proto__": {"evil": 1}, "constructor": {"a": 1}, "toString": 2}') as Json;
    const made = merge({ x: 1 }, patch) as object;
    expect(Object.getPrototypeOf(made)).toBe(Object.prototype);
    expect('evil' in made).toBe(false);
    expect(JSON.stringify(made)).toBe('{"x":1,"__proto__":{"evil":1},"constructor":{"a":1},"toString":2}');
  });

  test('between two values makes one of the other, where one can', () => {
    const values: Json[] = [{}, { a: 1 }, { a: 2, b: { c: 1, d: [1] } }, { b: { c: 1, d: [1, 2] } }, { a: null }, { b: { c: null } }, { a: { x: {} } }, { a: [null] }];
    for (const before of values)
      for (const after of values) {
        const patch = patchBetween(before, after);
        if (patch !== undefined) expect(merge(before, patch)).toEqual(after);
        else expect(JSON.stringify(after)).toContain('null');
      }
    expect(patchBetween({ a: 1, b: 2, c: 3 }, { a: 1, b: 5 })).toEqual({ b: 5, c: null });
  });
});

test.each<[Json, Json, boolean]>([
  [{ a: 1, b: [1, { c: null }] }, { b: [1, { c: null }], a: 1 }, true],
  [{ a: 1 }, { a: 1, b: 1 }, false],
  [{ a: 1, b: 1 }, { a: 1, c: 1 }, false],
  [[], {}, false],
  [[1], [1, 2], false],
  [null, {}, false],
  [{}, 'a', false],
  [0, false, false],
  ['1', 1, false],
])('%j and %j are the same: %j', (a, b, same) => {
  expect([equal(a, b), equal(b, a)]).toEqual([same, same]);
});

describe('the order of a window', () => {
  const keys = (documents: Record<string, Json>, by?: string, direction?: 'descending'): string =>
    [...arrange(new Map(Object.entries(documents)), { order: { ...(by && { by }), ...(direction && { direction }) }, limit: 9 }).keys()].join('');

  test('is the kinds, and within them the values', () => {
    const values: Json[] = [null, false, true, -1e300, -2, -0.5, 0, 1e-9, 3, 20, '', '\u0000', '\u0000a', 'a', 'a\u0000', 'ab', 'b', 'ü', '\ue000', '😀'];
    const rising = [{}, ...values.map((v) => ({ v }))];
    const shuffled = new Map(rising.map((document, index) => [String((index * 5) % rising.length), document] as const).sort(([a], [b]) => +a - +b));
    expect([...arrange(shuffled, { order: { by: 'v' }, limit: 99 }).values()]).toEqual(rising);
    expect([...arrange(shuffled, { order: { by: 'v', direction: 'descending' }, limit: 99 }).values()]).toEqual(rising.toReversed());
  });

  test('of equal ones is that of their keys, ascending, whichever way it goes', () => {
    expect(keys({ c: { n: 1 }, a: { n: 1 }, b: { n: 2 } }, 'n')).toBe('acb');
    expect(keys({ c: { n: 1 }, a: { n: 1 }, b: { n: 2 } }, 'n', 'descending')).toBe('bac');
    expect(keys({ c: { n: [1] }, a: {}, b: { n: { x: 1 } } }, 'n')).toBe('abc');
    expect(keys({ c: { n: 0 }, a: { n: -0 } }, 'n')).toBe('ac');
  });

  test('is by key without a field, and looks inside with a path', () => {
    expect(keys({ b: 1, '😀': 1, a: 1, '\uffee': 1 })).toBe('ab\uffee😀');
    expect(keys({ b: 1, a: 1 }, undefined, 'descending')).toBe('ba');
    expect(keys({ b: { x: { y: 1 } }, a: { x: { y: 2 } }, c: { x: 'y' } }, 'x.y')).toBe('cba');
    expect(keys({ b: {}, a: { constructor: 1 } }, 'constructor')).toBe('ba');
  });

  test('is none where none is asked for', () => {
    const documents = new Map([['b', 1], ['a', 2]]);
    expect(arrange(documents, {})).toBe(documents);
  });
});
