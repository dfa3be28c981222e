/**
 * Subscriptions: every event once and in order to one callback, from where it left off.
 *
 * The reducer (`subscription.ts`) decides; this carries. Steps wait in one bounded queue and are
 * handed over one at a time; a callback that returns a promise is waited for. If the application is
 * slower than the network and the queue fills, the subscription is given back to the server and
 * resumed from its position once the queue has drained: memory stays bounded and nothing is lost.
 */
import type { Client, Route } from './client.js';
import { TidewireError } from './error.js';
import { createStore, guard, type Observable, type Stop } from './store.js';
import { begin, receive, settle, type Step, type SubscriptionState } from './subscription.js';
import type { After, Filter, Json, RecordedEvent, ResetReason, Target } from './wire.js';

/** Event types and their data: what a subscription's events are typed by. */
export type EventMap = { readonly [type: string]: unknown };

/** The events of a map, as a union told apart by `type`. */
export type EventOf<M> = { [T in keyof M & string]: RecordedEvent<T, M[T]> }[keyof M & string];

/** How a subscription behaves. */
export interface StreamOptions<M extends EventMap = { [type: string]: Json }> {
  /** Where to begin when nothing is saved. Default: `'end'`, that is, with what is new. */
  readonly after?: After;
  /** A name under which the client's cursor keeps the position across reloads. */
  readonly durable?: string;
  /** Only events of these types. */
  readonly types?: readonly (keyof M & string)[];
  /** Only events that meet this. */
  readonly filter?: Filter;
  /** Most events received and not yet handled. Default: 4096. */
  readonly buffer?: number;
  /** Gets every event, in order. The next one waits for its promise. If it throws, the subscription ends before that event. */
  onEvent(event: EventOf<M>): void | Promise<void>;
  /** Everything that there is was handed over; what comes now is new. */
  onLive?(position: number): void;
  /** The server has more than it could send yet. */
  onBehind?(position: number, lag: number): void;
  /** The log is not the one remembered: clear what was derived from it. Events follow from its first. */
  onReset?(reason: ResetReason): void | Promise<void>;
  /** The subscription ended without being stopped. */
  onError?(error: unknown): void;
}

/** A running subscription. */
export interface Subscription extends Observable<SubscriptionState> {
  readonly stop: Stop;
}

/** Follows whatever `to` names. */
export function follow<M extends EventMap>(client: Client, to: Target, options: StreamOptions<M>): Subscription {
  const { durable, onEvent, buffer = 4096 } = options;
  const { link } = client;
  const { cursor } = link.options;
  const store = createStore<SubscriptionState>(begin(options.after ?? 'end'));
  const filters: Filter[] = [];
  if (options.types) filters.push({ in: ['type', options.types] });
  if (options.filter) filters.push(options.filter);
  let state = store.getSnapshot();
  let steps: Step[] = [];
  let sub = 0;
  let pumping = false;
  let saving = false;
  let unsaved = false;
  let full = false;
  let retry: ReturnType<typeof setTimeout> | undefined;

  const publish = (): void => {
    if (state !== store.getSnapshot()) store.set(state);
  };
  const change = (next: SubscriptionState): void => {
    state = next;
    publish();
  };
  const halt = (): void => {
    clearTimeout(retry);
    link.close(sub);
  };
  const end = (error?: unknown): void => {
    if (state.phase === 'ended') return;
    halt();
    steps = [];
    change({ ...state, phase: 'ended' });
    if (error === undefined) return;
    guard(() => {
      if (!options.onError) throw error;
      options.onError(error);
    });
  };
  const open = (): void => {
    if (state.phase === 'ended') return;
    halt();
    sub = link.open(route);
  };

  const save = async (): Promise<void> => {
    unsaved = true;
    if (saving) return;
    saving = true;
    try {
      while (unsaved && typeof state.position === 'number') {
        unsaved = false;
        await cursor!.save(durable!, { position: state.position, epoch: state.epoch });
      }
    } catch (error) {
      end(error);
    }
    saving = false;
  };

  const hand = (step: Step): void | Promise<void> => {
    switch (step.kind) {
      case 'event':
        return onEvent(step.event as EventOf<M>);
      case 'live':
        return options.onLive?.(step.position);
      case 'behind':
        return options.onBehind?.(step.position, step.lag);
      case 'reset':
        return options.onReset?.(step.reason);
    }
  };

  const pump = async (): Promise<void> => {
    if (pumping) return;
    pumping = true;
    try {
      for (let step; (step = steps[0]); ) {
        const handed = hand(step);
        if (handed) await handed;
        // A reset meanwhile has replaced the queue: then this position is of another log.
        if (steps[0] !== step) continue;
        steps.shift();
        state = settle(state, step.position);
        if (step.kind === 'reset') open();
        if (durable && cursor && (handed || !steps.length)) void save();
        if (handed) publish();
      }
    } catch (error) {
      end(error);
    }
    pumping = false;
    publish();
    if (full) {
      full = false;
      open();
    }
  };

  const route: Route = {
    request: () => {
      state = { ...state, phase: 'subscribing' };
      publish();
      return {
        to,
        after: state.received,
        ...(state.epoch && { epoch: state.epoch }),
        ...(filters.length && { filter: filters.length > 1 ? { and: filters } : filters[0]! }),
      };
    },
    receive(message) {
      if (message.type === 'unsubscribed' || message.type === 'error') {
        const code = message.code;
        if (message.type === 'error' && message.retryable) {
          halt();
          retry = setTimeout(open, message.retry_after_ms ?? 1_000);
        } else end(new TidewireError(code ?? 'unsubscribed', 'message' in message ? message.message : undefined));
        return;
      }
      const [next, more] = receive(state, message, link.welcome()?.epoch);
      state = next;
      if (message.type === 'reset') {
        halt();
        steps = [...more];
      } else {
        for (const step of more) steps.push(step);
        if (steps.length >= buffer && !full) {
          full = true;
          halt();
        }
      }
      void pump();
    },
  };

  const start = async (): Promise<void> => {
    try {
      const saved = durable && cursor ? await cursor.load(durable) : undefined;
      if (saved && state.phase !== 'ended') state = begin(saved.position, saved.epoch);
      open();
    } catch (error) {
      end(error);
    }
  };
  void start();

  return { getSnapshot: store.getSnapshot, subscribe: store.subscribe, stop: () => end() };
}

/** Follows one stream. */
export const stream = <M extends EventMap = { [type: string]: Json }>(
  client: Client,
  name: string,
  options: StreamOptions<M>,
): Subscription => follow(client, { stream: name }, options);
