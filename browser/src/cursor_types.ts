/**
 * What keeps a durable subscription's position. Types only.
 */

/** A position, and the log that it belongs to. */
export interface Saved {
  readonly position: number;
  readonly epoch: string | undefined;
}

/** Keeps positions by name. Give each user of a shared browser names of their own. */
export interface Cursor {
  /** What was saved under the name; read before subscribing. */
  load(name: string): Saved | undefined | Promise<Saved | undefined>;
  /** Saves; called with one save at a time a subscription, with the newest position. */
  save(name: string, saved: Saved): void | Promise<void>;
}
