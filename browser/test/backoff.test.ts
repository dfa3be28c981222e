/** Delays grow to a limit, and jitter spreads them over the upper half. */
import { expect, test } from 'vitest';
import { reconnectPolicy, retryDelay } from '../src/backoff.js';

test.each([
  [1, 100],
  [2, 300],
  [3, 900],
  [4, 1_000],
  [50, 1_000],
])('attempt %i waits %i ms', (attempt, delay) => {
  const policy = reconnectPolicy({ initialDelay: 100, maxDelay: 1_000, backoffMultiplier: 3, jitter: false });
  expect(retryDelay(policy, attempt, 0.3)).toBe(delay);
});

test('jitter lies between half of the delay and all of it', () => {
  const policy = reconnectPolicy({ initialDelay: 100 });
  expect(retryDelay(policy, 1, 0)).toBe(50);
  expect(retryDelay(policy, 1, 0.5)).toBe(75);
  expect(retryDelay(policy, 1, 0.999)).toBeLessThan(100);
});
