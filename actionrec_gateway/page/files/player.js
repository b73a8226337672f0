/**
 * A video, on the server's clock: seconds from the first frame, by each frame's own timestamp. Nothing here counts
 * frames, so a variable frame rate is no matter; the browser turns a phone's clip upright as the server does.
 */
import { el } from "./dom.js";

const PAST = 0.0005;  // seconds into a frame: a seek to its very first instant may show the one before
const FIRST_FRAME_MS = 4000;
const SAME = 1e-4;  // seconds that are one instant
const FIRST_BACK = 0.02;
const MOST_BACK = 3;
const FIRST_STEP = 0.008;
const LEAST_STEP = 0.004;
const LONGEST_STEP = 4;
const MOST_STEPS = 3;  // that wait their turn; a key that is held down asks for more
const SETTLE_MS = 1000;

export class Player {
  /** @param {{controls?: boolean}} [options] */
  constructor({ controls = true } = {}) {
    this.video = el("video", { controls, muted: true, playsinline: true, preload: "auto", "aria-label": "Video" });
    this.video.muted = true;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.cannot = el("p", { class: "cannot", hidden: true },
      "This browser cannot play this file. The server may still read it.");
    this.element = el("div", { class: "player" }, this.video, this.canvas, this.cannot);
    /** @type {((seconds: number) => void)[]} told of each frame that is shown */
    this.listeners = [];
    /** @type {((context: CanvasRenderingContext2D, seconds: number) => void) | null} */
    this.overlay = null;
    this.offset = 0;
    this.shown = 0;
    this.url = "";
    this.playable = false;
    /** @type {number | null} the instant that was asked for, until it is shown */
    this.wanted = null;
    this.back = FIRST_BACK;
    this.fresh = false;
    /** Goes up with each wish of the user, so that a search for a frame knows that it is no longer wanted. */
    this.wishes = 0;
    this.searching = false;
    /** @type {Promise<unknown>} ends when no frame is looked for: what is shown then is what was asked for */
    this.turn = Promise.resolve();
    this.steps = 0;
    this.video.addEventListener("seeked", () => requestAnimationFrame(() => requestAnimationFrame(() => {
      if (!this.video.seeking) this.arrived();
    })));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /**
   * @param {Blob | null} blob null: none
   * @returns {Promise<boolean>} whether the browser can play it
   */
  async load(blob) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.overlay = null;
    this.wishes += 1;
    this.searching = false;
    this.shown = this.offset = 0;
    this.url = blob ? URL.createObjectURL(blob) : "";
    this.playable = false;
    this.cannot.hidden = true;
    this.video.hidden = false;
    if (!blob) {
      this.video.removeAttribute("src");
      return false;
    }
    const url = this.url;
    // The first frame's timestamp is second 0 to the server; a file's clock may start elsewhere.
    const first = new Promise((resolve, reject) => {
      this.video.requestVideoFrameCallback((_, frame) => resolve(frame.mediaTime));
      this.video.onerror = () => reject(new Error("unplayable"));
      setTimeout(() => resolve(this.video.readyState > 1 && this.video.videoWidth ? 0 : null), FIRST_FRAME_MS);
    });
    this.video.src = url;
    try {
      const found = await first;
      if (this.url !== url) return false;
      this.playable = found !== null;
      this.offset = found || 0;
    } catch {
      if (this.url !== url) return false;
    }
    this.cannot.hidden = this.playable;
    this.video.hidden = !this.playable;
    if (this.playable) this.watch(url);
    return this.playable;
  }

  /** @param {string} url */
  watch(url) {
    this.video.requestVideoFrameCallback((_, frame) => {
      if (this.url !== url) return;
      this.shown = Math.max(0, frame.mediaTime - this.offset);
      this.fresh = true;
      this.draw();
      this.watch(url);
      if (!this.video.seeking) this.arrived();
    });
  }

  /** A picture is there that was asked for, or that came by playing. One that comes during a seek may be an old one. */
  arrived() {
    if (this.searching) return;
    for (const listener of this.listeners) listener(this.shown);
    if (this.fresh) this.correct();
  }

  get duration() {
    return Number.isFinite(this.video.duration) ? this.video.duration - this.offset : 0;
  }

  /** Seconds of the frame that is shown. */
  get seconds() {
    return this.shown;
  }

  /**
   * Show what is to be seen at an instant: the last frame that is not after it.
   *
   * @param {number} seconds
   */
  seek(seconds) {
    this.wishes += 1;
    this.show(seconds);
  }

  /** @param {number} seconds */
  show(seconds) {
    this.searching = false;
    this.wanted = Math.max(0, seconds);
    this.back = FIRST_BACK;
    this.go(this.wanted);
  }

  /** @param {number} seconds */
  go(seconds) {
    if (!this.playable) return;
    this.fresh = false;
    this.video.currentTime = Math.max(0, seconds) + this.offset + PAST;
  }

  /**
   * Browsers take a frame to last as long as the average one, so in a longer one they show the next; then it is looked
   * for a little earlier.
   */
  correct() {
    if (this.wanted === null) return;
    if (!this.video.paused || this.shown <= this.wanted + SAME || this.back > MOST_BACK) {
      this.wanted = null;
      return;
    }
    this.go(this.wanted - this.back);
    this.back += FIRST_BACK;
  }

  /**
   * To the next frame or the one before, whenever that is. Steps are taken one after another.
   *
   * @param {1 | -1} direction
   */
  async step(direction) {
    if (this.steps >= MOST_STEPS) return this.turn;
    this.steps += 1;
    return this.inTurn(() => this.find(direction).finally(() => { this.steps -= 1; }));
  }

  /** @param {() => Promise<unknown>} work begun when what was asked for before is shown */
  inTurn(work) {
    this.turn = this.turn.then(work);
    return this.turn;
  }

  /** Look for the next frame further and further away, then nearer. @param {1 | -1} direction */
  async find(direction) {
    if (!this.playable) return;
    this.video.pause();
    this.wanted = null;
    this.searching = true;
    const wish = (this.wishes += 1);
    const from = this.shown;
    const moved = async (/** @type {number} */ distance) => {
      if (wish === this.wishes) await this.settled(() => this.go(from + direction * distance));
      return direction * (this.shown - from) > SAME ? this.shown : null;
    };
    let [near, far] = [0, FIRST_STEP];
    let found = null;
    while (found === null && far < LONGEST_STEP && (near === 0 || from + direction * near > 0)) {
      found = await moved(far);
      if (found === null) [near, far] = [far, far * 1.6];
    }
    while (found !== null && far - near > LEAST_STEP) {
      const middle = (near + far) / 2;
      const other = await moved(middle);
      if (other === null) near = middle;
      else [far, found] = [middle, other];
    }
    if (wish === this.wishes) await this.shownAt(found ?? from);
  }

  /** Seek, and wait until that is shown. @param {number} seconds */
  settle(seconds) {
    return this.inTurn(() => {
      this.wishes += 1;
      return this.shownAt(seconds);
    });
  }

  /** @param {number} seconds */
  async shownAt(seconds) {
    await this.settled(() => this.show(seconds));
    const until = performance.now() + SETTLE_MS;
    while (this.wanted !== null && performance.now() < until) await new Promise(requestAnimationFrame);
  }

  /** Wait until the picture that is asked for is shown. @param {() => void} ask */
  settled(ask) {
    return new Promise((resolve) => {
      const done = () => setTimeout(resolve, 0);
      this.video.addEventListener("seeked", () => requestAnimationFrame(done), { once: true });
      setTimeout(done, SETTLE_MS);
      ask();
    });
  }

  toggle() {
    if (!this.playable) return;
    this.wishes += 1;
    this.searching = false;
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }

  /** Draw what lies over the picture, in the video's own pixels. */
  draw() {
    const context = this.canvas.getContext("2d");
    const { videoWidth, videoHeight, clientWidth, clientHeight } = this.video;
    this.canvas.hidden = !this.overlay || !this.playable || !videoWidth;
    if (this.canvas.hidden || !context || !this.overlay) return;
    const scale = Math.min(clientWidth / videoWidth, clientHeight / videoHeight);
    const [width, height] = [videoWidth * scale, videoHeight * scale];
    Object.assign(this.canvas.style, {
      left: `${this.video.offsetLeft + (clientWidth - width) / 2}px`,
      top: `${this.video.offsetTop + (clientHeight - height) / 2}px`,
      width: `${width}px`,
      height: `${height}px`,
    });
    const dense = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * dense);
    this.canvas.height = Math.round(height * dense);
    context.setTransform(scale * dense, 0, 0, scale * dense, 0, 0);
    this.overlay(context, this.shown);
  }
}
