// The answers of this visit. They stay in this tab (sessionStorage) and are gone when it is closed.
import { byId, fields, make, makeButton } from "./dom.js";

const STORAGE_KEY = "nlpbook.history";
const MOST_ENTRIES = 20;
let entries = load();

function load() {
  try {
    const stored = JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "[]");
    // Another page may have been served at this address before: keep what fits this one's fields.
    return stored.filter(({ texts }) => fields.every((field) => typeof texts?.[field.name] === "string"));
  } catch {
    return []; // storage is forbidden (a strict browser, a sandboxed frame): the list lives as long as the page
  }
}

function save() {
  try {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify(entries));
  } catch {
    // as above, or full
  }
}

export function setUpHistory(runAgain) {
  const show = () => {
    byId("history").hidden = !entries.length;
    byId("history-count").textContent = entries.length;
    byId("history-list").replaceChildren(
      ...entries.map(({ texts, name, shown }) => {
        const words = fields.map((field) => texts[field.name]).join(" → ");
        const button = makeButton("", "entry", () => runAgain(texts));
        button.append(
          make("span", { className: "entry-text" }, words),
          make("span", { className: "entry-answer" }, `${name} ${shown}`),
        );
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
    entries = [{ texts, name, shown }, ...entries.filter((entry) => JSON.stringify(entry.texts) !== key)];
    entries.length = Math.min(entries.length, MOST_ENTRIES);
    save();
    show();
  };
}
