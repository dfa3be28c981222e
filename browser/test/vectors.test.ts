/** The golden wire vectors, as the server's own tests read them: what the client makes of each message, and what it says. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { append, consume, createClient, documents, events, projection, send, stream, summary, type Client, type ClientMessage, type ProjectionQuery, type ServerMessage, type Target, type Verdict } from '../src/index.js';
import { createFakeServer, spyOn } from '../src/testing/index.js';
import type { Batch } from '../src/wire.js';
import { pair } from './support/connect.js';

interface ServerCase {
  readonly name: string;
  readonly text: string;
  readonly message?: ServerMessage;
  readonly error?: 'unknown_type' | 'invalid';
}
interface ClientCase {
  readonly name: string;
  readonly text: string;
  readonly replies?: readonly { readonly message?: ClientMessage }[];
}

const read = <T>(name: string): readonly T[] =>
  (JSON.parse(readFileSync(new URL(`../../transport/protocol/vectors/${name}`, import.meta.url), 'utf8')) as { cases: readonly T[] }).cases;

/** Nobody waits for such a message, or the client hands the field on as it is: so it has no opinion about it. */
const NOT_READ = ['yesterday', 'mood', '"result"'];
/** What means nothing without acks. */
const OF_ACKS = ['"parked"', '"retrying"', '"attempt"'];

/** What no server says to a query. */
const OF_EVENTS = /"type": ?"(events|retrying|parked|reset|summary)"/;

/** Subscriptions under handle 1, as in the vectors. */
const SUBSCRIPTIONS = {
  'to a stream': (client: Client): unknown => stream(client, 'a-1', { after: 'start', onEvent() {}, onError() {} }),
  'to a query': (client: Client): unknown => projection(client, 'p'),
  'to a consumer': (client: Client): unknown => consume(client, 'a-1', { consumer: 'c', after: 'start', onEvent() {}, onError() {} }),
} as const;
const SAYINGS = (['to a stream', 'to a query', 'to a consumer'] as const).flatMap((kind) => read<ServerCase>('server_messages.json')
    .filter(({ text }) => kind !== 'to a query' || !OF_EVENTS.test(text))
    .map((each) => [each.name, kind, each] as const),
);

describe('what a server says', () => {
  test.each(SAYINGS)('%s, %s', async (_, kind, { text, message, error }) => {
    const { client, server } = pair();
    server.log.projection('p', () => {});
    const seen: ServerMessage[] = [];
    SUBSCRIPTIONS[kind](client);
    await client.connect();
    await expect.poll(() => server.received.length).toBeGreaterThan(0);
    client.onMessage((each) => void seen.push(each));
    server.sendText(text);
    const ignored = kind === 'to a stream' ? [...NOT_READ, ...OF_ACKS] : NOT_READ;
    const lost = error === 'invalid' && !ignored.some((word) => text.includes(word));
    await expect.poll(() => (lost ? client.getSnapshot().status : JSON.stringify(seen))).toEqual(lost ? 'reconnecting' : expect.stringContaining('type'));
    // A first attempt need not be said.
    const plain = JSON.parse(JSON.stringify(seen).replaceAll(',"attempt":1}', '}')) as ServerMessage[];
    if (message) expect(plain).toContainEqual(expect.objectContaining(message));
    if (!lost) expect(client.getSnapshot().status).toBe('connected');
    client.disconnect();
  });
});

/** The valid messages of a client that this one can say, by what makes it say them. */
const said = read<ClientCase>('client_messages.json').flatMap(({ name, replies = [] }) =>
  replies.flatMap(({ message }, index): [string, ClientMessage][] => (message ? [[`${name} ${index}`, message]] : [])),
);

const sayings = async (run: (client: Client) => void, reply?: ServerMessage): Promise<readonly unknown[]> => {
  const server = createFakeServer();
  const spy = spyOn(server.WebSocket);
  const client = createClient({ url: 'ws://fake', WebSocket: spy.WebSocket });
  await client.connect();
  run(client);
  await expect.poll(() => server.received.length).toBe(2);
  const before = spy.seen.length;
  if (reply) {
    server.send(reply);
    await expect.poll(() => spy.seen.slice(before).some(({ direction }) => direction === 'sent')).toBe(true);
  }
  client.disconnect();
  return spy.seen.filter(({ direction }) => direction === 'sent').map(({ data }) => JSON.parse(data as string) as unknown);
};

const of = <T extends ClientMessage['type']>(type: T): [string, Extract<ClientMessage, { type: T }>][] =>
  said.filter((each): each is [string, Extract<ClientMessage, { type: T }>] => each[1].type === type);
const UUID = expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/) as string;

describe('what the client says', () => {
  const subscribes = of('subscribe').filter(([, message]) => !('batch' in message) && !('projection' in message.to));
  test.each(subscribes)('%s', async (_, message) => {
    const { epoch, sub, after, filter, ack, consumer, window } = message;
    const to = message.to as Target;
    const options = { ...(after !== undefined && { after }), ...(filter && { filter }), onEvent() {} };
    const consuming = { ...options, ...(consumer !== undefined && { consumer }), ...(window !== undefined && { window }) };
    const sent = await sayings((client) => void (ack || consumer ? consume(client, to, consuming) : events(client, to, options)));
    expect(sent).toContainEqual({ type: 'subscribe', sub: 1, to, ...(after !== undefined && { after }), ...(filter && { filter }), ...(ack && { ack }), ...(consumer && { consumer }), ...(window && { window }) });
    expect([typeof sub, epoch === undefined || typeof epoch === 'string']).toEqual(['number', true]);
  });

  // Whoever holds nothing says so by leaving it away, and only a client that holds something names a generation.
  const watches = of('subscribe').flatMap(([name, message]): [string, ProjectionQuery][] => ('projection' in message.to && typeof message.after !== 'number' ? [[name, message.to]] : []));
  test.each(watches)('%s', async (_, to) => {
    const { projection: name, ...query } = to;
    expect(await sayings((client) => void projection(client, name, query))).toContainEqual({ type: 'subscribe', sub: 1, to });
  });

  const summaries = of('subscribe').flatMap(([name, { to, batch }]): [string, Target, Batch][] => (batch && ('summary_ms' in batch || 'summary_events' in batch) ? [[name, to as Target, batch]] : []));
  test.each(summaries)('%s', async (_, to, batch) => {
    const every = 'summary_ms' in batch ? { everyMs: batch.summary_ms } : { everyEvents: batch.summary_events };
    expect(await sayings((client) => void summary(client, to, { ...every, onSummary() {} }))).toContainEqual({ type: 'subscribe', sub: 1, to, after: 'end', batch });
  });

  const reads = of('fetch').filter(([, { from }]) => 'projection' in from);
  test.each(reads)('%s', async (_, message) => {
    const { from, limit, cursor, wait, timeout_ms } = message;
    const options = { limit, ...(cursor !== undefined && { cursor }), ...(wait !== undefined && { wait }), ...(timeout_ms !== undefined && { timeout: timeout_ms }) };
    expect(await sayings((client) => void documents(client, from, options).catch(() => {}))).toContainEqual({ ...message, id: UUID });
  });

  // It handles one event at a time, and so names one.
  const settling: [string, Extract<ClientMessage, { type: 'ack' | 'nack' }>][] = [...of('ack'), ...of('nack').filter(([, { positions }]) => positions.length === 1)];
  test.each(settling)('%s', async (_, message) => {
    const position = message.type === 'ack' ? message.position : message.positions[0]!;
    const verdict: Verdict = message.type === 'nack' ? { action: message.action, delay_ms: message.delay_ms ?? 0, ...(message.reason !== undefined && { reason: message.reason }) } : undefined;
    const event = { position, stream: 'a-1', revision: 0, type: 'T', id: '', at: '', data: null };
    const sent = await sayings((client) => void consume(client, 'a-1', { after: 'start', onEvent: () => verdict }), { type: 'events', sub: 1, events: [event] });
    expect(sent).toContainEqual(message);
  });

  const appends = of('append');
  test.each(appends)('%s', async (_, message) => {
    const { stream: name, events: given, expected } = message;
    const sent = await sayings((client) => void append(client, name, given, expected === undefined ? {} : { expected }).catch(() => {}));
    expect(sent).toContainEqual({ ...message, id: UUID, events: given.map((event) => ({ id: UUID, ...event })) });
  });

  // A key is made where none is given.
  const commands = of('command');
  test.each(commands)('%s', async (_, message) => {
    const { name, data, key } = message;
    const sent = await sayings((client) => void send(client, name, data, key === undefined ? {} : { key }).catch(() => {}));
    expect(sent).toContainEqual({ ...message, id: UUID, key: key ?? UUID });
  });

  test('there are vectors of every kind', () => {
    expect(subscribes.length).toBeGreaterThan(10);
    expect(appends.length).toBeGreaterThan(5);
    expect(settling.map(([, message]) => message.type)).toEqual(expect.arrayContaining(['ack', 'nack']));
    expect(commands.length).toBeGreaterThan(1);
    expect(summaries.length).toBeGreaterThan(2);
  });
});
