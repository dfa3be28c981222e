/**
 * The departure board: follows the documents of a projection, and draws once a frame.
 *
 * Beside that it subscribes to every event of the log, only to count: their positions have no gaps, so what the
 * page has received can be checked against 1..head, by anyone watching.
 */
import './board.css';
import { createClient, events, statistics, watch, type ConnectionState, type QueryState } from '../src/index.js';
import { createAudit, type Summary } from './audit.js';
import { createDepartures } from './departures.js';
import { rowsOf, type Departure, type Flight } from './flights.js';
import { createOutage } from './outage.js';
import { createTable, timeOf } from './table.js';

declare global {
  interface Window {
    /** What the page has received, for whoever wants to check. */
    readonly tidewireDemo: {
      readonly positions: Summary & { readonly head: number };
      readonly connection: ConnectionState;
      /** The documents that the board is drawn from. */
      readonly departures: QueryState<Departure> | undefined;
    };
  }
}

const OFFLINE_MS = 5_000;
/** More changes in a frame than this are a catch-up: then nothing flips. */
const CALM_CHANGES = 12;

const element = (id: string): HTMLElement => {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
};
const write = (node: HTMLElement, text: string): void => {
  if (node.textContent !== text) node.textContent = text;
};
const number = new Intl.NumberFormat('en').format;
const dates = new Intl.DateTimeFormat('en', { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric', timeZone: 'UTC' });

const outage = createOutage();
const client = createClient({
  url: new URL('/ws', location.href),
  name: 'departure board',
  WebSocket: outage.WebSocket,
  reconnect: { initialDelay: 400, maxDelay: 5_000 },
  heartbeat: { interval: 10_000, timeout: 5_000 },
});

const counts = statistics(client);
const audit = createAudit();
let head = 0;
let airport = '';
let span: 'now' | 'day' = 'now';
/** What the last frame was drawn of. */
let drawn = new Set<Flight>();
let trouble = '';
let dirty = true;
let scheduled = false;
/** Events received in each of the last seconds, the present one last. */
let seconds: number[] = [0];

const view = {
  pill: element('pill'), status: element('status'), detail: element('detail'), story: element('story'),
  time: element('clock-time'), date: element('clock-date'), head: element('head'), received: element('received'),
  duplicates: element('duplicates'), holes: element('holes'), rate: element('rate'), rows: element('rows'),
  empty: element('empty'), summary: element('summary'), table: element('table'), cut: element('cut') as HTMLButtonElement,
};

const redraw = (): void => {
  dirty = true;
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(draw);
};
const table = createTable(view.rows, element('spacer'), redraw);

const positions = (): Summary & { head: number } => {
  const summary = audit.summary();
  return { ...summary, head: Math.max(head, summary.max) };
};

function draw(): void {
  scheduled = false;
  if (!dirty) return;
  dirty = false;
  const { flights, clock, state } = departures.getSnapshot();
  const rows = rowsOf(flights, clock, airport, span);
  const before = drawn;
  drawn = new Set(flights);
  table.draw(rows, clock, flights.filter((flight) => !before.has(flight)).length <= CALM_CHANGES);
  view.empty.hidden = rows.length > 0;
  write(view.empty, clock ? 'No flights here at this hour.' : 'Waiting for the first flights.');
  view.table.setAttribute('aria-rowcount', String(rows.length + 1));
  const { position, generation, phase } = state ?? {};
  write(view.summary, position === undefined ? '' : `${number(rows.length)} flights shown of ${number(flights.length)} documents · ${phase === 'live' ? 'live' : 'catching up'} at position ${number(position)} · generation ${generation}`);
  if (clock) {
    write(view.time, timeOf(clock));
    write(view.date, dates.format(clock * 60_000));
  }
  const seen = positions();
  write(view.head, number(seen.head));
  write(view.received, number(seen.count));
  write(view.duplicates, number(seen.duplicates));
  write(view.holes, number(seen.holes));
  view.duplicates.dataset['bad'] = seen.duplicates ? 'yes' : 'no';
  view.holes.dataset['bad'] = seen.holes ? 'yes' : 'no';
}

const words = (state: ConnectionState): readonly [string, string] => {
  if (trouble) return ['Stopped', trouble];
  switch (state.status) {
    case 'connected': {
      const { latency, quality, reconnects } = counts();
      const facts = [latency === undefined ? '' : `${latency} ms, ${quality}`, reconnects ? `${reconnects} reconnect${reconnects > 1 ? 's' : ''}` : ''];
      return ['Connected', facts.filter(Boolean).join(' · ')];
    }
    case 'reconnecting': {
      const left = Math.ceil((state.retryAt - Date.now()) / 1_000);
      return ['Reconnecting', `attempt ${state.attempt}${left > 0 ? `, next try in ${left} s` : ', trying now'}`];
    }
    case 'failed':
      return ['Failed', `${state.error.message}. Reload the page to try again.`];
    case 'connecting':
      return ['Connecting', ''];
    default:
      return ['Not connected', ''];
  }
};

const drawState = (): void => {
  const state = client.getSnapshot();
  const [status, detail] = words(state);
  view.pill.dataset['status'] = trouble ? 'failed' : state.status;
  write(view.status, status);
  write(view.detail, detail);
  view.cut.disabled = state.status !== 'connected';
  const recent = seconds.slice(0, -1);
  write(view.rate, number(recent.length ? Math.round(recent.reduce((a, b) => a + b, 0) / recent.length) : seconds[0]!));
};

/** What there was when the connection was lost, until it is made up for. */
let loss: { readonly position: number; readonly at: number } | undefined;
const tell = (): void => {
  if (!loss) return;
  const { max } = audit.summary();
  const missed = max - loss.position;
  const away = ((Date.now() - loss.at) / 1_000).toFixed(1);
  const made = missed === 0 ? 'nothing had happened meanwhile' : `${missed === 1 ? 'the event' : `all ${number(missed)} events`} since arrived in order`;
  write(view.story, `Back after ${away} s: resumed at position ${number(loss.position + 1)}, and ${made}.`);
  loss = undefined;
};

client.subscribe(drawState);
watch(client, (event) => {
  if (event.type !== 'disconnected' || loss) return;
  loss = { position: audit.summary().max, at: Date.now() };
  write(view.story, `Connection lost at position ${number(loss.position)}. The log goes on without this page.`);
});
client.onMessage((message) => {
  if (message.type !== 'welcome' && message.type !== 'heartbeat') return;
  ({ head } = message);
  redraw();
});

const fail = (error: unknown): void => {
  trouble = error instanceof Error ? error.message : String(error);
  drawState();
};
const departures = createDepartures(client, fail);
departures.subscribe(redraw);
events(client, { all: true }, {
  after: 'start',
  onEvent(event) {
    audit.saw(event.position);
    seconds[seconds.length - 1]!++;
    redraw();
  },
  onLive: tell,
  onReset() {
    audit.clear();
    loss = undefined;
    write(view.story, 'The server has another log than before; the count starts over.');
    redraw();
  },
  onError: fail,
});

setInterval(() => {
  seconds = [...seconds, 0].slice(-4);
  drawState();
}, 1_000);

view.cut.addEventListener('click', () => outage.cut((element('offline') as HTMLInputElement).checked ? OFFLINE_MS : 0));

/** Makes a row of buttons one choice, by pointer and by arrow keys. */
const choose = (id: string, chosen: (data: DOMStringMap) => void): void => {
  const group = element(id);
  const buttons = [...group.querySelectorAll('button')];
  const pick = (button: HTMLButtonElement): void => {
    for (const each of buttons) {
      each.setAttribute('aria-checked', String(each === button));
      each.tabIndex = each === button ? 0 : -1;
    }
    chosen(button.dataset);
    view.rows.scrollTop = 0;
    redraw();
  };
  for (const button of buttons) button.addEventListener('click', () => pick(button));
  group.addEventListener('keydown', ({ key }) => {
    const step = key === 'ArrowRight' || key === 'ArrowDown' ? 1 : key === 'ArrowLeft' || key === 'ArrowUp' ? -1 : 0;
    const next = buttons[(buttons.indexOf(document.activeElement as HTMLButtonElement) + step + buttons.length) % buttons.length];
    if (!step || !next) return;
    next.focus();
    pick(next);
  });
};
choose('airports', (data) => {
  airport = data['airport'] ?? '';
});
choose('spans', (data) => {
  span = data['span'] === 'day' ? 'day' : 'now';
});

Object.defineProperty(window, 'tidewireDemo', {
  value: Object.defineProperties({}, { positions: { get: positions }, connection: { get: client.getSnapshot }, departures: { get: () => departures.getSnapshot().state } }),
});

drawState();
redraw();
// A failure is on the page already, in the connection's state.
client.connect().catch(() => {});
