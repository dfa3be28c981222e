/**
 * `erasable`: options of a subscription that is told when the payload of an event was erased.
 *
 * The log says so with an event of type `$erased` in the same stream. Whoever kept a copy of the payload, in
 * memory or in a database of the page, drops it then; where it is read again, the event has `erased: true` and
 * no data.
 */
import type { ErasedEvent, RecordedEvent } from './wire.js';

/** What of a subscription's options is looked at. */
interface Handling {
  readonly types?: readonly string[];
  onEvent(event: never): unknown;
}

/** The type of the events that tell of an erasure. */
export const ERASED: ErasedEvent['type'] = '$erased';

/** Hands erasures to `onErased`, whatever the types, and everything else to `onEvent`; for `stream`, `events` and `consume`. */
export const erasable = <O extends Handling>(options: O & { onErased(event: ErasedEvent): ReturnType<O['onEvent']> }): O => ({
  ...options,
  ...(options.types && { types: [...options.types, ERASED] }),
  onEvent: (event: RecordedEvent) => (event.type === ERASED ? options.onErased(event as ErasedEvent) : options.onEvent(event as never)),
});
