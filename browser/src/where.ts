/**
 * Which events a subscription asks for, and which of its callbacks gets one.
 */
import type { ErasedEvent, Filter, RecordedEvent } from './wire.js';

/** The type of the events that tell of an erasure. */
export const ERASED: ErasedEvent['type'] = '$erased';

/** What of a subscription's options says which events it gets. */
export interface Selection {
  readonly types?: readonly string[];
  readonly filter?: Filter;
  readonly onErased?: unknown;
}

/** Both conditions, or the one there is. Who wants to be told of erasures is, whatever the types. */
export const where = ({ types, filter, onErased }: Selection): Filter | undefined => {
  const byType = types && { in: ['type', onErased ? [...types, ERASED] : types] as const };
  return byType && filter ? { and: [byType, filter] } : (byType ?? filter);
};

/** The callback for an event. */
export const callOf = ({ type }: RecordedEvent): 'onErased' | 'onEvent' => (type === ERASED ? 'onErased' : 'onEvent');

/** The options with every callback that an event can go to. */
export const callbacksOf = <O extends { onEvent: unknown }>(options: O): O & { readonly onErased: unknown } => ({ onErased: options.onEvent, ...options });
