/** The golden vectors of live queries, as the server's own tests read them: what is shown of what is told, what is gone on from, and the order of documents. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { arrange } from '../src/arrange.js';
import { receive, resume, type Known, type QueryInput } from '../src/picture.js';
import type { Order, ServerMessage } from '../src/index.js';

type Documents = Readonly<Record<string, unknown>>;
type Step =
  | { readonly connect: string; readonly resumes: { readonly generation: number; readonly after: number; readonly epoch: string } | null }
  | { readonly say: ServerMessage; readonly shown: Documents | null };

interface Ordered {
  readonly name: string;
  readonly order: Order;
  readonly documents: Documents;
  readonly keys: readonly string[];
}

const read = <T>(name: string): readonly T[] =>
  (JSON.parse(readFileSync(new URL(`../../transport/protocol/vectors/${name}`, import.meta.url), 'utf8')) as { cases: readonly T[] }).cases;
const cases = read<{ name: string; steps: readonly Step[] }>('live_queries.json');
const orders = read<Ordered>('order.json');

/** What the reducer is told of a message: of a heartbeat, the position of handle 1. */
const input = (message: ServerMessage): QueryInput => (message.type === 'heartbeat' ? { type: 'scanned', position: message.positions['1']! } : (message as QueryInput));

describe('what is told', () => void test.each(cases.map(({ name, steps }) => [name, steps] as const))('%s', (_, steps) => {
  let known: Known<unknown> = { phase: 'loading', documents: new Map() };
  let epoch = '';
  steps.forEach((step, at) => {
    if ('connect' in step) {
      known = resume(known);
      epoch = step.connect;
      const resumes = known.next ? { generation: known.next.generation, after: known.next.position, epoch: known.epoch } : null;
      expect(resumes, `step ${at}`).toEqual(step.resumes);
    } else {
      known = receive(known, input(step.say), {}, epoch);
      expect(known.shown ? Object.fromEntries(known.shown.documents) : null, `step ${at}`).toEqual(step.shown);
    }
  });
}));

describe('an order', () => void test.each(orders.map((each) => [each.name, each] as const))('%s', (_, { order, documents, keys }) => {
  const entries = Object.entries(documents);
  for (let at = 0; at <= entries.length; at++) {
    const turned = new Map([...entries.slice(at), ...entries.slice(0, at)]);
    expect([...arrange(turned, { order }).keys()]).toEqual(keys);
  }
}));

test('there are vectors', () => expect([cases.length > 10, orders.length > 5]).toEqual([true, true]));
