/**
 * Events counted instead of sent: one summary of so many events, or of so much time after the first of them.
 */
import type { Batch, RecordedEvent, Summarized } from '../wire.js';

/** Counts the events of one subscription. */
export interface FakeSummaries {
  saw(event: RecordedEvent): void;
  /** Everything up to here was told, of what was looked at through `head`. */
  scanned(head: number): number;
  end(): void;
}

/** Begins after a position. */
export const createSummaries = (batch: Batch, after: number, tell: (summary: Summarized) => void): FakeSummaries => {
  let begun = after;
  let counted: RecordedEvent[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = (): void => {
    const [first, last] = [counted[0]!, counted.at(-1)!];
    const counts: Record<string, number> = {};
    for (const { type } of counted) counts[type] = (counts[type] ?? 0) + 1;
    tell({ after: begun, position: last.position, counts, count: counted.length, from: first.at, to: last.at });
    begun = last.position;
    counted = [];
    timer = undefined;
  };
  return {
    saw(event) {
      counted.push(event);
      if ('summary_ms' in batch) timer ??= setTimeout(flush, batch.summary_ms);
      else if (counted.length >= batch.summary_events) flush();
    },
    scanned(head) {
      if (!counted.length) begun = head;
      return begun;
    },
    end: () => clearTimeout(timer),
  };
};
