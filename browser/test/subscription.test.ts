/** The reducer hands every position over once and in order, whatever the frames repeat. */
import { describe, expect, test } from 'vitest';
import { begin, receive, type Progress, type SubscriptionState } from '../src/subscription.js';
import type { After, RecordedEvent } from '../src/wire.js';

const event = (position: number): RecordedEvent => ({ position, stream: 's', revision: 0, type: 'T', id: '', at: '', data: null });
const frame = (...positions: number[]): Progress => ({ type: 'events', sub: 1, events: positions.map(event) });
const subscribed = (after: number): Progress => ({ type: 'subscribed', sub: 1, head: 100, after, resumed: true });

const run = (after: After, messages: readonly Progress[]): { state: SubscriptionState; positions: number[]; calls: string[] } => {
  let state = begin(after, 'e');
  const positions: number[] = [];
  const calls: string[] = [];
  for (const message of messages) {
    const [next, steps] = receive(state, message, 'e');
    state = next;
    for (const step of steps) {
      calls.push(step.call);
      if (step.call === 'onEvent') positions.push(step.position);
    }
  }
  return { state, positions, calls };
};

test.each<[string, After, Progress[], number[]]>([
  ['events in order', 'start', [subscribed(0), frame(1, 2), frame(3)], [1, 2, 3]],
  ['a frame sent twice', 'start', [subscribed(0), frame(1, 2), frame(1, 2), frame(2, 3)], [1, 2, 3]],
  ['what was had before', 5, [subscribed(5), frame(4, 5, 6)], [6]],
  ['positions with gaps, as in a category', 'start', [subscribed(0), frame(3, 9), frame(20)], [3, 9, 20]],
  ['nothing at or below a heartbeat', 'start', [subscribed(0), { type: 'scanned', position: 7 }, frame(6, 7, 8)], [8]],
  ['nothing at or below live', 'start', [subscribed(0), { type: 'live', sub: 1, position: 4 }, frame(4, 5)], [5]],
  ['from the end, what subscribed says', 'end', [subscribed(40), frame(40, 41)], [41]],
])('%s', (_, after, messages, expected) => {
  expect(run(after, messages).positions).toEqual(expected);
});

test('whatever repeats, positions rise strictly and none is left out', () => {
  let seed = 7;
  const chance = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  for (let round = 0; round < 300; round++) {
    const messages: Progress[] = [subscribed(0)];
    let sent = 0;
    while (sent < 60) {
      const from = Math.max(0, sent - Math.floor(chance() * 10));
      const to = Math.min(60, from + 1 + Math.floor(chance() * 12));
      messages.push(frame(...Array.from({ length: to - from }, (__, index) => from + index + 1)));
      sent = Math.max(sent, to);
    }
    expect(run('start', messages).positions).toEqual(Array.from({ length: 60 }, (__, index) => index + 1));
  }
});

test('received runs ahead, position waits for the callback', () => {
  const { state } = run('start', [subscribed(0), frame(1, 2, 3)]);
  expect([state.position, state.received]).toEqual([0, 3]);
});

test('a reset starts over before the first event, in the new epoch', () => {
  const [state, steps] = receive(begin(500, 'old'), { type: 'reset', sub: 1, reason: 'epoch', first: 11 }, 'new');
  expect(state).toEqual(begin(10, 'new'));
  expect(steps).toEqual([{ call: 'onReset', value: 'epoch', position: 10 }]);
});

test('phases follow the server, and are told in order', () => {
  const { state, calls } = run('start', [
    subscribed(0),
    frame(1),
    { type: 'live', sub: 1, position: 1 },
    { type: 'behind', sub: 1, position: 1, lag: 9 },
    frame(2),
    { type: 'live', sub: 1, position: 2 },
  ]);
  expect(state.phase).toBe('live');
  expect(calls).toEqual(['onEvent', 'onLive', 'onBehind', 'onEvent', 'onLive']);
});

describe('what is no position is refused', () => {
  test.each([undefined, null, '7', 1.5, NaN, 2 ** 53])('%s', (position) => {
    expect(() => receive(begin(0), frame(position as number), 'e')).toThrow();
  });
});
