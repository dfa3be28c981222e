/**
 * What keeps a durable subscription's position. Types only.
 */

/** A position, and the log that it belongs to. */
export interface Saved {
  readonly position: number;
  readonly epoch: string | undefined;
}

/** One subscription's saved position. */
export interface Keeper {
  /** What was saved; read before subscribing. */
  load(): Saved | undefined | Promise<Saved | undefined>;
  /** Takes note of the newest position, after each event; `failed` is told what keeps it from being saved. */
  save(saved: Saved, failed: (error: unknown) => void): void;
  /** Forgets the position: the next subscription begins where its options say. Stop the present one first. */
  drop(): void | Promise<void>;
}

/** Keeps positions by name. Give each user of a shared browser names of their own. */
export type Cursor = (name: string) => Keeper;
