/** The board's pure parts: what the positions tell, and what the events make of a flight. */
import { describe, expect, test } from 'vitest';
import { createAudit } from '../demo/audit.js';
import { delayOf, emptyBoard, fold, minutesOf, rowsOf, statusOf, type Board } from '../demo/flights.js';
import type { RecordedEvent } from '../src/index.js';

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

const key = { carrier: 'UA', flight: 1545, origin: 'EWR', dest: 'IAH' };
let position = 0;
const event = (type: string, at: string, data: object, stream = 'flight-2013-01-01-UA1545-EWR'): RecordedEvent<string, unknown> => ({
  position: ++position, stream, revision: 0, type, id: '', at: '', data: { ...key, ...data }, meta: { happened_at: `${at}:00-05:00` },
});
const scheduled = (at: string, departure: string, stream?: string): RecordedEvent<string, unknown> =>
  event('FlightScheduled', at, { carrier_name: 'United', dest_name: 'Houston', scheduled_departure: departure, scheduled_arrival: departure, tail: null, distance: 1 }, stream);
const told = (board: Board) => [...board.flights.values()].map((flight) => [statusOf(flight, board.clock), delayOf(flight, board.clock)]);

test('a flight from its schedule to its arrival', () => {
  const board = emptyBoard();
  fold(board, scheduled('2013-01-01T00:00', '2013-01-01T05:15'));
  expect(told(board)).toEqual([['scheduled', undefined]]);
  fold(board, scheduled('2013-01-01T05:40', '2013-01-01T23:00', 'flight-2013-01-01-XX1-EWR'));
  expect(told(board)[0]).toEqual(['delayed', 25]);
  fold(board, event('FlightDeparted', '2013-01-01T05:45', { at: '2013-01-01T05:45', delay_minutes: 30 }));
  expect(told(board)[0]).toEqual(['departed', 30]);
  fold(board, event('FlightArrived', '2013-01-01T08:30', { at: '2013-01-01T08:30', delay_minutes: 11, air_time_minutes: 150 }));
  expect(told(board)[0]).toEqual(['arrived', 11]);
  expect(board.flights.get('flight-2013-01-01-UA1545-EWR')).toMatchObject({ code: 'UA 1545', destName: 'Houston', departed: minutesOf('2013-01-01T05:45') });
});

test.each([['FlightCancelled', 'cancelled'], ['FlightDiverted', 'diverted']])('%s is %s', (type, status) => {
  const board = emptyBoard();
  fold(board, scheduled('2013-01-01T00:00', '2013-01-01T05:15'));
  fold(board, event(type, '2013-01-01T06:00', { at: '2013-01-01T06:00', reason: null }));
  expect(told(board)[0]?.[0]).toBe(status);
});

test('a flight first met in the air stands where it was scheduled', () => {
  const board = emptyBoard();
  fold(board, event('FlightDeparted', '2013-01-01T05:45', { at: '2013-01-01T05:45', delay_minutes: 30 }));
  expect([...board.flights.values()]).toMatchObject([{ scheduled: minutesOf('2013-01-01T05:15'), dest: 'IAH' }]);
});

test('a year of flights leaves at most two days of them', () => {
  const board = emptyBoard();
  let most = 0;
  for (let day = 0; day < 365; day++) {
    const date = new Date(Date.UTC(2013, 0, 1 + day)).toISOString().slice(0, 10);
    for (let n = 0; n < 20; n++) fold(board, scheduled(`${date}T00:00`, `${date}T${String(n).padStart(2, '0')}:30`, `flight-${date}-UA${n}-EWR`));
    most = Math.max(most, board.flights.size);
  }
  expect(most).toBe(40);
});

test('the present is what is to come and what just left, of the chosen airport', () => {
  const board = emptyBoard();
  for (const [hour, origin] of [['05', 'EWR'], ['09', 'JFK'], ['10', 'EWR']] as const) {
    const stream = `flight-2013-01-01-UA${hour}-${origin}`;
    fold(board, { ...scheduled('2013-01-01T00:00', `2013-01-01T${hour}:00`, stream), data: { ...key, origin, scheduled_departure: `2013-01-01T${hour}:00` } });
    if (hour === '05') fold(board, event('FlightDeparted', '2013-01-01T05:00', { at: '2013-01-01T05:00', delay_minutes: 0 }, stream));
  }
  board.clock = minutesOf('2013-01-01T09:30');
  const streams = (airport: string, span: 'now' | 'day') => rowsOf(board, airport, span).map(({ stream }) => stream.slice(18));
  expect(streams('', 'now')).toEqual(['UA09-JFK', 'UA10-EWR']);
  expect(streams('', 'day')).toEqual(['UA05-EWR', 'UA09-JFK', 'UA10-EWR']);
  expect(streams('EWR', 'now')).toEqual(['UA10-EWR']);
});

test('other events in the log are passed over', () => {
  expect(fold(emptyBoard(), event('OrderPaid', '2013-01-01T00:00', {}))).toBe(false);
});
