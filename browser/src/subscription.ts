/**
 * What a subscription knows, and what each message makes of it. Pure.
 *
 * `received` runs ahead as frames arrive: it drops what was seen before. `position` follows once the
 * callback has run, and is what a restart resumes from. A reconnect resumes from `received`, because
 * what lies between the two is still waiting here.
 */
import type { After, ErrorMessage, RecordedEvent, ResetReason, SubscriptionMessage } from './wire.js';

/** Where a subscription stands. */
export type Phase = 'waiting' | 'catching_up' | 'live' | 'behind' | 'ended';

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

/** How far a subscription has come, and how many positions the server's log is ahead of that, where it said so. */
export interface Reached {
  readonly position: number;
  readonly lag: number;
}

/** What the application is told, in order: the callback's name and what it is given. `position` holds once it has run. */
export type Step = { readonly position: number } & (
  | { readonly call: 'onEvent'; readonly value: RecordedEvent }
  | { readonly call: 'onScanned' | 'onLive' | 'onBehind'; readonly value: Reached }
  | { readonly call: 'onReset'; readonly value: ResetReason }
);

/** A message about a subscription; a heartbeat's position for it comes as `scanned`. */
export type SubscriptionInput = SubscriptionMessage | ErrorMessage | { readonly type: 'scanned'; readonly position: number; readonly lag?: number };

/** The messages that move a subscription on. */
export type Progress = Exclude<SubscriptionInput, { type: 'unsubscribed' | 'error' }>;

/** The beginning, or a saved position with its epoch. */
export const begin = (after: After, epoch?: string): SubscriptionState => ({ phase: 'waiting', position: after, received: after, epoch });

const CALLS = { live: 'onLive', behind: 'onBehind', scanned: 'onScanned' } as const;

/** Whether a position is new; what is no position is the peer's error. */
const isNew = (position: number, received: After): boolean => {
  if (!Number.isSafeInteger(position)) throw position;
  // Nothing is at or below 'start' and 'end'.
  return !(position <= (received as number));
};

/** What `message` makes of the state, and the steps that it brings. `current` is the connection's epoch. Throws at a malformed message. */
export const receive = (state: SubscriptionState, message: Progress, current: string | undefined): readonly [SubscriptionState, readonly Step[]] => {
  const steps: Step[] = [];
  let { phase, received, position, epoch } = state;
  switch (message.type) {
    case 'subscribed':
      phase = 'catching_up';
      epoch = current;
      if (typeof received === 'string') received = position = message.after;
      break;
    case 'reset':
      position = message.first - 1;
      isNew(position, position);
      return [begin(position, current), [{ call: 'onReset', value: message.reason, position }]];
    case 'events':
      for (const value of message.events) {
        if (isNew(value.position, received)) {
          received = value.position;
          steps.push({ call: 'onEvent', value, position: received });
        }
      }
      break;
    case 'live':
    case 'behind':
    case 'scanned':
      // Whatever matched up to here was sent before.
      if (isNew(message.position, received)) received = message.position;
      if (message.type !== 'scanned') phase = message.type;
      steps.push({
        call: CALLS[message.type],
        value: { position: received as number, lag: message.lag ?? 0 },
        position: received as number,
      });
  }
  return [{ phase, position, received, epoch }, steps];
};
