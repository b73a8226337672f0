/**
 * Live: the camera through the browser. Recorders overlap, one begun each interval, so that each file has one whole
 * window of the model. One request is under way at a time: where the server is slower than the interval, windows are
 * left out and counted, and the newest goes next. A stream by its address is watched by the server.
 */
import { predict, watch } from "./api.js";
import { closeCamera, openCamera, record } from "./camera.js";
import { button, el, percent, problem, say, width } from "./dom.js";
import { addressForm, allLabels, chosenModel, modelField, state } from "./state.js";

/** @import { Prediction } from "../types.js" */

const SPARE_SECONDS = 0.25;  // a recorder's first frame comes a little after its start
const SHOWN = 5;
const KEPT = 60;

export function livePage() {
  /** @type {MediaStream | null} */
  let stream = null;
  /** @type {Set<() => void>} */
  const recorders = new Set();
  /** @type {{blob: Blob, ended: number} | null} */
  let newest = null;
  /** @type {Map<string, number>} */
  let mean = new Map();
  let meanAt = 0;
  let sending = false;
  let timer = 0;
  let life = 0;
  let leave = new AbortController();
  const counts = { answered: 0, skipped: 0, failed: 0 };

  const video = el("video", { muted: true, autoplay: true, playsinline: true, "aria-label": "Camera" });
  video.muted = true;
  const picture = el("img", { alt: "Newest picture of the stream", hidden: true });
  const caption = el("div", { class: "caption", hidden: true });
  const box = el("div", { class: "player", hidden: true }, video, picture, caption);
  const empty = el("div", { class: "drop" }, el("h2", {}, "Watch the camera"),
    el("p", { class: "soft" }, "Each window goes to this server, is answered, and is kept nowhere."));
  const start = button("Start the camera", begin, { class: "main" });
  const stop = button("Stop", end, { hidden: true });
  const interval = choice([["0.5", "half a second"], ["1", "second"], ["2", "2 seconds"], ["5", "5 seconds"]], "1");
  const smooth = choice([["0", "none"], ["1", "1 s"], ["2", "2 s"], ["5", "5 s"]], "2");
  const byAddress = addressForm("stream", "Watch it", watchAddress);
  const trouble = el("div", {});
  const labels = el("ol", { class: "labels" });
  const facts = el("dl", { class: "facts" });
  const rows = el("tbody", {});
  const results = el("div", { class: "stack", hidden: true },
    el("section", { class: "card stack" }, el("h2", {}, "Now"), labels, facts),
    el("section", { class: "card list-card", tabindex: "0", "aria-label": "Results" }, el("h2", {}, "Results"),
      el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Time"), el("th", { scope: "col" }, "Label"),
        el("th", { scope: "col", class: "number" }, "Score"), el("th", { scope: "col", class: "number" }, "Latency"))), rows)));
  const root = el("div", { class: "stack" },
    el("div", { class: "head" }, el("h1", {}, "Live"), el("p", { class: "soft" }, "A camera or a stream, a result every interval.")),
    el("div", { class: "card stack" }, el("div", { class: "row" }, modelField(), el("label", { class: "field" }, "A result every", interval),
      el("label", { class: "field" }, "Smoothing", smooth), start, stop), byAddress),
    trouble, el("div", { class: "two" }, el("div", { class: "stack" }, empty, box), results));

  async function begin() {
    end();
    start.disabled = true;
    try {
      stream = await openCamera();
    } catch (error) {
      trouble.replaceChildren(problem(error, begin));
      start.disabled = false;
      return;
    }
    const mine = ++life;
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      if (mine !== life) return;
      end();
      trouble.replaceChildren(problem({ message: "The camera was taken away.", hint: "Connect it again, and start." }, begin));
    });
    video.srcObject = stream;
    ready("The camera is watched");
    take(mine);
  }

  /** @param {string} text what is said */
  function ready(text) {
    Object.assign(counts, { answered: 0, skipped: 0, failed: 0 });
    mean = new Map();
    newest = null;
    trouble.replaceChildren();
    rows.replaceChildren();
    labels.replaceChildren(el("li", { class: "soft" }, "The first window is being recorded."));
    tell(null);
    empty.hidden = start.hidden = true;
    video.hidden = !stream;
    box.hidden = stop.hidden = results.hidden = false;
    start.disabled = false;
    stop.focus();
    say(text);
  }

  /** @param {string} url */
  async function watchAddress(url) {
    end();
    const mine = life;
    const again = () => watchAddress(url);
    let why = "The server may be starting again.";
    leave = new AbortController();
    ready("The stream is watched");
    const wanted = { url, model: state.chosen, interval_seconds: Number(interval.value), top_k: allLabels() };
    try {
      for await (const [name, said] of watch(wanted, leave.signal)) {
        if (mine !== life) return;
        if (state.chosen !== wanted.model || Number(interval.value) !== wanted.interval_seconds) return void again();
        if (name === "result") {
          picture.src = `data:image/jpeg;base64,${said.picture}`;
          picture.hidden = false;
          counts.skipped = said.skipped;
          answered(said.predictions, said.latency_ms);
        } else if (name === "error") {
          failed(said.error);
        } else if (name === "lost") {
          failed({ message: `The stream broke off. ${said.reason}`, hint: "It is asked for again." });
        } else if (name === "ended") {
          why = said.reason;
        }
      }
      throw { message: "The stream has ended.", hint: why };
    } catch (error) {
      if (mine !== life) return;
      end();
      trouble.replaceChildren(problem(error, again));
    }
  }

  function end() {
    life++;
    leave.abort();
    trouble.replaceChildren();
    clearTimeout(timer);
    for (const one of recorders) one();
    recorders.clear();
    if (stream) closeCamera(stream);
    stream = video.srcObject = null;
    box.hidden = stop.hidden = caption.hidden = picture.hidden = true;
    empty.hidden = start.hidden = false;
  }

  /** Begin a window, and the next one an interval later. @param {number} mine */
  async function take(mine) {
    if (mine !== life || !stream) return;
    timer = setTimeout(() => take(mine), Number(interval.value) * 1000);
    const { done, stop: finish } = record(stream, (chosenModel()?.window_seconds || 2) + SPARE_SECONDS);
    recorders.add(finish);
    try {
      const blob = await done;
      if (mine !== life) return;
      if (newest) counts.skipped++;
      newest = { blob, ended: performance.now() };
      if (!sending) send(mine);
    } catch (error) {
      trouble.replaceChildren(problem(error));
    } finally {
      recorders.delete(finish);
    }
  }

  /** Send the newest window, and after the answer the newest of then. @param {number} mine */
  async function send(mine) {
    sending = true;
    while (newest && mine === life) {
      const { blob, ended } = newest;
      newest = null;
      try {
        const reply = await predict(state.chosen, blob, { top_k: allLabels() });
        if (mine !== life) break;
        answered(reply.predictions, performance.now() - ended);
      } catch (error) {
        if (mine !== life) break;
        failed(error);
      }
    }
    sending = false;
  }

  /** @param {unknown} error */
  function failed(error) {
    counts.failed++;
    mean = new Map();
    tell(null);
    trouble.replaceChildren(problem(error));
  }

  /** @param {Prediction[]} predictions @param {number} latency milliseconds */
  function answered(predictions, latency) {
    counts.answered++;
    trouble.replaceChildren();
    const now = performance.now();
    const constant = Number(smooth.value);
    const gap = (now - meanAt) / 1000;
    const weight = constant && mean.size && gap < 5 * constant + 5 ? 1 - Math.exp(-gap / constant) : 1;
    meanAt = now;
    mean = new Map(predictions.map(({ label, score }) => {
      const before = mean.get(label);
      return [label, before === undefined ? score : before + weight * (score - before)];
    }));
    const ordered = [...mean].sort(([, a], [, b]) => b - a);
    labels.replaceChildren(...ordered.slice(0, SHOWN).map(([label, score]) => el("li", {},
      el("span", { class: "name" }, label), el("span", { class: "score" }, percent(score)),
      el("div", { class: "bar" }, width(el("i"), score)))));
    const [best, score] = ordered[0];
    if (caption.textContent?.split(",")[0] !== best) say(best);
    caption.textContent = `${best}, ${percent(score)}`;
    caption.hidden = false;
    tell(latency);
    rows.prepend(el("tr", {}, el("td", {}, new Date().toLocaleTimeString()), el("td", {}, predictions[0].label),
      el("td", { class: "number" }, percent(predictions[0].score)), el("td", { class: "number" }, `${Math.round(latency)} ms`)));
    while (rows.childElementCount > KEPT) rows.lastElementChild?.remove();
  }

  /** @param {number | null} latency */
  function tell(latency) {
    const shown = [
      ["Latency", latency === null ? "–" : `${Math.round(latency)} ms after the window's last frame`],
      ["Answered", String(counts.answered)],
      ["Left out", `${counts.skipped}, because the server was still busy`],
      ["Failed", String(counts.failed)],
    ];
    facts.replaceChildren(...shown.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  }

  return { root, show() {}, hide: end };
}

/** @param {string[][]} values @param {string} first */
function choice(values, first) {
  return el("select", {}, ...values.map(([value, text]) => el("option", { value, selected: value === first }, text)));
}
