/** Which close codes keep a client away. */
import { expect, test } from 'vitest';
import { isFinal } from '../src/closing.js';

test.each([1000, 1001, 1005, 1006, 1011, 1012, 1013, 4000, 4001, 4008, 4012, 4029, 4499])('%i is tried again', (code) => {
  expect(isFinal(code)).toBe(false);
});
test.each([1002, 1003, 1007, 1008, 1009, 1010, 4500, 4501, 4503, 4508, 4999])('%i is final', (code) => {
  expect(isFinal(code)).toBe(true);
});
