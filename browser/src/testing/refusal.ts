/**
 * What a fake server refuses with.
 */
import type { Json } from '../wire.js';

/** A refusal with its wire code, for what a command's handler throws. */
export class Refusal extends Error {
  constructor(
    readonly code: string,
    readonly details?: Json,
    readonly retryable = false,
  ) {
    super(code);
  }
}
