/**
 * What each place and time adds to a label's logit, as the reply's explanation has it. A step stands for the time
 * that is nearer to its middle than to any other's; a share divided by its step's time is a rate, in logits a
 * second. So steps of different lengths can be added at an instant.
 */

/** @import { Explanation, Pathway, View } from "../types.js" */

/** @typedef {{edges: number[], rows: number, columns: number, values: Float32Array}} Steps */
/** @typedef {{start: number, end: number, box: [number, number, number, number], pathways: Steps[]}} Seen */

/** @param {string} text base64 of little-endian float32 */
function floats(text) {
  const raw = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const view = new DataView(raw.buffer);
  return Float32Array.from({ length: raw.length / 4 }, (_, index) => view.getFloat32(4 * index, true));
}

/** @param {Pathway} pathway @param {number} start @param {number} end @returns {Steps} */
function steps(pathway, start, end) {
  const middles = pathway.seconds.slice(1).map((second, index) => (second + pathway.seconds[index]) / 2);
  const edges = [start, ...middles, Math.max(start + 1e-6, end)];
  for (let index = 1; index < edges.length; index++) {
    edges[index] = Math.max(edges[index - 1], Math.min(edges[index], edges[edges.length - 1]));
  }
  const [, rows, columns] = pathway.shape;
  return { edges, rows, columns, values: floats(pathway.shares) };
}

/** @param {Explanation} explanation @returns {Seen[]} */
export function views(explanation) {
  return explanation.views.map((/** @type {View} */ view) => ({
    start: view.start_seconds,
    end: view.end_seconds,
    box: view.box,
    pathways: view.pathways.map((pathway) => steps(pathway, view.start_seconds, view.end_seconds)),
  }));
}

/** @param {Steps} pathway @param {number} seconds @returns {Float32Array} logits a second of each place */
export function rates(pathway, seconds) {
  const { edges, rows, columns, values } = pathway;
  let last = edges.findIndex((edge) => edge > seconds);
  if (last < 1) last = edges.length - 1;
  // Steps without length belong to the next one that has some: they have its time, or almost.
  const first = edges.indexOf(edges[last - 1]);
  const found = new Float32Array(rows * columns);
  for (let step = first; step < last; step++) {
    for (let place = 0; place < found.length; place++) found[place] += values[step * found.length + place];
  }
  const length = edges[last] - edges[last - 1];
  return found.map((value) => value / length);
}

/** @param {Seen} view @param {number} seconds @returns {Float32Array} of all pathways together */
export function together(view, seconds) {
  const all = view.pathways.map((pathway) => rates(pathway, seconds));
  return all[0].map((_, place) => all.reduce((sum, one) => sum + one[place], 0));
}

/** Instants in the middle of all steps, in order. @param {Seen} view */
export function instants(view) {
  const edges = [...new Set(view.pathways.flatMap((pathway) => pathway.edges))].sort((a, b) => a - b);
  return edges.slice(1).map((edge, index) => (edge + edges[index]) / 2);
}

/** @param {Seen} view the largest rate of a place, for or against */
export function strongest(view) {
  return Math.max(1e-9, ...instants(view).map((at) => Math.max(...together(view, at).map(Math.abs))));
}

/** @param {Steps} pathway @param {number} seconds logits a second of all places */
export function sum(pathway, seconds) {
  return rates(pathway, seconds).reduce((total, value) => total + value, 0);
}

/** @param {Steps} pathway what the pathway adds to the logit */
export function added(pathway) {
  return pathway.values.reduce((total, value) => total + value, 0);
}
