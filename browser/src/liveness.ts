/**
 * Is the peer still there? Pure: times are passed in.
 *
 * A socket whose network went away stays open for minutes. So the client asks, and any traffic after
 * that is an answer. A timer that fires far too late means that the page itself was asleep (a frozen
 * tab, a closed laptop): then nothing is known about the peer and it is asked again.
 */

/** How the peer is checked. */
export interface HeartbeatOptions {
  /** Milliseconds between checks; 0 turns them off. Default: 30 000. */
  readonly interval?: number;
  /** Milliseconds for an answer. Default: 5 000. */
  readonly timeout?: number;
}

/** What is known when the time for an answer is over. */
export type Liveness = 'alive' | 'asleep' | 'dead';

/** Judges at `now` a question put at `askedAt` (0: answered meanwhile). */
export const judge = (askedAt: number, now: number, timeout: number): Liveness =>
  !askedAt ? 'alive' : Math.abs(now - askedAt) > timeout * 2 ? 'asleep' : 'dead';
