/** The demo's documents, folded from its log by rules of this test's own. */
interface RecordedEvent {
  readonly position: number;
  readonly stream: string;
  readonly type: string;
  readonly data: { readonly [field: string]: unknown };
  readonly meta: { readonly happened_at: string };
}
type Document = Record<string, unknown>;

const STATUS: Readonly<Record<string, string>> = { FlightDeparted: 'departed', FlightArrived: 'arrived', FlightCancelled: 'cancelled', FlightDiverted: 'diverted' };

const next = (old: Document | undefined, { type, data, meta }: RecordedEvent): Document | undefined => {
  const changed_at = meta.happened_at;
  if (type === 'FlightScheduled') {
    const { carrier, carrier_name, flight, origin, dest, dest_name, scheduled_departure, scheduled_arrival } = data;
    const day = String(scheduled_departure).slice(0, 10);
    return { carrier, carrier_name, flight, origin, destination: dest, destination_name: dest_name, day, scheduled: scheduled_departure, scheduled_arrival, status: 'scheduled', changed_at };
  }
  if (!old) return undefined;
  const { delay_minutes, ...rest } = old;
  const delay = type === 'FlightCancelled' ? undefined : (data['delay_minutes'] ?? delay_minutes);
  return {
    ...rest,
    status: STATUS[type],
    changed_at,
    ...(delay !== undefined && { delay_minutes: delay }),
    ...(type === 'FlightDeparted' && { departed: data['at'] }),
    ...((type === 'FlightArrived' || type === 'FlightDiverted') && { arrived: data['at'] }),
  };
};

/** The documents of the days, as they were at a position of the log that `port` serves. */
export async function folded(port: number, through: number, days: readonly string[]): Promise<Map<string, Document>> {
  const documents = new Map<string, Document>();
  for (let after = 0; after < through; ) {
    const answer = await fetch(`http://127.0.0.1:${port}/events?after=${after}&limit=1000`);
    const { events } = (await answer.json()) as { readonly events: readonly RecordedEvent[] };
    for (const event of events.filter(({ position }) => position <= through)) {
      const document = next(documents.get(event.stream), event);
      if (document) documents.set(event.stream, document);
    }
    after = events.at(-1)?.position ?? through;
  }
  return new Map([...documents].filter(([, { day }]) => days.includes(day as string)));
}
