/**
 * Learning the labels on the server: the videos are sent, `make learn` runs there, its report is shown, and the new
 * model is served beside the old one.
 */
import { ApiError, ask, isGone, json, posted, query, upload } from "./api.js";
import { busy, button, bytes, el, percent, problem, put, say } from "./dom.js";
import { LEAST_VIDEOS, byLabel } from "./labelfiles.js";
import { refresh, state } from "./state.js";

/** @import { Learning, Span, Teaching } from "../types.js" */

const LOOK_MS = 1000;
const WAIT_MS = 5000;
const NAMED = 5;
const STEPS = 6;
const PATH = "page/teach";
/** @type {Record<string, string>} */
const ENDED = { cancelled: "Cancelled. What is known of the videos is kept: it goes on from there.",
  stopped: "The server ended meanwhile. Begin again: it goes on from there." };

/**
 * @param {{spans: () => Span[], files: Map<string, File>, stored: () => Promise<boolean>,
 *   forget: (videos: string[]) => void}} teach what is marked, the videos that are open, a call that has the labels
 *   saved, and one that takes away those of some videos
 */
export function learnPanel(teach) {
  /** @type {Teaching | null} */
  let now = null;
  /** @type {AbortController | null} */
  let sending = null;
  let timer = 0;
  let shown = false;
  let reportOf = "";

  const name = el("input", { required: true, maxlength: 100, pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]*", value: "mine",
    autocomplete: "off", title: "Letters, digits, dots and dashes" });
  const model = el("select", {});
  const method = el("select", {}, el("option", { value: "head" }, "a new last layer: minutes"),
    el("option", { value: "finetune" }, "the whole network: far longer"));
  const begin = el("button", { class: "main" }, "Learn");
  const form = el("form", { class: "row", "aria-label": "What is to be learned", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    learn();
  } }, el("label", { class: "field" }, "Name of the new model", name), el("label", { class: "field" }, "Learned on", model),
  el("label", { class: "field" }, "What learns", method), begin);
  const lacks = el("div", { class: "stack" });
  const trouble = el("div", {});
  const bar = el("progress", { "aria-label": "Progress", max: 1 });
  const doing = el("div", { class: "busy" });
  const stop = button("Cancel", cancel);
  const work = el("div", { class: "stack" }, doing, bar, el("div", { class: "row" }, stop));
  const steps = el("ul", { class: "small soft", "aria-label": "What was done" });
  const result = el("div", { class: "stack" });
  const report = el("div", {});
  const disk = el("div", { class: "row small soft" });
  const elsewhere = el("div", { class: "stack" });
  const root = el("section", { class: "card stack", "aria-labelledby": "learn-title" },
    el("h2", { id: "learn-title" }, "Learn them"), form, lacks, trouble, work, steps, result, report, disk, elsewhere);

  for (const one of [form, work, steps, disk, elsewhere]) one.hidden = true;
  put(lacks, busy("Asking the server …"));

  async function look() {
    clearTimeout(timer);
    try {
      const before = now?.learning?.serving.state;
      now = /** @type {Teaching} */ (await json(PATH));
      if (before === "asked" && now.learning?.serving.state === "yes") await refresh();
      fill();
    } catch (error) {
      if (!isGone(error)) trouble.replaceChildren(problem(error, look));
    }
    const learning = now?.learning;
    const soon = learning?.state === "running" || learning?.serving.state === "asked";
    clearTimeout(timer);
    if (shown && (soon || !now || now.busy)) timer = setTimeout(look, soon ? LOOK_MS : WAIT_MS);
  }

  /** What keeps it from being begun. @returns {Node[]} */
  function missing() {
    const spans = teach.spans();
    const labels = byLabel(spans);
    const few = labels.filter((one) => one.videos < LEAST_VIDEOS);
    const there = new Set(now?.videos.map((one) => one.name));
    const gone = [...new Set(spans.map((one) => one.video))].filter((one) => !there.has(one) && !teach.files.has(one));
    const some = (/** @type {string[]} */ all) => all.slice(0, NAMED).join(", ") + (all.length > NAMED ? ` and ${all.length - NAMED} more` : "");
    const texts = [
      labels.length < 2 && "Mark at least two labels; what is no action of interest is one, too.",
      few.length && `A label needs ${LEAST_VIDEOS} different videos: ${some(few.map((one) => `${one.label} has ${one.videos}`))}.`,
      gone.length && `These videos are neither open here nor on the server: ${some(gone)}. Choose them, or take their labels away.`,
    ];
    const found = texts.filter(Boolean).map((text) => el("p", { class: "soft" }, String(text)));
    if (gone.length) found.push(el("div", {}, button("Take their labels away", () => teach.forget(gone), { class: "small" })));
    return found;
  }

  function fill() {
    if (!now) return;
    const learning = now.learning;
    const can = now.can === "learn";
    const running = learning?.state === "running";
    form.hidden = !can || running || Boolean(sending);
    const chosen = model.value || state.chosen;
    if (model.childElementCount !== now.models.length) {
      model.replaceChildren(...now.models.map((one) => el("option", { value: one, selected: one === chosen }, one)));
    }
    const lacking = can && !running && !sending ? missing() : [];
    const others = can && now.busy && !running;
    begin.disabled = lacking.length > 0 || others;
    put(lacks, ...lacking,
      others && el("p", { class: "soft" }, "Somebody else's labels are being learned now: one at a time."));
    work.hidden = !running && !sending;
    steps.hidden = !learning?.steps.length || Boolean(sending);
    if (learning) progress(learning);
    outcome(sending ? null : learning);
    const size = now.videos.reduce((sum, one) => sum + one.bytes, 0);
    disk.hidden = !now.videos.length || running || Boolean(sending);
    disk.replaceChildren(`${now.videos.length} of your videos are on the server, ${bytes(size)}.`,
      button("Remove them", forget, { class: "small quiet" }));
    elsewhere.hidden = can;
    if (!can) put(elsewhere, ...instead(now.can));
  }

  /** @param {Learning} learning */
  function progress(learning) {
    if (!sending) {
      const last = learning.steps.at(-1);
      const counted = last?.total && Number(last.done) < last.total;
      doing.textContent = !last ? "Starting …" : counted ? `${last.text}: ${last.done} of ${last.total}`
        : ["fitted", "trained"].includes(last.event) ? "The archive is made and tried out …" : "Looking at what there is …";
      if (counted) bar.value = Number(last.done) / Number(last.total);
      else bar.removeAttribute("value");
    }
    steps.replaceChildren(...learning.steps.slice(-STEPS).map((one) => el("li", {}, one.total ? `${one.text}: ${one.done} of ${one.total}` : one.text)));
  }

  /** How the last run has ended. @param {Learning | null | undefined} learning */
  function outcome(learning) {
    const asked = learning?.serving.state === "asked";
    const served = !asked && state.models.some((one) => one.name === learning?.name);
    const key = JSON.stringify([learning?.id, learning?.state, served, asked, learning?.serving.error]);
    if (result.dataset.key === key) return;  // nothing is said twice
    result.dataset.key = key;
    put(result);
    if (!learning || learning.id !== reportOf) {
      put(report);
      reportOf = "";
    }
    if (!learning || learning.state === "running") return;
    if (learning.state !== "done" || !learning.result) {
      put(result, learning.error ? problem(learning.error) : el("div", { class: "note warn" }, ENDED[learning.state]));
      return;
    }
    const { words, accuracy, interval } = learning.result;
    say(`${learning.name} has learned them`);
    put(result, el("div", { class: "note" }, el("strong", {}, `${learning.name} has learned them.`), el("p", {}, words),
      el("p", {}, `${percent(accuracy)} of videos that it has not learned from are recognised (${percent(interval[0])} to ${percent(interval[1])}).`)),
    el("div", { class: "row" }, button("Show the report", () => show(learning), { "aria-expanded": String(reportOf === learning.id) }),
      el("a", { class: "button", href: learning.report, target: "_blank", rel: "noopener" }, "In a tab of its own"),
      served ? button(`Try it beside ${learning.model}`, () => beside(learning), { class: "main" })
        : !asked && button("Serve it", serve, { class: "main" })),
    asked && busy("The server takes it in. For some seconds it may answer nobody …"),
    !served && !asked && el("p", { class: "small soft" }, "The server may have to start anew for that: then it answers nobody for some seconds."),
    learning.serving.error && problem(learning.serving.error));
  }

  /** @param {Learning} learning */
  function show(learning) {
    const open = reportOf !== learning.id;
    reportOf = open ? learning.id : "";
    // It is of another origin there, and may do nothing: neither the frame nor the report's own policy lets it.
    put(report, open && el("iframe", { class: "report", sandbox: "", src: learning.report, title: `Report of ${learning.name}` }));
    result.querySelector("[aria-expanded]")?.setAttribute("aria-expanded", String(open));
  }

  /** @param {Learning} learning */
  async function beside(learning) {
    Object.assign(state, { chosen: learning.name, beside: learning.model });
    await refresh().catch(() => {});  // it is told on top
    location.hash = "#/try";
  }

  async function learn() {
    trouble.replaceChildren();
    const wanted = { name: name.value.trim(), model: model.value, method: method.value };
    const mine = sending = new AbortController();
    doing.textContent = "Saving your labels …";
    bar.removeAttribute("value");
    fill();
    stop.focus();
    try {
      if (!await teach.stored()) throw new Error("Your labels are not saved yet.");
      await send(mine.signal);
      if (!mine.signal.aborted) {
        await ask(`${PATH}/learning`, posted(wanted));
        if (mine.signal.aborted) await ask(`${PATH}/learning`, { method: "DELETE" });
        else say("Learning has begun");
      }
    } catch (error) {
      if (!mine.signal.aborted) trouble.replaceChildren(problem(error));
    }
    if (mine.signal.aborted) put(trouble, el("div", { class: "note warn" }, "Cancelled. What was sent is kept."));
    sending = null;
    await look();
  }

  /** Send the videos that are marked and that the server has not. @param {AbortSignal} signal */
  async function send(signal) {
    const there = new Map(now?.videos.map((one) => [one.name, one.bytes]));
    const wanted = [...new Set(teach.spans().map((one) => one.video))].flatMap((one) => teach.files.get(one) || [])
      .filter((file) => there.get(file.name) !== file.size);
    const large = wanted.find((file) => file.size > Number(now?.video_bytes));
    if (large) throw new ApiError(413, "TOO_LARGE", `${large.name} is too large to be learned from.`, `${bytes(Number(now?.video_bytes))} are the most. Cut it.`);
    for (const [number, file] of wanted.entries()) {
      doing.textContent = `Sending video ${number + 1} of ${wanted.length}: ${file.name}`;
      await upload("PUT", `${PATH}/videos${query({ name: file.name })}`, file, {}, (share) => { bar.value = (number + share) / wanted.length; }, signal);
    }
  }

  async function cancel() {
    if (sending) {
      sending.abort();
      say("Cancelled");
      return;
    }
    await asked("learning", "DELETE", "Cancelled");
  }

  const serve = () => asked("serving", "POST", "The server takes it in");
  const forget = () => asked("videos", "DELETE", "Removed");

  /** @param {string} what @param {string} method @param {string} done */
  async function asked(what, method, done) {
    trouble.replaceChildren();
    try {
      await ask(`${PATH}/${what}`, { method });
      say(done);
    } catch (error) {
      trouble.replaceChildren(problem(error));
    }
    await look();
  }

  /** What to do where this server does not learn. @param {string} why */
  function instead(why) {
    const videos = [...new Set(teach.spans().map((one) => one.video))].sort();
    const command = el("pre", { tabindex: "0", "aria-label": "Command" }, "make learn DATA=labels.csv NAME=mine MODEL=motion\nmake serve");
    return [el("div", { class: "note" }, el("strong", {}, why === "absent" ? "This server has not what learning needs." : "You may not have this server learn."),
      el("p", {}, why === "absent" ? "Learn where the project is set up: the archive then goes into this server's model store."
        : state.session?.tokens ? "That is for administrators: GATEWAY_ADMINS names them."
          : "Without tokens, only who sits at the server's own machine may, at http://127.0.0.1. GATEWAY_TOKENS and GATEWAY_ADMINS let others.")),
    el("p", {}, "Export the CSV, put it beside these videos, and run there:"), command,
    videos.length > 0 && el("details", {}, el("summary", {}, `${videos.length} ${videos.length === 1 ? "video" : "videos"}`),
      el("ul", {}, ...videos.map((one) => el("li", {}, one))))];
  }

  return {
    root,
    /** What is marked, or open, has changed. */
    changed: fill,
    show() { shown = true; look(); },
    hide() { shown = false; clearTimeout(timer); },
  };
}
