/**
 * A connection's quality in one word, from its round trip. Pure.
 */

/** `none` while nothing is known. */
export type Quality = 'good' | 'fair' | 'poor' | 'none';

/** Good up to 150 ms, fair up to 400 ms, poor beyond: where a reply stops feeling immediate, and where it feels slow. */
export const quality = (latency: number | undefined): Quality =>
  latency === undefined ? 'none' : latency <= 150 ? 'good' : latency <= 400 ? 'fair' : 'poor';
