// The other classifiers of this server: how a link takes the texts along, and an answer beside this page's own.
import { makeAnswer } from "./answer.js";
import { post } from "./api.js";
import { byId, fill, make, makeNote, say } from "./dom.js";

const [choice, place] = ["beside", "beside-answer"].map(byId);

// What follows the # is never sent to a server: the link carries the texts, and opening it asks about them.
export const makeHash = (texts) => `#${new URLSearchParams(texts)}`;

// The texts in their order, under the names that another classifier gives them.
export function rename(texts, { dataset }) {
  const values = Object.values(texts);
  return Object.fromEntries(JSON.parse(dataset.fields).map((name, index) => [name, values[index] ?? ""]));
}

// Asks the chosen one as well; resolves when its answer, or what went wrong, is shown.
export async function askBeside(texts) {
  const chosen = choice?.selectedOptions[0];
  if (!chosen?.value || !texts) return;
  const { text: name, value: address } = chosen;
  const [title, own] = [make("h2", {}, name), rename(texts, chosen)];
  const link = makeNote(make("a", { href: address + makeHash(own) }, say("beside_open", { name })));
  fill(place, title, make("p", { className: "hint" }, say("reading")));
  const shown = await post(`${address}api`, own).then(
    (answer) => [make("div", {}, makeAnswer(answer, chosen.dataset)), link],
    (error) => make("p", { className: "field-error" }, error.message),
  );
  if (title.isConnected) fill(place, title, shown); // else another question has taken this place meanwhile
}

// `getAnswered` gives the texts whose answer is shown, if any.
export function setUpBeside(getAnswered) {
  choice?.addEventListener("change", () => {
    byId("own-name").hidden = place.hidden = !choice.value;
    fill(place);
    askBeside(getAnswered());
  });
}
