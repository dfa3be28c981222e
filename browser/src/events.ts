/**
 * `events`: subscriptions to a stream, a category or everything, with a callback or as an iterable.
 */
import type { Client } from './client.js';
import { follow, type EventMap, type EventOf, type StreamOptions, type Subscription } from './stream.js';
import type { Json, Target } from './wire.js';

/** How an iterable of events behaves. */
export interface IterateOptions<M extends EventMap = { [type: string]: Json }>
  extends Omit<StreamOptions<M>, 'onEvent' | 'onError'> {
  /** Ends the loop from outside, as if there were no more events. */
  readonly signal?: AbortSignal;
}

/** Follows `to` with a callback. */
export function events<M extends EventMap = { [type: string]: Json }>(
  client: Client,
  to: Target,
  options: StreamOptions<M>,
): Subscription;
/**
 * Follows `to` as an iterable. It subscribes when the loop begins and stops when the loop ends. An event
 * counts as handled when the next one is asked for, so a loop left by `break` or an error resumes with the
 * event that it was at. The loop throws when the subscription or the connection has failed for good.
 */
export function events<M extends EventMap = { [type: string]: Json }>(
  client: Client,
  to: Target,
  options?: IterateOptions<M>,
): AsyncGenerator<EventOf<M>, void, undefined>;
export function events<M extends EventMap>(
  client: Client,
  to: Target,
  options: StreamOptions<M> | IterateOptions<M> = {},
): Subscription | AsyncGenerator<EventOf<M>, void, undefined> {
  return 'onEvent' in options ? follow(client, to, options) : iterate(client, to, options);
}

async function* iterate<M extends EventMap>(
  client: Client,
  to: Target,
  options: IterateOptions<M>,
): AsyncGenerator<EventOf<M>, void, undefined> {
  const { signal } = options;
  let offered: { readonly event: EventOf<M>; readonly taken: () => void } | undefined;
  let failure: { readonly error: unknown } | undefined;
  let wake = (): void => {};
  const subscription = follow<M>(client, to, {
    ...options,
    onEvent: (event) =>
      new Promise<void>((taken) => {
        offered = { event, taken };
        wake();
      }),
    onError(error) {
      failure = { error };
      wake();
    },
  });
  const watch = (): void => {
    const state = client.getSnapshot();
    if (state.status === 'failed') failure = { error: state.error };
    wake();
  };
  const unwatch = client.subscribe(watch);
  const abort = (): void => wake();
  signal?.addEventListener('abort', abort);
  try {
    watch();
    while (!signal?.aborted) {
      if (offered) {
        const { event, taken } = offered;
        offered = undefined;
        yield event;
        taken();
      } else if (failure) throw failure.error;
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  } finally {
    signal?.removeEventListener('abort', abort);
    unwatch();
    subscription.stop();
  }
}
