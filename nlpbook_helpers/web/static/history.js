// The answers of this visit, until the page is closed or loaded anew.
import { byId, fields, fill, isolate, make, makeButton } from "./dom.js";

const MOST_ENTRIES = 20;

export let entries = [];
let askAgain;

function makeEntry({ texts, name, shown }) {
  const words = isolate(fields.map((field) => texts[field.name]).join(" → "), "entry-text");
  const answer = make("span", { className: "entry-answer" }, `${name} ${shown}`);
  return make("li", {}, makeButton([words, answer], "entry", () => askAgain(texts)));
}

function show(wanted) {
  entries = wanted.slice(0, MOST_ENTRIES);
  byId("history").hidden = !entries.length;
  byId("history-count").textContent = entries.length;
  fill(byId("history-list"), entries.map(makeEntry));
}

// The newest first; the same texts asked again move up.
export function remember(texts, { name, shown }) {
  const key = JSON.stringify(texts);
  show([{ texts, name, shown }, ...entries.filter((entry) => JSON.stringify(entry.texts) !== key)]);
}

export function setUpHistory(onAsk, kept = []) {
  askAgain = onAsk;
  show(kept);
  byId("history-clear").addEventListener("click", () => {
    show([]);
    fields[0].focus();
  });
}
