/**
 * `tidewire/cursor`: where durable subscriptions keep their positions.
 *
 * A position is saved after the callback has run, so a page that dies in between sees that event again:
 * at least once across reloads, exactly once within a page. One save is under way at a time, and always
 * of the newest position. A cursor that cannot save ends its subscription with that error rather than
 * forget silently.
 */
import type { Cursor, Saved } from './cursor_types.js';

export type { Cursor, Keeper, Saved } from './cursor_types.js';

/** Where positions are put: `cursorOver` makes a cursor of it. */
export interface Shelf {
  get(name: string): Saved | undefined | Promise<Saved | undefined>;
  put(name: string, saved: Saved): void | Promise<void>;
  delete(name: string): void | Promise<void>;
}

/** Makes a cursor of anything that can get and put. */
export const cursorOver = (shelf: Shelf): Cursor => {
  return (name) => {
    let newest: Saved | undefined;
    let saving = false;
    const drain = async (failed: (error: unknown) => void): Promise<void> => {
      saving = true;
      try {
        // A burst of events is one save.
        await undefined;
        for (let saved; (saved = newest); ) {
          newest = undefined;
          await shelf.put(name, saved);
        }
      } catch (error) {
        failed(error);
      }
      saving = false;
    };
    return {
      load: () => shelf.get(name),
      save(saved, failed) {
        newest = saved;
        if (!saving) void drain(failed);
      },
      drop() {
        newest = undefined;
        return shelf.delete(name);
      },
    };
  };
};

/** Keeps positions as long as the page lives: for tests, and for subscriptions that come and go. */
export const memoryCursor = (): Cursor => {
  const saved = new Map<string, Saved>();
  return cursorOver({ get: (name) => saved.get(name), put: (name, at) => void saved.set(name, at), delete: (name) => void saved.delete(name) });
};

/** Keeps positions in `localStorage`, under `prefix` and the name. */
export const localStorageCursor = (prefix = 'tidewire:', storage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'> = localStorage): Cursor =>
  cursorOver({
    get(name) {
      const text = storage.getItem(prefix + name);
      if (text === null) return undefined;
      const { position, epoch } = JSON.parse(text) as Saved;
      return Number.isSafeInteger(position) ? { position, epoch } : undefined;
    },
    put: (name, at) => storage.setItem(prefix + name, JSON.stringify(at)),
    delete: (name) => storage.removeItem(prefix + name),
  });

const STORE = 'positions';

const answer = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Keeps positions in IndexedDB, in a database of its own. */
export const indexedDbCursor = (database = 'tidewire', factory: IDBFactory = indexedDB): Cursor => {
  let opened: Promise<IDBDatabase> | undefined;
  const open = (): Promise<IDBDatabase> => {
    if (!opened) {
      const request = factory.open(database, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore(STORE);
      };
      opened = answer(request).then((db) => {
        // Another tab's upgrade and the browser's own clean-up both end here; the next use opens anew.
        db.onversionchange = db.onclose = () => {
          opened = undefined;
          db.close();
        };
        return db;
      });
      opened.catch(() => {
        opened = undefined;
      });
    }
    return opened;
  };
  const change = async (run: (store: IDBObjectStore) => void): Promise<void> => {
    const transaction = (await open()).transaction(STORE, 'readwrite');
    run(transaction.objectStore(STORE));
    await new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
    });
  };
  return cursorOver({
    get: async (name) => answer((await open()).transaction(STORE).objectStore(STORE).get(name) as IDBRequest<Saved | undefined>),
    put: (name, at) => change((store) => store.put(at, name)),
    delete: (name) => change((store) => store.delete(name)),
  });
};
