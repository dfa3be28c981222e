/**
 * `summary`: how many events of which type, gathered by the server over time or over so many events.
 */
import type { Client } from './client.js';
import { follow, type StreamOptions, type Subscription } from './stream.js';
import type { Batch, Json, RecordedEvent, Summarized, Target } from './wire.js';

/** What is summed up, and how. */
export type SummaryOptions = Omit<StreamOptions<{ [type: string]: Json }>, 'onEvent'> &
  (
    | {
        /** One summary of so many milliseconds, from 100 to 60 000; none of a time in which nothing happened. */
        readonly everyMs: number;
      }
    | {
        /** One summary of so many events, up to 100 000. */
        readonly everyEvents: number;
      }
  ) & {
    /** Gets every summary, in order. The next one waits for its promise. If it throws, the subscription ends before that summary. */
    onSummary(summary: Summarized): void | Promise<void>;
  };

/**
 * Follows `to` in summaries. Each event is counted once, also over cuts, and with `durable` over reloads as far as
 * `onSummary` has handled them.
 */
export const summary = (client: Client, to: Target, options: SummaryOptions): Subscription => {
  const { link } = client;
  const batch: Batch = 'everyMs' in options ? { summary_ms: options.everyMs } : { summary_events: options.everyEvents };
  const gathering: Client = {
    ...client,
    link: {
      ...link,
      open: (route) =>
        link.open({
          request: () => ({ ...route.request(), batch }),
          // It stands at a position like an event, and is handed over like one.
          receive(message) {
            if (message.type !== 'summary') return route.receive(message);
            const { type: _, sub, ...told } = message;
            route.receive({ type: 'events', sub, events: [told as unknown as RecordedEvent] });
          },
        }),
    },
  };
  return follow(gathering, to, { ...options, onEvent: (told) => options.onSummary(told as unknown as Summarized) });
};
