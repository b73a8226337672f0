/** Where videos come in: dropped, pasted, chosen. */
import { el } from "./dom.js";

/**
 * A hidden choice of files, opened by `choose`.
 *
 * @param {boolean} multiple
 * @param {(files: File[]) => void} taken
 */
export function chooser(multiple, taken) {
  const input = el("input", { type: "file", accept: "video/*,image/gif,.mkv,.ts,.flv,.wmv,.h264,.hevc", multiple,
    hidden: true, "aria-label": "Video", onchange: () => {
      taken([...(input.files || [])]);
      input.value = "";
    } });
  return { input, choose: () => input.click() };
}

/**
 * Take what is dropped on an element, and what is pasted while it is on the page.
 *
 * @param {HTMLElement} element
 * @param {(files: File[]) => void} taken
 */
export function takesFiles(element, taken) {
  const files = (/** @type {DataTransfer | null} */ data) => [...(data?.files || [])];
  const over = (/** @type {boolean} */ is) => element.classList.toggle("over", is);
  element.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  element.addEventListener("dragleave", () => over(false));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    if (files(event.dataTransfer).length) taken(files(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => {
    if (element.offsetParent && files(event.clipboardData).length) taken(files(event.clipboardData));
  });
}

/** The sample that comes with the page: four motions, one after the other. @returns {Promise<File>} */
export async function sample() {
  const response = await fetch("page/files/sample.mp4");
  return new File([await response.blob()], "sample.mp4", { type: "video/mp4" });
}
