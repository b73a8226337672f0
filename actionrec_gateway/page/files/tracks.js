/**
 * Labels over time: a row for each, with its score as an area and its segments as bars. Only what is in view is drawn,
 * and the playhead is an element of its own, so that playing draws nothing.
 */
import { clock, el } from "./dom.js";

/** @import { Entry, Segment } from "../types.js" */

const ROW = 40;
const TOP = 24;
const BAR = 9;
const LEAST_SECONDS = 0.5;
const LEAST_PIXELS = 1.5;

/** @typedef {{segments: Segment[], cuts: number[], timeline: Entry[], seconds: number}} Found */

export class Tracks {
  /** @param {{seek: (seconds: number) => void, changed: () => void}} told */
  constructor(told) {
    this.told = told;
    this.canvas = el("canvas", { role: "img" });
    this.head = el("div", { class: "playhead", "aria-hidden": "true" });
    this.element = el("div", { class: "tracks" }, this.canvas, this.head);
    /** @type {Found} */
    this.found = { segments: [], cuts: [], timeline: [], seconds: 1 };
    /** @type {string[]} */
    this.labels = [];
    /** @type {Map<string, Float32Array>} score of each window, NaN where there is none */
    this.scores = new Map();
    /** @type {Segment | null} */
    this.selected = null;
    this.from = 0;
    this.to = 1;
    this.now = 0;
    this.waiting = false;
    this.width = 0;  // kept: to ask the element costs a layout each time
    new ResizeObserver(() => this.draw()).observe(this.element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.listen();
  }

  listen() {
    const at = (/** @type {MouseEvent} */ event) => this.time(event.clientX - this.canvas.getBoundingClientRect().left);
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.told.seek(at(event));
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) this.told.seek(at(event));
    });
    this.canvas.addEventListener("wheel", (event) => {
      const along = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.shiftKey ? event.deltaY : 0;
      if (event.ctrlKey || event.metaKey) this.zoom(Math.exp(event.deltaY / 300), at(event));
      else if (along) this.pan((along / this.plot()) * (this.to - this.from));
      else return;
      event.preventDefault();
    }, { passive: false });
  }

  /** @param {Found} found @param {string} only a label, or "" for all */
  show(found, only) {
    const whole = this.from === 0 && this.to === this.found.seconds;
    const first = !this.found.timeline.length;
    this.found = found;
    const totals = new Map();
    for (const one of found.segments) {
      totals.set(one.label, (totals.get(one.label) || 0) + one.end_seconds - one.start_seconds);
    }
    const ordered = [...totals.keys()].sort((a, b) => totals.get(b) - totals.get(a));
    this.labels = only ? [only] : ordered;
    this.scores = new Map(this.labels.map((label) => [label, new Float32Array(found.timeline.length).fill(NaN)]));
    found.timeline.forEach((entry, number) => {
      for (const one of entry.predictions) {
        const row = this.scores.get(one.label);
        if (row) row[number] = one.score;
      }
    });
    if (first || whole) [this.from, this.to] = [0, found.seconds];
    this.canvas.setAttribute("aria-label",
      `${found.segments.length} segments of ${ordered.length} labels in ${clock(found.seconds, 0)}; the list below has them all`);
    this.draw();
  }

  gutter() {
    return Math.min(190, this.width * 0.3);
  }

  plot() {
    return Math.max(1, this.width - this.gutter());
  }

  /** @param {number} seconds */
  x(seconds) {
    return this.gutter() + ((seconds - this.from) / (this.to - this.from)) * this.plot();
  }

  /** @param {number} x */
  time(x) {
    const seconds = this.from + ((x - this.gutter()) / this.plot()) * (this.to - this.from);
    return Math.max(0, Math.min(this.found.seconds, seconds));
  }

  /** How many windows have their middle before an instant. @param {number} seconds */
  before(seconds) {
    let [low, high] = [0, this.found.timeline.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const { start_seconds: start, end_seconds: end } = this.found.timeline[middle];
      if ((start + end) / 2 < seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @param {number} from @param {number} to */
  view(from, to) {
    const length = Math.min(this.found.seconds, Math.max(Math.min(LEAST_SECONDS, this.found.seconds), to - from));
    this.from = Math.max(0, Math.min(from, this.found.seconds - length));
    this.to = this.from + length;
    this.draw();
    this.told.changed();
  }

  /** @param {number} factor above 1: more is seen @param {number} [around] */
  zoom(factor, around = this.now) {
    const at = Math.max(this.from, Math.min(this.to, around));
    this.view(at - (at - this.from) * factor, at + (this.to - at) * factor);
  }

  /** @param {number} seconds */
  pan(seconds) {
    this.view(this.from + seconds, this.to + seconds);
  }

  /** @param {number} seconds */
  play(seconds) {
    this.now = seconds;
    if (seconds > this.to || seconds < this.from) {
      const length = this.to - this.from;
      if (length < this.found.seconds) this.view(seconds - length * 0.1, seconds + length * 0.9);
    }
    this.place();
  }

  place() {
    this.head.style.transform = `translateX(${this.x(this.now)}px)`;
    this.head.hidden = this.now < this.from || this.now > this.to;
  }

  /** Draw soon, once. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const context = this.canvas.getContext("2d");
    const width = this.width = this.element.clientWidth;
    if (!context || !width) return;
    const height = TOP + Math.max(1, this.labels.length) * ROW;
    const dense = devicePixelRatio || 1;
    this.canvas.width = width * dense;
    this.canvas.height = height * dense;
    this.canvas.style.height = this.head.style.height = `${height}px`;
    context.scale(dense, dense);
    const style = getComputedStyle(this.element);
    const color = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`);
    context.font = "13px system-ui, sans-serif";
    context.textBaseline = "middle";
    this.ruler(context, height, color);
    context.save();
    context.beginPath();
    context.rect(this.gutter(), 0, this.plot(), height);
    context.clip();
    this.labels.forEach((label, row) => this.row(context, label, TOP + row * ROW, color));
    context.strokeStyle = color("soft");
    context.setLineDash([3, 3]);
    context.beginPath();
    for (const cut of this.found.cuts) {
      if (cut < this.from || cut > this.to) continue;
      context.moveTo(this.x(cut), TOP);
      context.lineTo(this.x(cut), height);
    }
    context.stroke();
    context.restore();
    context.fillStyle = color("text");
    this.labels.forEach((label, row) => {
      context.fillText(fitted(context, label, this.gutter() - 12), 0, TOP + row * ROW + ROW / 2, this.gutter() - 12);
    });
    this.place();
  }

  /** @param {CanvasRenderingContext2D} context @param {number} height @param {(name: string) => string} color */
  ruler(context, height, color) {
    const length = this.to - this.from;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
    const step = steps.find((one) => (one / length) * this.plot() >= 64) || 7200;
    context.strokeStyle = color("line");
    context.fillStyle = color("soft");
    context.textAlign = "center";
    for (let at = Math.ceil(this.from / step) * step; at <= this.to + 1e-9; at += step) {
      context.beginPath();
      context.moveTo(this.x(at), TOP - 6);
      context.lineTo(this.x(at), height);
      context.stroke();
      const text = clock(at, step < 1 ? 1 : 0);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(this.width - half, Math.max(this.gutter() + half, this.x(at))), 8);
    }
    context.textAlign = "left";
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {string} label
   * @param {number} top
   * @param {(name: string) => string} color
   */
  row(context, label, top, color) {
    const base = top + ROW - BAR - 4;
    const scores = /** @type {Float32Array} */ (this.scores.get(label));
    const { timeline, segments } = this.found;
    context.fillStyle = color("area");
    context.beginPath();
    let [open, x, highest] = [false, -Infinity, 0];
    const point = () => context.lineTo(x, base - highest * (ROW - BAR - 10));
    const close = () => {
      if (!open) return;
      point();
      context.lineTo(x, base);
      open = false;
    };
    const [first, last] = [this.before(this.from) - 2, this.before(this.to) + 2];
    for (let number = Math.max(0, first); number < Math.min(timeline.length, last); number++) {
      const entry = timeline[number];
      if (!entry.predictions.length) {
        close();
        continue;
      }
      const score = Number.isNaN(scores[number]) ? 0 : scores[number];
      const at = this.x((entry.start_seconds + entry.end_seconds) / 2);
      if (open && at - x < LEAST_PIXELS) {  // of windows that are closer than pixels, the highest is drawn
        highest = Math.max(highest, score);
        continue;
      }
      if (open) point();
      else context.moveTo(at, base);
      [open, x, highest] = [true, at, score];
    }
    close();
    context.fill();
    for (const one of segments) {
      if (one.label !== label || one.end_seconds < this.from || one.start_seconds > this.to) continue;
      const [left, right] = [this.x(one.start_seconds), this.x(one.end_seconds)];
      context.fillStyle = color(one === this.selected ? "accent" : "bar");
      context.beginPath();
      context.roundRect(left, base, Math.max(2, right - left - 1), BAR, 3);
      context.fill();
    }
  }
}

/** @param {CanvasRenderingContext2D} context @param {string} text @param {number} most pixels */
function fitted(context, text, most) {
  if (context.measureText(text).width <= most) return text;
  let shorter = text;
  while (shorter && context.measureText(`${shorter}…`).width > most) shorter = shorter.slice(0, -1);
  return `${shorter}…`;
}
