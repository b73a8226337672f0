/** Timeline: any video becomes a job; the list of jobs, and one of them. */
import { ask, json, posted, submit } from "./api.js";
import { busy, button, bytes, el, problem, width } from "./dom.js";
import { chooser, sample, takesFiles } from "./drop.js";
import { jobView } from "./jobview.js";
import { keep } from "./keep.js";
import { addressForm, modelField, state } from "./state.js";

/** @import { Job } from "../types.js" */

const TOP = 5;

export function timelinePage() {
  /** @type {ReturnType<typeof jobView> | null} */
  let open = null;
  let current = "";
  const root = el("div", { class: "stack" });
  const home = homeView();

  /** @param {string} id */
  function show(id) {
    if (id === current && root.childElementCount) return;
    open?.close();
    open = null;
    current = id;
    if (!id) {
      root.replaceChildren(home.root);
      home.list();
      return;
    }
    open = jobView(id);
    root.replaceChildren(el("div", { class: "head row apart" }, el("h1", {}, "Timeline"),
      el("a", { class: "button", href: "#/timeline" }, "All timelines")), open.root);
  }

  return {
    root,
    show,
    hide() {
      open?.close();
      open = null;
      current = "";
      root.replaceChildren();
    },
  };
}

function homeView() {
  const trouble = el("div", {});
  const sending = el("div", {});
  const jobs = el("div", {});
  const stride = el("select", {}, ...[["0.5", "every half second"], ["1", "every second"], ["2", "every 2 seconds"],
    ["5", "every 5 seconds"]].map(([value, text]) => el("option", { value, selected: value === "1" }, text)));
  const byAddress = addressForm("video", "Make a timeline of it", (url) => {
    made(() => json("jobs", posted({ url, ...options() })), null);
  });
  const { input, choose } = chooser(false, take);
  const drop = el("section", { class: "drop", "aria-label": "A video for a timeline" },
    el("h2", {}, "Drop a video of any length here"),
    el("p", { class: "soft" }, "It becomes a job: you may close this page, and open its address later."),
    el("div", { class: "row" }, button("Choose a video", choose, { class: "main" }),
      button("Use a sample", async () => {
        try {
          take([await sample()]);
        } catch (error) {
          trouble.replaceChildren(problem(error));
        }
      })), input);
  const root = el("div", { class: "stack" },
    el("div", { class: "head" }, el("h1", {}, "Timeline"), el("p", { class: "soft" }, "What happens when, in a video of any length.")),
    drop, el("div", { class: "card stack" }, el("div", { class: "row" }, modelField(),
      el("label", { class: "field" }, "Look", stride)), byAddress), trouble, sending, jobs);
  takesFiles(drop, take);

  function options() {
    return { model: state.chosen, stride_seconds: Number(stride.value), top_k: TOP };
  }

  /** @param {File[]} files */
  function take([file]) {
    if (!file) return;
    const stop = new AbortController();
    const bar = el("progress", { max: 1, value: 0, "aria-label": "Sent" });
    sending.replaceChildren(el("section", { class: "card stack" }, el("div", { class: "row apart" },
      el("strong", {}, `Sending ${file.name}, ${bytes(file.size)}`), button("Stop", () => stop.abort(), { class: "small" })), bar));
    made(() => submit(file, options(), (share) => { bar.value = share; }, stop.signal), file);
  }

  /** @param {() => Promise<Job>} make @param {File | null} file */
  async function made(make, file) {
    trouble.replaceChildren();
    drop.querySelectorAll("button").forEach((one) => { one.disabled = true; });
    try {
      const job = await make();
      if (file) keep(job.id, file);
      if (root.isConnected) location.hash = `#/timeline/${job.id}`;
    } catch (error) {
      if (/** @type {Error} */ (error).name !== "AbortError") {
        trouble.replaceChildren(problem(error, () => made(make, file)));
      }
    } finally {
      sending.replaceChildren();
      drop.querySelectorAll("button").forEach((one) => { one.disabled = false; });
    }
  }

  async function list() {
    if (!jobs.childElementCount) jobs.replaceChildren(busy("Asking for your timelines …"));
    try {
      const { jobs: found } = /** @type {{jobs: Job[]}} */ (await json("jobs?limit=50"));
      const own = found.filter((one) => one.options.stride_seconds);
      jobs.replaceChildren(el("section", { class: "card wide", tabindex: "0", "aria-labelledby": "jobs-title" },
        el("h2", { id: "jobs-title" }, "Your timelines"), own.length ? table(own)
          : el("p", { class: "soft" }, "None yet. Finished ones stay for some days, unless the server's operator says otherwise.")));
    } catch (error) {
      jobs.replaceChildren(problem(error, list));
    }
  }

  /** @param {Job[]} found */
  function table(found) {
    return el("table", {}, el("thead", {}, el("tr", {}, 
      ...["Made", "Model", "Video", "State"].map((text) => el("th", { scope: "col" }, text)),
      el("th", { scope: "col" }, el("span", { class: "hidden" }, "Forget")))), el("tbody", {}, ...found.map((one) => {
      const { windows, of } = one.progress;
      const share = one.state === "running" && of ? el("div", { class: "bar" }, width(el("i"), windows / of)) : null;
      return el("tr", {}, el("td", {}, el("a", { href: `#/timeline/${one.id}` }, new Date(one.created).toLocaleString())),
        el("td", {}, one.model), el("td", {}, one.source.url || bytes(one.source.bytes || 0)),
        el("td", {}, el("span", { class: `state ${one.state}` }, one.state), share),
        el("td", {}, button("Forget", () => forget(one), { class: "quiet small", "aria-label": `Forget the timeline of ${one.created}` })));
    })));
  }

  /** @param {Job} one */
  async function forget(one) {
    if (!confirm("Forget this timeline, with its result?")) return;
    try {
      await ask(`jobs/${one.id}/results`, { method: "DELETE" });
      list();
    } catch (error) {
      trouble.replaceChildren(problem(error));
    }
  }

  return { root, list };
}
