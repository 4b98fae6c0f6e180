// The answers of this visit. They stay in this tab (sessionStorage) and are gone when it is closed.
import { byId, fields, make, makeButton } from "./dom.js";

const STORAGE_KEY = "nlpbook.history";
const MOST_ENTRIES = 20;
let entries = [];

// Where storage is forbidden (a strict browser, a sandboxed frame) or full, the list lives as long as the page.
function tryToStore(use) {
  try {
    use();
  } catch {}
}

const save = () => tryToStore(() => sessionStorage.setItem(STORAGE_KEY, JSON.stringify(entries)));
tryToStore(() => {
  const stored = JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "[]");
  // Another page may have been served at this address before: keep what fits this one's fields.
  entries = stored.filter(({ texts }) => fields.every((field) => typeof texts?.[field.name] === "string"));
});

export function setUpHistory(runAgain) {
  const show = () => {
    byId("history").hidden = !entries.length;
    byId("history-count").textContent = entries.length;
    byId("history-list").replaceChildren(
      ...entries.map(({ texts, name, shown }) => {
        const words = fields.map((field) => texts[field.name]).join(" → ");
        const button = makeButton("", "entry", () => runAgain(texts));
        const answer = make("span", { className: "entry-answer" }, `${name} ${shown}`);
        button.append(make("span", { className: "entry-text" }, words), answer);
        return make("li", {}, button);
      }),
    );
  };
  byId("history-clear").addEventListener("click", () => {
    entries = [];
    save();
    show();
    fields[0].focus();
  });
  show();

  // The newest first; the same texts asked again move up.
  return function remember(texts, { name, shown }) {
    const key = JSON.stringify(texts);
    const others = entries.filter((entry) => JSON.stringify(entry.texts) !== key);
    entries = [{ texts, name, shown }, ...others].slice(0, MOST_ENTRIES);
    save();
    show();
  };
}
