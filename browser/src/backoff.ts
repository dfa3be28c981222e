/**
 * How long to wait before connecting again. Pure: chance is passed in.
 */

/** When and how often to reconnect. */
export interface ReconnectOptions {
  /** Whether to reconnect at all. Default: true. */
  readonly enabled?: boolean;
  /** Attempts in a row before giving up; 0 means for ever. Default: 0. */
  readonly maxAttempts?: number;
  /** The first delay, in milliseconds. Default: 500. */
  readonly initialDelay?: number;
  /** The longest delay, in milliseconds. Default: 30 000. */
  readonly maxDelay?: number;
  /** What each failure multiplies the delay by. Default: 2. */
  readonly backoffMultiplier?: number;
  /** Whether to spread delays, so that a thousand clients do not return at once. Default: true. */
  readonly jitter?: boolean;
}

/** The options with every default filled in. */
export type ReconnectPolicy = Required<ReconnectOptions>;

/** Fills in the defaults. */
export const reconnectPolicy = (options?: ReconnectOptions): ReconnectPolicy => ({
  enabled: true,
  maxAttempts: 0,
  initialDelay: 500,
  maxDelay: 30_000,
  backoffMultiplier: 2,
  jitter: true,
  ...options,
});

/**
 * The delay before attempt `attempt` (from 1), in milliseconds: exponential up to `maxDelay`, and with
 * jitter a point between half of that and all of it. `chance` is in [0, 1).
 */
export const retryDelay = (policy: ReconnectPolicy, attempt: number, chance: number): number =>
  Math.min(policy.maxDelay, policy.initialDelay * policy.backoffMultiplier ** (attempt - 1)) *
  (policy.jitter ? (1 + chance) / 2 : 1);
