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

/** Whether a page that asked at `askedAt`, and looks for the answer at `now`, slept in between. */
export const slept = (askedAt: number, now: number, timeout: number): boolean => Math.abs(now - askedAt) > timeout * 2;
