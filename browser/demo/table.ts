/**
 * The board's rows in the page: only those in view exist, and each changes only what is new.
 *
 * A status that changes while its row is in view flips over, once; not while many events arrive at once,
 * and never for those who prefer less motion (that is in the style sheet).
 */
import { delayOf, statusOf, type Flight, type Status } from './flights.js';

const WORDS: Readonly<Record<Status, string>> = {
  scheduled: 'Scheduled',
  delayed: 'Delayed',
  departed: 'Departed',
  arrived: 'Arrived',
  cancelled: 'Cancelled',
  diverted: 'Diverted',
};

/** Rows drawn beyond the edges of the view. */
const MARGIN_ROWS = 4;

const pad = (n: number): string => String(n).padStart(2, '0');

/** `HH:MM` of local minutes. */
export const timeOf = (minutes: number): string => `${pad(Math.floor(minutes / 60) % 24)}:${pad(minutes % 60)}`;

const spoken = (delay: number | undefined): string =>
  delay === undefined ? '' : delay === 0 ? 'on time' : delay > 0 ? `+${delay < 60 ? `${delay} min` : `${Math.floor(delay / 60)} h ${pad(delay % 60)}`}` : `${-delay} min early`;

interface Row {
  readonly node: HTMLElement;
  draw(flight: Flight, clock: number, flip: boolean): void;
}

const cell = (parent: HTMLElement, name: string): HTMLElement => {
  const node = document.createElement('span');
  node.className = name;
  node.setAttribute('role', 'cell');
  parent.append(node);
  return node;
};

const write = (node: HTMLElement, text: string): void => {
  if (node.textContent !== text) node.textContent = text;
};

const createRow = (): Row => {
  const node = document.createElement('div');
  node.className = 'row';
  node.setAttribute('role', 'row');
  const time = cell(node, 'time');
  const planned = document.createElement('span');
  const actual = document.createElement('small');
  time.append(planned, actual);
  const code = cell(node, 'code');
  const dest = cell(node, 'dest');
  const name = document.createElement('span');
  const airport = document.createElement('small');
  dest.append(name, airport);
  const origin = cell(node, 'origin');
  const status = cell(node, 'status');
  const flap = document.createElement('span');
  status.append(flap);
  const delay = cell(node, 'delay');
  let shown: Status | undefined;
  return {
    node,
    draw(flight, clock, flip) {
      const now = statusOf(flight, clock);
      const late = delayOf(flight, clock);
      write(planned, timeOf(flight.scheduled));
      write(actual, flight.departed !== undefined && flight.departed !== flight.scheduled ? timeOf(flight.departed) : '');
      write(code, flight.code);
      if (code.title !== flight.carrierName) code.title = flight.carrierName;
      write(name, flight.destinationName || flight.destination);
      write(airport, flight.destination);
      write(origin, flight.origin);
      write(delay, now === 'scheduled' || now === 'cancelled' ? '' : spoken(late));
      node.dataset['late'] = late !== undefined && late >= 15 ? 'yes' : 'no';
      if (now === shown) return;
      write(flap, WORDS[now]);
      node.dataset['status'] = now;
      if (flip && shown !== undefined) flap.animate(FLIP, FLIP_TIMING);
      shown = now;
    },
  };
};

const still = matchMedia('(prefers-reduced-motion: reduce)');
const FLIP: Keyframe[] = [
  { transform: 'perspective(12em) rotateX(90deg)', opacity: 0.2 },
  { transform: 'perspective(12em) rotateX(-18deg)', opacity: 1, offset: 0.7 },
  { transform: 'none', opacity: 1 },
];
const FLIP_TIMING: KeyframeAnimationOptions = { duration: 420, easing: 'ease-out' };

/** A table over a scrolling element. */
export interface Table {
  /** Draws what is in view of `flights` at `clock`. */
  draw(flights: readonly Flight[], clock: number, calm: boolean): void;
}

/** Makes a table; `redraw` is asked for when the view moves. */
export const createTable = (view: HTMLElement, spacer: HTMLElement, redraw: () => void): Table => {
  const rows = new Map<string, Row>();
  view.addEventListener('scroll', redraw, { passive: true });
  new ResizeObserver(redraw).observe(view);
  return {
    draw(flights, clock, calm) {
      const height = parseFloat(getComputedStyle(view).getPropertyValue('--row')) || 48;
      const total = `${flights.length * height}px`;
      if (spacer.style.height !== total) spacer.style.height = total;
      const first = Math.max(0, Math.floor(view.scrollTop / height) - MARGIN_ROWS);
      const last = Math.min(flights.length, Math.ceil((view.scrollTop + view.clientHeight) / height) + MARGIN_ROWS);
      const wanted = new Set<string>();
      for (let index = first; index < last; index++) {
        const flight = flights[index]!;
        wanted.add(flight.key);
        let row = rows.get(flight.key);
        if (!row) {
          row = createRow();
          rows.set(flight.key, row);
          spacer.append(row.node);
        }
        const place = `translateY(${index * height}px)`;
        if (row.node.style.transform !== place) row.node.style.transform = place;
        row.node.classList.toggle('odd', index % 2 === 1);
        row.node.setAttribute('aria-rowindex', String(index + 2));
        row.draw(flight, clock, calm && !still.matches);
      }
      for (const [key, row] of rows) {
        if (!wanted.has(key)) {
          row.node.remove();
          rows.delete(key);
        }
      }
    },
  };
};
