// "맞아요 / 틀렸어요": what would have been the right label, kept on the server if its owner wants it.
import { getShortName } from "./answer.js";
import { post } from "./api.js";
import { formatCount, make, makeButton, say } from "./dom.js";

const isWanted = document.body.dataset.feedback === "yes";

// The question below an answer; nothing where none is wanted, or the answer names no labels.
export function makeFeedback(texts, { labels, prediction }) {
  if (!isWanted || !labels.length) return [];
  const send = async (label) => {
    try {
      const { count } = await post("api/feedback", { input: texts, label });
      place.replaceChildren(make("p", { className: "note", tabIndex: -1 }, say("thanks", { count: formatCount(count) })));
      place.firstChild.focus(); // the buttons are gone
    } catch (error) {
      note.textContent = error.message;
    }
  };
  const others = labels.filter((label) => label !== prediction);
  const choose = () => {
    if (others.length === 1) return send(others[0]);
    const buttons = others.map((label) => makeButton(getShortName(label), "secondary", () => send(label)));
    place.replaceChildren(make("span", { className: "label" }, say("right_label")), ...buttons, note);
    buttons[0].focus();
  };
  const note = make("span", { className: "note", role: "status" }, say("feedback_note"));
  const question = make("span", { className: "label" }, say("feedback"));
  const [right, wrong] = [["right", () => send(prediction)], ["wrong", choose]].map(([key, press]) => makeButton(say(key), "secondary", press));
  const place = make("div", { className: "send feedback" }, question, right, wrong, note);
  return [place];
}
