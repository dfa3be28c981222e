/**
 * The server's side of projections, over a log in memory.
 *
 * It keeps what a live query relies on: a state whose pages are each read at a moment of their own, changes that
 * make it whole, `live` once they have; resuming from a position as long as it is known what was deleted since;
 * a rebuild under live queries; windows; patches where they are smaller.
 */
import { equal, merge } from '../merge.js';
import type { Change, ClientMessage, Json, ProjectionQuery, QueryReset, RecordedEvent, ServerMessage, Subscribe } from '../wire.js';
import { arrange } from '../arrange.js';
import { patchBetween, select, selects } from './query.js';
import { Refusal } from './refusal.js';

/** The documents that an event may change. */
export interface FakeDocuments {
  get(key: string): Json | undefined;
  put(key: string, document: Json): void;
  /** RFC 7396. */
  patch(key: string, patch: Json): void;
  delete(key: string): void;
}

/** What an event does to the documents. */
export type Project = (event: RecordedEvent, documents: FakeDocuments) => void;

/** One projection. */
export interface FakeProjection {
  /** The documents as they are now. */
  documents(): ReadonlyMap<string, Json>;
  /** Everything up to here is in them. */
  position(): number;
  generation(): number;
  /** Makes all documents anew from the log, and gives them to the live queries in place of the old ones. */
  rebuild(project?: Project): void;
  /** Forgets what was deleted so far: who comes back from before gets a fresh state. */
  sweep(): void;
  /** Whether it stands still while the log goes on. */
  hold(held: boolean): void;
}

/** A live query of a session. */
export interface FakeWatch {
  /** Sends what is new. */
  advance(): void;
  /** Everything up to here was sent; nothing while that is not so. */
  scanned(): number | undefined;
  end(): void;
}

/** What projections use of their log. */
export interface Followed {
  readonly events: readonly RecordedEvent[];
  head(): number;
  epoch(): string;
}

/** The projections of a log. */
export interface FakeProjections {
  add(name: string, project: Project): FakeProjection;
  /** The log has grown. */
  proceed(): void;
  /** The log is another one. */
  restart(): void;
  /** Opens a live query, and answers it. */
  open(request: Subscribe & { readonly to: ProjectionQuery }, send: (message: ServerMessage) => void): FakeWatch;
  /** Reads a page, once the projection has come as far as is asked for. */
  fetch(request: Extract<ClientMessage, { type: 'fetch' }>): Promise<Extract<ServerMessage, { type: 'page' }>>;
}

/** How many documents or changes a message has. */
const PAGE = 8;
/** How long a page waits where nobody says, in milliseconds. */
const WAIT_MS = 5_000;

interface Row {
  readonly position: number;
  /** Nothing once it was deleted. */
  readonly document: Json | undefined;
}

interface Projection extends FakeProjection {
  rows(): ReadonlyMap<string, Row>;
  /** What was deleted up to here is no longer known. */
  floor(): number;
  /** Takes up what is new in the log. */
  proceed(): void;
  restart(): void;
  /** Resolves once something has changed. */
  changed(): Promise<void>;
}

const createProjection = (project: Project, log: Followed, nextGeneration: () => number): Projection => {
  let rows = new Map<string, Row>();
  let generation = nextGeneration();
  let position = 0;
  let floor = 0;
  let held = false;
  let waiting: (() => void)[] = [];

  const apply = (event: RecordedEvent): void => {
    const write = (key: string, document: Json | undefined): void => void rows.set(key, { position: event.position, document });
    const get = (key: string): Json | undefined => rows.get(key)?.document;
    project(event, {
      get,
      put: write,
      patch: (key, patch) => write(key, merge(get(key), patch) as Json),
      delete: (key) => rows.has(key) && write(key, undefined),
    });
  };
  const proceed = (): void => {
    if (!held) {
      // Positions have no gaps.
      const left = log.head() - position;
      if (left > 0) log.events.slice(-left).forEach(apply);
      position = log.head();
    }
    waiting.splice(0).forEach((wake) => wake());
  };
  return {
    rows: () => rows,
    floor: () => floor,
    documents: () => new Map([...rows].flatMap(([key, { document }]) => (document === undefined ? [] : [[key, document] as const]))),
    position: () => position,
    generation: () => generation,
    proceed,
    restart() {
      rows = new Map();
      generation = nextGeneration();
      position = floor = 0;
      proceed();
    },
    rebuild(next) {
      project = next ?? project;
      rows = new Map();
      generation = nextGeneration();
      floor = position = 0;
      held = false;
      proceed();
    },
    sweep() {
      for (const [key, { document }] of rows) if (document === undefined) rows.delete(key);
      floor = position;
    },
    hold(value) {
      held = value;
      proceed();
    },
    changed: () => new Promise((resolve) => waiting.push(resolve)),
  };
};

/** Makes a log's projections; `told` is called when documents have changed. */
export const createProjections = (log: Followed, told: () => void): FakeProjections => {
  const known = new Map<string, Projection>();
  let generations = 0;

  const find = (name: string): Projection => {
    const found = known.get(name);
    if (!found) throw new Refusal('unknown_projection');
    return found;
  };

  const open = (request: Subscribe & { readonly to: ProjectionQuery }, send: (message: ServerMessage) => void): FakeWatch => {
    const { sub, after, to: query, epoch } = request;
    const projection = find(query.projection);
    if (query.order && !query.limit) throw new Refusal('invalid_query', { field: 'order' });
    const windowed = query.limit !== undefined;
    /** What the client has; nothing while it is being told. */
    let held: ReadonlyMap<string, Json> | undefined;
    let generation = projection.generation();
    let live = false;
    let ended = false;
    /** Everything up to here was told. */
    let position = 0;

    const reason = (): QueryReset | undefined => {
      if (typeof after !== 'number') return undefined;
      if (epoch !== undefined && epoch !== log.epoch()) return 'epoch';
      if (request.generation !== generation) return 'generation';
      if (after > log.head()) return 'ahead';
      if (after < projection.floor()) return 'truncated';
      return windowed && after < projection.position() ? 'window' : undefined;
    };
    const later = (step: () => void): void =>
      queueMicrotask(() => {
        if (ended) return;
        if (generation === projection.generation()) step();
        else state('generation');
      });
    /** Sends `changes` in messages of one step. */
    const tell = (changes: readonly Change[], then: () => void): void => {
      const now = projection.position();
      const page = (from: number): void => {
        const more = from + PAGE < changes.length;
        if (from < changes.length) send({ type: 'changes', sub, position: now, changes: changes.slice(from, from + PAGE), ...(more && { more }) });
        if (more) return later(() => page(from + PAGE));
        position = now;
        then();
      };
      page(0);
    };
    /** What happened after `position`, as far as documents tell; others can move a window's without a change of their own. */
    const missed = (sent?: ReadonlySet<string>): readonly Change[] => {
      const selected = select(projection.documents(), query);
      return [...projection.rows()]
        .filter(([key, row]) => row.position > position || (windowed && sent && sent.has(key) !== selected.has(key)))
        .sort((a, b) => a[1].position - b[1].position)
        .map(([key]): Change => (selected.has(key) ? { op: 'put', key, document: selected.get(key)! } : { op: 'delete', key }));
    };
    const settle = (sent?: ReadonlySet<string>): void => {
      const now = select(projection.documents(), query);
      tell(missed(sent), () => {
        held = now;
        live = true;
        send({ type: 'live', sub, position });
        watch.advance();
      });
    };
    const state = (reset?: QueryReset): void => {
      if (live) send({ type: 'behind', sub, position, lag: log.head() - position });
      live = false;
      held = undefined;
      generation = projection.generation();
      position = projection.position();
      const begun = position;
      const sent = new Set<string>();
      // A window is read at once; anything else a page at a time, by key.
      const first = windowed ? [...select(projection.documents(), query)] : undefined;
      const page = (from: string | undefined): void => {
        const left = first ?? [...arrange(select(projection.documents(), query), { order: {} })].filter(([key]) => from === undefined || key > from);
        const documents = left.splice(0, PAGE).map(([key, document]) => ({ key, document }));
        documents.forEach(({ key }) => sent.add(key));
        const more = left.length > 0;
        send({ type: 'state', sub, generation, position: begun, documents, more, ...(from === undefined && reset && { reset }) });
        later(() => (more ? page(documents.at(-1)!.key) : settle(sent)));
      };
      page(undefined);
    };
    const watch: FakeWatch = {
      advance() {
        if (!held) return;
        if (generation !== projection.generation()) return state('generation');
        const [before, now] = [held, select(projection.documents(), query)];
        const changes = [...before.keys()].filter((key) => !now.has(key)).map((key): Change => ({ op: 'delete', key }));
        for (const [key, document] of now) {
          const old = before.get(key);
          if (old !== undefined && equal(old, document)) continue;
          const patch = old === undefined ? undefined : patchBetween(old, document);
          const smaller = patch !== undefined && JSON.stringify(patch).length < JSON.stringify(document).length;
          changes.push(smaller ? { op: 'patch', key, patch } : { op: 'put', key, document });
        }
        held = undefined;
        tell(changes, () => {
          held = now;
          if (position < projection.position() || generation !== projection.generation()) watch.advance();
        });
      },
      scanned: () => (held ? position : undefined),
      end() {
        ended = true;
      },
    };

    const reset = reason();
    const resumed = typeof after === 'number' && !reset;
    position = resumed ? after : projection.position();
    send({ type: 'subscribed', sub, head: log.head(), after: position, generation, resumed, ...(reset && { reset }) });
    if (!resumed) state();
    else settle();
    return watch;
  };

  return {
    add(name, project) {
      const projection = createProjection(project, log, () => ++generations);
      known.set(name, projection);
      projection.proceed();
      const then = (run: () => void): void => {
        run();
        told();
      };
      return {
        documents: projection.documents,
        position: projection.position,
        generation: projection.generation,
        sweep: projection.sweep,
        rebuild: (next) => then(() => projection.rebuild(next)),
        hold: (held) => then(() => projection.hold(held)),
      };
    },
    proceed: () => known.forEach((projection) => projection.proceed()),
    restart: () => known.forEach((projection) => projection.restart()),
    open,
    async fetch({ id, from: query, limit, cursor, wait = 0, timeout_ms = WAIT_MS }) {
      const projection = find(query.projection);
      const deadline = Date.now() + timeout_ms;
      while (projection.position() < wait) {
        const left = deadline - Date.now();
        let timer: ReturnType<typeof setTimeout> | undefined;
        const late = new Promise<boolean>((resolve) => {
          timer = setTimeout(() => resolve(true), left);
        });
        const over = left <= 0 || (await Promise.race([late, projection.changed().then(() => false)]));
        clearTimeout(timer);
        if (over) throw new Refusal('wait_timeout', undefined, true);
      }
      const generation = projection.generation();
      const [of, last] = cursor === undefined ? [generation, undefined] : (JSON.parse(cursor) as [number, [string, Json]]);
      if (of !== generation) throw new Refusal('stale_cursor');
      // What the page before ended with stands where it stood, whatever has become of it.
      const selected = new Map([...projection.documents()].filter(([key, document]) => selects(query, key, document)));
      if (last) selected.set(...last);
      const left = [...arrange(selected, { order: query.order ?? {} })];
      if (last) left.splice(0, left.findIndex(([key]) => key === last[0]) + 1);
      const page = left.slice(0, Math.min(limit, query.limit ?? limit));
      const more = left.length > page.length;
      return {
        type: 'page',
        id,
        documents: page.map(([key, document]) => ({ key, document })),
        more,
        ...(more && { next: JSON.stringify([generation, page.at(-1)]) }),
        position: projection.position(),
        generation,
      };
    },
  };
};
