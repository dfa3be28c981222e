/**
 * `consume`: every event at least once, each settled by its handler, with retries and a checkpoint that the
 * server keeps.
 *
 * The rules are in `delivery.ts`; this carries between it, the connection and the handler, and owns the one
 * timer that lets acks wait for each other.
 */
import { reconnectPolicy, retryDelay, type ReconnectOptions } from './backoff.js';
import type { Client, Route } from './client.js';
import { createDelivery } from './delivery.js';
import { TidewireError } from './error.js';
import type { EventMap, EventOf } from './stream.js';
import { createStore, guard, type Observable, type Stop } from './store.js';
import type { Phase } from './subscription.js';
import { retry, type Nack, type Verdict } from './verdict.js';
import { where } from './where.js';
import type { After, ClientMessage, Consumer, ErrorMessage, Filter, Json, RecordedEvent, ResetReason, Target } from './wire.js';

/** How events are consumed. */
export interface ConsumeOptions<M extends EventMap = { [type: string]: Json }> {
  /**
   * The name of a consumer, whose checkpoint, attempts and parked events the server keeps; one session holds it,
   * the newest. `{ group }`: shared by sessions, each stream by one of them. Without it attempts end with the
   * connection, and a new page begins at `after`.
   */
  readonly consumer?: Consumer;
  /** Where to begin when the consumer is new. Default: `'end'`. */
  readonly after?: After;
  /** Only events of these types. */
  readonly types?: readonly (keyof M & string)[];
  /** Only events that meet this. */
  readonly filter?: Filter;
  /** Most events that came and are not settled. Default: 256, or what the server allows if that is less. */
  readonly window?: number;
  /** The delays of retries after a throw, by the event's attempt. Default: from 500 ms, twice as long each time, up to 30 s. */
  readonly backoff?: Pick<ReconnectOptions, 'initialDelay' | 'maxDelay' | 'backoffMultiplier' | 'jitter'>;
  /**
   * Gets an event; the next one waits for its promise. Returning settles it, a throw has it retried, and a
   * verdict (`retry()`, `park()`, `skip()`, `stop()`) does as it says.
   */
  onEvent(event: EventOf<M>): Verdict | Promise<Verdict>;
  /** The handler threw, and the event is retried after `delay`. Without it the error surfaces as an uncaught one. */
  onThrow?(error: unknown, event: EventOf<M>, delay: number): void;
  /** The server has given these events up and goes on without them. */
  onParked?(positions: readonly number[], reason: string): void;
  /** The log is not the one remembered, or lost its beginning: clear what was derived from it. */
  onReset?(reason: ResetReason): void | Promise<void>;
  /** It ended without being stopped; `consumer_taken`: another session holds the consumer now. */
  onError?(error: unknown): void;
}

/** How a consumption stands. */
export interface ConsumptionState {
  readonly phase: Phase;
  /** Everything that came up to here is settled. */
  readonly position: After;
  /** Events that came and are not settled. */
  readonly pending: number;
  /** Events that came with `attempt` 2 or more. */
  readonly redelivered: number;
  /** Events that the server has given up. */
  readonly parked: number;
}

/** A running consumption. */
export interface Consumption extends Observable<ConsumptionState> {
  /** Ends it. The event being handled stays unsettled and comes again to whoever consumes next. */
  readonly stop: Stop;
}

/** How long an ack may wait for more of them, in milliseconds. */
const ACK_DELAY_MS = 200;
/** What the server gives a subscription that names no window. */
const WINDOW = 256;
/** Milliseconds before a subscription that was refused for now is tried again, unless the server says otherwise. */
const RETRY_MS = 1_000;
/** The longest delay that a server takes. */
const RETRY_DELAY_MS_MAX = 3_600_000;
/** As many characters of a reason as always fit into its 500 bytes. */
const REASON_CHARACTERS = 166;

/** Consumes a stream, by its name, or any other target. */
export const consume = <M extends EventMap = { [type: string]: Json }>(
  client: Client,
  to: string | Target,
  options: ConsumeOptions<M>,
): Consumption => {
  const { link } = client;
  const { consumer, window } = options;
  const delivery = createDelivery();
  const filter = where(options);
  let phase: Phase = 'waiting';
  let position = options.after ?? 'end';
  let epoch: string | undefined;
  let redelivered = 0;
  let parked = 0;
  let sub = 0;
  let handling = false;
  let reset: ResetReason | undefined;
  let acking: ReturnType<typeof setTimeout> | undefined;
  let retrying: ReturnType<typeof setTimeout> | undefined;

  const open = (): boolean => phase !== 'waiting' && phase !== 'ended';
  const snapshot = (): ConsumptionState => {
    if (open()) position = delivery.checkpoint();
    return { phase, position, pending: delivery.pending(), redelivered, parked };
  };
  const store = createStore(snapshot());
  const publish = (): void => store.set(snapshot());

  const say = (message: ClientMessage): unknown => link.send(JSON.stringify(message));
  const acknowledge = (now: boolean): void => {
    if (!open()) return;
    const due = delivery.acks(now);
    if (!due) acking ??= setTimeout(() => acknowledge(true), ACK_DELAY_MS);
    else {
      clearTimeout(acking);
      acking = undefined;
      due.forEach((each) => say({ type: 'ack', sub, position: each }));
    }
  };
  /** Nothing is subscribed any more: what waits comes again. */
  const withdraw = (next: 'waiting' | 'ended'): void => {
    if (phase === 'ended') return;
    snapshot();
    phase = next;
    delivery.begin();
    publish();
  };
  const close = (): void => {
    clearTimeout(retrying);
    link.close(sub);
  };
  const end = (error?: unknown): void => {
    if (phase === 'ended') return;
    acknowledge(true);
    withdraw('ended');
    close();
    unwatch();
    if (error)
      guard(() => {
        if (!options.onError) throw error;
        options.onError(error);
      });
  };
  const subscribe = (): void => {
    close();
    if (phase !== 'ended') sub = link.open(route);
  };

  /** The handler's word on an event; a throw is a retry. */
  const judge = async (event: RecordedEvent): Promise<Verdict> => {
    const given = event as EventOf<M>;
    const backoff = (): number => retryDelay(reconnectPolicy(options.backoff), event.attempt ?? 1, Math.random());
    try {
      const verdict = await options.onEvent(given);
      return verdict?.action === 'retry' ? { delay_ms: backoff(), ...verdict } : verdict;
    } catch (error) {
      const delay = backoff();
      guard(() => {
        if (!options.onThrow) throw error;
        options.onThrow(error, given, delay);
      });
      return { ...retry(delay), reason: String(error) };
    }
  };
  const settle = (verdict: Nack | undefined, at: number): void => {
    const needed = delivery.settle(verdict);
    // Nothing is heard after it.
    if (verdict?.action === 'stop') acknowledge(true);
    if (needed && verdict) {
      const { action, delay_ms = 0, reason } = verdict;
      say({
        type: 'nack',
        sub,
        positions: [at],
        action,
        delay_ms: Math.min(Math.round(delay_ms), RETRY_DELAY_MS_MAX) || undefined,
        reason: reason?.slice(0, REASON_CHARACTERS) || undefined,
      });
    }
    if (verdict?.action === 'stop') end();
    else acknowledge(false);
  };
  const pump = async (): Promise<void> => {
    if (handling) return;
    handling = true;
    try {
      for (let event; open() && (event = delivery.next()); publish()) settle((await judge(event)) ?? undefined, event.position);
      if (reset) {
        const reason = reset;
        reset = undefined;
        await options.onReset?.(reason);
        subscribe();
      } else acknowledge(false);
    } catch (error) {
      end(error);
    }
    handling = false;
    publish();
  };

  const route: Route = {
    request() {
      withdraw('waiting');
      return {
        to: typeof to === 'string' ? { stream: to } : to,
        after: position,
        // A consumer's checkpoint is the server's own.
        epoch: consumer ? undefined : epoch,
        filter,
        // A consumer implies it.
        ack: consumer ? undefined : 'each',
        window,
        consumer,
      };
    },
    receive(message) {
      if (message.type === 'error' || message.type === 'unsubscribed') {
        // Once subscribed, an error is about an ack or a nack that came too late.
        if (message.type === 'error' && open()) {
          if (message.code === 'unknown_position') {
            const { positions } = message.details as { readonly positions: readonly number[] };
            delivery.park(positions);
            delivery.retrying(positions);
          }
          return;
        }
        const { code, retryable } = message;
        withdraw('waiting');
        if (code === 'rebalanced') subscribe();
        else if (retryable) retrying = setTimeout(subscribe, (message as ErrorMessage).retry_after_ms ?? RETRY_MS);
        else end(code === 'stopped' ? undefined : new TidewireError(code ?? message.type, message.message));
        return;
      }
      switch (message.type) {
        case 'subscribed':
          phase = 'catching_up';
          if (epoch !== link.welcome()?.epoch) delivery.forget();
          epoch = link.welcome()?.epoch;
          delivery.begin(message.after, Math.min(window ?? WINDOW, link.welcome()?.limits?.['window'] ?? Infinity));
          break;
        case 'reset':
          withdraw('waiting');
          close();
          position = message.first - 1;
          epoch = link.welcome()?.epoch;
          delivery.forget();
          reset = message.reason;
          break;
        case 'events':
          for (const event of message.events) {
            delivery.deliver(event);
            if ((event.attempt ?? 1) > 1) redelivered++;
          }
          break;
        case 'retrying':
          delivery.retrying(message.positions);
          break;
        case 'parked':
          delivery.park(message.positions);
          parked += message.positions.length;
          guard(() => options.onParked?.(message.positions, message.reason));
          break;
        case 'live':
        case 'behind':
        case 'scanned':
          delivery.scanned(message.position);
          if (message.type !== 'scanned') phase = message.type;
      }
      publish();
      void pump();
    },
  };

  // What has not begun when a connection is lost may be somebody else's by the time that it is back.
  const unwatch = client.subscribe(({ status }) => status === 'connected' || withdraw('waiting'));
  subscribe();
  return { ...store, stop: () => end() };
};
