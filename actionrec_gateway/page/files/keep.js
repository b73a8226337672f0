/** Keeps the videos of this browser's last jobs, so that a timeline that is opened again can be played. */

const [NAME, STORE, MOST] = ["actionrec", "videos", 5];
const MOST_BYTES = 500_000_000;

/** @type {Map<string, Blob>} where the browser keeps nothing (private windows), this tab does */
const here = new Map();

/** @returns {Promise<IDBDatabase>} */
function database() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {string} id of the job @param {Blob} video */
export async function keep(id, video) {
  here.set(id, video);
  if (video.size > MOST_BYTES) return;
  try {
    const store = (await database()).transaction(STORE, "readwrite").objectStore(STORE);
    await result(store.put({ id, video, at: Date.now() }));
    const all = await result(store.getAll());
    all.sort((one, other) => other.at - one.at);
    for (const old of all.slice(MOST)) await result(store.delete(old.id));
  } catch {
    // it stays in this tab
  }
}

/** @param {string} id @returns {Promise<Blob | null>} */
export async function kept(id) {
  const found = here.get(id);
  if (found) return found;
  try {
    const store = (await database()).transaction(STORE).objectStore(STORE);
    return (await result(store.get(id)))?.video || null;
  } catch {
    return null;
  }
}
