/** Asks the gateway. Addresses are relative to the page's own, so that it also works below a path. */

/** @import { Job, Model, Reply, Session, Sheet } from "../types.js" */

const TOKEN = "actionrec-token";

/** An error of the server, or that it does not answer. */
export class ApiError extends Error {
  /**
   * @param {number} status 0: there was no answer
   * @param {string} code
   * @param {string} message
   * @param {string} hint
   * @param {string} [requestId]
   */
  constructor(status, code, message, hint, requestId = "") {
    super(message);
    this.status = status;
    this.code = code;
    this.hint = hint;
    this.requestId = requestId;
  }
}

/** Told of what every page shows: that the server is gone or back, and that it asks for a token. */
export const events = new EventTarget();

export function token() {
  return sessionStorage.getItem(TOKEN) || "";
}

/** @param {string} value */
export function setToken(value) {
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
}

/** @returns {Record<string, string>} */
function authorization() {
  return token() ? { Authorization: `Bearer ${token()}` } : {};
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...authorization(), ...options.headers } });
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") throw error;
    throw gone();
  }
  events.dispatchEvent(new Event("answered"));
  if (!response.ok) throw await refused(response.status, await response.text());
  return response;
}

/** Whether there was no answer at all, which is told above, for all parts of the page. @param {unknown} error */
export const isGone = (error) => error instanceof ApiError && error.status === 0;

function gone() {
  events.dispatchEvent(new Event("gone"));
  return new ApiError(0, "", "The server does not answer.", "It may be starting again. What you see here stays.");
}

/** @param {number} status @param {string} text */
async function refused(status, text) {
  if (status === 401) events.dispatchEvent(new Event("unauthorized"));
  try {
    const { error, request_id } = JSON.parse(text);
    return new ApiError(status, error.code, error.message, error.hint, request_id);
  } catch {
    return new ApiError(status, "", `The server answers with status ${status}.`, "Its log may say more.");
  }
}

/**
 * @template T
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<T>}
 */
export async function json(path, options) {
  const response = await ask(path, options);
  try {
    return await response.json();
  } catch {
    throw gone();  // it broke off
  }
}

/** A request with JSON. @param {Record<string, any>} value */
export const posted = (value, method = "POST") => ({ method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });

/** @param {Record<string, any>} options those without a value are left out */
export function query(options) {
  const given = Object.entries(options).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}

/** @returns {Promise<Session>} */
export const session = () => json("page/session");

/** @returns {Promise<Model[]>} */
export const models = () => json("page/models");

/** @param {string} model @param {Record<string, any>} options */
export function predictionPath(model, options) {
  return `predictions/${encodeURIComponent(model)}${query(options)}`;
}

/**
 * @param {string} model
 * @param {Blob} video
 * @param {Record<string, any>} options
 * @param {AbortSignal} [signal]
 * @returns {Promise<Reply>}
 */
export function predict(model, video, options, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  return json(predictionPath(model, options), { method: "POST", body: video, headers, signal });
}

/**
 * The frames that the model sees.
 *
 * @param {string} model
 * @param {Blob} video
 * @param {{start_seconds?: number, end_seconds?: number}} span
 * @returns {Promise<Sheet>}
 */
export function frames(model, video, span) {
  const headers = { "Content-Type": "application/octet-stream" };
  return json(`page/frames${query({ model, ...span })}`, { method: "POST", body: video, headers });
}

/**
 * Make a job; tells how much of the video is sent.
 *
 * @param {Blob} video
 * @param {Record<string, any>} options
 * @param {(share: number) => void} sent
 * @param {AbortSignal} signal
 * @returns {Promise<Job>}
 */
export function submit(video, options, sent, signal) {
  return upload("POST", `jobs${query(options)}`, video, { "Idempotency-Key": key() }, sent, signal);
}

/**
 * Send a video; tells how much of it is sent.
 *
 * @param {string} method
 * @param {string} path
 * @param {Blob} video
 * @param {Record<string, string>} headers
 * @param {(share: number) => void} sent
 * @param {AbortSignal} signal
 * @returns {Promise<any>} the reply's JSON
 */
export function upload(method, path, video, headers, sent, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();  // fetch does not tell
    request.open(method, path);
    const all = { "Content-Type": "application/octet-stream", ...authorization(), ...headers };
    for (const [name, value] of Object.entries(all)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => sent(event.total ? event.loaded / event.total : 0);
    request.onerror = () => reject(gone());
    request.onabort = () => reject(new DOMException("Stopped", "AbortError"));
    request.onload = async () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(await refused(request.status, request.responseText));
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(video);
  });
}

function key() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(random, (value) => value.toString(16).padStart(2, "0")).join("");
}

/**
 * Events of a job as they come, until it has ended or the signal says stop; asks again where the stream breaks.
 *
 * @param {string} id
 * @param {(job: Job) => void} changed
 * @param {AbortSignal} signal
 */
export async function follow(id, changed, signal) {
  let last = "";
  for (let wait = 500; !signal.aborted; wait = Math.min(2 * wait, 8000)) {
    try {
      const headers = last ? { "Last-Event-ID": last } : undefined;
      const response = await ask(`jobs/${id}/events`, { headers, signal });
      for await (const fields of sent(response)) {
        last = fields.id;
        wait = 250;
        const job = /** @type {Job} */ (JSON.parse(fields.data));
        changed(job);
        if (!["waiting", "running"].includes(job.state)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
      if (!(error instanceof ApiError)) gone();
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/**
 * Watch a stream that lies at an address, until it ends or the signal says stop.
 *
 * @param {Record<string, any>} wanted
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<[string, any]>} the name of each event, and what it says
 */
export async function* watch(wanted, signal) {
  const response = await ask("live", { ...posted(wanted), signal });
  try {
    for await (const { event, data } of sent(response)) yield [event, JSON.parse(data)];
  } catch (error) {
    throw signal.aborted ? error : gone();
  }
}

/** The fields of server-sent events. @param {Response} response */
async function* sent(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  for (let text = "";;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop() || "";
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.data) yield fields;
    }
  }
}
