/**
 * A log in memory, and sessions over it that speak the protocol: the server's side for tests.
 *
 * It keeps what the client relies on (gapless positions in order, every match past `after`, resets,
 * appends that take effect once) and nothing else: no limits, no rights, no pace.
 */
import { uuidv7 } from '../uuid.js';
import { ERASED } from '../erasable.js';
import type { ClientMessage, Expected, Filter, Json, NewEvent, RecordedEvent, ProjectionQuery, ServerMessage, Subscribe, Target } from '../wire.js';
import { edit, EDIT, projectCollection } from './collections.js';
import { createConsumers, type FakeConsumer, type FakeFeed } from './consumers.js';
import { createProjections, type FakeProjection, type FakeWatch, type Project } from './projections.js';
import { Refusal } from './refusal.js';
import { createSummaries, type FakeSummaries } from './summaries.js';

/** A log that sessions share. */
export interface FakeLog {
  readonly events: readonly RecordedEvent[];
  epoch(): string;
  head(): number;
  /** Records events and gives them to the sessions that follow them. */
  append(stream: string, events: readonly NewEvent[], expected?: Expected): { position: number; revision: number };
  /** Forgets the events up to `position`. */
  truncate(position: number): void;
  /** Becomes another, empty log: what a restored server looks like. */
  replace(epoch: string): void;
  /** Erases the payload of the event at `position`, and says so in its stream. */
  erase(position: number): void;
  /** What is kept of a consumer. */
  consumer(name: string): FakeConsumer | undefined;
  /** Gives parked events to their consumer again. */
  replay(consumer: string, positions: readonly number[]): void;
  /** Registers a projection: documents that `project` makes of the events. */
  projection(name: string, project: Project): FakeProjection;
  /** Registers a collection: documents that clients edit, as events of the category of that name. */
  collection(name: string): FakeProjection;
  /** Registers who handles a command; what it throws is the refusal. Once a key was answered its handler does not run again. */
  command(name: string, handler: CommandHandler): void;
  /** Begins a session whose messages go to `send`. */
  session(send: (message: ServerMessage) => void): FakeSession;
}

/** Handles a command. */
export type CommandHandler = (input: unknown) => Json;

/** One client's session. */
export interface FakeSession {
  receive(message: ClientMessage): void;
  /** Sends a heartbeat with the position of every subscription. */
  heartbeat(): void;
  /** As if the time of the oldest unsettled event of each subscription were up. */
  expire(): void;
  close(): void;
}

/** How many events a frame of the past carries. */
const PAGE = 200;

const matches = (to: Target, filter: Filter | undefined, event: RecordedEvent): boolean => {
  if ('stream' in to && event.stream !== to.stream) return false;
  if ('category' in to && event.stream.split('-')[0] !== to.category) return false;
  return !filter || allows(filter, event);
};

const allows = (filter: Filter, event: RecordedEvent): boolean => {
  const { and, in: within } = filter;
  if (and instanceof Array) return and.every((each) => allows(each as Filter, event));
  if (within instanceof Array) return within[0] === 'type' && (within[1] as readonly string[]).includes(event.type);
  return false;
};

/** What a command's result says. */
interface Result {
  readonly data: Json;
  readonly position?: number;
}

const isQuery = (request: Subscribe): request is Subscribe & { readonly to: ProjectionQuery } => 'projection' in request.to;

/** Makes an empty log. */
export function createFakeLog(): FakeLog {
  let events: RecordedEvent[] = [];
  let first = 1;
  let epoch = uuidv7();
  let revisions = new Map<string, number>();
  let recorded = new Map<string, { position: number; revision: number }>();
  const sessions = new Set<{ advance(): void }>();
  const handlers = new Map<string, CommandHandler>();
  const results = new Map<string, Result>();
  const collections = new Map<string, FakeProjection>();
  let consumers = createConsumers();
  const head = (): number => first - 1 + events.length;

  const check = (stream: string, expected: Expected): void => {
    const actual = revisions.get(stream);
    const fits =
      expected === 'any' || (expected === 'exists' ? actual !== undefined : expected === 'no_stream' ? actual === undefined : actual === expected);
    if (!fits) throw new Refusal('wrong_expected_revision', { expected, actual: actual ?? 'no_stream' });
  };

  const log: FakeLog = {
    get events() {
      return events;
    },
    epoch: () => epoch,
    head,
    append(stream, given, expected = 'any') {
      const key = given.map(({ id }) => id ?? '').join();
      const before = key.includes('-') ? recorded.get(`${stream} ${key}`) : undefined;
      if (before) return before;
      check(stream, expected);
      let revision = revisions.get(stream) ?? -1;
      for (const event of given) {
        events.push({
          position: head() + 1,
          stream,
          revision: ++revision,
          at: new Date().toISOString(),
          id: uuidv7(),
          ...(event as NewEvent & { data: Json }),
        });
      }
      revisions.set(stream, revision);
      const result = { position: head(), revision };
      recorded.set(`${stream} ${key}`, result);
      projections.proceed();
      for (const session of sessions) session.advance();
      return result;
    },
    truncate(position) {
      events = events.filter((event) => event.position > position);
      first = position + 1;
    },
    replace(next) {
      epoch = next;
      events = [];
      first = 1;
      revisions = new Map();
      recorded = new Map();
      consumers = createConsumers();
      projections.restart();
    },
    erase(position) {
      const index = position - first;
      const { data: _, meta: __, ...rest } = events[index]!;
      events[index] = { ...rest, data: null, erased: true };
      const { stream, revision, id } = rest;
      log.append(stream, [{ type: ERASED, data: { position, revision, id } }]);
    },
    consumer: (name) => consumers.get(name),
    replay: (name, positions) => consumers.replay(name, positions),
    projection: (name, project) => projections.add(name, project),
    collection(name) {
      const kept = projections.add(name, projectCollection(name));
      collections.set(name, kept);
      return kept;
    },
    command: (name, handler) => void handlers.set(name, handler),
    session(send) {
      const subs = new Map<number, { request: Subscribe & { readonly to: Target }; sent: number; summaries?: FakeSummaries }>();
      const watches = new Map<number, FakeWatch>();
      const feeds = new Map<number, FakeFeed>();
      let greeted = false;
      let closed = false;
      const tell = (message: ServerMessage): void => {
        if (!closed) send(message);
      };

      const advance = (): void => {
        feeds.forEach((feed) => feed.advance());
        watches.forEach((watch) => watch.advance());
        for (const [sub, following] of subs) {
          const { request, sent, summaries } = following;
          for (let from = sent; from < head(); from += PAGE) {
            const page = events.slice(from - first + 1, from - first + 1 + PAGE).filter((event) => matches(request.to, request.filter, event));
            if (summaries) page.forEach(summaries.saw);
            else if (page.length) send({ type: 'events', sub, events: page });
          }
          following.sent = head();
        }
      };
      const refuse = (about: { readonly id: string } | { readonly sub: number }, error: unknown): void => {
        if (!(error instanceof Refusal)) throw error;
        const { code, details, retryable } = error;
        tell({ type: 'error', ...about, code, message: code, retryable, ...(details !== undefined && { details }) });
      };
      const subscribe = (asked: Subscribe): void => {
        const { sub, after = 'end' } = asked;
        if (subs.has(sub) || feeds.has(sub) || watches.has(sub)) return send({ type: 'error', sub, code: 'sub_in_use', message: 'sub in use', retryable: false });
        if (isQuery(asked)) {
          try {
            watches.set(sub, projections.open(asked, tell));
          } catch (error) {
            refuse({ sub }, error);
          }
          return;
        }
        const request = asked as Subscribe & { readonly to: Target };
        const reason =
          typeof after !== 'number'
            ? undefined
            : request.epoch !== undefined && request.epoch !== epoch
              ? 'epoch'
              : after > head()
                ? 'ahead'
                : after < first - 1
                  ? 'truncated'
                  : undefined;
        if (reason) return send({ type: 'reset', sub, reason, first });
        const begin = after === 'start' ? first - 1 : after === 'end' ? head() : after;
        if (request.ack === 'each' || request.consumer !== undefined) {
          const host = { session: subs, events: () => events.filter((event) => matches(request.to, request.filter, event)), head, send: tell, ended: () => void feeds.delete(sub) };
          const feed = consumers.open(request, begin, host);
          feeds.set(sub, feed);
          feed.advance();
          return;
        }
        const summaries = request.batch && createSummaries(request.batch, begin, (told) => tell({ type: 'summary', sub, ...told }));
        subs.set(sub, { request, sent: begin, ...(summaries && { summaries }) });
        send({ type: 'subscribed', sub, head: head(), after: begin, resumed: typeof after === 'number' });
        advance();
        send({ type: 'live', sub, position: head() });
      };
      const answer = (message: ClientMessage): void => {
        switch (message.type) {
          case 'hello':
            greeted = true;
            send({ type: 'welcome', session: uuidv7(), node: 'fake', epoch, head: head(), heartbeat_ms: 30_000 });
            return message.subscriptions?.forEach(subscribe);
          case 'subscribe':
            return subscribe(message);
          case 'unsubscribe': {
            const { sub } = message;
            const feed = feeds.get(sub);
            feed?.end();
            watches.get(sub)?.end();
            subs.get(sub)?.summaries?.end();
            if (feed || watches.delete(sub) || subs.delete(sub)) send({ type: 'unsubscribed', sub });
            else send({ type: 'error', sub, code: 'unknown_sub', message: 'unknown sub', retryable: false });
            return;
          }
          case 'ack':
          case 'nack': {
            const { sub } = message;
            const code = subs.has(sub) ? 'ack_none' : 'unknown_sub';
            const feed = feeds.get(sub);
            return feed ? feed.receive(message) : send({ type: 'error', sub, code, message: code, retryable: false });
          }
          case 'ping':
            return send({ type: 'pong', id: message.id });
          case 'append':
            return attempt(message.id, () => send({ type: 'appended', id: message.id, ...log.append(message.stream, message.events, message.expected) }));
          case 'command':
            return attempt(message.id, () => send({ type: 'result', id: message.id, ...run(message.name, message.data, message.key) }));
          case 'fetch':
            return void projections.fetch(message).then(tell, (error: unknown) => refuse({ id: message.id }, error));
        }
      };
      const run = (name: string, input: unknown, key: string | undefined): Result => {
        const before = key === undefined ? undefined : results.get(key);
        if (before !== undefined) return before;
        const handler = handlers.get(name);
        if (!handler && name !== EDIT) throw new Refusal('unknown_command');
        const result = handler ? { data: handler(input) } : edit(editable, input as Json);
        if (key !== undefined) results.set(key, result);
        return result;
      };
      const attempt = (id: string, effect: () => void): void => {
        try {
          effect();
        } catch (error) {
          refuse({ id }, error);
        }
      };
      const session = { advance };
      sessions.add(session);
      return {
        receive(message) {
          if (closed) return;
          if (!greeted && message.type !== 'hello') throw new Error('a client must greet first');
          answer(message);
        },
        heartbeat() {
          const positions: Record<string, number> = {};
          for (const [sub, { sent, summaries }] of subs) positions[sub] = summaries ? summaries.scanned(sent) : sent;
          for (const [sub, feed] of [...feeds, ...watches]) {
            const scanned = feed.scanned();
            if (scanned !== undefined) positions[sub] = scanned;
          }
          send({ type: 'heartbeat', head: head(), positions });
        },
        expire: () => feeds.forEach((feed) => feed.expire()),
        close() {
          closed = true;
          feeds.forEach((feed) => feed.end());
          watches.forEach((watch) => watch.end());
          subs.forEach(({ summaries }) => summaries?.end());
          consumers.leave(subs);
          sessions.delete(session);
        },
      };
    },
  };
  const projections = createProjections(log, () => sessions.forEach((session) => session.advance()));
  const editable = {
    revision: (stream: string) => revisions.get(stream),
    append: (stream: string, type: string, data: Json) => log.append(stream, [{ type, data }]),
    collection: (name: string) => collections.get(name),
  };
  return log;
}
