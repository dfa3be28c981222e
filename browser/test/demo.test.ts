/** The board without its page: what the positions tell, and which flights it shows when. */
import { afterEach, describe, expect, test } from 'vitest';
import { createAudit } from '../demo/audit.js';
import { createDepartures } from '../demo/departures.js';
import { dayOf, daysOf, delayOf, flightOf, minutesOf, rowsOf, statusOf, type Departure } from '../demo/flights.js';
import type { Client } from '../src/index.js';
import type { FakeServer, Project } from '../src/testing/index.js';
import { pair } from './support/connect.js';

describe('the audit', () => {
  test.each<[string, number[], number, number]>([
    ['nothing', [], 0, 0],
    ['in order', [1, 2, 3], 0, 0],
    ['a hole', [1, 2, 4, 5], 0, 1],
    ['a double', [1, 2, 2, 3], 1, 0],
    ['a hole that is filled from below', [1, 4, 2, 3], 0, 0],
    ['a hole that is filled from above', [1, 5, 4, 3, 2], 0, 0],
    ['a double in an earlier range', [1, 2, 9, 1], 1, 6],
    ['backwards', [3, 2, 1, 1], 1, 0],
  ])('%s', (_, positions, duplicates, holes) => {
    const audit = createAudit();
    positions.forEach(audit.saw);
    expect(audit.summary()).toMatchObject({ count: positions.length, duplicates, holes });
  });

  test('agrees with a set, whatever comes', () => {
    let seed = 5;
    const chance = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
    for (let round = 0; round < 200; round++) {
      const audit = createAudit();
      const positions = Array.from({ length: 40 }, () => 1 + Math.floor(chance() * 30));
      positions.forEach(audit.saw);
      const set = new Set(positions);
      const [min, max] = [Math.min(...set), Math.max(...set)];
      expect(audit.summary()).toEqual({ count: 40, min, max, duplicates: 40 - set.size, holes: max - min + 1 - set.size });
    }
  });
});

const scheduled = (departure: string, more: Partial<Departure> = {}): Departure => ({
  carrier: 'UA', carrier_name: 'United', flight: 1545, origin: 'EWR', destination: 'IAH', destination_name: 'Houston',
  day: departure.slice(0, 10), scheduled: departure, scheduled_arrival: departure, status: 'scheduled', changed_at: `${departure}:00-05:00`, ...more,
});

test.each<[string, Partial<Departure>, string, string, number | undefined]>([
  ['waits', {}, '05:15', 'scheduled', undefined],
  ['waits too long', {}, '05:40', 'delayed', 25],
  ['has gone', { status: 'departed', departed: '2013-01-01T05:45', delay_minutes: 30 }, '06:00', 'departed', 30],
  ['has come', { status: 'arrived', departed: '2013-01-01T05:45', arrived: '2013-01-01T08:30', delay_minutes: 11 }, '09:00', 'arrived', 11],
  ['was called off', { status: 'cancelled' }, '09:00', 'cancelled', undefined],
  ['came elsewhere', { status: 'diverted', departed: '2013-01-01T05:45', delay_minutes: 30 }, '09:00', 'diverted', 30],
])('a flight that %s', (_, more, clock, status, delay) => {
  const flight = flightOf('k', scheduled('2013-01-01T05:15', more));
  const now = minutesOf(`2013-01-01T${clock}`);
  expect([statusOf(flight, now), delayOf(flight, now)]).toEqual([status, delay]);
  expect(flight).toMatchObject({ key: 'k', code: 'UA 1545', destinationName: 'Houston', scheduled: minutesOf('2013-01-01T05:15') });
});

test('the present is what is to come and what just left, of the chosen airport', () => {
  const flights = [['05', 'EWR'], ['09', 'JFK'], ['10', 'EWR']].map(([hour, origin]) =>
    flightOf(`UA${hour}`, scheduled(`2013-01-01T${hour}:00`, { origin: origin!, ...(hour === '05' && { status: 'departed', departed: '2013-01-01T05:00' }) })),
  );
  flights.push(flightOf('late', scheduled('2012-12-31T23:00')));
  const keys = (airport: string, span: 'now' | 'day') => rowsOf(flights.toReversed(), minutesOf('2013-01-01T09:30'), airport, span).map(({ key }) => key);
  expect(keys('', 'now')).toEqual(['late', 'UA09', 'UA10']);
  expect(keys('', 'day')).toEqual(['UA05', 'UA09', 'UA10']);
  expect(keys('EWR', 'day')).toEqual(['UA05', 'UA10']);
});

test('days', () => {
  expect(dayOf(minutesOf('2013-03-01T23:59'))).toBe('2013-03-01');
  expect(daysOf('2013-03-01')).toEqual(['2013-02-28', '2013-03-01']);
});

describe('the departures', () => {
  let client: Client;
  afterEach(() => client.disconnect());
  const latest: Project = ({ stream, data }, documents) => documents.put(stream, data);
  const put = ({ log }: FakeServer, key: string, document: Departure): void => void log.append(key, [{ type: 'T', data: { ...document } }]);

  test('are those of the day that it is, and of the one before', async () => {
    const { client: made, server } = pair();
    client = made;
    server.log.projection('departures', latest);
    const departures = createDepartures(client, (error) => expect.unreachable(error.message));
    const keys = () => departures.getSnapshot().flights.map(({ key }) => key).sort().join();
    const clock = () => departures.getSnapshot().clock;
    await client.connect();
    expect([keys(), clock()]).toEqual(['', 0]);

    put(server, 'a', scheduled('2013-01-01T10:00'));
    put(server, 'b', scheduled('2013-01-01T12:00', { changed_at: '2013-01-01T09:00:00-05:00' }));
    await expect.poll(keys).toBe('a,b');
    expect(clock()).toBe(minutesOf('2013-01-01T10:00'));
    const [a] = departures.getSnapshot().flights;
    put(server, 'b', scheduled('2013-01-01T12:00', { status: 'departed', departed: '2013-01-01T12:00' }));
    await expect.poll(clock).toBe(minutesOf('2013-01-01T12:00'));
    await expect.poll(() => departures.getSnapshot().flights.find(({ key }) => key === 'b')?.told).toBe('departed');
    expect(departures.getSnapshot().flights[0]).toBe(a);

    const shown = new Set<string>();
    departures.subscribe(() => void shown.add(keys()));
    put(server, 'c', scheduled('2013-01-02T01:00'));
    await expect.poll(keys).toBe('a,b,c');
    put(server, 'd', scheduled('2013-01-03T01:00'));
    await expect.poll(keys).toBe('c,d');
    // The board is never empty in between.
    expect([...shown]).toEqual(['a,b', 'a,b,c', 'c,d']);
    expect(departures.getSnapshot().state).toMatchObject({ phase: 'live', position: 5 });
    expect(server.received.filter(({ type }) => type === 'unsubscribe').length).toBe(2);
  });

  test('end with what is wrong', async () => {
    const { client: made } = pair();
    client = made;
    const errors: string[] = [];
    const departures = createDepartures(client, ({ code }) => void errors.push(code));
    await client.connect();
    await expect.poll(() => errors).toEqual(['unknown_projection']);
    departures.stop();
  });
});
