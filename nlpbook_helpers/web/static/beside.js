// The other classifiers of this server: links that take the texts along, and an answer of one beside this page's own.
import { makeAnswer } from "./answer.js";
import { post } from "./api.js";
import { byId, make, say } from "./dom.js";

const [choice, place] = ["beside", "beside-answer"].map(byId);

// What follows the # is never sent to a server: the link carries the texts, and opening it asks about them.
export const makeHash = (texts) => `#${new URLSearchParams(texts)}`;

// The texts in their order, under the names that another classifier gives them.
function rename(texts, { dataset }) {
  const values = Object.values(texts);
  return Object.fromEntries(JSON.parse(dataset.fields).map((name, index) => [name, values[index] ?? ""]));
}

// Asks the chosen one as well; resolves when its answer, or what went wrong, is shown.
export async function askBeside(texts) {
  const chosen = choice?.selectedOptions[0];
  if (!chosen?.value || !texts) return;
  const [title, own] = [make("h2", {}, chosen.text), rename(texts, chosen)];
  place.replaceChildren(title, make("p", { className: "hint" }, say("reading")));
  let shown;
  try {
    const link = make("a", { href: chosen.value + makeHash(own) }, say("beside_open", { name: chosen.text }));
    shown = [make("div", {}, ...makeAnswer(await post(`${chosen.value}api`, own), chosen.dataset)), make("p", { className: "note" }, link)];
  } catch (error) {
    shown = [make("p", { className: "field-error" }, error.message)];
  }
  if (title.isConnected) place.replaceChildren(title, ...shown); // else another question has taken this place meanwhile
}

// `readTexts` gives what is in the form, `getAnswered` the texts whose answer is shown, if any; `keep` for the way back.
export function setUpBeside(readTexts, getAnswered, keep) {
  choice?.addEventListener("change", () => {
    byId("own-name").hidden = place.hidden = !choice.value;
    place.replaceChildren();
    askBeside(getAnswered());
  });
  for (const link of document.querySelectorAll(".picker a")) {
    link.addEventListener("click", () => {
      keep();
      if (location.hash) link.hash = makeHash(rename(readTexts(), link));
    });
  }
}
