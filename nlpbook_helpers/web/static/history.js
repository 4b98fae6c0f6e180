// The answers of this visit, until the page is closed or loaded anew.
import { byId, fields, isolate, make, makeButton } from "./dom.js";

const MOST_ENTRIES = 20;

let entries = [];

export const getEntries = () => entries;

export function setUpHistory(runAgain, kept = []) {
  const makeEntry = ({ texts, name, shown }) => {
    const button = makeButton("", "entry", () => runAgain(texts));
    const words = fields.map((field) => texts[field.name]).join(" → ");
    const answer = make("span", { className: "entry-answer" }, `${name} ${shown}`);
    button.append(make("span", { className: "entry-text" }, isolate(words)), answer);
    return make("li", {}, button);
  };
  const show = (wanted) => {
    entries = wanted.slice(0, MOST_ENTRIES);
    byId("history").hidden = !entries.length;
    byId("history-count").textContent = entries.length;
    byId("history-list").replaceChildren(...entries.map(makeEntry));
  };
  byId("history-clear").addEventListener("click", () => {
    show([]);
    fields[0].focus();
  });

  show(kept);
  // The newest first; the same texts asked again move up.
  return function remember(texts, { name, shown }) {
    const key = JSON.stringify(texts);
    show([{ texts, name, shown }, ...entries.filter((entry) => JSON.stringify(entry.texts) !== key)]);
  };
}
