/** Teach: mark spans on your videos, and give them labels; the server learns a model of them. */
import { json, posted } from "./api.js";
import { button, clock, el, problem, say, width } from "./dom.js";
import { chooser, takesFiles } from "./drop.js";
import { shortcuts } from "./keys.js";
import { LEAST_VIDEOS, byLabel, fromCsv, fromLabelStudio, round, toCsv, toLabelStudio } from "./labelfiles.js";
import { learnPanel } from "./learn.js";
import { Player } from "./player.js";
import { Tracks } from "./tracks.js";
import { scrubBar } from "./scrub.js";

/** @import { Span } from "../types.js" */

const SAVE_MS = 400;
const SAVED = "Saved on the server";

export function teachPage() {
  const player = new Player({ controls: false });
  const scrub = scrubBar(player);
  /** @type {Map<string, File>} */
  const files = new Map();
  /** @type {Span[]} */
  let spans = [];
  let revision = 0;
  let timer = 0;
  let video = "";
  /** @type {Span | null} */
  let selected = null;
  /** @type {number | null} */
  let begun = null;

  const trouble = el("div", {});
  const saved = el("span", { class: "soft small", role: "status" });
  const names = el("div", { class: "row" });
  const label = el("input", { list: "known-labels", placeholder: "waving", autocomplete: "off", maxlength: 100 });
  const known = el("datalist", { id: "known-labels" });
  const time = el("output", { class: "time", "aria-label": "Time" }, "0:00.00");
  const play = button("Play", () => player.toggle());
  const begin = button("Begin here (I)", markBegin);
  const finish = button("End here (O)", markEnd, { disabled: true });
  const edges = el("div", { class: "row", hidden: true });
  const list = el("ol", { class: "list", "aria-label": "Spans of this video" });
  const counts = el("ul", { class: "labels even" });
  const tracks = new Tracks({ seek: (at) => player.seek(at), changed: () => {} });
  const { input, choose } = chooser(true, take);
  const drop = el("section", { class: "drop", "aria-label": "Videos to label" }, el("h2", {}, "Drop videos to label here"),
    el("p", { class: "soft" }, "They stay in this browser until they are learned from. Your labels are kept on the server, by the names of the files."),
    el("div", { class: "row" }, button("Choose videos", choose, { class: "main" })), input);
  const rate = el("input", { type: "number", min: 0.001, step: "any", placeholder: "24" });
  const reading = el("input", { type: "file", accept: ".csv,.json", hidden: true, "aria-label": "Labels", onchange: () => {
    if (reading.files?.[0]) read(reading.files[0]);
    reading.value = "";
  } });
  const learn = learnPanel({ spans: () => spans, files, stored, forget });
  const work = el("div", { class: "two", hidden: true },
    el("section", { class: "card stack", "aria-label": "Player" }, player.element, scrub.element,
      el("div", { class: "row" }, play, button("‹ Frame", () => player.step(-1), { "aria-label": "The frame before" }),
        button("Frame ›", () => player.step(1), { "aria-label": "The next frame" }), time),
      el("div", { class: "row" }, el("label", { class: "field" }, "Label", label), begin, finish), known, edges,
      tracks.element, el("p", { class: "small soft" }, "Or drag over the time with Shift held to mark a span.")),
    el("section", { class: "card stack", "aria-labelledby": "spans-title" }, el("h2", { id: "spans-title" }, "Spans of this video"), list));
  const root = el("div", { class: "stack" },
    el("div", { class: "head" }, el("h1", {}, "Teach"), el("p", { class: "soft" }, "Mark when your own labels are to be seen; the model learns them from that.")),
    drop, names, trouble, work,
    el("div", { class: "two" },
      el("section", { class: "card stack", "aria-labelledby": "counts-title" },
        el("div", { class: "row apart" }, el("h2", { id: "counts-title" }, "Your labels"), saved), counts,
        el("div", { class: "row" }, button("Export CSV", () => save("labels.csv", toCsv(spans), "text/csv"), { class: "small" }),
          button("Export for Label Studio", () => save("labels.json", toLabelStudio(spans), "application/json"), { class: "small" }),
          button("Import", () => reading.click(), { class: "small" }), reading),
        el("label", { class: "field" }, "Frames a second of an import from Label Studio that does not say so", rate)),
      learn.root));
  takesFiles(drop, take);
  const keys = shortcuts(root, [
    [" ", "Space", "play, pause", () => player.toggle()],
    ["ArrowLeft", "←", "the frame before", () => player.step(-1)],
    ["ArrowRight", "→", "the next frame", () => player.step(1)],
    ["i", "I", "a span begins at this frame", markBegin],
    ["o", "O", "it ends before this frame", markEnd],
    ["Delete", "Del", "take the span away", () => { if (selected) remove(selected); }],
    ["+", "+", "zoom in", () => tracks.zoom(0.5)],
    ["-", "−", "zoom out", () => tracks.zoom(2)],
  ]);
  work.after(el("section", { class: "card", "aria-label": "Keys" }, keys.help));

  player.listeners.push((at) => {
    tracks.play(at);
    scrub.show(at, player.duration);
    time.textContent = `${clock(at, 2)} / ${clock(player.duration)}`;
  });
  for (const event of ["play", "pause", "ended"]) {
    player.video.addEventListener(event, () => { play.textContent = player.video.paused ? "Play" : "Pause"; });
  }
  dragging();

  /** A drag with Shift marks a span, whose edges go to the nearest frames before. */
  function dragging() {
    let from = -1;
    const at = (/** @type {MouseEvent} */ event) => tracks.time(event.clientX - tracks.canvas.getBoundingClientRect().left);
    tracks.canvas.addEventListener("pointerdown", (event) => { from = event.shiftKey ? at(event) : -1; });
    tracks.canvas.addEventListener("pointerup", async (event) => {
      if (from < 0) return;
      const [start, end] = [from, at(event)].sort((a, b) => a - b);
      from = -1;
      await player.settle(end);
      const last = player.seconds;
      await player.settle(start);
      add(player.seconds, last);
    });
  }

  /** @param {File[]} taken */
  function take(taken) {
    for (const one of taken) files.set(one.name, one);
    if (!taken.length) return;
    drop.classList.add("small-drop");
    open(taken[0].name);
  }

  /** @param {string} name */
  async function open(name) {
    const file = files.get(name);
    if (!file) return;
    video = name;
    selected = begun = null;
    finish.disabled = true;
    work.hidden = false;
    const plays = await player.load(file);
    for (const one of [play, begin]) one.disabled = !plays;
    tracks.found.timeline = [];
    tracks.to = tracks.found.seconds;
    tracks.from = 0;
    fill();
    tracks.view(0, player.duration || 1);
  }

  async function markBegin() {
    await player.turn;
    if (!player.playable) return;
    begun = round(player.seconds);
    finish.disabled = false;
    say(`Begins at ${clock(begun, 2)}`);
    begin.textContent = `Begins at ${clock(begun, 2)} (I)`;
  }

  async function markEnd() {
    await player.turn;
    if (begun === null) return;
    if (add(begun, player.video.ended ? player.duration : player.seconds)) {
      begun = null;
      finish.disabled = true;
      begin.textContent = "Begin here (I)";
    }
  }

  /** @param {number} start @param {number} end */
  function add(start, end) {
    const name = label.value.trim();
    trouble.replaceChildren();
    if (!name || round(end) <= round(start)) {
      trouble.replaceChildren(problem(name ? { message: "The span has no length.", hint: "Go on before you end it." }
        : { message: "The span has no label.", hint: "Write one into the field, then end it again." }));
      if (!name) label.focus();
      return false;
    }
    selected = { video, label: name, start_seconds: round(start), end_seconds: round(end) };
    spans = [...spans, selected];
    changed();
    say(`${name}, ${clock(start, 2)} to ${clock(end, 2)}`);
    return true;
  }

  /** @param {Span} one */
  const remove = (one) => keepOnly((other) => other !== one);

  /** @param {string[]} videos */
  function forget(videos) {
    keepOnly((one) => !videos.includes(one.video));
  }

  /** @param {(one: Span) => boolean} wanted */
  function keepOnly(wanted) {
    spans = spans.filter(wanted);
    selected = null;
    changed();
    say("Taken away");
  }

  /** @param {Span} one */
  function select(one) {
    selected = one;
    player.seek(one.start_seconds);
    fill();
  }

  /** Move an edge to the next frame or the one before. @param {"start_seconds" | "end_seconds"} edge @param {1 | -1} direction */
  async function move(edge, direction) {
    const one = selected;
    if (!one) return;
    await player.settle(one[edge]);
    await player.step(direction);
    const to = round(player.seconds);
    const start = edge === "start_seconds" ? to : one.start_seconds;
    const end = edge === "end_seconds" ? to : one.end_seconds;
    if (end <= start || selected !== one) return;
    Object.assign(one, { start_seconds: start, end_seconds: end });
    changed();
    say(clock(to, 3));
    /** @type {HTMLElement | null} */ (edges.querySelector(`[data-edge=${edge}]`))?.focus();
  }

  function changed() {
    fill();
    clearTimeout(timer);
    saved.textContent = "Saving …";
    timer = setTimeout(store, SAVE_MS);
  }

  /** Save them now. */
  function stored() {
    clearTimeout(timer);
    return store();
  }

  /** @returns {Promise<boolean>} whether the server has all labels now */
  async function store() {
    try {
      const kept = await json("page/labels", posted({ revision, spans }, "PUT"));
      revision = /** @type {{revision: number}} */ (kept).revision;
      saved.textContent = SAVED;
      return true;
    } catch (error) {
      saved.textContent = "Not saved";
      if (/** @type {{code?: string}} */ (error).code !== "LABELS_CHANGED") {
        trouble.replaceChildren(problem(error, store));
        return false;
      }
      const note = problem(error);
      note.append(el("div", { class: "row" }, button("Take those of the server", load), button("Keep mine", async () => {
        revision = (await /** @type {Promise<{revision: number}>} */ (json("page/labels"))).revision;
        trouble.replaceChildren();
        store();
      })));
      trouble.replaceChildren(note);
      return false;
    }
  }

  async function load() {
    try {
      const found = /** @type {{revision: number, spans: Span[]}} */ (await json("page/labels"));
      ({ revision, spans } = found);
      selected = null;
      trouble.replaceChildren();
      saved.textContent = spans.length ? SAVED : "";
      fill();
    } catch (error) {
      trouble.replaceChildren(problem(error, load));
    }
  }

  function fill() {
    const here = spans.filter((one) => one.video === video).sort((a, b) => a.start_seconds - b.start_seconds);
    list.replaceChildren(...here.map((one) => el("li", {}, el("button", { type: "button", "aria-current": one === selected,
      onclick: () => select(one) }, el("span", {}, `${clock(one.start_seconds, 2)} – ${clock(one.end_seconds, 2)}`),
    el("span", { class: "name" }, one.label)))));
    if (!here.length) list.replaceChildren(el("li", { class: "soft" }, "None yet. Begin one with I, end it with O."));
    const all = byLabel(spans);
    const most = Math.max(1, ...all.map((one) => one.spans));
    counts.replaceChildren(...all.map((one) => el("li", {}, el("span", { class: "name" }, one.label), el("span", { class: "score" },
      `${one.spans} in ${one.videos} ${one.videos === 1 ? "video" : "videos"}${one.videos < LEAST_VIDEOS ? `, ${LEAST_VIDEOS} are needed` : ""}`),
    el("div", { class: "bar" }, width(el("i"), one.spans / most)))));
    if (!all.length) counts.replaceChildren(el("li", { class: "soft" }, "None yet."));
    learn.changed();
    known.replaceChildren(...all.map((one) => el("option", { value: one.label })));
    names.replaceChildren(...[...files.keys()].map((name) => button(name, () => open(name),
      { class: "small", "aria-pressed": String(name === video) })));
    edges.hidden = !selected;
    if (selected) {
      const one = selected;
      const edge = (/** @type {string} */ text, /** @type {"start_seconds" | "end_seconds"} */ which) => button(
        `${text} ${clock(one[which], 3)} ‹ ›`, () => player.seek(one[which]), { class: "small", "data-edge": which,
          title: "The arrow keys move it to the next frame", onkeydown: (/** @type {KeyboardEvent} */ event) => {
            const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
            if (!step) return;
            event.preventDefault();
            event.stopPropagation();
            move(which, /** @type {1 | -1} */ (step));
          } });
      const focus = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.edge;
      edges.replaceChildren(edge("Start", "start_seconds"), edge("End", "end_seconds"),
        button("Take it away", () => remove(one), { class: "quiet small" }));
      if (focus) /** @type {HTMLElement | null} */ (edges.querySelector(`[data-edge=${focus}]`))?.focus();
    }
    const segments = here.map((one) => ({ ...one, class_index: 0, score: 1 }));
    tracks.selected = segments.find((_, number) => here[number] === selected) || null;
    tracks.show({ segments, cuts: [], timeline: [], seconds: player.duration || 1 }, "");
  }

  /** @param {string} name @param {string} text @param {string} type */
  function save(name, text, type) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    el("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  /** @param {File} file */
  async function read(file) {
    try {
      const text = await file.text();
      const found = file.name.endsWith(".json") ? fromLabelStudio(text, Number(rate.value)) : fromCsv(text);
      const there = new Set(spans.map((one) => JSON.stringify(one)));
      const fresh = found.filter((one) => !there.has(JSON.stringify(one)));
      spans = [...spans, ...fresh];
      trouble.replaceChildren();
      changed();
      say(`${fresh.length} spans imported`);
    } catch (error) {
      trouble.replaceChildren(problem({ message: `${file.name} is not imported.`, hint: /** @type {Error} */ (error).message }));
    }
  }

  return {
    root,
    show() {
      if (!revision && !spans.length) load();
      learn.show();
    },
    hide() {
      player.video.pause();
      learn.hide();
    },
  };
}
