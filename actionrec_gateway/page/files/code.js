/** The very request as a person would send it: curl, Python, JavaScript. */
import { predictionPath } from "./api.js";
import { button, el, say } from "./dom.js";

/**
 * @param {string} model
 * @param {string} file its name
 * @param {Record<string, any>} options
 * @param {boolean} tokens whether the server asks for one
 */
export function codePanel(model, file, options, tokens) {
  const url = new URL(predictionPath(model, options), document.baseURI).href;
  const texts = { curl: curl(url, file, tokens), Python: python(url, model, file, options, tokens),
    JavaScript: javascript(url, tokens) };
  const shown = el("pre", { tabindex: "0", role: "tabpanel", "aria-label": "Request" });
  const names = /** @type {(keyof typeof texts)[]} */ (Object.keys(texts));
  const tabs = names.map((name) => el("button", {
    type: "button", role: "tab", class: "small", onclick: () => choose(name),
    onkeydown: (/** @type {KeyboardEvent} */ event) => move(event, name),
  }, name));

  /** @param {keyof typeof texts} name */
  function choose(name) {
    shown.textContent = texts[name];
    tabs.forEach((tab, number) => {
      tab.setAttribute("aria-selected", String(names[number] === name));
      tab.tabIndex = names[number] === name ? 0 : -1;
    });
  }

  /** @param {KeyboardEvent} event @param {keyof typeof texts} name */
  function move(event, name) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (names.indexOf(name) + step + names.length) % names.length;
    choose(names[next]);
    tabs[next].focus();
  }

  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(shown.textContent || "");
      say("Copied");
      copy.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(shown);  // no clipboard without https: the text is chosen, Ctrl+C takes it
      copy.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  }, { class: "small" });
  choose("curl");
  return el("section", { class: "card", "aria-labelledby": "code-title" },
    el("h2", { id: "code-title" }, "The same request from a program"),
    el("div", { class: "row apart" }, el("div", { class: "tabs", role: "tablist", "aria-label": "Language" }, ...tabs), copy),
    shown);
}

/** @param {string} text for a shell */
function quoted(text) {
  return /^[\w./:-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** @param {string} url @param {string} file @param {boolean} tokens */
function curl(url, file, tokens) {
  const header = tokens ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return `curl -T ${quoted(file)}${header} ${quoted(url)}`;
}

/**
 * @param {string} url
 * @param {string} model
 * @param {string} file
 * @param {Record<string, any>} options
 * @param {boolean} tokens
 */
function python(url, model, file, options, tokens) {
  const given = Object.entries(options).filter(([, value]) => value !== undefined && value !== "");
  const parameters = given.map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`).join(", ");
  const token = tokens ? `\n    headers={"Authorization": "Bearer " + os.environ["TOKEN"]},` : "";
  return `${tokens ? "import os\n\n" : ""}import requests

with open(${JSON.stringify(file)}, "rb") as video:
    reply = requests.post(
        ${JSON.stringify(url.split("?")[0])},
        params={${parameters}},
        data=video,${token.replaceAll("\n    ", "\n        ")}
        timeout=180,
    )
reply.raise_for_status()
for one in reply.json()["predictions"]:
    print(f"{one['score']:.3f}  {one['label']}")`;
}

/** @param {string} url @param {boolean} tokens */
function javascript(url, tokens) {
  const token = tokens ? "\n  headers: { Authorization: `Bearer ${token}` }," : "";
  return `const reply = await fetch(${JSON.stringify(url)}, {
  method: "POST",${token}
  body: file, // a File or a Blob
});
const { predictions } = await reply.json();
console.log(predictions[0].label, predictions[0].score);`;
}
