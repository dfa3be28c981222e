/**
 * What a handler can say of an event other than that it is done.
 */

/** An event that is not done: again later, given up, passed over, or the end of the subscription. */
export interface Nack {
  readonly action: 'retry' | 'park' | 'skip' | 'stop';
  /** Only for `retry`. */
  readonly delay_ms?: number;
  /** For people; kept with a parked event. */
  readonly reason?: string;
}

/** What a handler returns: nothing when the event is done. */
export type Verdict = Nack | void;

/** Again after `delay` milliseconds, by default with a backoff. It is charged as an attempt; once those are spent the event is parked. */
export const retry = (delay?: number): Nack => ({ action: 'retry', ...(delay !== undefined && { delay_ms: delay }) });

/** Gives the event up: it is kept with the reason until somebody replays or drops it, and the next one comes. */
export const park = (reason = ''): Nack => ({ action: 'park', reason });

/** Passes the event over. */
export const skip = (): Nack => ({ action: 'skip' });

/** Ends the subscription; the event stays unsettled and comes first when somebody subscribes again. */
export const stop = (): Nack => ({ action: 'stop' });
