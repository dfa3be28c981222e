/**
 * An observable value: `{ getSnapshot, subscribe }`, the one shape of everything that can be watched.
 *
 * A snapshot keeps its identity until it changes, so it fits `useSyncExternalStore` and Svelte stores
 * alike. A listener that throws is reported and never disturbs who changed the value.
 */

/** Ends what started it. Calling it again does nothing. */
export type Stop = () => void;

/** A value that can be read now and watched for changes. */
export interface Observable<T> {
  /** The present value; the same object until the next change. */
  getSnapshot(): T;
  /** Calls `listener` with the value after each change, until stopped. */
  subscribe(listener: (value: T) => void): Stop;
}

/** An observable with its setter. */
export interface Store<T> extends Observable<T> {
  /** Replaces the value and tells the listeners, unless it is the same. */
  set(value: T): void;
}

/** Runs foreign code; what it throws surfaces as an uncaught error, not in our control flow. */
export const guard = (run: () => void): void => {
  try {
    run();
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
};

/** Adds a listener to a set and returns its removal; one function given twice is two listeners. */
export const enlist = <T>(set: Set<(value: T) => void>, listener: (value: T) => void): Stop => {
  const own = (value: T): void => listener(value);
  set.add(own);
  return () => set.delete(own);
};

/** Calls every listener, whatever one of them throws. */
export const tell = <T>(set: Set<(value: T) => void>, value: T): void =>
  set.forEach((listener) => guard(() => listener(value)));

/** Makes a store. */
export const createStore = <T>(value: T): Store<T> => {
  const listeners = new Set<(value: T) => void>();
  return {
    getSnapshot: () => value,
    subscribe: (listener) => enlist(listeners, listener),
    set(next) {
      if (next === value) return;
      value = next;
      tell(listeners, value);
    },
  };
};
