/**
 * What the server answers. Types alone: no browser loads this file.
 *
 * @typedef {{label: string, class_index: number, score: number}} Prediction
 * @typedef {{code: string, message: string}} Warning
 * @typedef {{start_seconds: number, end_seconds: number, source_frames: number, source_fps: number,
 *   width: number, height: number, codec?: string}} Clip
 * @typedef {{label: string, class_index: number, start_seconds: number, end_seconds: number,
 *   score: number}} Segment
 * @typedef {{start_seconds: number, end_seconds: number, predictions: Prediction[], warnings: Warning[]}} Entry
 * @typedef {{shape: [number, number, number], seconds: number[], shares: string}} Pathway
 * @typedef {{window: number, crop: number, start_seconds: number, end_seconds: number, logit: number,
 *   box: [number, number, number, number], pathways: Pathway[]}} View
 * @typedef {{label: string, class_index: number, bias: number, views: View[]}} Explanation
 * @typedef {{predictions: Prediction[], clip: Clip,
 *   model: {name: string, version: string, runtime: string, precision: string, weights: string},
 *   timings_ms: Record<string, number>, warnings: Warning[], explanation?: Explanation,
 *   segments?: Segment[], cuts?: number[], timeline?: Entry[],
 *   page?: {offset: number, windows: number, of: number, next: number | null}}} Reply
 * @typedef {{seconds: number[], columns: number, edge: number, jpeg: string}} Sheet
 * @typedef {{name: string, version: string, default: boolean, labels: number, window_seconds: number,
 *   frames: number, runtime: string, precision: string, batch: number, waiting: number,
 *   workers: {status: string, device: string}[]}} Model
 * @typedef {{client: string, administrator: boolean, tokens: boolean, fetch: boolean, version: string,
 *   upload_bytes: number, clip_bytes: number}} Session
 * @typedef {{video: string, label: string, start_seconds: number, end_seconds: number}} Span
 * @typedef {{code: string, status: number, message: string, hint: string}} Problem
 * @typedef {{id: string, name: string, model: string, state: "running" | "done" | "failed" | "cancelled" | "stopped",
 *   steps: {event: string, text: string, done: number | null, total: number | null}[], error: Problem | null,
 *   result: {words: string, accuracy: number, interval: [number, number]} | null, report: string | null,
 *   serving: {state: "no" | "asked" | "yes" | "failed", error: Problem | null}}} Learning
 * @typedef {{can: "learn" | "denied" | "absent", videos: {name: string, bytes: number}[], video_bytes: number, models: string[], busy: boolean,
 *   learning: Learning | null}} Teaching
 * @typedef {{id: string, state: "waiting" | "running" | "done" | "failed" | "cancelled", model: string,
 *   version: string | null, options: Record<string, any>, source: {bytes?: number, sha256?: string, url?: string},
 *   created: string, started: string | null, finished: string | null,
 *   progress: {windows: number, of: number | null, seconds_left: number | null}, note: string | null,
 *   error: Problem | null}} Job
 */
export {};
