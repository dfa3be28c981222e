/**
 * The server's side of acks, retries and consumers, over a log in memory.
 *
 * It keeps what a client relies on: at most a window of unsettled events, each stream in order, cumulative
 * acks, retries that withdraw, parking once the attempts are spent, one holder or shares by stream. It has no
 * time limit of its own for an event; `expire` is that.
 */
import type { ClientMessage, Consumer, RecordedEvent, ServerMessage, Subscribe } from '../wire.js';

/** What is kept of a consumer between its sessions. */
export interface FakeConsumer {
  /** Positions settled, in the order in which they were. */
  readonly settled: readonly number[];
  /** Positions parked, and why. */
  readonly parked: ReadonlyMap<number, string>;
  /** Charges by position. */
  readonly attempts: ReadonlyMap<number, number>;
}

interface Progress extends FakeConsumer {
  readonly from: number;
  readonly group: boolean;
  readonly settled: number[];
  readonly parked: Map<number, string>;
  readonly attempts: Map<number, number>;
  /** Who shares it. A seat without a feed is one whose session was told to subscribe again. */
  seats: Seat[];
}

interface Seat {
  readonly session: object;
  feed: FakeFeed | undefined;
}

/** One subscription with acks. */
export interface FakeFeed {
  /** Sends what there is room for. */
  advance(): void;
  receive(message: Extract<ClientMessage, { type: 'ack' | 'nack' }>): void;
  /** As if the time of the oldest unsettled event were up. */
  expire(): void;
  /** Everything up to here was sent; nothing while that is not so. */
  scanned(): number | undefined;
  /** Ends it with a code, or without a word. */
  end(code?: string): void;
}

/** What a feed uses of its session. */
export interface FeedHost {
  readonly session: object;
  /** The events of the subscription, in order. */
  events(): readonly RecordedEvent[];
  head(): number;
  send(message: ServerMessage): void;
  ended(): void;
}

/** The consumers of a log. */
export interface FakeConsumers {
  get(name: string): FakeConsumer | undefined;
  /** Gives parked events to the consumer again. */
  replay(name: string, positions: readonly number[]): void;
  /** Opens a subscription with acks, and answers it. */
  open(request: Subscribe, after: number, host: FeedHost): FakeFeed;
  /** A session has gone. */
  leave(session: object): void;
}

const MAX_ATTEMPTS = 3;
const PARTITIONS = 64;

/** FNV-1a of 64 bits over UTF-8, as every server has it. */
const partitionOf = (stream: string): number => {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(stream)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return Number(hash % BigInt(PARTITIONS));
};

const nameOf = (consumer: Consumer): string => (typeof consumer === 'string' ? consumer : consumer.group);

/** Takes a seat away; whoever is left shares anew. */
const give = (consumer: Progress, seat: Seat): void => {
  if (!consumer.seats.includes(seat)) return;
  consumer.seats = consumer.seats.filter((each) => each !== seat);
  if (consumer.group) for (const { feed } of consumer.seats) feed?.end('rebalanced');
};

/** Makes a log's consumers. */
export const createConsumers = (): FakeConsumers => {
  const known = new Map<string, Progress>();

  const open = (request: Subscribe, after: number, host: FeedHost): FakeFeed => {
    const { sub, consumer, window: most = 256 } = request;
    const existed = consumer !== undefined && known.has(nameOf(consumer));
    const progress: Progress = (consumer && known.get(nameOf(consumer))) || {
      from: after,
      group: typeof consumer === 'object',
      settled: [],
      parked: new Map(),
      attempts: new Map(),
      seats: [],
    };
    if (consumer) known.set(nameOf(consumer), progress);
    const unsettled = new Map<number, { readonly event: RecordedEvent; readonly late: boolean }>();
    const held = new Map<string, number>();
    const timers = new Set<ReturnType<typeof setTimeout>>();
    const before = new Set<number>();
    let told = 0;

    const mine = ({ stream }: RecordedEvent): boolean => !progress.group || partitionOf(stream) % progress.seats.length === progress.seats.indexOf(seat);
    const over = ({ position }: RecordedEvent): boolean => position <= progress.from || progress.settled.includes(position) || progress.parked.has(position);
    const left = (): readonly RecordedEvent[] => host.events().filter((event) => mine(event) && !over(event));
    const deliver = (events: readonly RecordedEvent[]): void => {
      if (!events.length) return;
      const sent = events.map((event) => {
        const { position } = event;
        unsettled.set(position, { event, late: before.has(position) || position < told });
        before.add(position);
        told = Math.max(told, position);
        const attempt = (progress.attempts.get(position) ?? 0) + 1;
        return attempt > 1 ? { ...event, attempt } : event;
      });
      host.send({ type: 'events', sub, events: sent });
    };
    const advance = (): void => {
      const next: RecordedEvent[] = [];
      for (const event of left()) {
        if (unsettled.size + next.length >= most) break;
        if (!unsettled.has(event.position) && !(event.position >= (held.get(event.stream) ?? Infinity))) next.push(event);
      }
      deliver(next);
    };
    const park = (position: number, reason: string): void => {
      unsettled.delete(position);
      progress.parked.set(position, reason);
      host.send({ type: 'parked', sub, positions: [position], reason });
    };
    const charge = (position: number): boolean => {
      const charges = (progress.attempts.get(position) ?? 0) + 1;
      progress.attempts.set(position, charges);
      return charges >= MAX_ATTEMPTS;
    };
    const settle = (position: number): void => {
      unsettled.delete(position);
      progress.settled.push(position);
    };
    const refuse = (code: string, details?: { readonly positions: readonly number[] }): void =>
      host.send({ type: 'error', sub, code, message: code, retryable: false, ...(details && { details }) });
    const retry = (position: number, delay: number, reason: string): void => {
      const { stream } = unsettled.get(position)!.event;
      for (const [each, { event }] of [...unsettled]) if (event.stream === stream && each >= position) unsettled.delete(each);
      if (charge(position)) return park(position, reason);
      held.set(stream, position);
      const timer = setTimeout(() => {
        timers.delete(timer);
        held.delete(stream);
        advance();
      }, delay);
      timers.add(timer);
    };
    const feed: FakeFeed = {
      advance,
      receive(message) {
        if (message.type === 'ack') {
          const { position } = message;
          if (position > told) return refuse('ack_ahead');
          // What came late is settled by its own position only: an ack beyond it may be from before.
          for (const [each, { late }] of [...unsettled]) if (late ? each === position : each <= position) settle(each);
        } else {
          const { positions, action, delay_ms = 0, reason = 'attempts spent' } = message;
          const strange = positions.filter((position) => !unsettled.has(position));
          const known = positions.filter((position) => unsettled.has(position));
          if (action === 'retry' && known.length) host.send({ type: 'retrying', sub, positions: known });
          if (strange.length) refuse('unknown_position', { positions: strange });
          // Nobody knows what the client has dropped with these.
          if (action === 'retry') for (const each of [...unsettled.keys()]) if (strange.some((position) => position < each)) unsettled.delete(each);
          for (const position of known) {
            if (action === 'retry') retry(position, delay_ms, reason);
            else if (action === 'park') park(position, reason);
            else if (action === 'skip') settle(position);
            else return feed.end('stopped');
          }
        }
        advance();
      },
      expire() {
        const [position] = [...unsettled.keys()].sort((a, b) => a - b);
        if (position === undefined) return;
        if (charge(position)) park(position, 'attempts spent');
        else deliver([unsettled.get(position)!.event]);
        advance();
      },
      scanned: () => {
        if (left().some(({ position }) => !unsettled.has(position))) return undefined;
        told = host.head();
        return told;
      },
      end(code) {
        timers.forEach(clearTimeout);
        seat.feed = undefined;
        host.ended();
        if (code !== 'rebalanced') give(progress, seat);
        if (code === undefined) return;
        host.send({ type: 'unsubscribed', sub, code, message: code, retryable: code === 'rebalanced' });
      },
    };

    // An exclusive consumer is the newest's; a group shares anew, unless it is one that was told to come back.
    const kept = progress.seats.find(({ session, feed: taken }) => session === host.session && !taken);
    const seat: Seat = kept ?? { session: host.session, feed: undefined };
    if (!kept) {
      for (const { feed: other } of [...progress.seats]) other?.end(progress.group ? 'rebalanced' : 'consumer_taken');
      progress.seats.push(seat);
    }
    seat.feed = feed;
    told = left()[0] ? left()[0]!.position - 1 : host.head();
    host.send({ type: 'subscribed', sub, head: host.head(), after: told, resumed: existed || typeof request.after === 'number' });
    return feed;
  };

  return {
    get: (name) => known.get(name),
    replay(name, positions) {
      const consumer = known.get(name);
      for (const position of positions) consumer?.parked.delete(position);
      consumer?.seats.forEach(({ feed }) => feed?.advance());
    },
    open,
    leave(session) {
      for (const consumer of known.values()) consumer.seats.filter((seat) => seat.session === session).forEach((seat) => give(consumer, seat));
    },
  };
};
