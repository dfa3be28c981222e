/**
 * The one error type of this package: a stable code, and whether trying again can help.
 */

/** What went wrong. Codes from the server are passed on; the client's own are listed in the README. */
export class TidewireError extends Error {
  override readonly name = 'TidewireError';
  constructor(
    /** Stable, snake_case. */
    readonly code: string,
    message: string = code,
    /** Whether the same request may succeed later. */
    readonly retryable = false,
    /** Facts that belong to the code, as the server gave them. */
    readonly details?: unknown,
  ) {
    super(message);
  }
}
