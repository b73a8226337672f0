/** Keys of a part of the page, while it is shown and nothing is being written. */
import { el } from "./dom.js";

/**
 * @param {HTMLElement} root the part
 * @param {[string, string, string, () => unknown][]} actions the key, its name, what it does
 */
export function shortcuts(root, actions) {
  const known = new Map(actions.map(([key, , , action]) => [key, action]));

  /** @param {KeyboardEvent} event */
  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !root.isConnected || document.querySelector("dialog[open]")) return;
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.matches("input:not([type=range]), select, textarea")) return;
    if (target !== document.body && target.id !== "main" && !root.contains(target)) return;
    // These keys have a meaning of their own there.
    if (event.key === " " && target.matches("button, summary, a") && !target.closest(".list")) return;
    if (event.key.startsWith("Arrow") && target.matches("[type=range], [role=tab]")) return;
    const action = known.get(event.key.length === 1 ? event.key.toLowerCase() : event.key);
    if (!action) return;
    event.preventDefault();
    action();
  }

  // In a list, Enter chooses and Space plays.
  const released = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === " " && /** @type {HTMLElement} */ (event.target).closest(".list")) event.preventDefault();
  };
  root.addEventListener("keyup", released);
  document.addEventListener("keydown", pressed);
  const help = el("details", {}, el("summary", {}, "Keys"), el("dl", { class: "keys" },
    ...actions.map(([, name, text]) => el("div", {}, el("dt", {}, el("kbd", {}, name)), el("dd", {}, text)))));
  return { help, close: () => document.removeEventListener("keydown", pressed) };
}
