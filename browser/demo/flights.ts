/**
 * Flights, folded from their events. Pure: no DOM, no clock but the events' own.
 *
 * It keeps the present simulated day and whatever of the day before is still in the air, so memory stays
 * bounded however long the log is.
 */
import type { RecordedEvent } from '../src/index.js';

/** What every event about a flight says. */
export interface FlightKey {
  readonly carrier: string;
  readonly flight: number | string;
  readonly origin: string;
  readonly dest: string;
}

/** The events of a flight, and what they carry. Times are local: `2013-01-01T05:17`. */
export type FlightEvents = {
  readonly FlightScheduled: FlightKey & {
    readonly carrier_name: string;
    readonly tail: string | null;
    readonly dest_name: string;
    readonly scheduled_departure: string;
    readonly scheduled_arrival: string;
    readonly distance: number;
  };
  readonly FlightDeparted: FlightKey & { readonly at: string; readonly delay_minutes: number | null };
  readonly FlightArrived: FlightKey & {
    readonly at: string;
    readonly delay_minutes: number | null;
    readonly air_time_minutes: number | null;
  };
  readonly FlightCancelled: FlightKey & { readonly at: string; readonly reason: string | null };
  readonly FlightDiverted: FlightKey & { readonly at: string };
};

/** What a flight's events have said so far. */
export type Told = 'scheduled' | 'departed' | 'arrived' | 'cancelled' | 'diverted';

/** What the board says. */
export type Status = Told | 'delayed';

/** A flight on the board. */
export interface Flight {
  readonly stream: string;
  readonly code: string;
  readonly carrierName: string;
  readonly origin: string;
  readonly dest: string;
  readonly destName: string;
  /** Local minutes since 1970, as all times here. */
  readonly scheduled: number;
  readonly departed: number | undefined;
  readonly told: Told;
  /** Minutes late at departure, or at arrival once arrived. */
  readonly delay: number | undefined;
}

/** The board's whole state. */
export interface Board {
  readonly flights: Map<string, Flight>;
  /** The newest moment that an event told of. */
  clock: number;
}

const DAY = 24 * 60;
/** A flight not gone by then is called delayed. */
export const DELAYED_AFTER_MINUTES = 15;
/** What left so long ago is off the board that shows the present. */
const RECENT_MINUTES = 30;

/** Local minutes since 1970 of a local time; any offset is ignored. */
export const minutesOf = (local: string): number => Math.floor(Date.parse(`${local.slice(0, 16)}Z`) / 60_000);

/** An empty board. */
export const emptyBoard = (): Board => ({ flights: new Map(), clock: 0 });

const moment = (event: RecordedEvent<string, unknown>): number => {
  const { meta } = event;
  const told = typeof meta === 'object' && meta !== null && 'happened_at' in meta ? meta.happened_at : undefined;
  return typeof told === 'string' ? minutesOf(told) : NaN;
};

const TOLD: Readonly<Record<string, Told>> = {
  FlightDeparted: 'departed',
  FlightArrived: 'arrived',
  FlightCancelled: 'cancelled',
  FlightDiverted: 'diverted',
};

/** Folds one event in; `false` if it was not about a flight. */
export const fold = (board: Board, event: RecordedEvent<string, unknown>): boolean => {
  if (!event.type.startsWith('Flight')) return false;
  const { stream, type } = event;
  const data = event.data as Partial<
    FlightEvents['FlightScheduled'] & FlightEvents['FlightArrived']
  > &
    FlightKey;
  const at = moment(event);
  if (at > board.clock) {
    const day = Math.floor(at / DAY);
    if (day > Math.floor(board.clock / DAY)) sweep(board, day);
    board.clock = at;
  }
  const old = board.flights.get(stream);
  const when = data.at === undefined ? undefined : minutesOf(data.at);
  const told = TOLD[type] ?? 'scheduled';
  board.flights.set(stream, {
    stream,
    code: `${data.carrier} ${data.flight}`,
    carrierName: data.carrier_name ?? old?.carrierName ?? '',
    origin: data.origin,
    dest: data.dest,
    destName: data.dest_name ?? old?.destName ?? '',
    scheduled:
      data.scheduled_departure === undefined
        ? (old?.scheduled ?? (when ?? board.clock) - (type === 'FlightDeparted' ? (data.delay_minutes ?? 0) : 0))
        : minutesOf(data.scheduled_departure),
    departed: type === 'FlightDeparted' ? when : old?.departed,
    told,
    delay: data.delay_minutes ?? (told === 'cancelled' ? undefined : old?.delay),
  });
  return true;
};

/** Drops what is over by the beginning of `day`. */
const sweep = ({ flights }: Board, day: number): void => {
  for (const [stream, flight] of flights) {
    const flying = flight.told === 'departed' || flight.told === 'scheduled';
    if (flight.scheduled < (flying ? day - 1 : day) * DAY) flights.delete(stream);
  }
};

/** What the board says of a flight at `clock`. */
export const statusOf = ({ told, scheduled }: Flight, clock: number): Status =>
  told === 'scheduled' && clock >= scheduled + DELAYED_AFTER_MINUTES ? 'delayed' : told;

/** Minutes late as far as known: for a flight that still waits, so far. */
export const delayOf = (flight: Flight, clock: number): number | undefined =>
  statusOf(flight, clock) === 'delayed' ? clock - flight.scheduled : flight.delay;

/** The rows to show, in the order of the timetable. */
export const rowsOf = ({ flights, clock }: Board, airport: string, span: 'now' | 'day'): readonly Flight[] => {
  const rows: Flight[] = [];
  const today = Math.floor(clock / DAY) * DAY;
  for (const flight of flights.values()) {
    if (airport && flight.origin !== airport) continue;
    const present =
      span === 'day'
        ? flight.scheduled >= today && flight.scheduled < today + DAY
        : flight.told === 'scheduled' || (flight.departed ?? flight.scheduled) >= clock - RECENT_MINUTES;
    if (present) rows.push(flight);
  }
  return rows.sort((a, b) => a.scheduled - b.scheduled || (a.stream < b.stream ? -1 : 1));
};
