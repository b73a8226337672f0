/** Try: a video in, labels out. Several videos make a table. */
import { predict } from "./api.js";
import { recordDialog } from "./camera.js";
import { codePanel } from "./code.js";
import { busy, button, bytes, el, percent, problem, say } from "./dom.js";
import { chooser, sample, takesFiles } from "./drop.js";
import { Player } from "./player.js";
import { framesPanel, resultPanel } from "./result.js";
import { allLabels, besideField, chosenModel, modelField, state } from "./state.js";
import { whyPanel } from "./why.js";

/** @import { Reply } from "../types.js" */

const AT_ONCE = 2;

export function tryPage() {
  const player = new Player();
  /** @type {File | null} */
  let file = null;
  /** @type {AbortController | null} */
  let running = null;
  /** @type {(label: string) => unknown} */
  let explain = () => {};

  const { input, choose } = chooser(true, take);
  const drop = el("section", { class: "drop", "aria-label": "A video to try" },
    el("h2", {}, "Drop a video here"),
    el("p", { class: "soft" }, "or paste one, or several for a table. It goes to this server, and nowhere else."),
    el("div", { class: "row" }, button("Choose videos", choose, { class: "main" }),
      button("Use a sample", () => guarded(async () => take([await sample()]))),
      button("Record from the camera", () => guarded(async () => {
        const recorded = await recordDialog(chosenModel()?.window_seconds || 2);
        if (recorded) take([recorded]);
      }))), input);
  const look = el("select", {}, el("option", { value: "one" }, "one window"),
    el("option", { value: "spread" }, "ten windows, all of it"));
  const crops = el("input", { type: "checkbox" });
  const start = el("input", { type: "number", min: 0, max: 86400, step: "any", value: 0 });
  const options = el("form", { class: "card row", "aria-label": "Options", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    again();
  } }, modelField(), besideField(), el("label", { class: "field" }, "Look at", look),
  el("label", { class: "field" }, "From second", start),
  el("label", { class: "check" }, crops, "also the edges (3 crops)"),
  el("button", { class: "main", hidden: true }, "Ask again"));
  const submit = /** @type {HTMLButtonElement} */ (options.querySelector("button"));
  const other = el("div", { class: "row", hidden: true }, el("strong", { class: "name" }),
    button("Another video", reset));
  const name = /** @type {HTMLElement} */ (other.querySelector("strong"));
  const trouble = el("div", {});
  const table = el("div", {});
  const answer = el("div", { class: "stack", tabindex: "-1", "aria-label": "Result" });
  const why = whyPanel(player, (label) => explain(label));
  const left = el("div", { class: "stack", hidden: true }, el("div", { class: "card" }, player.element), why.element);
  const below = el("div", { class: "stack" });
  const root = el("div", { class: "stack" },
    el("div", { class: "head" }, el("h1", {}, "Try a video"),
      el("p", { class: "soft" }, "See what the model says, how sure it is, what it saw, and why.")),
    drop, other, options, trouble, table, el("div", { class: "two" }, left, answer), below);
  takesFiles(root, take);

  /** @param {() => Promise<void>} work */
  async function guarded(work) {
    trouble.replaceChildren();
    try {
      await work();
    } catch (error) {
      trouble.replaceChildren(problem(error));
    }
  }

  function asked() {
    const several = look.value === "spread";
    return {
      top_k: allLabels(),
      start_seconds: Number(start.value) || undefined,
      views: several ? 10 : undefined,
      crops: crops.checked ? 3 : undefined,
    };
  }

  function reset() {
    running?.abort();
    file = null;
    player.load(null);
    why.hide();
    for (const part of [answer, below, table, trouble]) part.replaceChildren();
    drop.hidden = false;
    submit.hidden = other.hidden = left.hidden = true;
    drop.querySelector("button")?.focus();
  }

  /** @param {File[]} files */
  function take(files) {
    if (!files.length) return;
    table.replaceChildren();
    if (files.length === 1) show(files[0]);
    else many(files);
  }

  /** @param {File} chosen */
  async function show(chosen) {
    file = chosen;
    drop.hidden = true;
    other.hidden = submit.hidden = left.hidden = false;
    name.textContent = `${chosen.name}, ${bytes(chosen.size)}`;
    why.hide();
    player.load(chosen);
    await again();
  }

  async function again() {
    if (!file) return;
    running?.abort();
    const mine = running = new AbortController();
    const [clip, model, wanted] = [file, state.chosen, asked()];
    trouble.replaceChildren();
    why.hide();
    below.replaceChildren();
    answer.replaceChildren(el("section", { class: "card" }, busy("Sending the video, and waiting for the model …")));
    try {
      const other = state.beside !== model && state.beside;
      const [{ reply, panel }, second] = await Promise.all([one(model), other && one(other).catch((error) => ({ panel: problem(error) }))]);
      answer.replaceChildren(second ? el("div", { class: "pair" }, panel, second.panel) : panel);
      const span = { start_seconds: wanted.start_seconds };
      if (wanted.views) Object.assign(span, { end_seconds: reply.clip.end_seconds });
      below.replaceChildren(framesPanel(model, clip, span, player),
        codePanel(model, clip.name, wanted, state.session?.tokens || false));
      const best = reply.predictions[0];
      say(`${best.label}, ${percent(best.score)}`);
    } catch (error) {
      if (!mine.signal.aborted) answer.replaceChildren(problem(error, again));
    }

    /** What a model says. @param {string} name */
    async function one(name) {
      const begun = performance.now();
      const reply = await predict(name, clip, wanted, mine.signal);
      const labels = reply.predictions.map((each) => each.label).sort();
      const its = (/** @type {string} */ label) => {
        explain = its;
        why.explain(name, clip, { ...wanted, views: undefined, crops: undefined }, label, labels);
      };
      return { reply, panel: resultPanel(reply, performance.now() - begun, its, state.beside ? name : undefined) };
    }
  }

  /** @param {File[]} files */
  function many(files) {
    const [model, wanted] = [state.chosen, asked()];
    drop.hidden = left.hidden = submit.hidden = true;
    other.hidden = false;
    name.textContent = `${files.length} videos`;
    running?.abort();
    const mine = running = new AbortController();
    answer.replaceChildren();
    below.replaceChildren();
    const rows = files.map((one) => {
      const cells = [el("td", {}, "waits"), el("td", { class: "number" }), el("td", { class: "number" })];
      const row = el("tr", {}, el("td", {}, button(one.name, () => show(one), { class: "quiet small" })), ...cells);
      return { one, row, cells };
    });
    table.replaceChildren(el("section", { class: "card wide", tabindex: "0", "aria-label": "Table of results" }, el("table", {},
      el("caption", {}, "Choose a name to see more of it."),
      el("thead", {}, el("tr", {}, ...["Video", "Label"].map((text) => el("th", { scope: "col" }, text)),
        ...["Score", "Time"].map((text) => el("th", { scope: "col", class: "number" }, text)))),
      el("tbody", {}, ...rows.map(({ row }) => row)))));
    let next = 0;
    let open = rows.length;
    const work = async () => {
      while (next < rows.length && !mine.signal.aborted) {
        const { one, cells } = rows[next++];
        cells[0].textContent = "…";
        const begun = performance.now();
        try {
          const reply = await predict(model, one, wanted, mine.signal);
          cells[0].textContent = reply.predictions[0].label;
          cells[1].textContent = percent(reply.predictions[0].score);
        } catch (error) {
          if (mine.signal.aborted) return;
          cells[0].replaceChildren(el("span", { class: "failed" }, /** @type {Error} */ (error).message));
        }
        cells[2].textContent = `${Math.round(performance.now() - begun)} ms`;
        if (--open === 0) say("All videos are answered");
      }
    };
    for (let number = 0; number < AT_ONCE; number++) work();
  }

  return { root, show() {}, hide() { player.video.pause(); } };
}
