/** Why a label: heat over the player, and the curve of when. */
import { predict } from "./api.js";
import { busy, button, clock, el, percent, problem, say } from "./dom.js";
import { added, instants, strongest, sum, together, views } from "./shares.js";

/** @import { Player } from "./player.js" */
/** @import { Explanation, Reply } from "../types.js" */
/** @import { Seen } from "./shares.js" */

const NAMES = ["slow", "fast"];
const FOR = [255, 140, 26];
const AGAINST = [60, 150, 255];

/**
 * @param {Player} player
 * @param {(label: string) => void} chosen called when another label is wanted
 */
export function whyPanel(player, chosen) {
  const element = el("section", { class: "card", hidden: true, "aria-labelledby": "why-title", tabindex: "-1" });

  /**
   * @param {string} model
   * @param {Blob} video
   * @param {Record<string, any>} options of the request that is explained
   * @param {string} label
   * @param {string[]} labels that may be asked for
   */
  async function explain(model, video, options, label, labels) {
    element.hidden = false;
    element.replaceChildren(el("h2", { id: "why-title" }, `Why “${label}”`), busy("Asking the model …"));
    element.scrollIntoView({ block: "nearest" });
    let reply;
    try {
      reply = await predict(model, video, { ...options, explain: label, top_k: labels.length });
    } catch (error) {
      element.replaceChildren(el("h2", { id: "why-title" }, `Why “${label}”`),
        problem(error, () => explain(model, video, options, label, labels)));
      return;
    }
    show(reply, /** @type {Explanation} */ (reply.explanation), labels);
  }

  /** @param {Reply} reply @param {Explanation} explanation @param {string[]} labels */
  function show(reply, explanation, labels) {
    const seen = views(explanation);
    const score = reply.predictions.find((one) => one.label === explanation.label)?.score;
    const most = Math.max(...seen.map(strongest));
    player.overlay = (context, seconds) => paint(context, seen, seconds, most);
    player.draw();
    const select = el("select", {
      onchange: () => chosen(select.value), "aria-label": "Label that is explained",
    }, ...labels.map((label) => el("option", { value: label, selected: label === explanation.label }, label)));
    const legend = el("p", { class: "small soft legend" },
      el("i", { class: "for" }), "speaks for it", el("i", { class: "against" }), "against it",
      el("i", { class: "frame" }), "what the model saw; all else is dark");
    const logit = explanation.views.reduce((total, view) => total + view.logit, 0) / seen.length;
    const sums = seen[0].pathways.map((_, number) =>
      seen.reduce((total, view) => total + added(view.pathways[number]), 0) / seen.length);
    const names = sums.map((_, number) => (sums.length === 2 ? NAMES[number] : sums.length > 1 ? `${number + 1}` : "all"));
    const parts = sums.map((value, number) => `${signed(value)} (${names[number]})`).join(" ");
    const at = peak(seen);
    element.replaceChildren(
      el("div", { class: "row apart" }, el("h2", { id: "why-title" }, `Why “${explanation.label}”`),
        button("Hide", hide, { class: "quiet small" })),
      el("div", { class: "row" }, select,
        button(`Go to the strongest moment, ${clock(at, 2)}`, () => player.seek(at))),
      legend,
      el("p", { class: "small" }, `Logit ${logit.toFixed(2)} = ${signed(explanation.bias)} (bias) ${parts}`,
        score === undefined ? "" : `, score ${percent(score)}. Nothing is estimated: the shares add up to the logit.`),
      curve(seen, player, names));
    say(`Explained: ${explanation.label}. The strongest moment is at ${clock(at, 2)}.`);
    if (!within(seen, player.seconds)) player.seek(at);
  }

  function hide() {
    element.hidden = true;
    player.overlay = null;
    player.draw();
  }

  return { element, explain, hide };
}

/** @param {number} value */
function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
}

/** @param {Seen[]} seen @param {number} seconds */
function within(seen, seconds) {
  return seen.some((view) => view.start <= seconds && seconds < view.end);
}

/** @param {Seen[]} seen */
function peak(seen) {
  let [best, at] = [-Infinity, seen[0].start];
  for (const view of seen) {
    for (const instant of instants(view)) {
      const value = Math.max(...together(view, instant));
      if (value > best) [best, at] = [value, instant];
    }
  }
  return at;
}

/**
 * @param {CanvasRenderingContext2D} context in pixels of the video
 * @param {Seen[]} seen
 * @param {number} seconds
 * @param {number} most
 */
function paint(context, seen, seconds, most) {
  const { width, height } = context.canvas;
  const now = seen.filter((view) => view.start <= seconds && seconds < view.end);
  context.save();
  context.imageSmoothingQuality = "high";
  context.fillStyle = "rgb(0 0 0 / 55%)";
  context.beginPath();
  context.rect(0, 0, width, height);
  for (const { box } of now) context.rect(...box);
  context.fill("evenodd");
  for (const view of now) {
    context.drawImage(heat(view, seconds, most), ...view.box);
    context.strokeStyle = "#fff";
    context.lineWidth = Math.max(1, view.box[3] / 160);
    context.strokeRect(...view.box);
  }
  context.restore();
}

/** @param {Seen} view @param {number} seconds @param {number} most */
function heat(view, seconds, most) {
  const { rows, columns } = view.pathways[0];
  const canvas = el("canvas", { width: columns, height: rows });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(columns, rows);
  together(view, seconds).forEach((value, place) => {
    const strength = Math.min(1, Math.abs(value) / most);
    image.data.set([...(value > 0 ? FOR : AGAINST), 210 * Math.sqrt(strength)], 4 * place);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** @param {Seen[]} seen @param {Player} player @param {string[]} names */
function curve(seen, player, names) {
  const canvas = el("canvas", { class: "curve", role: "img", "aria-label": described(seen, names) });
  const start = Math.min(...seen.map((view) => view.start));
  const end = Math.max(...seen.map((view) => view.end));
  const points = seen.map((view) => view.pathways.map((pathway) =>
    instants(view).map((at) => /** @type {[number, number]} */ ([at, sum(pathway, at)]))));
  const values = points.flat(2).map(([, value]) => value);
  const [low, high] = [Math.min(0, ...values), Math.max(0.1, ...values)];

  const draw = () => {
    const context = canvas.getContext("2d");
    if (!context || !canvas.clientWidth) return;
    const dense = devicePixelRatio || 1;
    const style = getComputedStyle(canvas);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * dense;
    canvas.height = height * dense;
    context.scale(dense, dense);
    const x = (/** @type {number} */ at) => ((at - start) / (end - start)) * width;
    const y = (/** @type {number} */ value) => height - 18 - ((value - low) / (high - low)) * (height - 26);
    context.strokeStyle = style.getPropertyValue("--line");
    context.strokeRect(0, y(0), width, 0);
    for (const view of points) {
      view.forEach((line, number) => {
        context.strokeStyle = style.getPropertyValue(number === view.length - 1 ? "--accent" : "--edge");
        context.lineWidth = 2;
        context.setLineDash(number === view.length - 1 ? [] : [6, 4]);
        context.beginPath();
        line.forEach(([at, value]) => context.lineTo(x(at), y(value)));
        context.stroke();
      });
    }
    context.setLineDash([]);
    context.fillStyle = context.strokeStyle = style.getPropertyValue("--text");
    context.fillRect(x(player.seconds) - 1, 0, 2, height - 16);
    context.font = "12px system-ui";
    context.fillText(clock(start), 0, height - 2);
    context.textAlign = "right";
    context.fillText(clock(end), width, height - 2);
  };
  new ResizeObserver(draw).observe(canvas);
  player.listeners = player.listeners.filter((listener) => listener.name !== "onCurve");
  player.listeners.push(function onCurve() { draw(); });
  canvas.onclick = (event) => player.seek(start + (event.offsetX / canvas.clientWidth) * (end - start));
  const key = names.map((name, number) => el("span", { class: "row small" },
    el("i", { class: number === names.length - 1 ? "line" : "line dashed" }), name));
  return el("figure", { class: "when" }, canvas,
    el("figcaption", { class: "row small soft" }, "Logits a second, over time:", ...key));
}

/** @param {Seen[]} seen @param {string[]} names */
function described(seen, names) {
  return `Curve of when: ${names.join(" and ")}, from ${clock(seen[0].start)} to ${clock(seen[seen.length - 1].end)}; ` +
    `the strongest moment is at ${clock(peak(seen), 2)}`;
}
