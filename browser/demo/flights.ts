/**
 * Flights as the board shows them, told by the documents of the projection `departures`. Pure: no DOM, no clock
 * but the one that is passed in.
 */

/** A document: one flight. Times are local: `2013-01-01T05:17`. What is not known is absent. */
export interface Departure {
  readonly carrier: string;
  readonly carrier_name: string;
  readonly flight: number | string;
  readonly origin: string;
  readonly destination: string;
  readonly destination_name: string;
  /** Of the scheduled departure. */
  readonly day: string;
  readonly scheduled: string;
  readonly scheduled_arrival: string;
  readonly status: Told;
  readonly departed?: string;
  readonly arrived?: string;
  /** Of the departure, or of the arrival once arrived. */
  readonly delay_minutes?: number;
  /** When its newest event happened, in New York's time. */
  readonly changed_at: string;
}

/** What a flight's events have said so far. */
export type Told = 'scheduled' | 'departed' | 'arrived' | 'cancelled' | 'diverted';

/** What the board says. */
export type Status = Told | 'delayed';

/** A flight on the board. */
export interface Flight {
  readonly key: string;
  readonly code: string;
  readonly carrierName: string;
  readonly origin: string;
  readonly destination: string;
  readonly destinationName: string;
  /** Local minutes since 1970, as all times here. */
  readonly scheduled: number;
  readonly departed: number | undefined;
  readonly told: Told;
  readonly delay: number | undefined;
}

const DAY = 24 * 60;
/** A flight not gone by then is called delayed. */
export const DELAYED_AFTER_MINUTES = 15;
/** What left so long ago is off the board that shows the present. */
const RECENT_MINUTES = 30;

/** Local minutes since 1970 of a local time; any offset is ignored. */
export const minutesOf = (local: string): number => Math.floor(Date.parse(`${local.slice(0, 16)}Z`) / 60_000);

/** The day of local minutes: `2013-01-01`. */
export const dayOf = (minutes: number): string => new Date(minutes * 60_000).toISOString().slice(0, 10);

/** The days whose flights may be on the board on a day: what left late the evening before is, too. */
export const daysOf = (day: string): readonly string[] => [dayOf(minutesOf(`${day}T00:00`) - DAY), day];

/** What the board shows of a document. */
export const flightOf = (key: string, document: Departure): Flight => ({
  key,
  code: `${document.carrier} ${document.flight}`,
  carrierName: document.carrier_name,
  origin: document.origin,
  destination: document.destination,
  destinationName: document.destination_name,
  scheduled: minutesOf(document.scheduled),
  departed: document.departed === undefined ? undefined : minutesOf(document.departed),
  told: document.status,
  delay: document.delay_minutes,
});

/** What the board says of a flight at `clock`. */
export const statusOf = ({ told, scheduled }: Flight, clock: number): Status =>
  told === 'scheduled' && clock >= scheduled + DELAYED_AFTER_MINUTES ? 'delayed' : told;

/** Minutes late as far as known: for a flight that still waits, so far. */
export const delayOf = (flight: Flight, clock: number): number | undefined =>
  statusOf(flight, clock) === 'delayed' ? clock - flight.scheduled : flight.delay;

/** The rows to show, in the order of the timetable. */
export const rowsOf = (flights: Iterable<Flight>, clock: number, airport: string, span: 'now' | 'day'): readonly Flight[] => {
  const rows: Flight[] = [];
  const today = Math.floor(clock / DAY) * DAY;
  for (const flight of flights) {
    if (airport && flight.origin !== airport) continue;
    const present =
      span === 'day'
        ? flight.scheduled >= today && flight.scheduled < today + DAY
        : flight.told === 'scheduled' || (flight.departed ?? flight.scheduled) >= clock - RECENT_MINUTES;
    if (present) rows.push(flight);
  }
  return rows.sort((a, b) => a.scheduled - b.scheduled || (a.key < b.key ? -1 : 1));
};
