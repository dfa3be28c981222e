/**
 * The filter that a subscription asks for, made of its options.
 */
import type { Filter } from './wire.js';

/** Both conditions, or the one there is. */
export const where = ({ types, filter }: { readonly types?: readonly string[]; readonly filter?: Filter }): Filter | undefined => {
  const byType = types && { in: ['type', types] as const };
  return byType && filter ? { and: [byType, filter] } : (byType ?? filter);
};
