/**
 * `projection`: the documents of a query, and whatever becomes of them, as one observable value.
 *
 * The reducer (`picture.ts`) decides; this carries. What is shown is always one consistent picture of one
 * moment of the log: while a state is loaded, at first or after the server has lost track, the picture before
 * it stays.
 */
import type { Client } from './client.js';
import { TidewireError } from './error.js';
import { receive, resume, type Known, type QueryInput, type QueryState } from './picture.js';
import { createStore, guard, type Observable, type Stop } from './store.js';
import type { ErrorMessage, Json, Query } from './wire.js';

/** How a live query behaves. */
export interface ProjectionOptions {
  /** Most documents kept; more end it with `too_many_documents`. Default: 10 000. */
  readonly documents?: number;
  /** It ended without being stopped. The snapshot has the error, too. */
  onError?(error: TidewireError): void;
}

/** A running live query. */
export interface LiveQuery<D = Json> extends Observable<QueryState<D>> {
  readonly stop: Stop;
}

/** As many documents are kept, unless the options say otherwise. */
const DOCUMENTS = 10_000;

/**
 * Follows documents of the projection `name`: all, the one of a key, or those of a query.
 *
 * Begins at once, and goes on after every loss from where it was, or from a fresh state where the server
 * cannot tell any more what was missed.
 */
export const projection = <D = Json>(client: Client, name: string, which: string | Query = {}, options: ProjectionOptions = {}): LiveQuery<D> => {
  const { link } = client;
  const { documents: most = DOCUMENTS } = options;
  const query = typeof which === 'string' ? { key: which } : which;
  const store = createStore<Known<D>>({ phase: 'loading', documents: new Map() });
  let sub = 0;
  let retry: ReturnType<typeof setTimeout> | undefined;

  const pause = (): void => {
    clearTimeout(retry);
    link.close(sub);
  };
  const end = (error?: TidewireError): void => {
    const known = store.getSnapshot();
    if (known.phase === 'ended') return;
    pause();
    store.set({ ...known, phase: 'ended', ...(error && { error }) });
    if (error) guard(() => options.onError?.(error));
  };
  const open = (): void => {
    pause();
    sub = link.open({
      request() {
        store.set(resume(store.getSnapshot()));
        const { held, epoch } = store.getSnapshot();
        return { to: { projection: name, ...query }, after: held?.position, generation: held?.generation, epoch };
      },
      receive(message) {
        if (message.type === 'unsubscribed' || message.type === 'error') {
          if (message.retryable) {
            pause();
            retry = setTimeout(open, (message as ErrorMessage).retry_after_ms ?? 1_000);
          } else end(new TidewireError(message.code ?? message.type, message.message, false, (message as ErrorMessage).details));
          return;
        }
        const known = receive(store.getSnapshot(), message as QueryInput, query, link.welcome()?.epoch);
        if (known.next && known.next.documents.size > most) end(new TidewireError('too_many_documents', `more than ${most}`));
        else store.set(known);
      },
    });
  };
  open();
  return { ...store, stop: () => end() };
};
