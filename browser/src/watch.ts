/**
 * `watch`: what happens to a connection, as events, told from its states alone.
 */
import type { ConnectionState } from './connection.js';
import type { TidewireError } from './error.js';
import type { Observable, Stop } from './store.js';

/** What happens to a connection. */
export type ConnectionEvent =
  | { readonly type: 'connected' }
  | { readonly type: 'disconnected'; readonly code: number; readonly reason: string; readonly wasClean: boolean }
  | { readonly type: 'reconnecting'; readonly attempt: number; readonly delay: number; readonly retryAt: number }
  | { readonly type: 'reconnected'; readonly attempts: number; readonly totalDelay: number }
  | { readonly type: 'error'; readonly error: TidewireError };

/** The events that lie between two states; `waited` is the sum of the delays since the loss. Pure. */
export const between = (before: ConnectionState, now: ConnectionState, waited: number): readonly ConnectionEvent[] => {
  const events: ConnectionEvent[] = [];
  if (before.status === 'connected')
    events.push({ type: 'disconnected', ...('error' in now ? now.error.details : { code: 1000, reason: '', wasClean: true }) });
  if ('error' in now) events.push({ type: 'error', error: now.error });
  if (now.status === 'reconnecting') {
    const { attempt, delay, retryAt } = now;
    events.push({ type: 'reconnecting', attempt, delay, retryAt });
  }
  if (now.status === 'connected') {
    events.push({ type: 'connected' });
    if (before.status === 'reconnecting') events.push({ type: 'reconnected', attempts: before.attempt, totalDelay: waited });
  }
  return events;
};

/** Tells `listener` what happens to the connection of a client or a socket. */
export const watch = (connection: Observable<ConnectionState>, listener: (event: ConnectionEvent) => void): Stop => {
  let before = connection.getSnapshot();
  let waited = 0;
  return connection.subscribe(() => {
    const now = connection.getSnapshot();
    if (now.status === 'reconnecting') waited += now.delay;
    const events = between(before, now, waited);
    if (now.status !== 'reconnecting') waited = 0;
    before = now;
    events.forEach(listener);
  });
};
