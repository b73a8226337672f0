/** What a reply says about one clip: labels, times, warnings, facts, and the frames that the model saw. */
import { frames } from "./api.js";
import { busy, button, clock, el, percent, problem, width } from "./dom.js";

/** @import { Player } from "./player.js" */
/** @import { Reply, Sheet } from "../types.js" */

const SHOWN = 5;
const STAGES = ["decode", "transform", "inference"];

/**
 * @param {Reply} reply
 * @param {number} waited milliseconds, from the first byte sent to the reply
 * @param {(label: string) => void} why
 * @param {string} [title]
 */
export function resultPanel(reply, waited, why, title = "What it shows") {
  const list = el("ol", { class: "labels" });
  let all = false;
  const more = button("", () => { all = !all; fill(); }, { class: "quiet small" });

  function fill() {
    const some = reply.predictions.slice(0, all ? undefined : SHOWN);
    list.replaceChildren(...some.map((one) => el("li", {},
      el("span", { class: "name" }, one.label),
      el("span", { class: "score" }, percent(one.score)),
      button("Why?", () => why(one.label), { class: "quiet small", "aria-label": `Why ${one.label}?` }),
      el("div", { class: "bar" }, width(el("i"), one.score)))));
    more.hidden = reply.predictions.length <= SHOWN;
    more.textContent = all ? "Fewer labels" : `All ${reply.predictions.length} labels`;
  }
  fill();
  return el("section", { class: "card stack", "aria-label": title },
    el("h2", {}, title), list, more,
    ...reply.warnings.map((one) => el("div", { class: "note warn" }, el("strong", {}, one.message),
      el("span", { class: "small" }, one.code))),
    stages(reply, waited), facts(reply));
}

/** @param {Reply} reply @param {number} waited */
function stages(reply, waited) {
  const times = reply.timings_ms;
  const known = STAGES.filter((stage) => stage in times);
  const others = Math.max(0, waited - known.reduce((total, stage) => total + times[stage], 0));
  const parts = [...known.map((stage) => /** @type {[string, number]} */ ([stage, times[stage]])),
    /** @type {[string, number]} */ (["sending and waiting", others])];
  const bar = el("div", { class: "stages", "aria-hidden": "true" },
    ...parts.map(([, value]) => width(el("i"), value / Math.max(1, waited))));
  return el("div", {}, el("h3", {}, `Where the time went: ${Math.round(waited)} ms`), bar,
    el("dl", { class: "facts" }, ...parts.flatMap(([name, value]) =>
      [el("dt", {}, name), el("dd", {}, `${value.toFixed(1)} ms`)])));
}

/** @param {Reply} reply */
function facts(reply) {
  const { clip, model } = reply;
  const rate = clip.source_fps ? `, ${clip.source_fps} a second` : "";
  const rows = [
    ["Looked at", `${clock(clip.start_seconds)} to ${clock(clip.end_seconds)}`],
    ["Frames there", `${clip.source_frames}${rate}`],
    ["Size", `${clip.width} × ${clip.height}${clip.codec ? `, ${clip.codec}` : ""}`],
    ["Model", `${model.name} ${model.version}, ${model.runtime}, ${model.precision}`],
  ];
  return el("div", {}, el("h3", {}, "The clip and the model"),
    el("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}

/**
 * The frames that the model saw, each with its own time; one that is chosen is shown by the player.
 *
 * @param {string} model
 * @param {Blob} video
 * @param {{start_seconds?: number, end_seconds?: number}} span
 * @param {Player} player
 */
export function framesPanel(model, video, span, player) {
  const body = el("div", {});
  const element = el("section", { class: "card", "aria-labelledby": "frames-title" },
    el("h2", { id: "frames-title" }, "The frames that the model saw"), body);

  async function load() {
    body.replaceChildren(busy("Decoding …"));
    try {
      body.replaceChildren(await pictures(await frames(model, video, span), player));
    } catch (error) {
      body.replaceChildren(problem(error, load));
    }
  }
  load();
  return element;
}

/** @param {Sheet} sheet @param {Player} player */
async function pictures(sheet, player) {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${sheet.jpeg}`;
  await image.decode();
  const { edge, columns } = sheet;
  const items = sheet.seconds.map((seconds, number) => {
    const canvas = el("canvas", { width: edge, height: edge });
    const [left, top] = [(number % columns) * edge, Math.floor(number / columns) * edge];
    canvas.getContext("2d")?.drawImage(image, left, top, edge, edge, 0, 0, edge, edge);
    return el("li", {}, el("button", { type: "button", title: `Frame ${number + 1}, at ${seconds.toFixed(3)} s`,
      "aria-label": `${seconds.toFixed(2)} s, frame ${number + 1}`, onclick: () => player.seek(seconds) },
    canvas, el("span", {}, seconds.toFixed(2))));
  });
  return el("ol", { class: "frames" }, ...items);
}
