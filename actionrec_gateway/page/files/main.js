/** The frame of the page: which part is shown, whether the server answers, and the token. */
import { events, setToken, token } from "./api.js";
import { busy, button, byId, el, problem } from "./dom.js";
import { refresh, state } from "./state.js";
import { livePage } from "./live.js";
import { serverPage } from "./server.js";
import { teachPage } from "./teach.js";
import { timelinePage } from "./timeline.js";
import { tryPage } from "./try.js";

/** @typedef {{root: HTMLElement, show: (rest: string) => void, hide: () => void}} Page */

/** @type {[string, string, () => Page][]} */
const PAGES = [
  ["try", "Try", tryPage], ["timeline", "Timeline", timelinePage], ["live", "Live", livePage],
  ["teach", "Teach", teachPage], ["server", "Server", serverPage],
];
const LOOK_MS = 10_000;
const GONE_MS = 2_000;

/** @type {Record<string, Page>} */
const made = {};
let current = "";
let started = false;
let refusedToken = false;
let dismissed = false;  // the dialog; then only its button opens it again

function route() {
  const [, name = "", ...rest] = location.hash.split("/");
  const [key, title, make] = PAGES.find(([one]) => one === name) || PAGES[0];
  const page = made[key] ||= make();
  if (key !== current) {
    made[current]?.hide();
    byId("main").replaceChildren(page.root);
    document.title = `${title} · Action recognition`;
    if (current) {
      byId("main").focus({ preventScroll: true });
      scrollTo(0, 0);
    }
  }
  current = key;
  byId("nav").replaceChildren(...PAGES.map(([one, text]) =>
    el("a", { href: `#/${one}`, "aria-current": one === key && "page" }, text)));
  page.show(rest.join("/"));
}

/** @param {"good" | "bad" | ""} kind @param {string} text */
function health(kind, text) {
  byId("health").className = `health ${kind}`;
  byId("health").textContent = text;
}

function tokenDialog() {
  if (document.querySelector("dialog[open]")) return;
  const input = el("input", { type: "password", autocomplete: "off", required: true, value: token(), id: "token-value" });
  const dialog = el("dialog", { "aria-labelledby": "token-title", onclose: () => dialog.remove(),
    oncancel: () => { dismissed = true; } },
    el("form", { method: "dialog", onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      setToken(input.value.trim());
      dialog.close();
      dismissed = false;
      look();
    } },
    el("h2", { id: "token-title" }, "This server asks for a token"),
    el("p", { class: "soft" }, "Its operator has yours. It is kept until this tab is closed, and is sent to this server alone."),
    el("label", { class: "field", for: "token-value" }, "Token", input),
    el("p", { class: "small failed", role: "alert" }, token() && refusedToken ? "That token is not known to this server." : ""),
    el("div", { class: "row end" }, token() && button("Forget it", () => { setToken(""); dialog.close(); look(); }),
      el("button", { class: "main" }, "Use it"))));
  document.body.append(dialog);
  dialog.showModal();
}

/** Ask the server how it is, and show that on top. */
async function look() {
  let wait = LOOK_MS;
  try {
    await refresh();
    const name = state.session?.client;
    byId("token").hidden = !state.session?.tokens;
    byId("token").textContent = name || "Token";
    byId("notice").replaceChildren();
    if (state.models.length) health("good", "Ready");
    else health("bad", "No model is served");
    if (!started) {
      started = true;
      route();
    }
  } catch (error) {
    const status = /** @type {{status?: number}} */ (error).status;
    wait = status === 0 ? GONE_MS : LOOK_MS;
    if (status === 401) {
      health("bad", "Not allowed");
      byId("token").hidden = false;
      if (!started) byId("main").replaceChildren(denied());
    } else if (status === 0) {
      gone();
    } else {
      health("bad", "The engine does not answer");
      byId("notice").replaceChildren(problem(error));
      if (!started) {
        started = true;
        route();
      }
    }
  }
  clearTimeout(timer);
  timer = setTimeout(look, wait);
}

function denied() {
  return el("section", { class: "card" }, el("h1", {}, "A token is needed"),
    el("p", { class: "soft" }, "This server answers those who have a token. Its operator makes one with python -m deploy token."),
    button("Enter a token", tokenDialog, { class: "main" }));
}

function gone() {
  health("bad", "Server gone");
  if (byId("notice").childElementCount) return;
  byId("notice").replaceChildren(el("div", { class: "note bad" }, el("strong", {}, "The server does not answer."),
    el("span", {}, "What you see here stays. The page asks again every two seconds.")));
  clearTimeout(timer);
  timer = setTimeout(look, GONE_MS);
}

let timer = 0;
addEventListener("hashchange", () => { if (started) route(); });
events.addEventListener("gone", gone);
events.addEventListener("unauthorized", () => {
  refusedToken = token() !== "";
  if (!dismissed) tokenDialog();
});
byId("token").addEventListener("click", tokenDialog);
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();  // the hash says which part is shown
  byId("main").focus();
});
byId("main").replaceChildren(el("h1", {}, "Action recognition"), busy("Asking the server …"));
look();
