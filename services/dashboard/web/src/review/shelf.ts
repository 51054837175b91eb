/** A place that outlives the page, by key. */
export interface Shelf<T> {
  all: () => Promise<T[]>;
  get: (key: string) => Promise<T | undefined>;
  put: (key: string, value: T) => Promise<void>;
  remove: (key: string) => Promise<void>;
}

const DATABASE = "sightline-review";
const STORES = ["outbox", "drafts"] as const;

/** A shelf in this browser's IndexedDB; each call fails where the browser keeps none. */
export function browserShelf<T>(store: (typeof STORES)[number]): Shelf<T> {
  const read = <R>(ask: (store: IDBObjectStore) => IDBRequest<R>) => run(store, "readonly", ask);
  return {
    all: () => read((one) => one.getAll() as IDBRequest<T[]>),
    get: (key) => read((one) => one.get(key) as IDBRequest<T | undefined>),
    put: async (key, value) => void (await run(store, "readwrite", (one) => one.put(value, key))),
    remove: async (key) => void (await run(store, "readwrite", (one) => one.delete(key))),
  };
}

/** A shelf that ends with the page; for tests. */
export function memoryShelf<T>(kept = new Map<string, T>()): Shelf<T> {
  return {
    all: () => Promise.resolve([...kept.values()].map((one) => structuredClone(one))),
    get: (key) => Promise.resolve(structuredClone(kept.get(key))),
    put: (key, value) => {
      kept.set(key, structuredClone(value));
      return Promise.resolve();
    },
    remove: (key) => {
      kept.delete(key);
      return Promise.resolve();
    },
  };
}

let database: Promise<IDBDatabase> | null = null;

function opened(): Promise<IDBDatabase> {
  const opening =
    database ??
    new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => {
        for (const name of STORES) request.result.createObjectStore(name);
      };
      request.onerror = () => reject(request.error ?? new Error("the browser keeps no data"));
      request.onsuccess = () => {
        // A browser short of room closes it; the next call opens it again.
        request.result.onclose = () => (database = null);
        request.result.onversionchange = () => {
          request.result.close();
          database = null;
        };
        resolve(request.result);
      };
    });
  database = opening;
  opening.catch(() => (database = null));
  return opening;
}

async function run<R>(store: string, mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest<R>): Promise<R> {
  const open = await opened();
  return new Promise<R>((resolve, reject) => {
    // "strict": on the disk, not only on its way there.
    const transaction = open.transaction(store, mode, { durability: "strict" });
    const request = ask(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error ?? new Error("the browser refused to keep data"));
    transaction.onerror = () => reject(transaction.error ?? request.error ?? new Error("the browser refused to keep data"));
  });
}
