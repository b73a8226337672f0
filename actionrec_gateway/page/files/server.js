/** Server: what is served, by how many workers, how fast; changed with an administrator's token. */
import { ask, isGone, json, models } from "./api.js";
import { busy, button, el, problem, say, width } from "./dom.js";
import { errors, gauge, quantile, rate, samples, stages, statuses } from "./figures.js";
import { refresh, state } from "./state.js";

/** @import { Model } from "../types.js" */
/** @import { Look } from "./figures.js" */

const EVERY_MS = 3000;
const KEPT_MS = 300_000;
const RATE_MS = 30_000;
const STARTED = "actionrec_gateway_process_start_time_seconds";

export function serverPage() {
  /** @type {Look[]} */
  let looks = [];
  let timer = 0;
  let shown = false;
  const figures = el("div", {}, busy("Asking the server …"));
  const served = el("div", { class: "stack" });
  const trouble = el("div", {});
  const root = el("div", { class: "stack" },
    el("div", { class: "head" }, el("h1", {}, "Server"), el("p", { class: "soft" }, "How it does, since you opened this part, five minutes at most.")),
    trouble, figures, served);
  /** @type {Map<string, ReturnType<typeof modelCard>>} */
  const cards = new Map();

  async function look() {
    clearTimeout(timer);
    try {
      const [text, found] = await Promise.all([ask("metrics").then((response) => response.text()), models()]);
      const now = { at: performance.now(), samples: samples(text) };
      const last = looks.at(-1);
      // Its counters began at nought again.
      if (last && gauge(last, STARTED) !== gauge(now, STARTED)) looks = [{ at: last.at, samples: [] }];
      looks.push(now);
      looks = looks.filter((one) => one.at > performance.now() - KEPT_MS);
      trouble.replaceChildren();
      figures.replaceChildren(figuresCard(looks));
      show(found);
    } catch (error) {
      trouble.replaceChildren(...(isGone(error) ? [] : [problem(error)]));
    }
    if (shown) timer = setTimeout(look, EVERY_MS);
  }

  /** @param {Model[]} found */
  function show(found) {
    const keys = new Set(found.map((one) => `${one.name}/${one.version}`));
    for (const [key, card] of cards) {
      if (keys.has(key)) continue;
      card.root.remove();
      cards.delete(key);
    }
    for (const one of found) {
      const key = `${one.name}/${one.version}`;
      let card = cards.get(key);
      if (!card) {
        card = modelCard(one, look);
        cards.set(key, card);
        served.append(card.root);
      }
      card.update(one);
    }
  }

  return {
    root,
    show() {
      looks = [];
      shown = true;
      look();
    },
    hide() {
      shown = false;
      clearTimeout(timer);
    },
  };
}

/** @param {Look[]} looks */
function figuresCard(looks) {
  const now = looks[looks.length - 1];
  const first = looks[0];
  const recent = looks.find((one) => one.at >= now.at - RATE_MS) || first;
  const ms = (/** @type {number | null} */ seconds) => (seconds === null ? "–" : `${Math.round(seconds * 1000)} ms`);
  const tiles = [
    [looks.length > 1 ? rate(recent, now).toFixed(2) : "–", "predictions a second"],
    [ms(quantile(first, now, 0.5)), "p50: half are answered within"],
    [ms(quantile(first, now, 0.99)), "p99: 99 of 100 within"],
    [String(gauge(now, "actionrec_requests_in_flight")), "in flight"],
    [String(gauge(now, "actionrec_requests_waiting")), "waiting for a worker"],
  ];
  const codes = statuses(first, now);
  const refused = errors(first, now);
  const times = stages(first, now);
  const jobs = now.samples.filter((one) => one.name === "actionrec_jobs" && one.value);
  return el("div", { class: "stack" },
    el("dl", { class: "tiles" }, ...tiles.map(([value, text]) => el("div", { class: "card" }, el("dt", {}, text), el("dd", {}, value)))),
    el("div", { class: "thirds" },
      el("section", { class: "card" }, el("h2", {}, "Answers by status"), codes.length
        ? bars(codes.map(([status, count]) => [`${status} ${meaning(status)}`, count, String(count), Number(status) >= 400]))
        : el("p", { class: "soft" }, "None yet.")),
      el("section", { class: "card" }, el("h2", {}, "Errors by code"), refused.length
        ? bars(refused.map(([code, count]) => [code, count, String(count), true]))
        : el("p", { class: "soft" }, "None.")),
      el("section", { class: "card" }, el("h2", {}, "Where the time goes"), times.length
        ? bars(times.map(([stage, seconds]) => [stage, seconds, `${(seconds * 1000).toFixed(1)} ms`, false]))
        : el("p", { class: "soft" }, "No prediction yet.")),
      el("section", { class: "card" }, el("h2", {}, "Jobs"), jobs.length
        ? bars(jobs.map((one) => [one.labels.state, one.value, String(one.value), one.labels.state === "failed"]))
        : el("p", { class: "soft" }, "There are none."))));
}

/** @param {string} status */
function meaning(status) {
  if (status === "200") return "answered";
  if (status === "429") return "too many at once";
  return Number(status) >= 500 ? "the server's fault" : "refused";
}

/** @param {[string, number, string, boolean][]} rows name, length, text, whether it is bad */
function bars(rows) {
  const most = Math.max(...rows.map(([, length]) => length), 1e-9);
  return el("ul", { class: "labels even" }, ...rows.map(([name, length, text, bad]) => el("li", {},
    el("span", { class: "name" }, name), el("span", { class: "score" }, text),
    el("div", { class: bad ? "bar failed" : "bar" }, width(el("i"), length / most)))));
}

/** @param {Model} model @param {() => unknown} again */
function modelCard(model, again) {
  const facts = el("dl", { class: "facts" });
  const workers = el("div", { class: "row" });
  const trouble = el("div", {});
  const count = el("input", { type: "number", min: 0, max: 64, step: 1, value: model.workers.length, required: true });
  const scale = el("button", { class: "main" }, "Scale");
  const standard = button("Make this version the default", () => change(
    `management/models/${encodeURIComponent(model.name)}/${encodeURIComponent(model.version)}/default`, "The default is changed"));
  const allowed = el("form", { class: "row", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    change(`management/models/${encodeURIComponent(model.name)}?min_worker=${count.value}&synchronous=true`, "The workers are there");
  } }, el("label", { class: "field" }, "Workers", count), scale, standard);
  const denied = el("p", { class: "small soft" });
  const root = el("section", { class: "card stack", "aria-label": `${model.name} ${model.version}` },
    el("div", { class: "row" }, el("h2", {}, model.name), el("span", { class: "soft" }, model.version),
      model.default && el("span", { class: "state" }, "default")), facts, workers, allowed, denied, trouble);

  /** @param {string} path @param {string} done */
  async function change(path, done) {
    scale.disabled = standard.disabled = true;
    trouble.replaceChildren(busy("The server is changing that …"));
    try {
      await json(path, { method: "PUT" });
      trouble.replaceChildren();
      say(done);
      await refresh();
      again();
    } catch (error) {
      trouble.replaceChildren(problem(error));
    }
    scale.disabled = standard.disabled = false;
  }

  /** @param {Model} now */
  function update(now) {
    const rows = [
      ["Labels", String(now.labels)],
      ["Looks at", `${now.frames} frames of ${now.window_seconds} s`],
      ["Runs as", `${now.runtime}, ${now.precision}, ${now.batch} at a time`],
      ["Waiting", String(now.waiting)],
    ];
    facts.replaceChildren(...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    workers.replaceChildren(el("span", { class: "soft" }, `${now.workers.length} ${now.workers.length === 1 ? "worker" : "workers"}`),
      ...now.workers.map((one) => el("span", { class: one.status === "READY" ? "state" : "state failed" },
        `${one.device}, ${one.status.toLowerCase()}`)));
    const administrator = state.session?.administrator || false;
    allowed.hidden = !administrator;
    standard.hidden = now.default;
    denied.hidden = administrator;
    denied.textContent = state.session?.tokens
      ? "Only an administrator's token changes this. GATEWAY_ADMINS says who has one."
      : "Nobody can change this here: the gateway runs without tokens. make scale does it, or GATEWAY_TOKENS with GATEWAY_ADMINS.";
  }
  return { root, update };
}
