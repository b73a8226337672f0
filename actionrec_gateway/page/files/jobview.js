/** One timeline: player, tracks, segments, downloads; while its job runs, what is known so far. */
import { ApiError, ask, follow, json } from "./api.js";
import { busy, button, bytes, clock, el, percent, problem, say } from "./dom.js";
import { chooser, takesFiles } from "./drop.js";
import { keep, kept } from "./keep.js";
import { Player } from "./player.js";
import { scrubBar } from "./scrub.js";
import { shortcuts } from "./keys.js";
import { Tracks } from "./tracks.js";

/** @import { Job, Reply, Segment } from "../types.js" */

const SPEEDS = [0.25, 0.5, 1, 1.5, 2, 4];
const PAGE = 1000;
const MOST_HASHED = 256_000_000;
const LOOK_MS = 1500;

/** @param {string} id of the job */
export function jobView(id) {
  const stopped = new AbortController();
  const player = new Player({ controls: false });
  const scrub = scrubBar(player);
  const tracks = new Tracks({ seek, changed: showView });
  /** @type {Reply | null} */
  let reply = null;
  /** @type {Job | null} */
  let job = null;
  /** @type {Segment | null} */
  let selected = null;
  let seconds = 1;
  let now = 0;
  let lastLook = 0;

  const status = el("div", {}, busy("Asking for the timeline …"));
  const play = button("Play", () => player.toggle(), { class: "main", disabled: true });
  const speed = el("select", { "aria-label": "Speed", onchange: () => { player.video.playbackRate = Number(speed.value); } },
    ...SPEEDS.map((one) => el("option", { value: one, selected: one === 1 }, `${one}×`)));
  const lock = button("Lock to segment", () => setLock(lock.getAttribute("aria-pressed") !== "true"),
    { "aria-pressed": "false", disabled: true });
  const time = el("output", { class: "time", "aria-label": "Time" }, "0:00.0");
  const goto = el("input", { placeholder: "0:12.5", "aria-label": "Go to a time", size: 8, class: "goto",
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter") return;
      const wanted = parsed(goto.value);
      goto.setAttribute("aria-invalid", String(wanted === null));
      if (wanted !== null) seek(wanted);
    } });
  const filter = el("select", { "aria-label": "Labels", onchange: () => fill() });
  const list = el("ol", { class: "list", "aria-label": "Segments" });
  const count = el("span", { class: "soft small" });
  const viewText = el("span", { class: "soft small", role: "status" });
  const zoomTo = button("Zoom to segment", zoomSelected, { disabled: true });
  const { input, choose } = chooser(false, ([file]) => attach(file));
  const attachCard = el("div", { class: "drop small-drop", hidden: true },
    el("p", {}, "The video of this timeline is not in this browser. Servers do not keep it."),
    el("div", { class: "row" }, button("Choose the video to play it", choose)), input);
  const attachTrouble = el("div", {});
  const downloads = el("div", { class: "row" }, ...[["json", "JSON"], ["csv", "CSV"], ["srt", "SRT"]].map(([form, text]) =>
    button(text, () => download(form), { class: "small", "aria-label": `Download ${text}` })),
  button("Copy the address", copyAddress, { class: "small" }));
  const body = el("div", { class: "stack", hidden: true },
    el("div", { class: "two" },
      el("section", { class: "card stack", "aria-label": "Player" }, attachCard, attachTrouble, player.element, scrub.element,
        el("div", { class: "row" }, play, button("‹ Segment", () => next(-1), { "aria-label": "Previous segment" }),
          button("Segment ›", () => next(1), { "aria-label": "Next segment" }), speed, lock, time, goto)),
      el("section", { class: "card stack", "aria-labelledby": "segments-title" },
        el("div", { class: "row apart" }, el("h2", { id: "segments-title" }, "Segments"), count),
        el("div", { class: "row" }, filter, zoomTo), list, downloads)),
    el("section", { class: "card", "aria-labelledby": "tracks-title" },
      el("div", { class: "row apart" }, el("h2", { id: "tracks-title" }, "Labels over time"),
        el("div", { class: "row" }, viewText, button("−", () => tracks.zoom(2), { "aria-label": "Zoom out", class: "small" }),
          button("+", () => tracks.zoom(0.5), { "aria-label": "Zoom in", class: "small" }),
          button("Whole", () => tracks.view(0, seconds), { class: "small" }))),
      tracks.element,
      el("p", { class: "small soft legend" }, el("i", { class: "segment" }), "segment", el("i", { class: "area" }), "score of each window",
        el("i", { class: "cut" }), "shot boundary")),
  );
  const root = el("div", { class: "stack" }, status, body);

  const keys = shortcuts(root, [
    [" ", "Space", "play, pause", () => player.toggle()],
    ["ArrowLeft", "←", "a second back", () => seek(now - 1)],
    ["ArrowRight", "→", "a second on", () => seek(now + 1)],
    [",", ",", "the frame before", () => player.step(-1)],
    [".", ".", "the next frame", () => player.step(1)],
    ["p", "P", "previous segment", () => next(-1)],
    ["n", "N", "next segment", () => next(1)],
    ["l", "L", "play locked to the segment", () => { if (selected) setLock(lock.getAttribute("aria-pressed") !== "true"); }],
    ["z", "Z", "zoom to the segment", zoomSelected],
    ["0", "0", "all of the video", () => tracks.view(0, seconds)],
    ["+", "+", "zoom in", () => tracks.zoom(0.5)],
    ["-", "−", "zoom out", () => tracks.zoom(2)],
    ["]", "]", "faster", () => faster(1)],
    ["[", "[", "slower", () => faster(-1)],
    ["g", "G", "go to a time", () => goto.focus()],
  ]);
  body.append(el("section", { class: "card", "aria-label": "Keys" }, keys.help));

  player.listeners.push((at) => {
    if (lock.getAttribute("aria-pressed") === "true" && selected && !player.video.paused &&
        (at >= selected.end_seconds - 0.02 || at < selected.start_seconds - 0.1)) seek(selected.start_seconds);
    shown(at);
  });
  for (const event of ["play", "pause", "ended"]) {
    player.video.addEventListener(event, () => { play.textContent = player.video.paused ? "Play" : "Pause"; });
  }
  takesFiles(attachCard, ([file]) => attach(file));

  /** @param {number} at */
  function shown(at) {
    now = at;
    tracks.play(at);
    scrub.show(at, seconds);
    time.textContent = `${clock(at, 2)} / ${clock(seconds)}`;
  }

  /** @param {number} at */
  function seek(at) {
    const to = Math.max(0, Math.min(seconds, at));
    if (player.playable) player.seek(Math.min(to, player.duration));
    shown(to);
  }

  /** @param {number} step */
  function faster(step) {
    const place = SPEEDS.indexOf(Number(speed.value)) + step;
    speed.value = String(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, place))]);
    player.video.playbackRate = Number(speed.value);
    say(`Speed ${speed.value}`);
  }

  /** @param {boolean} on */
  function setLock(on) {
    lock.setAttribute("aria-pressed", String(on));
    if (on && selected) seek(selected.start_seconds);
  }

  function segments() {
    return (reply?.segments || []).filter((one) => !filter.value || one.label === filter.value);
  }

  /** @param {1 | -1} direction */
  function next(direction) {
    const all = segments();
    const found = direction > 0
      ? all.find((one) => one.start_seconds > now + 0.01)
      : all.findLast((one) => one.start_seconds < (selected ? selected.start_seconds : now) - 0.01);
    if (found) select(found);
    else say(direction > 0 ? "That was the last segment" : "That was the first segment");
  }

  /** @param {Segment} one */
  function select(one) {
    selected = tracks.selected = one;
    zoomTo.disabled = lock.disabled = false;
    const number = segments().indexOf(one);
    list.querySelectorAll("button").forEach((row, place) => {
      row.setAttribute("aria-current", String(place === number));
      if (place === number) row.scrollIntoView({ block: "nearest" });
    });
    if (one.start_seconds < tracks.from || one.end_seconds > tracks.to) {
      const length = Math.max(tracks.to - tracks.from, one.end_seconds - one.start_seconds);
      tracks.view(one.start_seconds - length * 0.1, one.start_seconds + length * 0.9);
    }
    tracks.draw();
    seek(one.start_seconds);
    say(`${one.label}, ${clock(one.start_seconds)} to ${clock(one.end_seconds)}, ${percent(one.score)}`);
  }

  function zoomSelected() {
    if (!selected) return;
    const edge = Math.max(0.25, (selected.end_seconds - selected.start_seconds) * 0.1);
    tracks.view(selected.start_seconds - edge, selected.end_seconds + edge);
  }

  function showView() {
    const all = tracks.from < 0.01 && tracks.to > seconds - 0.01;
    viewText.textContent = all ? "" : `${clock(tracks.from)} to ${clock(tracks.to)}`;
  }

  function fill() {
    if (!reply) return;
    const some = segments();
    if (selected && !some.includes(selected)) {
      selected = tracks.selected = null;
      zoomTo.disabled = lock.disabled = true;
      setLock(false);
    }
    count.textContent = `${some.length} of ${reply.segments?.length || 0}`;
    list.replaceChildren(...some.map((one) => el("li", {}, el("button", {
      type: "button", onclick: () => select(one), ondblclick: zoomSelected,
    }, el("span", {}, `${clock(one.start_seconds)} – ${clock(one.end_seconds)}`),
    el("span", { class: "name" }, one.label), el("span", { class: "soft" }, percent(one.score))))));
    if (!some.length) list.replaceChildren(el("li", { class: "soft" }, "No segment yet."));
    tracks.show({ segments: reply.segments || [], cuts: reply.cuts || [], timeline: reply.timeline || [], seconds }, filter.value);
  }

  /** @param {Reply} found @param {number} length seconds of the video, as far as it is known */
  function showReply(found, length) {
    reply = found;
    const before = selected;
    selected = tracks.selected = (before && found.segments?.find((one) =>
      one.start_seconds === before.start_seconds && one.label === before.label)) || null;
    seconds = Math.max(length, found.clip.end_seconds, player.duration, 0.1);
    const labels = [...new Set((found.segments || []).map((one) => one.label))].sort();
    const chosen = filter.value;
    filter.replaceChildren(el("option", { value: "" }, "All labels"),
      ...labels.map((one) => el("option", { value: one, selected: one === chosen }, one)));
    body.hidden = false;
    fill();
    shown(now);
  }

  /** All pages of a result. @returns {Promise<Reply>} */
  async function whole() {
    let offset = /** @type {number | null | undefined} */ (0);
    /** @type {Reply | null} */
    let found = null;
    while (offset !== null && offset !== undefined) {
      const page = /** @type {Reply} */ (await json(`jobs/${id}/results?offset=${offset}&limit=${PAGE}`));
      if (found) found.timeline?.push(...(page.timeline || []));
      else found = page;
      offset = page.page?.next;
    }
    return /** @type {Reply} */ (found);
  }

  async function soFar() {
    if (performance.now() - lastLook < LOOK_MS) return;
    lastLook = performance.now();
    try {
      const found = /** @type {{reply: Reply | null}} */ (await json(`page/jobs/${id}`));
      if (found.reply && job?.state === "running") showReply(found.reply, found.reply.clip.end_seconds);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;  // the next event asks again
    }
  }

  /** @param {Job} changed */
  async function progress(changed) {
    job = changed;
    const { windows, of, seconds_left: left } = changed.progress;
    if (changed.state === "done") {
      status.replaceChildren(busy("Getting the timeline …"));
      try {
        const found = await whole();
        if (!found.timeline) throw new ApiError(400, "NO_TIMELINE", "This job has no timeline.", "It was made without stride_seconds.");
        status.replaceChildren();
        showReply(found, 0);
        downloads.hidden = false;
        say(`The timeline is done: ${found.segments?.length} segments`);
      } catch (error) {
        status.replaceChildren(problem(error, () => progress(changed)));
      }
    } else if (changed.state === "failed") {
      status.replaceChildren(problem({ ...changed.error }));
    } else if (changed.state === "cancelled") {
      status.replaceChildren(el("div", { class: "note" }, el("strong", {}, "This job was cancelled."), "It has no result."));
    } else {
      const text = changed.state === "waiting" ? "It waits for its turn."
        : of ? `${windows} of ${of} windows${left === null ? "" : `, about ${clock(left, 0)} left`}` : "The video is being opened.";
      downloads.hidden = true;
      status.replaceChildren(el("section", { class: "card stack" },
        el("div", { class: "row apart" }, el("strong", {}, changed.note || text), button("Cancel", cancel, { class: "small" })),
        el("progress", { max: of || null, value: of ? windows : null, "aria-label": "Windows that are done" })));
      if (changed.state === "running" && windows) soFar();
    }
  }

  async function cancel() {
    try {
      progress(await json(`jobs/${id}`, { method: "DELETE" }));
    } catch (error) {
      status.append(problem(error));
    }
  }

  /** @param {File | undefined} file */
  async function attach(file) {
    if (!file) return;
    attachTrouble.replaceChildren();
    if (!(await fits(file))) {
      attachTrouble.replaceChildren(problem({ message: `${file.name} is another video.`,
        hint: `This timeline is of one with ${bytes(job?.source.bytes || 0)}.` }));
      return;
    }
    keep(id, file);
    await playable(file);
  }

  /** @param {Blob} file */
  async function fits(file) {
    const { bytes: size, sha256 } = job?.source || {};
    if (size !== undefined && file.size !== size) return false;
    if (!sha256 || !crypto.subtle || file.size > MOST_HASHED) return true;
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
    return Array.from(hash, (one) => one.toString(16).padStart(2, "0")).join("") === sha256;
  }

  /** @param {Blob | null} video */
  async function playable(video) {
    attachCard.hidden = video !== null;
    player.element.hidden = video === null;
    play.disabled = !(video && await player.load(video));
    if (reply) showReply(reply, seconds);
    if (!play.disabled && now) player.seek(now);
  }

  /** @param {string} form */
  async function download(form) {
    try {
      const data = form === "json" ? new Blob([JSON.stringify(reply)], { type: "application/json" })
        : await (await ask(`jobs/${id}/results?format=${form}`)).blob();
      const url = URL.createObjectURL(data);
      el("a", { href: url, download: `timeline-${id.slice(0, 8)}.${form}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      status.replaceChildren(problem(error));
    }
  }

  async function copyAddress() {
    try {
      await navigator.clipboard.writeText(location.href);
      say("The address is copied");
    } catch {
      prompt("The address of this timeline:", location.href);
    }
  }

  async function open() {
    try {
      const found = /** @type {Job} */ (await json(`jobs/${id}`, { signal: stopped.signal }));
      job = found;
      await playable(await kept(id));
      progress(found);
      if (["waiting", "running"].includes(found.state)) await follow(id, progress, stopped.signal);
    } catch (error) {
      if (!stopped.signal.aborted) status.replaceChildren(problem(error, open));
    }
  }
  open();

  return {
    root,
    close() {
      stopped.abort();
      keys.close();
      player.load(null);
    },
  };
}

/** @param {string} text seconds, or hours, minutes and seconds @returns {number | null} */
export function parsed(text) {
  if (!/^\s*(\d+:){0,2}\d+(\.\d+)?\s*$/.test(text)) return null;
  return text.split(":").reduce((total, part) => total * 60 + Number(part), 0);
}
