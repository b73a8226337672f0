/** What all pages share: who looks, and what is served. */
import { models, session } from "./api.js";
import { el } from "./dom.js";

/** @import { Model, Session } from "./types.js" */

/** @type {{session: Session | null, models: Model[], chosen: string}} */
export const state = { session: null, models: [], chosen: "" };

/** Told when `state` has changed. */
export const changes = new EventTarget();

export async function refresh() {
  state.session = await session();
  state.models = await models();
  const names = modelNames();
  if (!names.includes(state.chosen)) state.chosen = names[0] || "";
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
  const select = el("select", { onchange: () => {
    state.chosen = select.value;
    changes.dispatchEvent(new Event("change"));
  } });
  const fill = () => {
    const names = modelNames();
    select.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === state.chosen }, name)));
    if (!names.length) select.append(el("option", { value: "" }, "none is served"));
  };
  changes.addEventListener("change", fill);
  fill();
  return el("label", { class: "field" }, "Model", select);
}
