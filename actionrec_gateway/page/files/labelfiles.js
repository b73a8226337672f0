/** Labels as files: the CSV that `make learn` takes, and Label Studio's JSON. */

/** @import { Span } from "../types.js" */

/** A list of labels that counts in milliseconds: so a span is exact, whatever the video's frame rate. */
const RATE = 1000;
const COLUMNS = ["path", "label", "start_seconds", "end_seconds"];

/** Different videos that a label needs: `make learn` asks for them. */
export const LEAST_VIDEOS = 5;

/** Each label, with its spans and the number of their videos. @param {Span[]} spans */
export function byLabel(spans) {
  return [...Map.groupBy(spans, (one) => one.label)].sort(([a], [b]) => a.localeCompare(b))
    .map(([label, own]) => ({ label, spans: own.length, videos: new Set(own.map((one) => one.video)).size }));
}

/** @param {Span[]} spans */
export function toCsv(spans) {
  const quoted = (/** @type {string} */ text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = spans.map((one) => [quoted(one.video), quoted(one.label), one.start_seconds, one.end_seconds].join(","));
  return [COLUMNS.join(","), ...lines, ""].join("\n");
}

/** @param {string} text @returns {string[][]} */
function cells(text) {
  const rows = [[""]];
  let inside = false;
  for (let at = 0; at < text.length; at++) {
    const row = rows[rows.length - 1];
    const one = text[at];
    if (inside) {
      if (one === '"' && text[at + 1] === '"') row[row.length - 1] += text[++at];
      else if (one === '"') inside = false;
      else row[row.length - 1] += one;
    } else if (one === '"') inside = true;
    else if (one === ",") row.push("");
    else if (one === "\n") rows.push([""]);
    else if (one !== "\r") row[row.length - 1] += one;
  }
  return rows.filter((row) => row.length > 1 || row[0].trim());
}

/** @param {string} text @returns {Span[]} */
export function fromCsv(text) {
  const [head, ...rows] = cells(text.replace(/^\ufeff/, ""));
  const places = COLUMNS.map((name) => (head || []).map((one) => one.trim()).indexOf(name));
  if (places.includes(-1)) throw new Error(`The first line has to name ${COLUMNS.join(", ")}.`);
  return rows.map((row, number) => checked(row[places[0]], row[places[1]], Number(row[places[2]]), Number(row[places[3]]), `line ${number + 2}`));
}

/** @param {Span[]} spans */
export function toLabelStudio(spans) {
  return JSON.stringify([...Map.groupBy(spans, (one) => one.video)].map(([video, own], number) => ({
    id: number + 1,
    data: { video, fps: RATE },
    annotations: [{ result: own.map((one, place) => ({
      id: `span${place}`, type: "timelinelabels", from_name: "label", to_name: "video",
      // It counts frames from 1, and the last one belongs to the span.
      value: { ranges: [{ start: Math.round(one.start_seconds * RATE) + 1, end: Math.round(one.end_seconds * RATE) }],
        timelinelabels: [one.label] },
    })) }],
  })), null, 1);
}

/** @param {string} text @param {number} rate frames a second, for tasks that do not say theirs; 0: none @returns {Span[]} */
export function fromLabelStudio(text, rate) {
  const tasks = JSON.parse(text);
  if (!Array.isArray(tasks)) throw new Error("It is no list of tasks.");
  return tasks.flatMap((task) => {
    const video = String(task.data?.video || "").split(/[?#]/)[0].split("/").pop()?.replace(/^[0-9a-f]{8}-/, "") || "";
    const fps = Number(task.data?.fps || task.data?.frame_rate) || rate;
    const results = (task.annotations || []).filter((/** @type {any} */ one) => !one.was_cancelled).at(-1)?.result || [];
    return results.flatMap((/** @type {any} */ result) => (result.value?.ranges || []).flatMap((/** @type {any} */ range) => {
      if (!fps) throw new Error("It does not say by which frame rate it counts. Give the one of its labelling configuration.");
      return (result.value.timelinelabels || []).map((/** @type {string} */ label) =>
        checked(decodeURIComponent(video), label, (range.start - 1) / fps, range.end / fps, `task ${task.id}`));
    }));
  });
}

/** @param {string} video @param {string} label @param {number} start @param {number} end @param {string} where */
function checked(video, label, start, end, where) {
  if (!video?.trim() || !label?.trim() || !(start >= 0) || !(end > start)) {
    throw new Error(`Its ${where} is no video, label, start and end.`);
  }
  return { video: video.trim(), label: label.trim(), start_seconds: round(start), end_seconds: round(end) };
}

/** @param {number} seconds to the millisecond */
export function round(seconds) {
  return Math.round(seconds * 1000) / 1000;
}
