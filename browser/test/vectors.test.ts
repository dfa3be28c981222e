/** The golden wire vectors, as the server's own tests read them: what the client makes of each message, and what it says. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { append, createClient, events, stream, type ClientMessage, type ServerMessage } from '../src/index.js';
import { createFakeServer, spyOn } from '../src/testing/index.js';
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

/** The client hands these fields on as they are, so it has no opinion about them. */
const NOT_READ = ['yesterday', 'mood'];

describe('what a server says', () => {
  test.each(read<ServerCase>('server_messages.json').map((each) => [each.name, each] as const))('%s', async (_, { text, message, error }) => {
    const { client, server } = pair();
    const seen: ServerMessage[] = [];
    // A subscription under handle 1, as in the vectors.
    stream(client, 'a-1', { after: 'start', onEvent() {}, onError() {} });
    await client.connect();
    client.onMessage((each) => void seen.push(each));
    server.sendText(text);
    const lost = error === 'invalid' && !NOT_READ.some((word) => text.includes(word));
    await expect.poll(() => (lost ? client.getSnapshot().status : JSON.stringify(seen))).toEqual(lost ? 'reconnecting' : expect.stringContaining('type'));
    if (message) expect(seen).toContainEqual(expect.objectContaining(message));
    if (!lost) expect(client.getSnapshot().status).toBe('connected');
    client.disconnect();
  });
});

/** The valid messages of a client that this one can say, by what makes it say them. */
const said = read<ClientCase>('client_messages.json').flatMap(({ name, replies = [] }) =>
  replies.flatMap(({ message }, index): [string, ClientMessage][] => (message ? [[`${name} ${index}`, message]] : [])),
);

const sayings = async (run: (client: ReturnType<typeof createClient>) => void): Promise<readonly unknown[]> => {
  const server = createFakeServer();
  const spy = spyOn(server.WebSocket);
  const client = createClient({ url: 'ws://fake', WebSocket: spy.WebSocket });
  await client.connect();
  run(client);
  await Promise.resolve();
  client.disconnect();
  return spy.seen.filter(({ direction }) => direction === 'sent').map(({ data }) => JSON.parse(data as string) as unknown);
};

describe('what the client says', () => {
  const subscribes = said.filter(([, message]) => message.type === 'subscribe' && !('batch' in message));
  test.each(subscribes)('%s', async (_, message) => {
    if (message.type !== 'subscribe') throw new Error('filtered');
    const { epoch, sub, ...asked } = message;
    const options = { ...(asked.after !== undefined && { after: asked.after }), ...(asked.filter && { filter: asked.filter }), onEvent() {} };
    const sent = await sayings((client) => void events(client, asked.to, options));
    expect(sent).toContainEqual({ ...asked, sub: 1 });
    expect([typeof sub, epoch === undefined || typeof epoch === 'string']).toEqual(['number', true]);
  });

  const appends = said.filter(([, message]) => message.type === 'append');
  test.each(appends)('%s', async (_, message) => {
    if (message.type !== 'append') throw new Error('filtered');
    const { stream: name, events: given, expected } = message;
    const sent = await sayings((client) => void append(client, name, given, expected === undefined ? {} : { expected }).catch(() => {}));
    const id = expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/) as string;
    expect(sent).toContainEqual({ ...message, id, events: given.map((event) => ({ id, ...event })) });
  });

  test('there are vectors of both kinds', () => {
    expect(subscribes.length).toBeGreaterThan(5);
    expect(appends.length).toBeGreaterThan(5);
  });
});
