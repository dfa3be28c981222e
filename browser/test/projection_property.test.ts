/**
 * The main promise of a live query, over any history: what is shown after cuts, rebuilds, swept changes, another log
 * and a projection that stands still is what the server has, and every picture on the way there is one that the
 * server had, too.
 */
import { afterEach, expect, test } from 'vitest';
import { projection, type Client, type Json, type LiveQuery, type Query } from '../src/index.js';
import { select } from '../src/testing/query.js';
import type { FakeProjection, FakeServer, Project } from '../src/testing/index.js';
import { pair } from './support/connect.js';

const SEEDS = 60;
const STEPS = 60;
const QUERIES: readonly (string | Query)[] = [
  {},
  'k3',
  { where: { gte: ['n', 50] } },
  { where: { or: [{ eq: ['kind', 'a'] }, { not: { exists: 'kind' } }] } },
  { order: { by: 'n', direction: 'descending' }, limit: 7 },
  { where: { eq: ['kind', 'b'] }, order: { by: 'n' }, limit: 30 },
  { limit: 5 },
];

/**
 * The last data of each stream, where `null` deletes. Two more documents, at both ends of the keys, change with every
 * event: a picture of two moments is none that the server had. A version of its own makes other documents.
 */
const latest =
  (version?: number): Project =>
  ({ stream, data, position }, documents) => {
    if (data === null) documents.delete(stream);
    else documents.put(stream, { ...(data as object), ...(version && { version }) });
    for (const key of ['a', 'z']) documents.put(key, { n: position % 100, of: position });
  };

/** Park–Miller: the same history for the same seed. */
const chances = (seed: number) => {
  let state = seed * 7_919 + 1;
  return (below: number): number => Math.floor(((state = (state * 48_271) % 2_147_483_647) / 2_147_483_647) * below);
};

let client: Client;
afterEach(() => client.disconnect());

const canonical = (documents: ReadonlyMap<string, Json>, ordered: boolean): string => {
  const text = [...documents].map(([key, document]) => `${key} ${JSON.stringify(Object.entries(document as object).sort(([a], [b]) => (a < b ? -1 : 1)))}`);
  return (ordered ? text : text.sort()).join('\n');
};

interface Watched {
  readonly query: Query;
  readonly live: LiveQuery;
  /** Every picture that the server had. */
  readonly had: Set<string>;
  /** Every picture that was shown. */
  readonly shown: string[];
}

test.each(Array.from({ length: SEEDS }, (_, seed) => seed))('whatever happens: seed %i', async (seed) => {
  const chance = chances(seed);
  const { client: made, server } = pair({ reconnect: { initialDelay: 1, maxDelay: 2, jitter: false } });
  client = made;
  let documents: FakeProjection = server.log.projection('things', latest());
  let version = 0;

  const watched: Watched[] = [];
  const note = (): void => {
    const now = documents.documents();
    for (const { query, had } of watched) had.add(canonical(select(now, query), query.limit !== undefined));
  };
  const follow = (which: string | Query): void => {
    const query = typeof which === 'string' ? { key: which } : which;
    const live = projection(client, 'things', which);
    const shown: string[] = [];
    live.subscribe((state) => void shown.push(canonical(state.documents, query.limit !== undefined)));
    watched.push({ query, live, had: new Set(['']), shown });
    note();
  };
  const happen = (server: FakeServer): void => {
    const what = chance(100);
    if (what < 60) {
      const data: Json = chance(5) === 0 ? null : { n: chance(100), ...(chance(3) > 0 && { kind: 'ab'[chance(2)]! }), text: 'the same in every one of them' };
      server.log.append(`k${chance(60)}`, [{ type: 'T', data }]);
    } else if (what < 78) server.cut();
    else if (what < 84) documents.rebuild(latest(chance(2) ? ++version : undefined));
    else if (what < 90) documents.sweep();
    else if (what < 93) documents.hold(chance(2) === 0);
    else if (what < 97) server.heartbeat();
    else if (what < 98) server.log.replace(`0190b5a0-0000-7000-8000-${String(seed * 1_000 + watched.length + chance(1_000)).padStart(12, '0')}`);
    else if (watched.length < QUERIES.length) follow(QUERIES[watched.length]!);
    note();
  };

  for (let n = 0; n < 40; n++) server.log.append(`k${n}`, [{ type: 'T', data: { n, kind: 'a', text: 'the same in every one of them' } }]);
  for (const which of QUERIES.slice(0, 1 + chance(QUERIES.length))) follow(which);
  void client.connect();
  for (let step = 0; step < STEPS; step++) {
    happen(server);
    // The network takes turns with what happens: sometimes nothing passes in between, sometimes part of it.
    for (let turns = chance(12); turns > 0; turns--) await Promise.resolve();
    if (chance(4) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  documents.hold(false);
  note();

  for (const { query, live } of watched) {
    const expected = canonical(select(documents.documents(), query), query.limit !== undefined);
    await expect
      .poll(() => [live.getSnapshot().phase, live.getSnapshot().generation, canonical(live.getSnapshot().documents, query.limit !== undefined)], { interval: 2, timeout: 5_000 })
      .toEqual(['live', documents.generation(), expected]);
  }
  for (const { query, shown, had } of watched) {
    const strange = shown.filter((picture) => !had.has(picture));
    expect(strange, JSON.stringify(query)).toEqual([]);
  }
});
