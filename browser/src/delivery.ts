/**
 * What came and is not settled: which event is next, what to acknowledge, what a retry withdraws. It has
 * no clock and sends nothing.
 *
 * Events are handled one at a time, the lowest position first. An ack covers everything at or below its
 * position, so it never reaches an event that waits or is being handled. What came again after a retry is
 * acknowledged by its own position: an ack beyond it may have been on its way before it came.
 */
import type { Nack } from './verdict.js';
import type { RecordedEvent } from './wire.js';

/** An event on its way to the application. */
interface Item {
  readonly event: RecordedEvent;
  readonly position: number;
  /** It was sent before; or it is a redelivery of an earlier session. */
  again: boolean;
  /** Sent on the present subscription, so that there is something to settle. */
  here: boolean;
  /** Settled before; only the ack is due. */
  readonly settled: boolean;
}

/** What came on one consumption's subscriptions, one after the other. */
export interface Delivery {
  /** Nothing counts any more but what comes on the next subscription; `after` once that is known. */
  begin(after?: number, window?: number): void;
  /** Takes an event in. Throws at what the server must not send. */
  deliver(event: RecordedEvent): void;
  /** Everything up to here was sent. */
  scanned(position: number): void;
  /** The server has given these up. */
  park(positions: readonly number[]): void;
  /** The server has heard what is to be retried: what comes of their streams from now on is in order. */
  retrying(positions: readonly number[]): void;
  /** Positions mean something else from now on. */
  forget(): void;
  /** The event to handle now; to be settled before the next one. */
  next(): RecordedEvent | undefined;
  /** Settles the event being handled, and tells whether the server has to know `nack`. */
  settle(nack: Nack | undefined): boolean;
  /** The positions to acknowledge now, in order; `undefined` if it is too early for those that there are. */
  acks(now: boolean): readonly number[] | undefined;
  /** Everything that came up to here is settled. */
  checkpoint(): number;
  /** Events that came and are not settled. */
  pending(): number;
}

/** How many settled positions are remembered, so that what comes again is not handled again. */
const REMEMBERED = 4_096;

/** Makes one; nothing has come. */
export const createDelivery = (): Delivery => {
  const settled = new Set<number>();
  /** By stream, the event that is to be retried, until the server has heard of it. */
  const retries = new Map<string, number>();
  /** What is to come again: such events, and what they withdrew. */
  const away = new Set<number>();
  /** By position. */
  let queue: Item[] = [];
  let current: Item | undefined;
  /** Acks owed to what came again. */
  const owed = new Set<number>();
  let window = 1;
  let told = 0;
  let done = 0;
  let acked = 0;
  /** While a retry may hold back events that never came, everything up to here is settled at most. */
  let floor = Infinity;
  /** Settled since the last ack. Before the first one of a subscription, enough for that to go at once. */
  let since = Infinity;

  const lowest = (): number => Math.min(current?.here ? current.position : Infinity, queue[0]?.position ?? Infinity);
  const finish = ({ position, again }: Item): void => {
    if (again) owed.add(position);
    else done = Math.max(done, position);
    since++;
  };

  return {
    retrying(positions) {
      for (const position of positions) retries.forEach((retried, stream) => retried === position && retries.delete(stream));
    },
    forget() {
      settled.clear();
      if (current) current = { ...current, position: NaN };
    },
    begin(after = 0, most = 1) {
      queue = [];
      owed.clear();
      retries.clear();
      away.clear();
      if (current) current.here = current.again = false;
      told = done = acked = after;
      floor = Infinity;
      window = most;
      since = Infinity;
    },
    deliver(event) {
      const { position, stream, attempt = 1 } = event;
      if (!Number.isSafeInteger(position) || !(attempt > 0)) throw event;
      const again = position <= told || attempt > 1;
      told = Math.max(told, position);
      // Sent before the server knew of the retry, even if it is that event itself.
      if (position >= (retries.get(stream) ?? Infinity)) return void away.add(position);
      away.delete(position);
      const known = current?.position === position ? current : queue.find((item) => item.position === position);
      if (known) {
        known.again = known.here || again;
        known.here = true;
      } else {
        const index = queue.findLastIndex((item) => item.position < position) + 1;
        queue.splice(index, 0, { event, position, again, here: true, settled: settled.has(position) });
      }
      if (queue.length > window) throw queue.length;
    },
    scanned(position) {
      if (!Number.isSafeInteger(position)) throw position;
      // Everything up to there that is not settled came, so nothing is held back any more.
      if (position >= told) floor = Infinity;
      told = Math.max(told, position);
    },
    park(positions) {
      for (const position of positions) {
        settled.delete(position);
        away.delete(position);
        if (current?.position === position) current.here = false;
      }
      queue = queue.filter(({ position }) => !positions.includes(position));
    },
    next() {
      while (queue[0]?.settled) finish(queue.shift()!);
      current = queue.shift();
      return current?.event;
    },
    settle(nack) {
      const { event, position, here } = current!;
      const item = current!;
      current = undefined;
      const { action } = nack ?? {};
      if (!action || action === 'skip') {
        settled.add(position);
        if (settled.size > REMEMBERED) settled.delete(settled.values().next().value!);
      }
      if (!here) return false;
      if (action === 'stop') away.add(position);
      else if (action === 'retry') {
        retries.set(event.stream, position);
        away.add(position);
        floor = Math.min(floor, position - 1);
        queue = queue.filter((later) => {
          const stays = later.event.stream !== event.stream || later.position < position;
          if (!stays) away.add(later.position);
          return stays;
        });
      } else finish(item);
      return !!action;
    },
    acks(now) {
      const below = lowest();
      const due = [...owed].filter((position) => position < below).sort((a, b) => a - b);
      // With nothing left to handle, what was looked at counts; but an event that is to come again must not be named.
      const top = below === Infinity && !away.size ? told : done;
      const more = top < below && top > Math.max(acked, ...due);
      if (!now && !due.length && since < window / 4) return more ? undefined : [];
      if (more) due.push(top);
      for (const position of due) {
        owed.delete(position);
        acked = Math.max(acked, position);
        since = 0;
      }
      return due;
    },
    checkpoint: () => Math.min(told, floor, ...[lowest(), ...away].map((position) => position - 1)),
    pending: () => queue.length + +!!current,
  };
};
