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
import { begin, receive, type Reached, type Step, type SubscriptionState } from './subscription.js';
import { where } from './where.js';
import type { After, ErrorMessage, Filter, Json, RecordedEvent, ResetReason, Target } from './wire.js';

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
  onLive?(reached: Reached): void;
  /** Everything up to here was looked at, and what matched was handed over. */
  onScanned?(reached: Reached): void;
  /** The server has more than it could send yet. */
  onBehind?(reached: Reached): void;
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
  const { link } = client;
  const { buffer = 4096 } = options;
  const keeper = options.durable ? link.options.cursor?.(options.durable) : undefined;
  const filter = where(options);
  const store = createStore<SubscriptionState>(begin(options.after ?? 'end'));
  let state = store.getSnapshot();
  let steps: Step[] = [];
  let sub = 0;
  let pumping = false;
  let full = false;
  let retry: ReturnType<typeof setTimeout> | undefined;

  const publish = (): void => store.set(state);
  const pause = (): void => {
    clearTimeout(retry);
    link.close(sub);
  };
  const end = (error?: unknown): void => {
    if (state.phase === 'ended') return;
    pause();
    steps = [];
    state = { ...state, phase: 'ended' };
    publish();
    if (error)
      guard(() => {
        if (!options.onError) throw error;
        options.onError(error);
      });
  };
  const open = (): void => {
    pause();
    if (state.phase !== 'ended') sub = link.open(route);
  };

  const pump = async (): Promise<void> => {
    if (pumping) return;
    pumping = true;
    try {
      for (let step; (step = steps[0]); ) {
        const handled = options[step.call]?.(step.value as never);
        if (handled) await handled;
        // After a reset or the end meanwhile this position means nothing any more.
        if (steps[0] !== step) continue;
        steps.shift();
        state = { ...state, position: step.position };
        if (handled) publish();
        keeper?.save({ position: step.position, epoch: state.epoch }, end);
        if (step.call === 'onReset') open();
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
    request() {
      state = { ...state, phase: 'waiting' };
      publish();
      return { to, after: state.received, epoch: state.epoch, filter };
    },
    receive(message) {
      if (message.type === 'unsubscribed' || message.type === 'error') {
        if (message.retryable) {
          pause();
          retry = setTimeout(open, (message as ErrorMessage).retry_after_ms ?? 1_000);
        } else end(new TidewireError(message.code ?? message.type, message.message));
        return;
      }
      const [next, more] = receive(state, message, link.welcome()?.epoch);
      state = next;
      if (message.type === 'reset') {
        pause();
        steps = [];
      }
      steps.push(...more);
      if (steps.length >= buffer && !full) {
        full = true;
        pause();
      }
      publish();
      void pump();
    },
  };

  (async () => {
    const saved = keeper && (await keeper.load());
    if (saved && state.phase !== 'ended') state = begin(saved.position, saved.epoch);
    open();
  })().catch(end);

  return { ...store, stop: () => end() };
}

/** Follows one stream. */
export const stream = <M extends EventMap = { [type: string]: Json }>(
  client: Client,
  name: string,
  options: StreamOptions<M>,
): Subscription => follow(client, { stream: name }, options);
