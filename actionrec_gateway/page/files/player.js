/**
 * A video, on the server's clock: seconds from the first frame, by each frame's own timestamp. Nothing here counts
 * frames, so a variable frame rate is no matter; the browser turns a phone's clip upright as the server does.
 */
import { el } from "./dom.js";

const PAST = 0.0005;  // seconds into a frame: a seek to its very first instant may show the one before
const FIRST_FRAME_MS = 4000;

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
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /**
   * @param {Blob | null} blob null: none
   * @returns {Promise<boolean>} whether the browser can play it
   */
  async load(blob) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.overlay = null;
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
      this.draw();
      for (const listener of this.listeners) listener(this.shown);
      this.watch(url);
    });
  }

  get duration() {
    return Number.isFinite(this.video.duration) ? this.video.duration - this.offset : 0;
  }

  /** Seconds of the frame that is shown. */
  get seconds() {
    return this.shown;
  }

  /** @param {number} seconds */
  seek(seconds) {
    if (this.playable) this.video.currentTime = Math.max(0, seconds) + this.offset + PAST;
  }

  /**
   * To the next frame or the one before, whenever that is.
   *
   * @param {1 | -1} direction
   */
  async step(direction) {
    this.video.pause();
    const from = this.shown;
    for (let distance = 0.008; distance < 2; distance *= 1.5) {
      const to = from + direction * distance;
      if (to < 0 || to > this.duration + 0.1) return;
      await this.settle(to);
      if (direction * (this.shown - from) > 1e-4) return;
    }
  }

  /** @param {number} seconds */
  settle(seconds) {
    return new Promise((resolve) => {
      const done = () => setTimeout(resolve, 0);
      this.video.addEventListener("seeked", () => requestAnimationFrame(done), { once: true });
      setTimeout(done, 1000);
      this.seek(seconds);
    });
  }

  toggle() {
    if (!this.playable) return;
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
