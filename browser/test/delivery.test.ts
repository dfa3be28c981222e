/** What is acknowledged never reaches what is not settled, and nothing is handled twice or out of its stream's order. */
import { beforeEach, expect, test } from 'vitest';
import { createDelivery, type Delivery } from '../src/delivery.js';
import { park, retry, skip, stop } from '../src/verdict.js';
import type { RecordedEvent } from '../src/wire.js';

const event = (position: number, stream = 'a', attempt?: number): RecordedEvent => ({
  position, stream, revision: 0, type: 'T', id: '', at: '', data: null, ...(attempt && { attempt }),
});

let delivery: Delivery;
beforeEach(() => {
  delivery = createDelivery();
  delivery.begin(0, 8);
});
const deliver = (...events: RecordedEvent[]): void => events.forEach(delivery.deliver);
const handle = (): number | undefined => {
  const next = delivery.next();
  if (next) delivery.settle(undefined);
  return next?.position;
};
const handleAll = (): number[] => {
  const all: number[] = [];
  for (let position; (position = handle()) !== undefined; ) all.push(position);
  return all;
};
/** The first ack of a subscription is never late; this gets it out of the way, at position 1. */
const begun = (): void => {
  deliver(event(1, 'z'));
  handle();
  expect(delivery.acks(false)).toEqual([1]);
};

test('an ack waits for the handler, and covers what is below', () => {
  deliver(event(1), event(2), event(3));
  expect(delivery.next()?.position).toBe(1);
  expect(delivery.acks(true)).toEqual([]);
  delivery.settle(undefined);
  expect(delivery.acks(true)).toEqual([1]);
  expect(delivery.next()?.position).toBe(2);
  expect(delivery.acks(true)).toEqual([]);
  delivery.settle(undefined);
  expect(delivery.next()?.position).toBe(3);
  expect(delivery.acks(true)).toEqual([2]);
  delivery.scanned(9);
  expect(delivery.acks(true)).toEqual([]);
  delivery.settle(undefined);
  expect(delivery.acks(true)).toEqual([9]);
});

test('the first ack goes at once, then every quarter of the window, and the rest when it is time', () => {
  begun();
  deliver(event(2), event(3), event(4));
  handle();
  expect(delivery.acks(false)).toBeUndefined();
  handle();
  expect(delivery.acks(false)).toEqual([3]);
  handle();
  expect(delivery.acks(false)).toBeUndefined();
  expect(delivery.acks(true)).toEqual([4]);
  expect(delivery.acks(true)).toEqual([]);
});

test('a window of one is acknowledged at once', () => {
  delivery.begin(0, 1);
  begun();
  deliver(event(2));
  handle();
  expect(delivery.acks(false)).toEqual([2]);
});

test('a heartbeat counts once everything before it was handled', () => {
  begun();
  deliver(event(2));
  delivery.scanned(40);
  expect(delivery.acks(true)).toEqual([]);
  expect(delivery.checkpoint()).toBe(1);
  handle();
  expect(delivery.acks(true)).toEqual([40]);
  expect(delivery.checkpoint()).toBe(40);
});

test('a retry withdraws what its stream has waiting, and nothing else', () => {
  begun();
  deliver(event(2), event(3, 'b'), event(4), event(5, 'b'));
  delivery.next();
  expect(delivery.settle(retry(5))).toBe(true);
  delivery.retrying([2]);
  expect(handleAll()).toEqual([3, 5]);
  expect(delivery.acks(true)).toEqual([5]);
  expect(delivery.checkpoint()).toBe(1);
  deliver(event(2, 'a', 2), event(4));
  expect(handleAll()).toEqual([2, 4]);
  delivery.scanned(5);
  expect(delivery.checkpoint()).toBe(5);
});

test('what the server sent before it knew of a retry is dropped, and not acknowledged by its own position', () => {
  begun();
  deliver(event(2));
  delivery.next();
  delivery.settle(retry());
  deliver(event(3));
  expect(handleAll()).toEqual([]);
  expect(delivery.acks(true)).toEqual([]);
  delivery.retrying([2]);
  deliver(event(2, 'a', 2));
  expect(handleAll()).toEqual([2]);
  // 3 has not come again.
  expect(delivery.acks(true)).toEqual([2]);
  deliver(event(3));
  expect(handleAll()).toEqual([3]);
  expect(delivery.acks(true)).toEqual([3]);
});

test('what came again is acknowledged by its own position, before what is above', () => {
  begun();
  deliver(event(2), event(3, 'b'), event(4, 'c'));
  delivery.next();
  delivery.settle(retry());
  delivery.retrying([2]);
  expect(handle()).toBe(3);
  deliver(event(2, 'a', 2));
  expect(handleAll()).toEqual([2, 4]);
  expect(delivery.acks(true)).toEqual([2, 4]);
});

test('no ack passes what came again and waits', () => {
  begun();
  deliver(event(2), event(3, 'b'), event(4, 'c'));
  delivery.next();
  delivery.settle(retry());
  delivery.retrying([2]);
  expect(delivery.next()?.position).toBe(3);
  deliver(event(2, 'a', 2));
  delivery.settle(undefined);
  expect(delivery.acks(true)).toEqual([]);
});

test('an event that is being handled or waits is not given twice', () => {
  begun();
  deliver(event(2), event(3));
  delivery.next();
  deliver(event(2, 'a', 2), event(3, 'a', 2));
  delivery.settle(undefined);
  expect(handleAll()).toEqual([3]);
  expect(delivery.acks(true)).toEqual([2, 3]);
});

test('one that is settled is only acknowledged again', () => {
  begun();
  deliver(event(2), event(3));
  handleAll();
  expect(delivery.acks(true)).toEqual([3]);
  deliver(event(2, 'a', 2));
  expect(handleAll()).toEqual([]);
  expect(delivery.acks(false)).toEqual([2]);
});

test('a new subscription brings what was not settled again; what was is acknowledged there', () => {
  begun();
  deliver(event(2), event(3, 'b'), event(4, 'c'));
  delivery.next();
  delivery.settle(retry());
  handle();
  delivery.begin();
  expect(delivery.pending()).toBe(0);
  delivery.begin(1, 8);
  deliver(event(2, 'a', 2), event(3, 'b'), event(4, 'c'));
  expect(delivery.next()?.position).toBe(2);
  expect(delivery.acks(true)).toEqual([]);
  delivery.settle(undefined);
  expect(handleAll()).toEqual([4]);
  expect(delivery.acks(true)).toEqual([2, 4]);
});

test('a handler that outlives its subscription acknowledges only what the next one has sent', () => {
  begun();
  deliver(event(2), event(3));
  delivery.next();
  delivery.begin(1, 8);
  expect(delivery.settle(undefined)).toBe(false);
  expect(delivery.acks(true)).toEqual([]);
  deliver(event(2), event(3));
  expect(handleAll()).toEqual([3]);
  expect(delivery.acks(true)).toEqual([3]);

  deliver(event(4));
  delivery.next();
  delivery.begin(3, 8);
  deliver(event(4, 'a', 2), event(5, 'b'));
  expect(delivery.acks(true)).toEqual([]);
  delivery.settle(undefined);
  expect(handleAll()).toEqual([5]);
  expect(delivery.acks(true)).toEqual([4, 5]);
});

test('what the server parked is not handled; parked in its handler, it has nothing to settle; replayed, it comes', () => {
  begun();
  deliver(event(2), event(3), event(4));
  delivery.next();
  delivery.park([2, 3]);
  expect(delivery.settle(park('no'))).toBe(false);
  expect(handleAll()).toEqual([4]);
  expect(delivery.acks(true)).toEqual([4]);
  deliver(event(3, 'a', 4));
  expect(handleAll()).toEqual([3]);
});

test('a retry that the server answers by parking gives its stream free', () => {
  begun();
  deliver(event(2), event(3));
  delivery.next();
  delivery.settle(retry());
  delivery.retrying([2]);
  delivery.park([2]);
  deliver(event(3));
  expect(handleAll()).toEqual([3]);
  expect(delivery.acks(true)).toEqual([3]);
});

test('until the server has heard of a retry, whatever comes of the stream from that event on is from before', () => {
  begun();
  deliver(event(2), event(3));
  delivery.next();
  delivery.settle(retry());
  // A copy that was sent because it took long.
  deliver(event(2, 'a', 2), event(4), event(5, 'b'));
  delivery.retrying([9]);
  expect(handleAll()).toEqual([5]);
  delivery.retrying([2]);
  deliver(event(2, 'a', 3), event(3), event(4));
  expect(handleAll()).toEqual([2, 3, 4]);
  expect(delivery.acks(true)).toEqual([2, 3, 4, 5]);
});

test('after a retry nothing above it counts as settled before a heartbeat says that nothing was held back', () => {
  begun();
  deliver(event(2));
  delivery.next();
  delivery.settle(retry());
  delivery.retrying([2]);
  // 3, of the same stream, was held back and has not come.
  deliver(event(4, 'b'), event(2, 'a', 2));
  expect(handleAll()).toEqual([2, 4]);
  expect(delivery.checkpoint()).toBe(1);
  deliver(event(3));
  expect(handleAll()).toEqual([3]);
  expect(delivery.checkpoint()).toBe(1);
  delivery.scanned(4);
  expect(delivery.checkpoint()).toBe(4);
});

test('in another log the same position is another event, also while a handler runs on', () => {
  begun();
  deliver(event(2));
  delivery.next();
  delivery.begin();
  delivery.forget();
  delivery.begin(0, 8);
  deliver(event(1), event(2));
  delivery.settle(undefined);
  expect(handleAll()).toEqual([1, 2]);
});

test('park and skip settle, stop does not', () => {
  begun();
  deliver(event(2), event(3), event(4));
  delivery.next();
  expect(delivery.settle(park('why'))).toBe(true);
  delivery.next();
  expect(delivery.settle(skip())).toBe(true);
  delivery.next();
  expect(delivery.settle(stop())).toBe(true);
  expect(delivery.acks(true)).toEqual([3]);
});

test('more than the window, and what is no event, are refused', () => {
  deliver(...[1, 2, 3, 4, 5, 6, 7, 8].map((position) => event(position)));
  expect(() => deliver(event(9))).toThrow();
  expect(() => deliver(event(1.5))).toThrow();
  expect(() => deliver({ ...event(10), attempt: 0 })).toThrow();
  expect(() => delivery.scanned(NaN)).toThrow();
});
