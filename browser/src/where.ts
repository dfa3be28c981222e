/**
 * The filter that a subscription asks for, made of its options.
 */
import type { ErasedEvent, Filter } from './wire.js';

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
