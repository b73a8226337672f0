/** Makes elements, and says things to those who listen. */

/**
 * An element. A property that begins with "on" is a listener; others are attributes, or nothing where they are
 * null or false.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, String(value));
  }
  put(made, ...children);
  return made;
}

/** Give an element other children. @param {Element} element @param {...(Node | string | null | false | undefined)} children */
export function put(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== false));
}

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`There is no #${id}`);
  return found;
}

/** @param {string} text what a screen reader says next */
export function say(text) {
  byId("said").textContent = text;
}

/**
 * @param {string} text
 * @param {() => unknown} action
 * @param {Record<string, any>} [attributes]
 */
export function button(text, action, attributes = {}) {
  return el("button", { type: "button", onclick: action, ...attributes }, text);
}

/** @param {string} text what is being waited for */
export function busy(text) {
  return el("div", { class: "busy", role: "status" }, text);
}

/**
 * An error as a person reads it.
 *
 * @param {unknown} error
 * @param {() => unknown} [again]
 */
export function problem(error, again) {
  const known = /** @type {{message?: string, hint?: string, code?: string, requestId?: string}} */ (error);
  const more = [known.code, known.requestId && `request ${known.requestId}`].filter(Boolean).join(", ");
  return el("div", { class: "note bad", role: "alert" },
    el("strong", {}, known.message || String(error)),
    known.hint && el("p", {}, known.hint),
    more && el("p", { class: "small" }, more),
    again && el("p", {}, button("Try again", again)));
}

/** @param {number} seconds @param {number} [digits] */
export function clock(seconds, digits = 1) {
  const unit = 10 ** digits;
  const whole = Math.round(Math.max(0, seconds) * unit) / unit;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** @param {number} count */
export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  for (const [unit, size] of /** @type {[string, number][]} */ ([["GB", 1e9], ["MB", 1e6]])) {
    if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  }
  return `${Math.round(count / 1e3)} kB`;
}

/** @param {number} score */
export function percent(score) {
  return `${(100 * score).toFixed(1)} %`;
}

/** @param {HTMLElement} element @param {number} share of 1 */
export function width(element, share) {
  element.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return element;
}
