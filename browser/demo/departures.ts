/**
 * The flights of the present day, by live queries of the projection `departures`: one for the newest change, which
 * tells what time it is, and one for the documents of that day and the day before.
 *
 * When the day changes, the flights of the day before stay until those of the new one have come.
 */
import { projection, type Client, type LiveQuery, type Observable, type QueryState, type Stop, type TidewireError } from '../src/index.js';
import { dayOf, daysOf, flightOf, minutesOf, type Departure, type Flight } from './flights.js';

/** What the board draws. */
export interface Departures {
  readonly flights: readonly Flight[];
  /** The newest moment that an event told of, in local minutes; 0 before there is one. */
  readonly clock: number;
  /** The live query of the documents. */
  readonly state: QueryState<Departure> | undefined;
}

/** Follows the flights; `onError` is told when it has ended for good. */
export const createDepartures = (client: Client, onError: (error: TidewireError) => void): Observable<Departures> & { readonly stop: Stop } => {
  const listeners = new Set<(departures: Departures) => void>();
  /** A document keeps its identity, and so does its flight. */
  const made = new WeakMap<Departure, Flight>();
  const toFlight = (key: string, document: Departure): Flight => {
    let flight = made.get(document);
    if (!flight) made.set(document, (flight = flightOf(key, document)));
    return flight;
  };
  let snapshot: Departures = { flights: [], clock: 0, state: undefined };
  let day = '';
  let shown: LiveQuery<Departure> | undefined;
  let coming: LiveQuery<Departure> | undefined;

  const publish = (): void => {
    const [newest] = clock.getSnapshot().documents.values();
    const state = shown?.getSnapshot();
    const flights = state === snapshot.state ? snapshot.flights : Array.from(state?.documents ?? [], ([key, document]) => toFlight(key, document));
    snapshot = { flights, clock: newest ? minutesOf(newest.changed_at) : 0, state };
    for (const listener of [...listeners]) listener(snapshot);
  };
  const follow = (next: string): void => {
    day = next;
    coming?.stop();
    const query = projection<Departure>(client, 'departures', { where: { in: ['day', daysOf(next)] } }, { onError });
    coming = query;
    query.subscribe(({ phase }) => {
      if (query === coming && phase === 'live') {
        shown?.stop();
        shown = query;
        coming = undefined;
      }
      if (query === shown) publish();
    });
  };
  const clock = projection<Departure>(client, 'departures', { order: { by: 'changed_at', direction: 'descending' }, limit: 1 }, { onError });
  clock.subscribe(({ documents }) => {
    const [newest] = documents.values();
    const now = newest && dayOf(minutesOf(newest.changed_at));
    if (now && now !== day) follow(now);
    publish();
  });
  return {
    getSnapshot: () => snapshot,
    subscribe(listener) {
      const own = (departures: Departures): void => listener(departures);
      listeners.add(own);
      return () => listeners.delete(own);
    },
    stop() {
      for (const query of [clock, shown, coming]) query?.stop();
    },
  };
};
