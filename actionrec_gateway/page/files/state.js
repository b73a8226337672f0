/** What all pages share: who looks, and what is served. */
import { models, session } from "./api.js";
import { el } from "./dom.js";

/** @import { Model, Session } from "../types.js" */

/** @type {{session: Session | null, models: Model[], chosen: string, beside: string}} `beside`: tried, too; "": none */
export const state = { session: null, models: [], chosen: "", beside: "" };

/** Told when `state` has changed. */
export const changes = new EventTarget();

export async function refresh() {
  state.session = await session();
  state.models = await models();
  const names = modelNames();
  if (!names.includes(state.chosen)) state.chosen = names[0] || "";
  if (!names.includes(state.beside)) state.beside = "";
  changes.dispatchEvent(new Event("change"));
}

export function modelNames() {
  return [...new Set(state.models.map((model) => model.name))];
}

/** The version that answers, of the model that is chosen. */
export function chosenModel() {
  return state.models.find((model) => model.name === state.chosen && model.default) ||
    state.models.find((model) => model.name === state.chosen);
}

/** Labels that a reply may name, all of them. */
export function allLabels() {
  return Math.min(1000, chosenModel()?.labels || 5);
}

/** A choice among the models; where there is one only, its name. */
export function modelField() {
  return field("Model", "chosen", (names) => (names.length ? names.map((name) => [name, name]) : [["", "none is served"]]));
}

/** A second one, to be tried beside it; hidden where there is none. */
export function besideField() {
  const element = field("Beside it", "beside", (names) => [["", "no other"], ...names.map((name) => [name, name])]);
  const hide = () => { element.hidden = modelNames().length < 2; };
  changes.addEventListener("change", hide);
  hide();
  return element;
}

/**
 * An address that the server fetches from; hidden where it fetches none.
 *
 * @param {string} what lies there
 * @param {string} action
 * @param {(address: string) => void} take
 */
export function addressForm(what, action, take) {
  const address = el("input", { type: "url", placeholder: "https://…", size: 36, required: true });
  const form = el("form", { class: "row", hidden: true, onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    take(address.value);
  } }, el("label", { class: "field" }, `Or the address of a ${what} that the server may fetch`, address), el("button", {}, action));
  changes.addEventListener("change", () => { form.hidden = !state.session?.fetch; });
  form.hidden = !state.session?.fetch;
  return form;
}

/** @param {string} text @param {"chosen" | "beside"} which @param {(names: string[]) => string[][]} options value, text */
function field(text, which, options) {
  const select = el("select", { onchange: () => {
    state[which] = select.value;
    changes.dispatchEvent(new Event("change"));
  } });
  const fill = () => {
    select.replaceChildren(...options(modelNames()).map(([value, shown]) => el("option", { value, selected: value === state[which] }, shown)));
  };
  changes.addEventListener("change", fill);
  fill();
  return el("label", { class: "field" }, text, select);
}
