/**
 * `documents` and `pages`: documents of a projection as they are now, a page at a time.
 */
import type { Client } from './client.js';
import { ask } from './requests.js';
import type { Json, Keyed, ProjectionQuery } from './wire.js';

/** How to read. */
export interface DocumentsOptions {
  /** Most documents of a page. Default: 100. */
  readonly limit?: number;
  /** Where to go on: the `next` of the page before. */
  readonly cursor?: string;
  /** Not before the projection has come to this position, which `append` and a collection's edits return: so one reads what one wrote. */
  readonly wait?: number;
  /** Milliseconds to wait at most, up to 30 000: then it rejects with `wait_timeout` or, without an answer, with `timeout`. Default: 5000 for the projection, no limit for the connection. */
  readonly timeout?: number;
}

/** Some documents, in their order. */
export interface DocumentsPage<D = Json> {
  readonly documents: readonly Keyed<D>[];
  /** Whether there are further ones. */
  readonly more: boolean;
  /** The cursor of the next page. */
  readonly next?: string;
  /** Everything up to here in the log is in them. */
  readonly position: number;
  readonly generation: number;
}

/** Milliseconds that a server waits at most. */
const WAIT_MS_MAX = 30_000;

/**
 * Reads one page of `query`.
 *
 * The request waits in the client's outbox, over reconnects. Rejects with the server's code (`unknown_projection`,
 * `unknown_field`, `unindexed_order`, `stale_cursor` after a rebuild, …), as `append` does, and in time if there is one.
 */
export const documents = async <D = Json>(client: Client, query: ProjectionQuery, options: DocumentsOptions = {}): Promise<DocumentsPage<D>> => {
  const { limit = 100, cursor, wait, timeout } = options;
  const timeout_ms = timeout && Math.min(timeout, WAIT_MS_MAX);
  const answer = await ask(client, undefined, { type: 'fetch', from: query, limit, cursor, wait, timeout_ms }, timeout);
  const { documents: found, more, next, position, generation } = answer as unknown as DocumentsPage<D>;
  return { documents: found, more, position, generation, ...(next !== undefined && { next }) };
};

/** Reads page after page, each when it is asked for. A rebuild in between ends it with `stale_cursor`. */
export async function* pages<D = Json>(client: Client, query: ProjectionQuery, options: DocumentsOptions = {}): AsyncGenerator<DocumentsPage<D>, void, undefined> {
  let { cursor } = options;
  do {
    const page: DocumentsPage<D> = await documents<D>(client, query, { ...options, ...(cursor !== undefined && { cursor }) });
    yield page;
    cursor = page.next;
  } while (cursor !== undefined);
}
