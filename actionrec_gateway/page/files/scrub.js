/** The bar under the player: where it is, and a picture of where the pointer is. */
import { clock, el } from "./dom.js";

/** @import { Player } from "./player.js" */

const PREVIEW = 176;  // pixels

/** @param {Player} player */
export function scrubBar(player) {
  const range = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "Position in the video",
    oninput: () => player.seek(Number(range.value)) });
  const picture = el("canvas", { width: PREVIEW, height: 1 });
  const time = el("span", {});
  const bubble = el("div", { class: "bubble", hidden: true, "aria-hidden": "true" }, picture, time);
  const element = el("div", { class: "scrub" }, range, bubble);
  // A second video of the same file, which is never seen: the player itself must not jump.
  const other = el("video", { muted: true, preload: "auto" });
  other.muted = true;
  let wanted = -1;
  let busy = false;

  async function draw() {
    if (busy || !other.src) return;
    busy = true;
    while (wanted >= 0) {
      const at = wanted;
      wanted = -1;
      await new Promise((resolve) => {
        other.onseeked = resolve;
        setTimeout(resolve, 1500);
        other.currentTime = at + player.offset;
      });
      if (!other.videoWidth) break;
      picture.height = Math.round((PREVIEW * other.videoHeight) / other.videoWidth);
      picture.getContext("2d")?.drawImage(other, 0, 0, picture.width, picture.height);
    }
    busy = false;
  }

  element.addEventListener("pointermove", (event) => {
    const box = range.getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    wanted = share * Number(range.max);
    time.textContent = clock(wanted);
    bubble.hidden = !player.playable;
    bubble.style.left = `${Math.max(PREVIEW / 2, Math.min(box.width - PREVIEW / 2, share * box.width))}px`;
    if (other.dataset.of !== player.url) {
      other.dataset.of = player.url;
      if (player.url) other.src = player.url;
    }
    draw();
  });
  element.addEventListener("pointerleave", () => { bubble.hidden = true; });

  /** @param {number} seconds @param {number} of */
  function show(seconds, of) {
    range.max = String(Math.max(0.01, of));
    range.value = String(seconds);
    range.setAttribute("aria-valuetext", `${clock(seconds)} of ${clock(of)}`);
  }
  return { element, show };
}
