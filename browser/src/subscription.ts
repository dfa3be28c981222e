/**
 * What a subscription knows, and what each message makes of it. Pure.
 *
 * `received` runs ahead as frames arrive: it drops what was seen before. `position` follows once the
 * callback has run, and is what a restart resumes from. A reconnect resumes from `received`, because
 * what lies between the two is still waiting here.
 */
import type { After, RecordedEvent, ResetReason, SubscriptionMessage } from './wire.js';

/** Where a subscription stands. */
export type Phase = 'waiting' | 'subscribing' | 'catching_up' | 'live' | 'behind' | 'ended';

/** What is known. */
export interface SubscriptionState {
  readonly phase: Phase;
  /** Everything up to here was handled by the callback; until something is known, where to begin. */
  readonly position: After;
  /** Everything up to here was received. */
  readonly received: After;
  /** The log that the positions belong to. */
  readonly epoch: string | undefined;
}

/** What is handed to the application, in order. Each but a reset moves `position` once it was. */
export type Step =
  | { readonly kind: 'event'; readonly position: number; readonly event: RecordedEvent }
  | { readonly kind: 'scanned'; readonly position: number }
  | { readonly kind: 'live' | 'behind'; readonly position: number; readonly lag: number }
  | { readonly kind: 'reset'; readonly position: number; readonly reason: ResetReason };

/** The messages that move a subscription; a heartbeat's position for it comes as `scanned`. */
export type SubscriptionInput = Exclude<SubscriptionMessage, { type: 'unsubscribed' }> | { readonly type: 'scanned'; readonly position: number };

/** The beginning, or a saved position with its epoch. */
export const begin = (after: After, epoch?: string): SubscriptionState => ({
  phase: 'waiting',
  position: after,
  received: after,
  epoch,
});

const beyond = (position: number, received: After): boolean => typeof received === 'string' || position > received;

/** What `message` makes of the state, and the steps that it brings. `epoch` is the connection's. */
export const receive = (
  state: SubscriptionState,
  message: SubscriptionInput,
  epoch: string | undefined,
): readonly [SubscriptionState, readonly Step[]] => {
  switch (message.type) {
    case 'subscribed': {
      const { after } = message;
      const fresh = typeof state.received === 'string';
      return [
        {
          phase: 'catching_up',
          position: typeof state.position === 'string' ? after : state.position,
          received: fresh ? after : state.received,
          epoch,
        },
        [],
      ];
    }
    case 'events': {
      const steps: Step[] = [];
      let { received } = state;
      for (const event of message.events) {
        const { position } = event;
        if (beyond(position, received)) {
          received = position;
          steps.push({ kind: 'event', position, event });
        }
      }
      return [{ ...state, received }, steps];
    }
    case 'reset': {
      const position = message.first - 1;
      return [{ phase: 'waiting', position, received: position, epoch }, [{ kind: 'reset', position, reason: message.reason }]];
    }
    case 'scanned': {
      const { position } = message;
      return beyond(position, state.received) ? [{ ...state, received: position }, [{ kind: 'scanned', position }]] : [state, []];
    }
    default: {
      const { type: kind, lag = 0 } = message;
      // What was scanned up to here was sent before, so nothing older can follow.
      const position = beyond(message.position, state.received) ? message.position : (state.received as number);
      return [{ ...state, phase: kind, received: position }, [{ kind, position, lag }]];
    }
  }
};

/** The state once the application has handled everything up to `position`. */
export const settle = (state: SubscriptionState, position: number): SubscriptionState => ({ ...state, position });
