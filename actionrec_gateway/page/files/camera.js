/** The camera of the browser. */
import { button, el, say } from "./dom.js";

/** @returns {Promise<MediaStream>} */
export async function openCamera() {
  if (!navigator.mediaDevices) {
    throw Object.assign(new Error("This browser gives no camera to this page."),
      { hint: "Browsers do so at https:// addresses and at localhost only." });
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, frameRate: { ideal: 30 } } });
  } catch (error) {
    const denied = /** @type {Error} */ (error).name === "NotAllowedError";
    throw Object.assign(new Error(denied ? "The camera is not allowed." : "There is no camera that can be used."),
      { hint: denied ? "Allow it beside the address of this page, and try again." : "Connect one, and try again." });
  }
}

/** @param {MediaStream} stream */
export function closeCamera(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/**
 * Some seconds of a stream, as a file.
 *
 * @param {MediaStream} stream
 * @param {number} seconds
 * @returns {{done: Promise<Blob>, stop: () => void}}
 */
export function record(stream, seconds) {
  const kind = ["video/webm;codecs=vp8", "video/webm", "video/mp4"].find((one) => MediaRecorder.isTypeSupported(one));
  const recorder = new MediaRecorder(stream, { mimeType: kind, videoBitsPerSecond: 2_500_000 });
  /** @type {Blob[]} */
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const done = new Promise((resolve, reject) => {
    recorder.onstop = () => resolve(new Blob(parts, { type: recorder.mimeType }));
    recorder.onerror = () => reject(new Error("The camera stopped."));
  });
  const stop = () => { if (recorder.state !== "inactive") recorder.stop(); };
  recorder.start();
  setTimeout(stop, seconds * 1000);
  return { done, stop };
}

/**
 * A dialog that records a clip.
 *
 * @param {number} seconds of the model's window
 * @returns {Promise<File | null>} null: it was closed
 */
export async function recordDialog(seconds) {
  const stream = await openCamera();
  const video = el("video", { autoplay: true, muted: true, playsinline: true, "aria-label": "Camera" });
  video.muted = true;
  video.srcObject = stream;
  const length = Math.ceil(seconds * 2 + 1) / 2;
  return new Promise((resolve) => {
    /** @type {File | null} */
    let file = null;
    const start = button(`Record ${length} seconds`, async () => {
      start.disabled = true;
      start.textContent = "Recording …";
      say("Recording");
      const blob = await record(stream, length).done;
      file = new File([blob], blob.type.includes("mp4") ? "camera.mp4" : "camera.webm", { type: blob.type });
      dialog.close();
    }, { class: "main" });
    /** @type {HTMLDialogElement} */
    const dialog = el("dialog", { "aria-labelledby": "record-title", onclose: () => {
      closeCamera(stream);
      dialog.remove();
      resolve(file);
    } }, el("h2", { id: "record-title" }, "Record from the camera"), video,
    el("div", { class: "row end" }, button("Cancel", () => dialog.close()), start));
    document.body.append(dialog);
    dialog.showModal();
    start.focus();
  });
}
