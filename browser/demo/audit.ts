/**
 * Which positions arrived, told from the positions alone. Pure but for its own ranges.
 *
 * It believes nobody: each position is put among the ranges seen so far, so a double is a double and a
 * gap stays a hole until it is filled, in whatever order they come. Without holes it is one range.
 */

/** What was received. */
export interface Summary {
  /** Events received, doubles included. */
  readonly count: number;
  readonly min: number;
  readonly max: number;
  readonly duplicates: number;
  /** Positions between `min` and `max` that did not arrive. */
  readonly holes: number;
}

/** Counts positions. */
export interface Audit {
  saw(position: number): void;
  summary(): Summary;
  clear(): void;
}

/** Makes an audit that has seen nothing. */
export const createAudit = (): Audit => {
  let ranges: [number, number][] = [];
  let count = 0;
  let duplicates = 0;
  return {
    saw(position) {
      count++;
      const last = ranges.at(-1);
      if (last && position === last[1] + 1) last[1] = position;
      else if (!last || position > last[1]) ranges.push([position, position]);
      else {
        const index = ranges.findIndex(([, high]) => high >= position - 1);
        const range = ranges[index]!;
        if (position >= range[0] && position <= range[1]) duplicates++;
        else if (position === range[1] + 1) {
          range[1] = position;
          const next = ranges[index + 1];
          if (next && next[0] === position + 1) {
            range[1] = next[1];
            ranges.splice(index + 1, 1);
          }
        } else if (position === range[0] - 1) range[0] = position;
        else ranges.splice(index, 0, [position, position]);
      }
    },
    summary() {
      const min = ranges[0]?.[0] ?? 0;
      const max = ranges.at(-1)?.[1] ?? 0;
      const distinct = count - duplicates;
      return { count, min, max, duplicates, holes: count ? max - min + 1 - distinct : 0 };
    },
    clear() {
      ranges = [];
      count = duplicates = 0;
    },
  };
};
