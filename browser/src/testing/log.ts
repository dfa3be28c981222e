/**
 * A log in memory, and sessions over it that speak the protocol: the server's side for tests.
 *
 * It keeps what the client relies on (gapless positions in order, every match past `after`, resets,
 * appends that take effect once) and nothing else: no limits, no rights, no pace.
 */
import { uuidv7 } from '../uuid.js';
import type { ClientMessage, Expected, Filter, Json, NewEvent, RecordedEvent, ServerMessage, Subscribe, Target } from '../wire.js';

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
  /** Begins a session whose messages go to `send`. */
  session(send: (message: ServerMessage) => void): FakeSession;
}

/** One client's session. */
export interface FakeSession {
  receive(message: ClientMessage): void;
  /** Sends a heartbeat with the position of every subscription. */
  heartbeat(): void;
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

/** A refusal with its wire code. */
class Refusal extends Error {
  constructor(
    readonly code: string,
    readonly details?: Json,
  ) {
    super(code);
  }
}

/** Makes an empty log. */
export function createFakeLog(): FakeLog {
  let events: RecordedEvent[] = [];
  let first = 1;
  let epoch = uuidv7();
  let revisions = new Map<string, number>();
  let recorded = new Map<string, { position: number; revision: number }>();
  const sessions = new Set<{ advance(): void }>();
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
    },
    session(send) {
      const subs = new Map<number, { request: Subscribe; sent: number }>();
      let greeted = false;
      let closed = false;

      const advance = (): void => {
        for (const [sub, { request, sent }] of subs) {
          for (let from = sent; from < head(); from += PAGE) {
            const page = events.slice(from - first + 1, from - first + 1 + PAGE).filter((event) => matches(request.to, request.filter, event));
            if (page.length) send({ type: 'events', sub, events: page });
          }
          subs.set(sub, { request, sent: head() });
        }
      };
      const subscribe = (request: Subscribe): void => {
        const { sub, after = 'end' } = request;
        if (subs.has(sub)) return send({ type: 'error', sub, code: 'sub_in_use', message: 'sub in use', retryable: false });
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
        subs.set(sub, { request, sent: begin });
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
          case 'unsubscribe':
            if (subs.delete(message.sub)) send({ type: 'unsubscribed', sub: message.sub });
            return;
          case 'ping':
            return send({ type: 'pong', id: message.id });
          case 'append': {
            const { id } = message;
            try {
              send({ type: 'appended', id, ...log.append(message.stream, message.events, message.expected) });
            } catch (error) {
              if (!(error instanceof Refusal)) throw error;
              const { code, details } = error;
              send({ type: 'error', id, code, message: code, retryable: false, ...(details !== undefined && { details }) });
            }
          }
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
        heartbeat: () =>
          send({ type: 'heartbeat', head: head(), positions: Object.fromEntries([...subs].map(([sub, { sent }]) => [sub, sent])) }),
        close() {
          closed = true;
          sessions.delete(session);
        },
      };
    },
  };
  return log;
}
